// SPDX-License-Identifier: BSD-2-Clause
//! From a hypercall number to its function.

use crate::{Hpt, Pages, Table};
use partita_papr::hcall::{number, proc_tbl, status};

/// r4..r11: arguments on entry, results on return.
pub type Words = [u64; 8];

/// What the guest finds: r3 is `status`, the first `count` of its r4..r11 are results; no other
/// register changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Status code ([`status`]).
    pub status: i64,
    /// Words that are results, at most 8.
    pub count: usize,
}

/// An [`Outcome`] and its words in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code ([`status`]).
    pub status: i64,
    /// Results for r4..r11; 0 from `count` on.
    pub words: Words,
    /// How many of them there are, at most 8.
    pub count: usize,
}

impl Outcome {
    /// A status without results.
    #[inline]
    pub(crate) const fn status(status: i64) -> Self {
        Outcome { status, count: 0 }
    }

    /// H_SUCCESS and one result.
    #[inline]
    pub(crate) const fn one(words: &mut Words, a: u64) -> Self {
        words[0] = a;
        Outcome {
            status: status::H_SUCCESS,
            count: 1,
        }
    }

    /// H_SUCCESS and two results.
    #[inline]
    pub(crate) const fn two(words: &mut Words, a: u64, b: u64) -> Self {
        words[0] = a;
        words[1] = b;
        Outcome {
            status: status::H_SUCCESS,
            count: 2,
        }
    }
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Executes hypercall `number` with `args` = r4..r11 (H2.2). As [`Hpt::call`].
    pub fn hypercall(&self, number: u64, args: Words) -> Reply {
        let mut words = args;
        let Outcome { status, count } = self.call(number, &mut words);
        words.iter_mut().skip(count).for_each(|word| *word = 0);
        Reply {
            status,
            words,
            count,
        }
    }

    /// Executes hypercall `number` on `words`, in place: this is the short way. A number that is
    /// not this server's answers H_FUNCTION. Takes effect exactly once; retries are inside.
    #[inline]
    pub fn call(&self, number: u64, words: &mut Words) -> Outcome {
        match number {
            number::H_ENTER => self.enter(words),
            number::H_REMOVE => self.remove(words),
            number::H_PROTECT => self.protect(words),
            number::H_READ => self.read(words),
            number::H_BULK_REMOVE => self.bulk_remove(words),
            number::H_CLEAR_REF => self.clear_ref(words),
            number::H_CLEAR_MOD => self.clear_mod(words),
            number::H_PAGE_INIT => self.page_init(words),
            number::H_CLEAR_HPT => self.clear_hpt(),
            number::H_REGISTER_PROC_TBL => Outcome::status(register_proc_tbl(words[0])),
            _ => Outcome::status(status::H_FUNCTION),
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
