// SPDX-License-Identifier: BSD-2-Clause
//! H_CLEAR_REF and H_CLEAR_MOD (2.2).

use crate::chain::Chain;
use crate::enter::failed;
use crate::hypercall::{Outcome, Words};
use crate::state::{NOT_GUEST, page_of};
use crate::{Hpt, Pages, Table};
use partita_instance::atomic::Ordering;
use partita_papr::hcall::status;
use partita_papr::hpte::{ABSENT, C, R, VALID};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_CLEAR_REF: r5 index. Result: dw1 before.
    pub(crate) fn clear_ref(&self, words: &mut Words) -> Outcome {
        self.clear_bit(words, R)
    }

    /// H_CLEAR_MOD: r5 index. Result: dw1 before.
    pub(crate) fn clear_mod(&self, words: &mut Words) -> Outcome {
        self.clear_bit(words, C)
    }

    /// Clears `bit` in both views; what hardware had set goes to the page (I8).
    #[inline(never)]
    fn clear_bit(&self, words: &mut Words, bit: u64) -> Outcome {
        let [_, index, ..] = *words;
        let Some((ptex, rev)) = self.state.find(index) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let v = rev.lock();
        if v & (VALID | ABSENT) == 0 {
            rev.unlock(v);
            return Outcome::status(status::H_NOT_FOUND);
        }
        let r = rev.r.load(Ordering::Relaxed);
        let mut rc = 0;
        if v & VALID != 0 {
            rc = self.state.hardware_rc(ptex);
            if rc & bit != 0 {
                rc |= match self.table.clear_rc(ptex, bit) {
                    Ok(rc) => rc,
                    Err(error) => {
                        rev.unlock(v);
                        return Outcome::status(failed(error));
                    }
                };
                if let Some((gfn, shift)) = page_of(v, r)
                    && let Some(mut chain) = Chain::lock(&self.state, gfn)
                {
                    chain.fold(rc & bit, shift);
                }
            }
        }
        rev.r.store(r & !bit, Ordering::Relaxed);
        rev.unlock(v);
        Outcome::one(words, (r & !NOT_GUEST) | rc)
    }
}
