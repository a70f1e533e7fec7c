// SPDX-License-Identifier: BSD-2-Clause
//! H_PROTECT (2.2; DESIGN 4, fault mode).

use crate::enter::failed;
use crate::state::{NOT_GUEST, needs_intercept};
use crate::sync::Ordering;
use crate::{Hpt, Pages, Reply, Table};
use partita_papr::hcall::{PROTECT_MASK, flags, protect_bits, status};
use partita_papr::hpte::{ABSENT, VALID, matches};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_PROTECT: r4 flags, r5 index, r6 AVPN. The page stays, so does the chain (S4.15).
    pub(crate) fn protect(&self, call_flags: u64, index: u64, avpn: u64) -> Reply {
        let Some((ptex, rev)) = self.state.find(index) else {
            return Reply::status(status::H_PARAMETER);
        };
        let v = rev.lock();
        let avpn = if call_flags & flags::AVPN != 0 {
            Some(avpn)
        } else {
            None
        };
        if v & (VALID | ABSENT) == 0 || !matches(v, avpn, None) {
            rev.unlock(v);
            return Reply::status(status::H_NOT_FOUND);
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
                return Reply::status(failed(error));
            }
        }
        rev.r.store(new, Ordering::Relaxed);
        rev.unlock(v);
        Reply::status(status::H_SUCCESS)
    }
}
