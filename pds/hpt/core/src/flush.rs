// SPDX-License-Identifier: BSD-2-Clause
//! Taking all translations of a range of guest memory away (S3.5, S3.6): between the two steps of
//! a slot's deletion, and before a page is reclaimed.

use crate::chain::{Chain, hold_back};
use crate::state::{READ_ONLY_PAGE, Rev, needs_intercept, page_of};
use crate::{BATCH, GfnRange, Hpt, Pages, Progress, SCAN, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::hpte::{ABSENT, VALID};
use partita_papr::{Gfn, Ptex};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Makes every entry whose page begins in `range` ABSENT: the guest keeps its view, hardware
    /// has nothing, no chain of the range has a member (I7). Stops after [`BATCH`] entries or
    /// [`SCAN`] pages. The slot need not exist any more, only the chain counts (finding 6).
    ///
    /// From then on a page of the range is mapped again only after `memslots` has said that it is
    /// there: while it is reclaimed, a guest on another core gets ABSENT entries, although the GSpace
    /// still has the page.
    ///
    /// After a [`TableError`] the same cursor may be used again.
    pub fn flush(&self, range: &mut GfnRange) -> Result<Progress, TableError> {
        let end = range.end.min(self.state.rmap.len() as u64);
        let (mut changed, mut seen) = (0, 0);
        while range.next < end {
            if changed == BATCH || seen == SCAN {
                return Ok(Progress::More);
            }
            let Some(gfn) = Gfn::new(range.next) else {
                break;
            };
            hold_back(&self.state, gfn);
            if self.flush_first(gfn)? {
                changed += 1;
            } else {
                range.next += 1;
                seen += 1;
            }
        }
        Ok(Progress::Done)
    }

    /// Makes the first member of a chain ABSENT; false if there is none.
    fn flush_first(&self, gfn: Gfn) -> Result<bool, TableError> {
        loop {
            let Some(mut chain) = Chain::lock(&self.state, gfn) else {
                return Ok(false);
            };
            let Some((ptex, rev)) = chain.first().and_then(|i| self.state.find(i as u64)) else {
                return Ok(false);
            };
            let Some(v) = rev.try_lock() else {
                // S4.8: its holder may be waiting for this chain.
                drop(chain);
                rev.wait_until_unlocked();
                continue;
            };
            let r = rev.r.load(Ordering::Relaxed);
            let result = self.make_absent(&mut chain, ptex, rev, v, r);
            if result.is_ok() {
                rev.r.store(
                    (r | result.unwrap_or(0)) & !READ_ONLY_PAGE,
                    Ordering::Relaxed,
                );
                rev.unlock((v & !VALID) | ABSENT);
            } else {
                rev.unlock(v);
            }
            return result.map(|_| true);
        }
    }

    fn make_absent(
        &self,
        chain: &mut Chain<'_>,
        ptex: Ptex,
        rev: &Rev,
        v: u64,
        r: u64,
    ) -> Result<u64, TableError> {
        // Interception first: from here on a fault may be ours. An entry that was counted already
        // stays counted.
        let counted = needs_intercept(v, r);
        if !counted {
            self.state.control.fault_mode.raise(&self.table)?;
        }
        match self.table.remove(ptex) {
            Ok(rc) => {
                let shift = page_of(v, r).map_or(partita_papr::PAGE_SHIFT, |(_, shift)| shift);
                chain.fold(rc, shift);
                chain.unlink(ptex, rev);
                Ok(rc)
            }
            Err(error) => {
                if !counted {
                    self.state.control.fault_mode.lower();
                }
                Err(error)
            }
        }
    }
}
