// SPDX-License-Identifier: BSD-2-Clause
//! H_REMOVE (2.2, S4.11).

use crate::chain::Chain;
use crate::enter::failed;
use crate::hypercall::{Outcome, Words};
use crate::state::{NOT_GUEST, Rev, needs_intercept, page_of};
use crate::{Hpt, Pages, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::Ptex;
use partita_papr::hcall::{flags, status};
use partita_papr::hpte::{ABSENT, VALID, matches, reported};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_REMOVE: r4 flags, r5 index, r6 AVPN or mask. Result: the entry with its last R and C.
    #[inline(never)]
    pub(crate) fn remove(&self, words: &mut Words) -> Outcome {
        let [call_flags, index, value, ..] = *words;
        let Some((ptex, rev)) = self.state.find(index) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let v = rev.lock();
        let avpn = if call_flags & flags::AVPN != 0 {
            Some(value)
        } else {
            None
        };
        let andcond = if call_flags & flags::ANDCOND != 0 {
            Some(value)
        } else {
            None
        };
        if v & (VALID | ABSENT) == 0 || !matches(v, avpn, andcond) {
            rev.unlock(v);
            return Outcome::status(status::H_NOT_FOUND);
        }
        match self.empty(ptex, rev, v) {
            Ok(dw1) => Outcome::two(words, reported(v), dw1),
            Err(error) => Outcome::status(failed(error)),
        }
    }

    /// Empties an occupied entry that the caller has locked (`v` is its dw0) and unlocks it;
    /// returns the guest's dw1 with the final R and C. After an error it is as before.
    #[inline]
    pub(crate) fn empty(&self, ptex: Ptex, rev: &Rev, v: u64) -> Result<u64, TableError> {
        let mut rc = 0;
        if v & VALID != 0 {
            rc = match self.table.remove(ptex) {
                Ok(rc) => rc,
                Err(error) => {
                    rev.unlock(v);
                    return Err(error);
                }
            };
        }
        Ok(self.forget(ptex, rev, v, rc))
    }

    /// What follows when the real entry is gone: R and C go to the page, the entry leaves its
    /// chain and becomes free.
    #[inline]
    pub(crate) fn forget(&self, ptex: Ptex, rev: &Rev, v: u64, rc: u64) -> u64 {
        let r = rev.r.load(Ordering::Relaxed);
        if v & VALID != 0 {
            self.unchain(ptex, rev, v, r, rc);
        }
        if needs_intercept(v, r) {
            self.state.control.fault_mode.lower();
        }
        rev.unlock(0);
        (r & !NOT_GUEST) | rc
    }

    /// Takes an entry, whose real one is gone, from its chain.
    #[inline]
    pub(crate) fn unchain(&self, ptex: Ptex, rev: &Rev, v: u64, r: u64, rc: u64) {
        if let Some((gfn, shift)) = page_of(v, r)
            && let Some(mut chain) = Chain::lock(&self.state, gfn)
        {
            chain.fold(rc, shift);
            chain.unlink(ptex, rev);
        }
    }
}
