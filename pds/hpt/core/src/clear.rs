// SPDX-License-Identifier: BSD-2-Clause
//! H_CLEAR_HPT (2.2) and the reset of a whole table.

use crate::chain::{Chain, HELD, INDEX, LOCK, PRESENT};
use crate::enter::failed;
use crate::hypercall::Outcome;
use crate::state::page_of;
use crate::{BATCH, Hpt, Pages, Progress, SCAN, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::Ptex;
use partita_papr::hash::is_vrma;
use partita_papr::hcall::status;
use partita_papr::hpte::{ABSENT, VALID};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_CLEAR_HPT: removes every entry but those of the virtual real mode area. H_CONTINUE until
    /// it has been through the table.
    #[inline(never)]
    pub(crate) fn clear_hpt(&self) -> Outcome {
        let next = &self.state.control.clear_next;
        let start = next.load(Ordering::Relaxed);
        let mut removed = 0;
        for index in start..start.saturating_add(SCAN) {
            let Some((ptex, rev)) = self.state.find(index) else {
                next.store(0, Ordering::Relaxed);
                return Outcome::status(status::H_SUCCESS);
            };
            if removed == BATCH {
                next.store(index, Ordering::Relaxed);
                return Outcome::status(status::H_CONTINUE);
            }
            if rev.v.load(Ordering::Relaxed) & (VALID | ABSENT) == 0 {
                continue;
            }
            let v = rev.lock();
            if v & (VALID | ABSENT) == 0 || is_vrma(v) {
                rev.unlock(v);
                continue;
            }
            if let Err(error) = self.empty(ptex, rev, v) {
                return Outcome::status(failed(error));
            }
            removed += 1;
        }
        next.store(start.saturating_add(SCAN), Ordering::Relaxed);
        Outcome::status(status::H_CONTINUE)
    }

    /// Empties the table, the chains and the counts (for the guest's reset). No vCPU runs and no
    /// other instance works meanwhile; `cursor` starts at 0. R and C that hardware has set go to
    /// the pages first, so that a dirty log survives. Ends a poisoned state.
    pub fn reset(&self, cursor: &mut u64) -> Result<Progress, TableError> {
        let entries = self.state.entries();
        let mut left = SCAN;
        while left > 0 && *cursor < entries {
            if let Some((ptex, rev)) = self.state.find(*cursor) {
                self.keep_rc(ptex);
                rev.v.store(0, Ordering::Relaxed);
                rev.r.store(0, Ordering::Relaxed);
            }
            *cursor += 1;
            left -= 1;
        }
        while left > 0 {
            let Some(head) = usize::try_from(*cursor - entries)
                .ok()
                .and_then(|i| self.state.rmap.get(i))
            else {
                self.table.clear()?;
                self.state.control.fault_mode.reset(&self.table)?;
                self.state.control.clear_next.store(0, Ordering::Relaxed);
                for guard in &self.state.control.guards {
                    guard.reset();
                }
                self.state.control.vrma_done.store(0, Ordering::Release);
                return Ok(Progress::Done);
            };
            head.fetch_and(!(INDEX | PRESENT | LOCK | HELD), Ordering::Relaxed);
            *cursor += 1;
            left -= 1;
        }
        Ok(Progress::More)
    }

    fn keep_rc(&self, ptex: Ptex) {
        let Some(rev) = self.state.entry(ptex) else {
            return;
        };
        let v = rev.v.load(Ordering::Relaxed);
        let rc = self.state.hardware_rc(ptex);
        if v & VALID != 0
            && rc != 0
            && let Some((gfn, shift)) = page_of(v, rev.r.load(Ordering::Relaxed))
        {
            // A lock bit of an instance that was killed must not stop the reset.
            if let Some(head) = self.state.head(gfn) {
                head.fetch_and(!LOCK, Ordering::Relaxed);
            }
            if let Some(mut chain) = Chain::lock(&self.state, gfn) {
                chain.fold(rc, shift);
            }
        }
    }
}
