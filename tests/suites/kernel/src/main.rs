// SPDX-License-Identifier: BSD-2-Clause
//! Kernel conformance suite: a root task that checks the kernel's behaviour from outside.
//!
//! Areas carry sel4test's names. A case uses nothing but system calls, so it runs on the `release`
//! configuration; what the host tests of `kernel/core` check in memory is checked here by its effect.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod bind;
#[cfg(target_arch = "powerpc64")]
mod cnode;
#[cfg(target_arch = "powerpc64")]
mod code;
#[cfg(target_arch = "powerpc64")]
mod combined;
#[cfg(target_arch = "powerpc64")]
mod device;
#[cfg(target_arch = "powerpc64")]
mod fastpath;
#[cfg(target_arch = "powerpc64")]
mod fastsignal;
#[cfg(target_arch = "powerpc64")]
mod fault;
#[cfg(target_arch = "powerpc64")]
mod frame;
#[cfg(target_arch = "powerpc64")]
mod interrupt;
#[cfg(target_arch = "powerpc64")]
mod ipc;
#[cfg(target_arch = "powerpc64")]
mod leak;
#[cfg(target_arch = "powerpc64")]
mod misuse;
#[cfg(target_arch = "powerpc64")]
mod multicore;
#[cfg(target_arch = "powerpc64")]
mod retype;
#[cfg(target_arch = "powerpc64")]
mod revoke;
#[cfg(target_arch = "powerpc64")]
mod rights;
#[cfg(target_arch = "powerpc64")]
mod sched;
#[cfg(target_arch = "powerpc64")]
mod schedcontext;
#[cfg(target_arch = "powerpc64")]
mod suite;
#[cfg(target_arch = "powerpc64")]
mod support;
#[cfg(target_arch = "powerpc64")]
mod timeout;
#[cfg(target_arch = "powerpc64")]
mod vspace;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
