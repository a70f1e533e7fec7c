// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's object model: capabilities, objects, IPC, scheduling. Safe code only; the machine
//! is behind the [`machine::Machine`] trait, so that all of it runs under `cargo test` on the host.
//!
//! Every invocation validates its arguments first and has its effects after; from its first effect on
//! it cannot fail. Operations without a bound (delete, revoke, large Retypes) stop at preemption
//! points and are repeated by the caller.
#![no_std]
#![forbid(unsafe_code)]

pub mod audit;
pub mod boot;
pub mod cap;
mod cnode;
mod cspace;
mod delete;
pub mod error;
pub mod gspace;
mod hpt;
mod ipc;
mod irq;
pub mod kernel;
pub mod machine;
mod notification;
pub mod object;
pub mod queue;
pub mod quick;
mod reply;
mod sched;
mod sched_context;
mod slot;
mod syscall;
mod tcb;
mod untyped;
pub mod vcpu;
pub mod vspace;
mod waiting;

pub use kernel::{Global, Kernel};
