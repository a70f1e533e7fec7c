// SPDX-License-Identifier: BSD-2-Clause
//! The platform of one guest: what PAPR firmware and the hypervisor are to it, apart from its
//! memory (`hpt`, `memslots`) and its per-vCPU areas (`vpa`).
//!
//! [`Platform`] answers the hypercalls that are routed here and every other exit; [`load`] says
//! where kernel, initrd, RTAS and device tree go; [`tree`] writes the device tree; [`servers`] asks the
//! other servers for what a start needs.
//!
//! All state that counts is in [`VmState`], [`VcpuState`], [`SourceState`] and [`InputRing`], in
//! memory that the instances (one a core) share. No path of a hypercall allocates, formats or
//! panics. Guest memory is read once into a local copy, then checked.
//!
//! This crate never writes a register of a vCPU that may be running: what a hypercall asks for
//! (CIABR, SPRG0, a facility) is recorded, the vCPU is paused, and the `Paused` exit before its
//! next instruction writes it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![allow(unexpected_cfgs)] // `loom` is set by hand for the model check.

#[cfg(feature = "device-tree")]
extern crate alloc;

mod calendar;
mod console;
mod exits;
mod icp;
pub mod load;
mod machine;
mod modes;
mod platform;
mod reply;
mod rtas;
mod sched;
pub mod servers;
mod state;
#[cfg(feature = "device-tree")]
pub mod tree;
mod xics;

pub use calendar::{DateTime, real_time_from_opal};
pub use console::InputRing;
pub use exits::Exit;
pub use icp::{Icp, SourceWord};
pub use machine::{
    GuestMemory, Machine, NotBacked, PartitionMode, Pause, PowerEvent, RealTime, Refused, Register,
    StartState,
};
pub use partita_instance::Instance;
pub use platform::{Config, Platform, Shared};
pub use reply::{Interrupt, ReplyAction, Words};
pub use rtas::{SERVICES, Service};
pub use state::{SourceState, VcpuId, VcpuState, VmState};
pub use xics::{IPI_SOURCE, InvalidState};

#[cfg(test)]
mod tests;
