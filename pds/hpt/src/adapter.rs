// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's table and the calls to `memslots`.

use partita_guest_protocol::{channel, memslots, symbol};
use partita_hpt::{PageAnswer, Pages, Table, TableError};
use partita_papr::{Gfn, Ptex};
use sel4::{Error, cap};
use sel4_microkit::{Channel, MessageInfo, cspace_cap};

/// The hash page table object.
pub struct KernelTable;

fn table() -> cap::Hpt {
    cspace_cap(symbol::HPT_SLOT)
}

fn error(error: Error) -> TableError {
    match error {
        Error::FailedLookup => TableError::NotMapped,
        Error::IllegalOperation => TableError::Poisoned,
        _ => TableError::Rejected,
    }
}

impl Table for KernelTable {
    #[inline]
    fn insert(&self, ptex: Ptex, v: u64, r: u64) -> Result<(), TableError> {
        table().hpt_insert(ptex.get(), v, r).map_err(error)
    }

    #[inline]
    fn remove(&self, ptex: Ptex) -> Result<u64, TableError> {
        table().hpt_remove(ptex.get()).map_err(error)
    }

    #[inline]
    fn remove_batch(&self, entries: &[Ptex]) -> Result<[u64; 4], TableError> {
        // Arrays of a known length: the facade copies them in registers.
        let t = table();
        match *entries {
            [a] => t.hpt_remove_batch(&[a.get()]),
            [a, b] => t.hpt_remove_batch(&[a.get(), b.get()]),
            [a, b, c] => t.hpt_remove_batch(&[a.get(), b.get(), c.get()]),
            [a, b, c, d] => t.hpt_remove_batch(&[a.get(), b.get(), c.get(), d.get()]),
            _ => return Err(TableError::Rejected),
        }
        .map_err(error)
    }

    #[inline]
    fn update(&self, ptex: Ptex, r: u64) -> Result<(), TableError> {
        table().hpt_update(ptex.get(), r).map(drop).map_err(error)
    }

    #[inline]
    fn clear_rc(&self, ptex: Ptex, rc: u64) -> Result<u64, TableError> {
        table().hpt_clear_rc(ptex.get(), rc).map_err(error)
    }

    fn clear(&self) -> Result<(), TableError> {
        table().hpt_clear().map_err(error)
    }

    fn set_fault_mode(&self, intercept: bool) -> Result<(), TableError> {
        table().hpt_set_fault_mode(intercept).map_err(error)
    }
}

/// `memslots`.
pub struct Memslots;

/// A call of two words whose answer is a label.
#[inline(never)]
fn call(label: u64, words: [u64; 2]) -> PageAnswer {
    let info = MessageInfo::new(label, words.len());
    let (answer, _) = Channel::new(channel::MEMSLOTS).pp_call_mrs(info, words);
    match answer.label() {
        memslots::READY => PageAnswer::Ready,
        memslots::BUSY => PageAnswer::Busy,
        _ => PageAnswer::Refused,
    }
}

impl Pages for Memslots {
    fn request(&self, gfn: Gfn, shift: u32, write: bool) -> PageAnswer {
        let how = u64::from(shift) | if write { memslots::WRITE } else { 0 };
        call(memslots::REQUEST, [gfn.get(), how])
    }

    fn zero(&self, gfn: Gfn, shift: u32) -> PageAnswer {
        call(memslots::ZERO, [gfn.get(), u64::from(shift)])
    }

    fn copy(&self, to: Gfn, from: Gfn) -> PageAnswer {
        call(memslots::COPY, [to.get(), from.get()])
    }
}
