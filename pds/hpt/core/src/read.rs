// SPDX-License-Identifier: BSD-2-Clause
//! H_READ (2.2, S4.15).

use crate::hypercall::{Outcome, Words};
use crate::state::{NOT_GUEST, Rev};
use crate::{Hpt, Pages, Table};
use partita_instance::atomic::Ordering;
use partita_papr::Ptex;
use partita_papr::hcall::{flags, status};
use partita_papr::hpte::{ABSENT, LOCK, VALID, reported};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_READ: r4 flags, r5 index. Result: one entry or the four of its quarter, always the
    /// guest's view.
    #[inline(never)]
    pub(crate) fn read(&self, words: &mut Words) -> Outcome {
        let [call_flags, index, ..] = *words;
        if call_flags & flags::READ_4 != 0 {
            return self.read_four(words, index & !3);
        }
        let Some((ptex, rev)) = self.state.find(index) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let (v, r) = self.view(ptex, rev);
        Outcome::two(words, v, r)
    }

    #[inline(never)]
    fn read_four(&self, words: &mut Words, first: u64) -> Outcome {
        // The size of the table is a multiple of four.
        if self.state.find(first).is_none() {
            return Outcome::status(status::H_PARAMETER);
        }
        for (index, pair) in (first..).zip(words.as_chunks_mut::<2>().0) {
            if let Some((ptex, rev)) = self.state.find(index) {
                let (v, r) = self.view(ptex, rev);
                *pair = [v, r];
            }
        }
        Outcome {
            status: status::H_SUCCESS,
            count: 8,
        }
    }

    /// An entry as the guest sees it, with R and C of the real one; zeros if it is free. Without
    /// the lock: dw0 is read before and after.
    #[inline]
    pub(crate) fn view(&self, ptex: Ptex, rev: &Rev) -> (u64, u64) {
        let v = rev.v.load(Ordering::Acquire);
        if v & (VALID | ABSENT | LOCK) == 0 {
            return (0, 0);
        }
        if v & LOCK == 0 {
            let r = rev.r.load(Ordering::Acquire);
            let rc = if v & VALID != 0 {
                self.state.hardware_rc(ptex)
            } else {
                0
            };
            if rev.v.load(Ordering::Relaxed) == v {
                return (reported(v), (r & !NOT_GUEST) | rc);
            }
        }
        self.view_locked(ptex, rev)
    }

    #[cold]
    fn view_locked(&self, ptex: Ptex, rev: &Rev) -> (u64, u64) {
        let v = rev.lock();
        let r = rev.r.load(Ordering::Relaxed);
        let rc = if v & VALID != 0 {
            self.state.hardware_rc(ptex)
        } else {
            0
        };
        rev.unlock(v);
        if v & (VALID | ABSENT) == 0 {
            (0, 0)
        } else {
            (reported(v), (r & !NOT_GUEST) | rc)
        }
    }
}
