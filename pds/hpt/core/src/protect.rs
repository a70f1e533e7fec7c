// SPDX-License-Identifier: BSD-2-Clause
//! H_PROTECT (2.2; DESIGN 4, fault mode).

use crate::enter::failed;
use crate::hypercall::{Outcome, Words};
use crate::state::{NOT_GUEST, needs_intercept};
use crate::{Hpt, Pages, Table};
use partita_instance::atomic::Ordering;
use partita_papr::hcall::{PROTECT_MASK, flags, protect_bits, status};
use partita_papr::hpte::{ABSENT, VALID, matches};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_PROTECT: r4 flags, r5 index, r6 AVPN. The page stays, so does the chain (S4.15).
    #[inline(never)]
    pub(crate) fn protect(&self, words: &Words) -> Outcome {
        let [call_flags, index, avpn, ..] = *words;
        let Some((ptex, rev)) = self.state.find(index) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let v = rev.lock();
        let avpn = if call_flags & flags::AVPN != 0 {
            Some(avpn)
        } else {
            None
        };
        if v & (VALID | ABSENT) == 0 || !matches(v, avpn, None) {
            rev.unlock(v);
            return Outcome::status(status::H_NOT_FOUND);
        }
        let old = rev.r.load(Ordering::Relaxed);
        let new = (old & !PROTECT_MASK) | protect_bits(call_flags);
        // An unchanged entry needs no invalidation: no processor can hold anything else.
        if v & VALID != 0 && new != old {
            let (before, after) = (needs_intercept(v, old), needs_intercept(v, new));
            let mut result = Ok(());
            if after && !before {
                result = self.state.control.fault_mode.raise(&self.table);
            }
            if result.is_ok() {
                result = self.table.update(ptex, new & !NOT_GUEST);
                if before != after && before == result.is_ok() {
                    self.state.control.fault_mode.lower();
                }
            }
            if let Err(error) = result {
                rev.unlock(v);
                return Outcome::status(failed(error));
            }
        }
        rev.r.store(new, Ordering::Relaxed);
        rev.unlock(v);
        Outcome::status(status::H_SUCCESS)
    }
}
