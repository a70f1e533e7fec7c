// SPDX-License-Identifier: BSD-2-Clause
//! Typed access to the kernel, with the names and shapes of rust-sel4's `sel4` crate.
//!
//! All machine code stands in [`arch`]: one `asm!` for each shape of system call. Message registers
//! 0 to 7 travel in machine registers; longer messages continue in the IPC buffer, whose first
//! eight words are only the place where the variants without `_with_mrs` keep those registers.
//!
//! Differences from upstream: eight fast message registers instead of four; `SchedContext` has one
//! size; frames are 4 KiB, 64 KiB and 2 MiB; there is no thread-local IPC buffer pointer (threads
//! that share a VSpace name their buffer with [`Cap::with`]); [`Timer`](cap::Timer),
//! [`PlatformControl`](cap::PlatformControl) and the objects of guests ([`Hpt`](cap::Hpt),
//! [`VCpu`](cap::VCpu) and others) are additions. On a host the crate compiles, and a
//! system call panics.
#![cfg_attr(target_os = "none", no_std)]

pub mod arch;
mod cap_rights;
mod cptr;
mod entry;
mod error;
mod fault;
mod guest;
pub mod init_thread;
mod invocations;
mod ipc_buffer;
mod message_info;
mod object;
mod printing;
pub mod root_task;
pub mod sys;
mod syscalls;
mod user_context;
mod vspace;

pub use cap_rights::{CapRights, CapRightsBuilder};
pub use cptr::{
    AbsoluteCPtr, CNodeCapData, CPtr, CPtrBits, CPtrWithDepth, Cap, CapType, HasCPtrWithDepth,
    InvocationContext, NoExplicitInvocationContext, cap, cap_type,
};
pub use error::{Error, Result};
pub use fault::{
    CapFault, DebugException, Fault, NullFault, Timeout, UnknownSyscall, UserException, VCpuFault,
    VGicMaintenance, VmFault,
};
pub use guest::{VCpuRoute, VCpuTimes};
pub use invocations::{IrqTrigger, PlatformTime, SchedControlFlags};
pub use ipc_buffer::{
    IpcBuffer, PD_IPC_BUFFER, set_ipc_buffer, with_ipc_buffer, with_ipc_buffer_mut,
};
pub use message_info::{MessageInfo, MessageInfoBuilder};
pub use object::{
    CapTypeForFrameObject, CapTypeForFrameObjectOfFixedSize, FrameObjectType, ObjectBlueprint,
    ObjectBlueprintArch,
};
pub use partita_abi::bootinfo::{BootInfo, UntypedDesc};
#[doc(hidden)]
pub use printing::_print;
pub use printing::debug_put_char;
pub use sel4_macros::sel4_cfg;
pub use syscalls::{
    CallWithMRs, FastMessages, IpcCapType, NUM_FAST_MESSAGE_REGISTERS, RecvWithMRs, yield_,
};
#[cfg(partita_printing)]
pub use syscalls::{
    debug_audit_guests, debug_cap_identify, debug_halt, debug_name_thread, debug_snapshot,
};
pub use user_context::UserContext;
pub use vspace::VmAttributes;

include!(concat!(env!("OUT_DIR"), "/config.rs"));

/// A machine word.
pub type Word = u64;
/// Badge of a capability or word of a notification.
pub type Badge = Word;
/// Microseconds.
pub type Time = u64;

/// Bits of a [`Word`].
pub const WORD_SIZE: usize = partita_abi::address_space::WORD_BITS;
/// log2 of the smallest page.
pub const PAGE_BITS: usize = partita_abi::address_space::PAGE_BITS;
/// Highest user virtual address, inclusive.
pub const USER_VSPACE_TOP: usize = partita_abi::address_space::USER_VSPACE_TOP;
/// Ticks of [`arch::timebase`] per second.
pub const TIMEBASE_HZ: u64 = sel4_cfg_word!(TIMER_FREQUENCY);
/// Whether the configuration prints.
pub const PRINTING: bool = cfg!(partita_printing);
