// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's table and the calls to `memslots`.

use partita_abi::InvocationLabel;
use partita_guest_protocol::{channel, memslots, symbol};
use partita_hpt::{PageAnswer, Pages, Table, TableError};
use partita_papr::{Gfn, Ptex};
use sel4::{Error, arch, cap};
use sel4_microkit::{Channel, MessageInfo, cspace_cap};

/// The hash page table object.
pub struct KernelTable;

fn table() -> cap::Hpt {
    cspace_cap(symbol::HPT_SLOT)
}

#[cold]
fn refusal(label: u64) -> TableError {
    match Error::from_label(label) {
        Some(error) => self::error(error),
        None => TableError::Rejected,
    }
}

fn error(error: Error) -> TableError {
    match error {
        Error::FailedLookup => TableError::NotMapped,
        Error::IllegalOperation => TableError::Poisoned,
        _ => TableError::Rejected,
    }
}

/// As the methods of `cap::Hpt`, whose answers go through memory: these calls are what a guest's page
/// fault costs.
#[inline(always)]
fn invoke<const N: usize>(label: InvocationLabel, args: [u64; N]) -> Result<[u64; 8], TableError> {
    let info = sel4::MessageInfo::new(label as u64, 0, 0, N);
    let answer = arch::call(table().bits(), info.into_word(), arch::message(args));
    match sel4::MessageInfo::from_word(answer.info).label() {
        0 => Ok(answer.words),
        label => Err(refusal(label)),
    }
}

impl Table for KernelTable {
    #[inline]
    fn insert(&self, ptex: Ptex, v: u64, r: u64) -> Result<(), TableError> {
        invoke(InvocationLabel::HPTInsert, [ptex.get(), v, r]).map(drop)
    }

    #[inline]
    fn remove(&self, ptex: Ptex) -> Result<u64, TableError> {
        invoke(InvocationLabel::HPTRemove, [ptex.get()]).map(|[rc, ..]| rc)
    }

    #[inline]
    fn remove_batch(&self, entries: &[Ptex]) -> Result<[u64; 4], TableError> {
        let mut args = [0; 5];
        let (count, list) = args.split_at_mut(1);
        count[0] = entries.len() as u64;
        if entries.len() > list.len() {
            return Err(TableError::Rejected);
        }
        for (to, from) in list.iter_mut().zip(entries) {
            *to = from.get();
        }
        invoke(InvocationLabel::HPTRemoveBatch, args).map(|[a, b, c, d, ..]| [a, b, c, d])
    }

    #[inline]
    fn update(&self, ptex: Ptex, r: u64) -> Result<(), TableError> {
        invoke(InvocationLabel::HPTUpdate, [ptex.get(), r]).map(drop)
    }

    #[inline]
    fn clear_rc(&self, ptex: Ptex, rc: u64) -> Result<u64, TableError> {
        invoke(InvocationLabel::HPTClearRC, [ptex.get(), rc]).map(|[rc, ..]| rc)
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
