// SPDX-License-Identifier: BSD-2-Clause
//! The verification walker: I1 to I7 and the fault mode over the memory as it is.
//!
//! Each step takes the lock bits that any other walker would, so it may run on a live table; the
//! totals ([`Hpt::verify_all`]) are only right while nothing changes.

use crate::chain::Chain;
use crate::state::{needs_intercept, page_of};
use crate::{Hpt, Pages, Progress, SCAN, Table};
use partita_instance::atomic::Ordering;
use partita_papr::hpte::{ABSENT, DW0_ISA30, GUEST_DW0, LOCK, VALID};
use partita_papr::{Gfn, PAGE_SHIFT};
use partita_srcu::Policy;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// I1: a valid entry whose page has an empty chain, or no head.
    NotOnChain {
        /// The entry.
        index: u64,
    },
    /// I2: the neighbours of a member do not point back to it.
    BrokenLinks {
        /// The entry.
        index: u64,
    },
    /// I3: the walk from the head did not come back to it within the size of the table.
    Endless {
        /// Page of the chain.
        gfn: u64,
    },
    /// I4: a member maps another page.
    WrongChain {
        /// Page of the chain.
        gfn: u64,
        /// The entry.
        index: u64,
    },
    /// I5: PRESENT is clear but the index is not 0, or PRESENT names no entry.
    BadHead {
        /// Page of the chain.
        gfn: u64,
    },
    /// I6: a member is neither valid nor locked by an insertion.
    FreeMember {
        /// Page of the chain.
        gfn: u64,
        /// The entry.
        index: u64,
    },
    /// I1, I3: the chains have a different number of members than there are valid entries.
    Count {
        /// Members of all chains.
        members: u64,
        /// Valid entries.
        valid: u64,
    },
    /// I7: a valid entry maps a page of no slot.
    NoSlot {
        /// The entry.
        index: u64,
    },
    /// The real entry is not the guest's in ISA 3.0 form (but for the page and the protection,
    /// which are the kernel's), or is valid where the guest has none.
    RealEntry {
        /// The entry.
        index: u64,
    },
    /// An entry has both VALID and ABSENT, or no page size.
    BadEntry {
        /// The entry.
        index: u64,
    },
    /// Entries that need interception are not counted right, or it is off.
    FaultMode {
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    },
}

/// How far a verification has come, and what it has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries checked, then chains.
    pub cursor: u64,
    /// Valid entries.
    pub valid: u64,
    /// Entries that need interception.
    pub intercept: u64,
    /// Members of chains.
    pub members: u64,
    /// In a long chain: the member that is next (bits 31:0) and how often [`SCAN`] members have been
    /// checked (63:32), at least once. 0 elsewhere.
    pub chain: u64,
}

