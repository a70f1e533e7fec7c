// SPDX-License-Identifier: BSD-2-Clause
//! Storage faults of the guest (SPEC 5.4, F1 to F7; there is no emulated MMIO).
//!
//! A fault is either the guest's own (it is injected), or it met an entry that the guest has and
//! hardware has not (the page is brought in), or it is out of date (the guest tries again).

use crate::enter::Place;
use crate::state::{NOT_GUEST, READ_ONLY_PAGE, Rev};
use crate::{Hpt, PageAnswer, Pages, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::hash::{SLB_KP, SLB_KS, SLB_N, Segment};
use partita_papr::hpte::{ABSENT, AVPN, B, G, LARGE, N, SECONDARY, VALID};
use partita_papr::{PageSize, Ptex, protection};

/// Bits of HDSISR (data) and HSRR1 (instructions).
pub mod cause {
    /// No translation found.
    pub const NOHPTE: u64 = 0x4000_0000;
    /// Instructions: no-execute or guarded.
    pub const N_G: u64 = 0x1000_0000;
    /// Protection.
    pub const PROT: u64 = 0x0800_0000;
    /// Data: it was a store.
    pub const STORE: u64 = 0x0200_0000;
    /// Storage key.
    pub const KEY: u64 = 0x0020_0000;
    /// HDSISR as the hypervisor left it: hardware has not written it (early POWER9).
    pub const CANARY: u64 = 0x7fff;
    /// The cause bits that HSRR1 has for an instruction storage fault.
    pub const INSTRUCTION: u64 = NOHPTE | N_G | PROT | KEY;
}

const MSR_PR: u64 = 0x4000;
const MSR_IR: u64 = 0x20;
const MSR_DR: u64 = 0x10;
const DATA_STORAGE: u64 = 0x300;
const INSTRUCTION_STORAGE: u64 = 0x400;

/// A storage fault as the exit message has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// It was an instruction fetch (HISI), else a load or store (HDSI).
    pub instruction: bool,
    /// Program counter.
    pub pc: u64,
    /// MSR of the guest.
    pub msr: u64,
    /// HDAR; not used for a fetch, whose address is `pc`.
    pub dar: u64,
    /// HDSISR, or HSRR1 for a fetch.
    pub cause: u64,
    /// ASDR: VSID word of the segment, if translation was on.
    pub asdr: u64,
    /// AMR.
    pub amr: u64,
    /// IAMR.
    pub iamr: u64,
}

/// What becomes of the vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// It tries again.
    Resume,
    /// It takes an interrupt.
    Inject {
        /// 0x300 or 0x400.
        vector: u64,
        /// Bits to set in SRR1 beside the MSR (instructions).
        srr1: u64,
        /// DAR for 0x300; 0 for 0x400, which leaves the guest's DAR as it is.
        dar: u64,
        /// DSISR for 0x300; 0 for 0x400, which leaves the guest's DSISR as it is.
        dsisr: u64,
    },
}

/// An occupied entry that a fault has met, as it was under its lock.
#[derive(Clone, Copy, Debug)]
struct Met {
    ptex: Ptex,
    v: u64,
    r: u64,
}

impl Fault {
    /// The address that could not be used.
    #[inline]
    pub(crate) fn address(&self) -> u64 {
        if self.instruction { self.pc } else { self.dar }
    }

    fn is_translated(&self) -> bool {
        self.msr & (if self.instruction { MSR_IR } else { MSR_DR }) != 0
    }

    fn inject(&self, bits: u64) -> FaultAction {
        if self.instruction {
            FaultAction::Inject {
                vector: INSTRUCTION_STORAGE,
                srr1: bits & cause::INSTRUCTION,
                dar: 0,
                dsisr: 0,
            }
        } else {
            FaultAction::Inject {
                vector: DATA_STORAGE,
                srr1: 0,
                dar: self.dar,
                dsisr: bits,
            }
        }
    }

    /// The fault with `bit` as its reason.
    fn because(&self, bit: u64) -> FaultAction {
        self.inject((self.cause & !(cause::NOHPTE | cause::PROT)) | bit)
    }

    /// F4, F5: what the guest's own entry has against the access.
    fn forbidden(&self, segment: Segment, r: u64) -> Option<u64> {
        let key_bit = if self.msr & MSR_PR != 0 {
            SLB_KP
        } else {
            SLB_KS
        };
        let key = segment.word() & key_bit != 0;
        if self.instruction {
            if r & (N | G) != 0 || segment.word() & SLB_N != 0 {
                return Some(cause::N_G);
            }
            if !protection::may_read(r, key) {
                return Some(cause::PROT);
            }
            if self.is_translated() && protection::key_field(self.iamr, r) & 1 != 0 {
                return Some(cause::KEY);
            }
            return None;
        }
        let store = self.cause & cause::STORE != 0;
        let allowed = if store {
            protection::may_write(r, key)
        } else {
            protection::may_read(r, key)
        };
        if !allowed {
            return Some(cause::PROT);
        }
        let forbids = if store { 2 } else { 1 };
        if self.is_translated() && protection::key_field(self.amr, r) & forbids != 0 {
            return Some(cause::KEY);
        }
        None
    }
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Decides on a storage fault.
    pub fn storage_fault(&self, fault: &Fault) -> FaultAction {
        let action = self.decide(fault);
        // An intercepted fault that did not have to come here is the moment to notice that none
        // has to any more.
        self.state.control.fault_mode.relax(&self.table);
        action
    }

