// SPDX-License-Identifier: BSD-2-Clause
//! Collecting the changed pages of a range (S3.7: dirty log).

use crate::chain::Chain;
use crate::state::{Rev, page_of};
use crate::{BATCH, GfnRange, Hpt, Pages, Progress, SCAN, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::hpte::{C, VALID};
use partita_papr::{Gfn, PAGE_SHIFT, Ptex, protection};
use partita_srcu::Policy;

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Reports every page of `range` that has changed since the last call, as (first page, number
    /// of pages), and clears C in the real entries and the chains. The guest's view keeps its C.
    /// A page may be reported without cause, never missed.
    ///
    /// A call looks at fewer than 2 * [`SCAN`] pages and entries and changes fewer than [`SCAN`] +
    /// [`BATCH`] entries: it stops after the page with which either figure is reached. A guest can
    /// map a page as often as it likes; of more than [`SCAN`] entries of one page the first [`SCAN`]
    /// are gone through, and the page counts as changed in every call.
    ///
    /// `stopped` says that no vCPU runs: then writable entries without C are invalidated too,
    /// because a processor may not have written its C back yet.
    pub fn collect_dirty(
        &self,
        range: &mut GfnRange,
        stopped: bool,
        mut report: impl FnMut(Gfn, u64),
    ) -> Result<Progress, TableError> {
        let end = range.end.min(self.state.rmap.len() as u64);
        let mut work = Work::default();
        while range.next < end {
            if work.changed >= BATCH || work.seen >= SCAN {
                return Ok(Progress::More);
            }
            work.seen += 1;
            let Some(gfn) = Gfn::new(range.next) else {
                break;
            };
            let Some(mut chain) = Chain::lock(&self.state, gfn) else {
                break;
            };
            let walk = self.clear_changed(&mut chain, stopped, &mut work)?;
            if let Walk::Blocked(rev) = walk {
                drop(chain);
                rev.wait_until_unlocked();
                continue;
            }
            let mut order = chain.take_changed();
            drop(chain);
            if let Walk::Part = walk {
                order = order.max(Some(self.largest_order(gfn)));
            }
            if let Some(order) = order {
                report(gfn, 1 << (order & 63));
            }
            range.next += 1;
        }
        Ok(Progress::Done)
    }

    /// log2 of the 4 KiB pages of the largest page that can begin at `gfn`.
    fn largest_order(&self, gfn: Gfn) -> u32 {
        let guard = self.slots.read();
        let slot = guard.lookup(gfn, Policy::Destroy);
        let most = slot.map_or(0, |slot| {
            u32::from(slot.page_shift).saturating_sub(PAGE_SHIFT)
        });
        most.min(gfn.get().trailing_zeros())
    }

    /// Moves C of the first [`SCAN`] members of the chain to its head.
    fn clear_changed<'s>(
        &'s self,
        chain: &mut Chain<'_>,
        stopped: bool,
        work: &mut Work,
    ) -> Result<Walk<'s>, TableError> {
        let Some(first) = chain.first() else {
            return Ok(Walk::Whole);
        };
        let mut index = first;
        for _ in 0..SCAN {
            let Some((ptex, rev)) = self.state.find(index as u64) else {
                return Ok(Walk::Whole);
            };
            work.seen += 1;
            let Some(v) = rev.try_lock() else {
                return Ok(Walk::Blocked(rev));
            };
            let result = self.clear_member(chain, ptex, rev, v, stopped);
            rev.unlock(v);
            if result? {
                work.changed += 1;
            }
            match chain.next(index) {
                Some(next) if next != first => index = next,
                _ => return Ok(Walk::Whole),
            }
        }
        Ok(Walk::Part)
    }

    fn clear_member(
        &self,
        chain: &mut Chain<'_>,
        ptex: Ptex,
        rev: &Rev,
        v: u64,
        stopped: bool,
    ) -> Result<bool, TableError> {
        let r = rev.r.load(Ordering::Relaxed);
        let suspect =
            self.state.hardware_rc(ptex) & C != 0 || (stopped && protection::is_writable(r));
        if v & VALID == 0 || !suspect {
            return Ok(false);
        }
        let rc = self.table.clear_rc(ptex, C)? & C;
        rev.r.store(r | rc, Ordering::Relaxed);
        if let Some((_, shift)) = page_of(v, r) {
            chain.fold(rc, shift);
        }
        Ok(true)
    }
}

/// What one call has done.
#[derive(Default)]
struct Work {
    /// Entries changed.
    changed: usize,
    /// Pages and entries looked at.
    seen: u64,
}

/// How far a chain was gone through.
enum Walk<'s> {
    /// To its end.
    Whole,
    /// It is longer than [`SCAN`].
    Part,
    /// Up to this entry, whose lock somebody holds.
    Blocked(&'s Rev),
}
