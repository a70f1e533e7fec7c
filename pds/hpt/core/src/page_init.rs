// SPDX-License-Identifier: BSD-2-Clause
//! H_PAGE_INIT (2.2).

use crate::chain::mark_changed;
use crate::hypercall::{Outcome, Words};
use crate::{Hpt, PageAnswer, Pages, Table};
use partita_papr::hcall::{flags, status};
use partita_papr::{Gfn, GuestReal, PAGE_SHIFT};
use partita_srcu::{Policy, ReadGuard, SlotFlags};

const ALLOWED: u64 = flags::ICACHE_INVALIDATE
    | flags::ICACHE_SYNCHRONIZE
    | flags::ZERO_PAGE
    | flags::COPY_PAGE
    | flags::PAGE_STATE;

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_PAGE_INIT: r4 flags, r5 destination, r6 source. Always 4 KiB. COPY wins over ZERO; the
    /// state bits and the instruction cache flags have no effect (memory is coherent).
    #[inline(never)]
    pub(crate) fn page_init(&self, words: &Words) -> Outcome {
        let [call_flags, to, from, ..] = *words;
        if call_flags & !ALLOWED != 0 {
            return Outcome::status(status::H_PARAMETER);
        }
        let guard = self.slots.read();
        let Some(to) = ram_page(&guard, to, true) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let answer = if call_flags & flags::COPY_PAGE != 0 {
            let Some(from) = ram_page(&guard, from, false) else {
                return Outcome::status(status::H_PARAMETER);
            };
            self.pages.copy(to, from)
        } else if call_flags & flags::ZERO_PAGE != 0 {
            self.pages.zero(to, PAGE_SHIFT)
        } else {
            return Outcome::status(status::H_SUCCESS);
        };
        Outcome::status(match answer {
            PageAnswer::Ready => {
                mark_changed(&self.state, to);
                status::H_SUCCESS
            }
            PageAnswer::Busy => status::H_BUSY,
            PageAnswer::Refused => status::H_PARAMETER,
        })
    }
}

/// The page at `address` if it is aligned, RAM, and writable where it must be.
fn ram_page(guard: &ReadGuard<'_>, address: u64, write: bool) -> Option<Gfn> {
    let address = GuestReal::new(address)?;
    if !address.is_aligned(PAGE_SHIFT) {
        return None;
    }
    let slot = guard.lookup(address.gfn(), Policy::Instantiate)?;
    if write && slot.flags.contains(SlotFlags::READ_ONLY) {
        return None;
    }
    Some(address.gfn())
}
