// SPDX-License-Identifier: BSD-2-Clause
//! Per-vCPU areas: VPA, SLB shadow and dispatch trace log (SPEC S0, S1, 3.1 to 3.3).
//!
//! The guest asks for an area with H_REGISTER_VPA, the operator with a ONE_REG id; both only record
//! what is *wanted*. The target vCPU's own way into the guest makes it so ([`Server::entry`]), or
//! the server does when the vCPU is certainly outside. What is *pinned* is what we write.
//!
//! This crate never touches the counter word at offset 0x100 of a bound VPA (the kernel increments
//! it), never holds a lock bit across a call to somebody else, never reads a guest word twice, and
//! never allocates.
//!
//! # Instances
//!
//! Several instances (one a core) share the slice of [`VcpuAreas`]. Each has views and an
//! [`InstanceViews`] array of its own: a view is a mapping in one PD's address space. The instance
//! that last served a vCPU is its *home*; only the home applies changes and writes that vCPU's
//! areas. Whoever deletes a slot or resets the guest therefore asks every instance.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![allow(unexpected_cfgs)] // `loom` is set by hand for the model check.

mod areas;
mod limits;
mod outside;
mod release;
mod server;
mod traits;
mod update;

pub use areas::{Area, InstanceViews, VcpuAreas, VcpuId};
pub use outside::{Invalid, Register};
pub use partita_instance::Instance;
pub use server::{Dispatch, Entry, Pages, Progress, Server};
pub use traits::{EntryState, GuestMemory, Kernel, MapError, View};

#[cfg(test)]
mod tests;
