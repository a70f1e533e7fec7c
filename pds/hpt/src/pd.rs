// SPDX-License-Identifier: BSD-2-Clause
//! The handler.

use crate::adapter::{KernelTable, Memslots};
use core::slice;
use core::sync::atomic::AtomicU64;
use partita_abi::{GuestExit, ReplyAction};
use partita_guest_protocol::channel::{self, Peer};
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::{Answer, answer, layout};
use partita_hpt::{Control, Fault, FaultAction, Hpt, Looping, RealHpte, Rev, State};
use partita_papr::{HptOrder, PageSize};
use partita_srcu::{EpochWord, Reader, Table};
use sel4_microkit::{
    Caller, ChannelSet, Child, FastReply, Handler, Infallible, MessageInfo, debug_println,
    memory_region_symbol, var,
};

const _: () = assert!(
    size_of::<Rev>() as u64 == layout::REV_BYTES
        && size_of::<Control>() as u64 == layout::HPT_CONTROL_BYTES
        && size_of::<Table>() as u64 <= layout::SLOT_TABLE_BYTES
);

/// A `&'static` to the region of a symbol, or to the first elements of it.
macro_rules! shared {
    ($symbol:ident: $type:ty) => {{
        let region = memory_region_symbol!($symbol: *mut $type);
        // SAFETY: the system description maps a region of this type there, zeros at the start,
        // which everybody accesses with atomic operations.
        unsafe { region.as_ref() }
    }};
    ($symbol:ident: [$type:ty], $n:expr) => {{
        let region = memory_region_symbol!($symbol: *mut [$type], n = $n);
        // SAFETY: as above; the region's size follows from the same figures
        // (`partita_guest_protocol::layout`).
        unsafe { region.as_ref() }
    }};
}

/// The handler.
pub(crate) struct HandlerImpl {
    hpt: Hpt<'static, KernelTable, Memslots>,
    log: Option<DirtyLog<'static>>,
}

impl HandlerImpl {
    /// Over what the system description maps.
    pub(crate) fn new() -> Self {
        let Some(order) = HptOrder::new(*var!(hpt_order: u64 = 0) as u32) else {
            panic!("hpt_order is not set");
        };
        let vrma = match *var!(vrma_page: u64 = 0) {
            0x1000 => PageSize::Size4K,
            0x1_0000 => PageSize::Size64K,
            0x100_0000 => PageSize::Size16M,
            other => panic!("vrma_page: no page of {other:#x} bytes"),
        };
        let memory = *var!(guest_memory: u64 = 0);
        let entries = order.entries() as usize;
        let state = State::new(
            order,
            shared!(rev: [Rev], entries),
            shared!(rmap: [AtomicU64], (layout::rmap_bytes(memory) / 8) as usize),
            shared!(real_table: [RealHpte], entries),
            shared!(control_words: Control),
        );
        let Some(state) = state else {
            panic!("a region is shorter than the table");
        };
        let slots = Reader::new(shared!(slot_table: Table), shared!(epoch: EpochWord));
        HandlerImpl {
            hpt: Hpt::new(state, slots, KernelTable, Memslots, vrma),
            log: log(*var!(dirty_log: usize = 0), memory),
        }
    }
}

/// The dirty log, if the system description maps one.
fn log(address: usize, memory: u64) -> Option<DirtyLog<'static>> {
    let words = (layout::dirty_log_bytes(memory) / 8) as usize;
    let first = core::ptr::with_exposed_provenance::<AtomicU64>(address);
    if first.is_null() {
        return None;
    }
    // SAFETY: the system description maps a region of this size there, which everybody accesses
    // with atomic operations.
    Some(DirtyLog::new(unsafe {
        slice::from_raw_parts(first, words)
    }))
}

const fn action(action: ReplyAction) -> u64 {
    (action as u64) << 48
}

const STATUS: u64 = (1 << 48) - 1;

impl Handler for HandlerImpl {
    type Error = Infallible;

    /// A peer may notify, and says nothing by that.
    fn notified(&mut self, _channels: ChannelSet) -> Result<(), Infallible> {
        Ok(())
    }

    #[inline(always)]
    fn protected_mrs(
        &mut self,
        caller: Caller,
        info: MessageInfo,
        mut words: [u64; 8],
    ) -> Result<FastReply, Infallible> {
        if caller.channel().index() != channel::ROUTE {
            return Ok(self.managed(caller, info.label(), &words));
        }
        // Words that are no results are as they came, so that all eight can be the answer: no
        // register of the guest changes by that.
        let status = self.hpt.call(info.label(), &mut words).status as u64 & STATUS;
        Ok(FastReply::new(action(ReplyAction::Resume) | status, words))
    }

    // Out of the main loop, whose other way is the short one.
    #[inline(never)]
    fn fault_mrs(
        &mut self,
        vcpu: Child,
        info: MessageInfo,
        words: [u64; 8],
    ) -> Result<Option<FastReply>, Infallible> {
        let [pc, msr, dar, cause, asdr, amr, iamr, _] = words;
        let fault = Fault {
            instruction: info.label() == GuestExit::InstructionStorage as u64,
            pc,
            msr,
            dar,
            cause,
            asdr,
            amr,
            iamr,
        };
        if let Some(looping) = self.hpt.count_fault(vcpu.index(), &fault) {
            report(&looping);
        }
        Ok(Some(match self.hpt.storage_fault(&fault) {
            FaultAction::Resume => FastReply::new(action(ReplyAction::Resume), []),
            FaultAction::Inject {
                vector,
                srr1,
                dar,
                dsisr,
            } => FastReply::new(
                action(ReplyAction::Inject),
                [0, 0, 0, 0, vector, srr1, dar, dsisr],
            ),
        }))
    }
}

/// Where the kernel prints, as with what else goes wrong in a server; elsewhere `STATS` has the number.
#[cold]
#[inline(never)]
fn report(looping: &Looping) {
    debug_println!("hpt: {looping}");
}

impl HandlerImpl {
    #[cold]
    #[inline(never)]
    fn managed(&mut self, caller: Caller, label: u64, words: &[u64; 8]) -> FastReply {
        let answer = match Peer::of(caller.channel().index()) {
            Some(peer) => self.hpt.manage(self.log, peer, label, words),
            None => Answer::label(answer::INVALID),
        };
        FastReply::new(answer.label, answer.words)
    }
}
