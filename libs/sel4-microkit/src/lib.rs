// SPDX-License-Identifier: BSD-2-Clause
//! Microkit's runtime for protection domains, with the names and the behaviour of rust-sel4's
//! `sel4-microkit`.
//!
//! ```ignore
//! #[protection_domain]
//! fn init() -> HandlerImpl {
//!     HandlerImpl
//! }
//!
//! struct HandlerImpl;
//!
//! impl Handler for HandlerImpl {
//!     type Error = Infallible;
//! }
//! ```
//!
//! # Message registers
//!
//! The first eight message registers travel in machine registers. [`set_mr`], [`get_mr`] and
//! [`with_msg_regs`] keep them in the PD's IPC buffer, whose first eight words the kernel ignores,
//! so that all 120 are one slice. [`Channel::pp_call`] loads and stores those eight words.
//!
//! # Additions to upstream
//!
//! * [`Channel::pp_call_mrs`], [`Handler::protected_mrs`] and [`Handler::fault_mrs`]: arguments and
//!   results stay in machine registers.
//! * [`caller`]: which channel, and for a hypercall which vCPU, the protected procedure serves.
//! * [`cspace_cap`], [`own_vspace`] and [`Vcpu`]: capabilities that upstream leaves to C.
//! * [`Child::pd_stop`], [`Child::pd_resume`], [`Child::pd_restart`] (names of the C library).
//!
//! Not there: unwinding (`catch_unwind` only runs its argument), feature `extern-symbols`.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod caps;
mod channel;
mod defer;
mod entry;
mod handler;
mod heap;
#[doc(hidden)]
pub mod ipc;
mod message;
pub mod panicking;
mod symbols;

pub use caps::{Vcpu, cspace_cap, own_vspace};
pub use channel::{
    Channel, ChannelSet, ChannelSetIter, Child, DisplayChannelSet, IrqAckError, MAX_CHANNELS,
};
pub use core::convert::Infallible;
pub use defer::{DeferredAction, DeferredActionInterface, DeferredActionSlot};
pub use handler::{Handler, Never, NullHandler};
pub use ipc::{Caller, FastReply, caller};
pub use message::{
    MessageInfo, MessageLabel, MessageRegisterValue, get_mr, set_mr, with_msg_bytes,
    with_msg_bytes_mut, with_msg_regs, with_msg_regs_mut,
};
pub use sel4::{debug_print, debug_println};
pub use sel4_microkit_macros::protection_domain;
pub use symbols::{ImmutableCell, pd_is_passive, pd_name};

#[doc(hidden)]
pub mod _private {
    pub use crate::entry::{Stack, start};
    pub use crate::heap::{Arena, StaticHeap};
    pub use crate::symbols::{region, slice_region};
    pub use sel4;
}
