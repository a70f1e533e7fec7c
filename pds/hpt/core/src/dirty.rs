// SPDX-License-Identifier: BSD-2-Clause
//! Collecting the changed pages of a range (S3.7: dirty log).

use crate::chain::Chain;
use crate::state::{Rev, page_of};
use crate::{BATCH, GfnRange, Hpt, Pages, Progress, SCAN, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::hpte::{C, VALID};
use partita_papr::{Gfn, Ptex, protection};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Reports every page of `range` that has changed since the last call, as (first page, number
    /// of pages), and clears C in the real entries and the chains. The guest's view keeps its C.
    /// A page may be reported without cause, never missed. Stops after the page with which
    /// [`BATCH`] entries have changed, or after [`SCAN`] pages: the entries of one page are gone
    /// through in one call, however many the guest has made.
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
        let (mut changed, mut seen) = (0, 0);
        while range.next < end {
            if changed >= BATCH || seen == SCAN {
                return Ok(Progress::More);
            }
            let Some(gfn) = Gfn::new(range.next) else {
                break;
            };
            let Some(mut chain) = Chain::lock(&self.state, gfn) else {
                break;
            };
            if let Err(Blocked(rev)) = self.clear_changed(&mut chain, stopped, &mut changed)? {
                drop(chain);
                rev.wait_until_unlocked();
                continue;
            }
            let order = chain.take_changed();
            drop(chain);
            if let Some(order) = order {
                report(gfn, 1 << (order & 63));
            }
            range.next += 1;
            seen += 1;
        }
        Ok(Progress::Done)
    }

    /// Moves C of every member of the chain to its head; or the member whose lock is held.
    fn clear_changed<'s>(
        &'s self,
        chain: &mut Chain<'_>,
        stopped: bool,
        changed: &mut usize,
    ) -> Result<Result<(), Blocked<'s>>, TableError> {
        let Some(first) = chain.first() else {
            return Ok(Ok(()));
        };
        let mut index = first;
        loop {
            let Some((ptex, rev)) = self.state.find(index as u64) else {
                return Ok(Ok(()));
            };
            let Some(v) = rev.try_lock() else {
                return Ok(Err(Blocked(rev)));
            };
            let result = self.clear_member(chain, ptex, rev, v, stopped);
            rev.unlock(v);
            if result? {
                *changed += 1;
            }
            match chain.next(index) {
                Some(next) if next != first => index = next,
                _ => return Ok(Ok(())),
            }
        }
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

/// An entry whose lock somebody holds.
struct Blocked<'s>(&'s Rev);
