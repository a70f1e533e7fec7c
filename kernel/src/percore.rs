// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's state: what all cores share, and what each core has beside its [`Core`] of the object
//! model: a stack for the kernel, and a place where the registers go when the kernel itself is
//! interrupted.

use crate::board;
use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use partita_abi::limits;
use partita_kernel_core::Global;
use partita_kernel_core::object::{Context, Core, EndpointState};

/// Cores that the kernel has data for: the board's number, which the object model must hold.
pub const MAX_CORES: usize = board::MAX_CORES;
const _: () = assert!(MAX_CORES <= limits::MAX_CORES);

/// A static that is not `Sync` by its type.
#[repr(transparent)]
pub struct Shared<T>(pub T);

// SAFETY: interrupts are off in the kernel, and a core uses what several share only while it holds the
// locks that protect it (docs/KERNEL.md, locking), or before the others are started. What belongs to one
// core is used by that core only, or while it is known to wait for a lock.
unsafe impl<T> Sync for Shared<T> {}

/// Bytes of a kernel stack.
const STACK_BYTES: usize = 16384;
/// Bytes of the first frame: back chain, CR, LR, TOC and eight parameters (ELFv2), rounded up.
const FIRST_FRAME: u64 = 128;

#[repr(C, align(128))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

impl Stack {
    /// Stack pointer of the first caller on this stack.
    fn top(&self) -> u64 {
        self.0.get() as u64 + STACK_BYTES as u64 - FIRST_FRAME
    }
}

#[repr(C, align(128))]
struct PerCore {
    crash: Context,
    stack: Stack,
    crash_stack: Stack,
}

// SAFETY: cells of integers: all zeros is a valid value.
static GLOBAL: Shared<Global> = Shared(unsafe { MaybeUninit::zeroed().assume_init() });

// SAFETY: cells of integers and bytes: all zeros is a valid value.
static PER_CORE: Shared<[PerCore; MAX_CORES]> =
    Shared(unsafe { MaybeUninit::zeroed().assume_init() });

/// The machine-dependent words of [`Core::arch`].
pub mod arch_word {
    /// MSR of every PD.
    pub const PD_MSR: usize = 0;
    /// Real address of the [`Context`] for the kernel's own registers when it is interrupted.
    ///
    /// [`Context`]: partita_kernel_core::object::Context
    pub const CRASH_CONTEXT: usize = 1;
    /// Stack that the crash handler runs on.
    pub const CRASH_STACK: usize = 2;
    /// Index of the next entry of this core's interrupt event queue.
    pub const EQ_INDEX: usize = 3;
    /// Generation bit (0 or 1) of a fresh entry of that queue.
    pub const EQ_GENERATION: usize = 4;
    /// LPCR while the host runs.
    pub const LPCR_HOST: usize = 5;
    /// LPCR of a guest before its own choices.
    pub const LPCR_GUEST: usize = 6;
    /// PPR of the host.
    pub const PPR_HOST: usize = 7;
    /// A decrementer value that does not expire.
    pub const DEC_FAR: usize = 8;
    /// Real address of the VCPU whose state this core holds, 0: none.
    pub const RESIDENT: usize = 9;
    /// State of an endpoint at which a thread of this core waits to receive.
    pub const EP_RECEIVE: usize = 10;
    /// State of an endpoint of this core at which nobody waits.
    pub const EP_IDLE: usize = 11;
    /// Real address of this core's lock.
    pub const LOCK: usize = 12;
    /// While no vCPU is resident: entries of the segment look-aside buffer from this one on read as zeros.
    pub const SLB_USED: usize = 13;
}

/// What all cores share.
pub fn global() -> &'static Global {
    &GLOBAL.0
}

/// The core with number `id`; `None` from [`MAX_CORES`] on.
pub fn core(id: usize) -> Option<&'static Core> {
    GLOBAL.0.cores.get(id)
}

/// Fills in what the assembly needs: stacks, TOC, number.
pub fn init(id: usize, pir: u64, toc: u64, pd_msr: u64) -> Option<&'static Core> {
    let (p, core) = (PER_CORE.0.get(id)?, core(id)?);
    core.id.set(id as u64);
    core.pir.set(pir);
    core.toc.set(toc);
    core.stack_top.set(p.stack.top());
    set(core, arch_word::PD_MSR, pd_msr);
    set(
        core,
        arch_word::EP_RECEIVE,
        (id as u64) << 8 | EndpointState::Receive as u64,
    );
    set(
        core,
        arch_word::EP_IDLE,
        (id as u64) << 8 | EndpointState::Idle as u64,
    );
    set(core, arch_word::CRASH_CONTEXT, &raw const p.crash as u64);
    set(core, arch_word::CRASH_STACK, p.crash_stack.top());
    Some(core)
}

/// The registers of the kernel when it was interrupted.
pub fn crash_context(core: &Core) -> Option<&'static Context> {
    PER_CORE.0.get(core.id.get() as usize).map(|p| &p.crash)
}

/// Reads a word of [`arch_word`].
pub fn get(core: &Core, word: usize) -> u64 {
    core.arch.get(word).map_or(0, Cell::get)
}

/// Writes a word of [`arch_word`].
pub fn set(core: &Core, word: usize, value: u64) {
    if let Some(cell) = core.arch.get(word) {
        cell.set(value);
    }
}
