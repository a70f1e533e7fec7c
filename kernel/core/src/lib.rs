// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's object model: capabilities, objects, IPC, scheduling. Safe code only; the machine
//! is behind the [`machine::Machine`] trait, so that all of it runs under `cargo test` on the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod machine;
pub mod object;