    fn decide(&self, fault: &Fault) -> FaultAction {
        if !fault.instruction && fault.cause == cause::CANARY {
            return FaultAction::Resume;
        }
        // F1
        let ours = if fault.instruction {
            cause::NOHPTE
        } else {
            cause::NOHPTE | cause::PROT
        };
        if fault.cause & ours == 0 {
            return fault.inject(fault.cause);
        }
        let missing = fault.cause & cause::NOHPTE != 0;
        let segment = if fault.is_translated() {
            Segment::new(fault.asdr)
        } else {
            Some(Segment::vrma(self.vrma))
        };
        let Some(segment) = segment else {
            return fault.inject(fault.cause);
        };
        // F2
        let Some(met) = self.search(segment, fault.address(), missing) else {
            // A protection fault on an entry that has vanished comes again as a miss.
            let again = !missing || (!fault.is_translated() && self.vrma_fault(fault.address()));
            return if again {
                FaultAction::Resume
            } else {
                fault.inject(fault.cause)
            };
        };
        // F3
        if missing && met.v & VALID != 0 {
            return FaultAction::Resume;
        }
        if let Some(bit) = fault.forbidden(segment, met.r) {
            return fault.because(bit);
        }
        if missing {
            return self.bring_in(fault, met);
        }
        // The guest allows the access and the entry did not: a page that its slot makes read-only
        // (there is nobody to emulate the store), or the entry has changed since.
        if met.r & READ_ONLY_PAGE != 0 {
            fault.because(cause::PROT)
        } else {
            FaultAction::Resume
        }
    }

    /// F2: the entry that translates `ea`, in the primary or the secondary group.
    #[inline(always)]
    fn search(&self, segment: Segment, ea: u64, absent_too: bool) -> Option<Met> {
        let order = self.state.order;
        let occupied = if absent_too { VALID | ABSENT } else { VALID };
        let mut mask = B | AVPN | SECONDARY;
        let mut wanted = segment.avpn(ea);
        // A segment of 4 KiB pages may hold large entries, any other only large ones.
        if segment.base() != PageSize::Size4K {
            mask |= LARGE;
            wanted |= LARGE;
        }
        let base = segment.base().base_shift();
        let find = |group: u64, wanted: u64| {
            let first = Ptex::in_group(group, 0, order);
            let entries = self.state.group(first)?;
            // Most often none matches: looked at without a loop.
            let no = |rev: &Rev| rev.v.load(Ordering::Relaxed) & mask != wanted;
            let [a, b, c, d, e, f, g, h] = entries;
            if no(a) && no(b) && no(c) && no(d) && no(e) && no(f) && no(g) && no(h) {
                return None;
            }
            let found = entries.iter().enumerate().find_map(|(i, rev)| {
                let (v, r) = snapshot(rev);
                let this = v & mask == wanted
                    && v & occupied != 0
                    && PageSize::decode(v, r).map(PageSize::base_shift) == Some(base);
                this.then_some((i as u32, v, r))
            });
            found.map(|(i, v, r)| Met {
                ptex: first.sibling(i),
                v,
                r,
            })
        };
        find(segment.primary_group(ea, order), wanted)
            .or_else(|| find(segment.secondary_group(ea, order), wanted | SECONDARY))
    }

    /// F7: an ABSENT entry becomes valid, if its page can be had.
    fn bring_in(&self, fault: &Fault, met: Met) -> FaultAction {
        let guard = self.slots.read();
        // The slot is gone: nobody emulates a device there.
        let Some(new) = self.check_again(&guard, met.v, met.r & !NOT_GUEST) else {
            return fault.because(cause::PROT);
        };
        for attempt in 0..2 {
            let Some(rev) = self.state.entry(met.ptex) else {
                return FaultAction::Resume;
            };
            let v = rev.lock();
            if v != met.v || rev.r.load(Ordering::Relaxed) != met.r {
                rev.unlock(v);
                return FaultAction::Resume;
            }
            match self.publish(met.ptex, rev, &new) {
                Ok(()) => {
                    self.state.control.fault_mode.lower();
                    return FaultAction::Resume;
                }
                Err(error) => {
                    rev.r.store(met.r, Ordering::Relaxed);
                    rev.unlock(v);
                    if error != TableError::NotMapped || attempt > 0 {
                        return FaultAction::Resume;
                    }
                }
            }
            match self.request(&new) {
                PageAnswer::Ready => {}
                PageAnswer::Busy => return FaultAction::Resume,
                PageAnswer::Refused => return fault.because(cause::PROT),
            }
        }
        FaultAction::Resume
    }

    /// Whether the entry of a segment exists, for the set-up of the virtual real mode area.
    pub(crate) fn is_mapped(&self, segment: Segment, ea: u64) -> bool {
        self.search(segment, ea, true).is_some()
    }

    /// Group places for `ea`, primary and secondary.
    pub(crate) fn groups(&self, segment: Segment, ea: u64) -> (Place, Place) {
        let order = self.state.order;
        (
            Place::Group(Ptex::in_group(segment.primary_group(ea, order), 0, order)),
            Place::Group(Ptex::in_group(segment.secondary_group(ea, order), 0, order)),
        )
    }
}

fn snapshot(rev: &Rev) -> (u64, u64) {
    let v = rev.lock();
    let r = rev.r.load(Ordering::Relaxed);
    rev.unlock(v);
    (v, r)
}