const PIECES_SHIFT: u32 = 32;

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Checks one entry: I1, I2, I7 for it, and its real entry. Returns whether it is valid and
    /// whether it needs interception.
    pub fn verify_entry(&self, index: u64) -> Result<(bool, bool), Violation> {
        let Some((ptex, rev)) = self.state.find(index) else {
            return Ok((false, false));
        };
        let v = rev.lock();
        let r = rev.r.load(Ordering::Relaxed);
        let result = self.verify_locked(index, v, r);
        let real = self
            .state
            .real
            .get(ptex.index() as usize)
            .map_or((0, 0), |e| (e.dw0(), e.dw1()));
        rev.unlock(v);
        result?;
        let wrong = Violation::RealEntry { index };
        if v & VALID == 0 {
            if real.0 & VALID != 0 {
                return Err(wrong);
            }
        } else {
            let expected = v & (GUEST_DW0 | VALID) & DW0_ISA30;
            if real.0 != expected || (real.1 >> 58) & 3 != v >> 62 {
                return Err(wrong);
            }
        }
        Ok((v & VALID != 0, needs_intercept(v, r)))
    }

    fn verify_locked(&self, index: u64, v: u64, r: u64) -> Result<(), Violation> {
        if v & VALID == 0 {
            return Ok(());
        }
        let Some((gfn, _)) = page_of(v, r) else {
            return Err(Violation::BadEntry { index });
        };
        if v & ABSENT != 0 {
            return Err(Violation::BadEntry { index });
        }
        // An INVALID slot still counts: its entries go before it does.
        if self.slots.read().lookup(gfn, Policy::Destroy).is_none() {
            return Err(Violation::NoSlot { index });
        }
        let Some(chain) = Chain::lock(&self.state, gfn) else {
            return Err(Violation::NotOnChain { index });
        };
        if chain.first().is_none() {
            return Err(Violation::NotOnChain { index });
        }
        check_links(&chain, index as u32)
    }

    /// Checks the members of one chain, at most [`SCAN`] of them: I2 to I6. Returns how many.
    /// `place` is 0 at first; it is 0 again when the chain has been gone through.
    ///
    /// A chain that changes between two calls is not followed any further if the member where the
    /// walk goes on has left it, or if there have been as many members as the table has entries: one
    /// that does not change ends before, since links that agree lead back to the head.
    pub fn verify_chain(&self, gfn: Gfn, place: &mut u64) -> Result<u64, Violation> {
        let from = core::mem::take(place);
        let Some(chain) = Chain::lock(&self.state, gfn) else {
            return Ok(0);
        };
        let page = gfn.get();
        let Some(first) = chain.first() else {
            return if chain.index() == 0 {
                Ok(0)
            } else {
                Err(Violation::BadHead { gfn: page })
            };
        };
        let pieces = from >> PIECES_SHIFT;
        let mut index = if from == 0 { first } else { from as u32 };
        if from != 0 && !self.is_member(gfn, index) {
            return Ok(0);
        }
        for members in 1..=SCAN {
            let Some((_, rev)) = self.state.find(index as u64) else {
                return Err(Violation::BadHead { gfn: page });
            };
            check_links(&chain, index)?;
            let v = rev.v.load(Ordering::Relaxed);
            let member = index as u64;
            // A locked one is on its way in or out (S4.10).
            if v & LOCK == 0 {
                if v & VALID == 0 {
                    return Err(Violation::FreeMember {
                        gfn: page,
                        index: member,
                    });
                }
                if page_of(v, rev.r.load(Ordering::Relaxed)).map(|(g, _)| g) != Some(gfn) {
                    return Err(Violation::WrongChain {
                        gfn: page,
                        index: member,
                    });
                }
            }
            match chain.next(index) {
                Some(next) if next == first => return Ok(members),
                Some(next) => index = next,
                None => return Err(Violation::Endless { gfn: page }),
            }
        }
        if (pieces + 1) * SCAN < self.state.entries() {
            *place = (pieces + 1) << PIECES_SHIFT | index as u64;
        }
        Ok(SCAN)
    }

    /// Whether the entry is a member of the chain of `gfn`, which is locked.
    fn is_member(&self, gfn: Gfn, index: u32) -> bool {
        self.state.find(index as u64).is_some_and(|(_, rev)| {
            let v = rev.v.load(Ordering::Relaxed);
            let page = page_of(v, rev.r.load(Ordering::Relaxed));
            v & (VALID | LOCK) == VALID && page.map(|(g, _)| g) == Some(gfn)
        })
    }

    /// Checks the next entries, chains and members of chains, at least [`SCAN`] and fewer than twice
    /// as many; at the end the totals too. `checked` is all zeros at first.
    pub fn verify_some(&self, checked: &mut Checked) -> Result<Progress, Violation> {
        let entries = self.state.entries();
        let end = entries + self.state.rmap.len() as u64;
        let mut seen = 0;
        while seen < SCAN {
            if checked.cursor >= end {
                return self.verify_totals(checked).map(|()| Progress::Done);
            }
            seen += 1;
            if checked.cursor < entries {
                let (is_valid, needs) = self.verify_entry(checked.cursor)?;
                // The counts so far are the caller's.
                checked.valid = checked.valid.wrapping_add(is_valid.into());
                checked.intercept = checked.intercept.wrapping_add(needs.into());
            } else if let Some(gfn) = Gfn::new(checked.cursor - entries) {
                let members = self.verify_chain(gfn, &mut checked.chain)?;
                checked.members = checked.members.wrapping_add(members);
                seen += members;
                if checked.chain != 0 {
                    break;
                }
            }
            checked.cursor += 1;
        }
        Ok(Progress::More)
    }

    fn verify_totals(&self, checked: &Checked) -> Result<(), Violation> {
        let Checked {
            valid,
            intercept,
            members,
            ..
        } = *checked;
        if members != valid {
            return Err(Violation::Count { members, valid });
        }
        let (counted, on) = self.state.fault_mode();
        if counted != intercept || (intercept > 0 && !on) {
            return Err(Violation::FaultMode {
                counted,
                found: intercept,
            });
        }
        Ok(())
    }

    /// Checks everything, while no call is in progress anywhere.
    pub fn verify_all(&self) -> Result<(), Violation> {
        let mut checked = Checked::default();
        while self.verify_some(&mut checked)? == Progress::More {}
        Ok(())
    }

    /// I7: no entry maps a page of `first..end`.
    pub fn verify_unmapped(&self, first: u64, end: u64) -> Result<(), Violation> {
        for index in 0..self.state.entries() {
            let Some((_, rev)) = self.state.find(index) else {
                break;
            };
            let v = rev.lock();
            let page = page_of(v, rev.r.load(Ordering::Relaxed));
            rev.unlock(v);
            if v & VALID != 0
                && let Some((gfn, shift)) = page
                && gfn.get() < end
                && gfn.get() + (1 << (shift - PAGE_SHIFT)) > first
            {
                return Err(Violation::NoSlot { index });
            }
        }
        Ok(())
    }
}

fn check_links(chain: &Chain<'_>, index: u32) -> Result<(), Violation> {
    let forw_back = chain.next(index).and_then(|next| chain.previous(next));
    let back_forw = chain
        .previous(index)
        .and_then(|previous| chain.next(previous));
    if forw_back == Some(index) && back_forw == Some(index) {
        Ok(())
    } else {
        Err(Violation::BrokenLinks {
            index: index as u64,
        })
    }
}
