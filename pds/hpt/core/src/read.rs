// SPDX-License-Identifier: BSD-2-Clause
//! H_READ (2.2, S4.15).

use crate::state::{NOT_GUEST, Rev};
use crate::sync::Ordering;
use crate::{Hpt, Pages, Reply, Table};
use partita_papr::Ptex;
use partita_papr::hcall::{flags, status};
use partita_papr::hpte::{ABSENT, LOCK, VALID, reported};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_READ: r4 flags, r5 index. Result: one entry or the four of its quarter, always the
    /// guest's view.
    pub(crate) fn read(&self, call_flags: u64, index: u64) -> Reply {
        if call_flags & flags::READ_4 != 0 {
            return self.read_four(index);
        }
        let Some((ptex, rev)) = self.state.find(index) else {
            return Reply::status(status::H_PARAMETER);
        };
        let (v, r) = self.view(ptex, rev);
        Reply::two(v, r)
    }

    fn read_four(&self, index: u64) -> Reply {
        let mut reply = Reply {
            status: status::H_SUCCESS,
            words: [0; 8],
            count: 8,
        };
        for (i, words) in reply.words.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let Some((ptex, rev)) = self.state.find((index & !3) | i as u64) else {
                return Reply::status(status::H_PARAMETER);
            };
            let (v, r) = self.view(ptex, rev);
            *words = [v, r];
        }
        reply
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
