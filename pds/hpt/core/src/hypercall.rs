// SPDX-License-Identifier: BSD-2-Clause
//! From a hypercall number to its function.

use crate::{Hpt, Pages, Table};
use partita_papr::hcall::{number, proc_tbl, status};

/// What the guest finds: r3 is `status`, r4 and up are the first `count` of `words`; no other
/// register changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code ([`status`]).
    pub status: i64,
    /// Results for r4..r11.
    pub words: [u64; 8],
    /// How many of them there are, at most 8.
    pub count: usize,
}

impl Reply {
    /// A status without results.
    #[inline]
    pub const fn status(status: i64) -> Self {
        Reply {
            status,
            words: [0; 8],
            count: 0,
        }
    }

    /// H_SUCCESS and one result.
    #[inline]
    pub(crate) const fn one(a: u64) -> Self {
        Reply {
            status: status::H_SUCCESS,
            words: [a, 0, 0, 0, 0, 0, 0, 0],
            count: 1,
        }
    }

    /// H_SUCCESS and two results.
    #[inline]
    pub(crate) const fn two(a: u64, b: u64) -> Self {
        Reply {
            status: status::H_SUCCESS,
            words: [a, b, 0, 0, 0, 0, 0, 0],
            count: 2,
        }
    }
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Executes hypercall `number` with `args` = r4..r11 (H2.2). A number that is not this
    /// server's answers H_FUNCTION. Takes effect exactly once; retries are inside.
    #[inline]
    pub fn hypercall(&self, number: u64, args: [u64; 8]) -> Reply {
        let [r4, r5, r6, r7, ..] = args;
        match number {
            number::H_ENTER => self.enter(r4, r5, r6, r7),
            number::H_REMOVE => self.remove(r4, r5, r6),
            number::H_PROTECT => self.protect(r4, r5, r6),
            number::H_READ => self.read(r4, r5),
            number::H_BULK_REMOVE => self.bulk_remove(args),
            number::H_CLEAR_REF => self.clear_ref(r5),
            number::H_CLEAR_MOD => self.clear_mod(r5),
            number::H_PAGE_INIT => self.page_init(r4, r5, r6),
            number::H_CLEAR_HPT => self.clear_hpt(),
            number::H_REGISTER_PROC_TBL => Reply::status(register_proc_tbl(r4)),
            _ => Reply::status(status::H_FUNCTION),
        }
    }
}

/// H_REGISTER_PROC_TBL for a hash guest (2.2): "no change" and "remove" succeed, since there is
/// nothing to change; a process table of either kind is not offered.
fn register_proc_tbl(flags: u64) -> i64 {
    let operation = flags & proc_tbl::OPERATION;
    if flags & !proc_tbl::OPERATION != 0
        || (operation != proc_tbl::KEEP && operation != proc_tbl::DEREGISTER)
    {
        return status::H_PARAMETER;
    }
    status::H_SUCCESS
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// SPEC finding 4.
    #[test]
    fn proc_tbl_of_a_hash_guest() {
        assert_eq!(register_proc_tbl(0), status::H_SUCCESS);
        assert_eq!(register_proc_tbl(proc_tbl::DEREGISTER), status::H_SUCCESS);
        for bad in [
            proc_tbl::GTSE,
            proc_tbl::RADIX,
            proc_tbl::HPT_PT,
            proc_tbl::NEW,
            8,
            0x20,
        ] {
            assert_eq!(register_proc_tbl(bad), status::H_PARAMETER);
        }
        assert_eq!(
            register_proc_tbl(proc_tbl::NEW | proc_tbl::RADIX),
            status::H_PARAMETER
        );
    }
}
