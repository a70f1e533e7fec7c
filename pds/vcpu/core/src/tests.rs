// SPDX-License-Identifier: BSD-2-Clause
#![cfg(not(loom))]
//! The platform against a model of the kernel and of guest memory.

mod clock;
mod exits;
mod hostile;
mod load;
mod modes;
mod rtas;
mod sched;
mod servers;
mod terminal;
#[cfg(feature = "device-tree")]
mod tree;
mod world;
mod xics;
