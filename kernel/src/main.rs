// SPDX-License-Identifier: BSD-2-Clause
//! Partita's kernel: the arch shell for POWER9 and POWER10 around the object model of
//! `partita-kernel-core`.
//!
//! The kernel runs in hypervisor real mode throughout (HV=1, PR=0, IR=DR=EE=0), little-endian, so no
//! address space maps it. Interrupts arrive at real addresses 0x100 to 0x1800 (LPCR[AIL]=0).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod arch;
#[cfg(target_arch = "powerpc64")]
mod board;
#[cfg(target_arch = "powerpc64")]
mod boot;
#[cfg(all(target_arch = "powerpc64", debug_syscalls))]
mod debug;
#[cfg(target_arch = "powerpc64")]
mod entry;
#[cfg(any(target_arch = "powerpc64", test))]
mod fdt;
#[cfg(any(target_arch = "powerpc64", test))]
mod memory;
#[cfg(target_arch = "powerpc64")]
mod panic;
#[cfg(target_arch = "powerpc64")]
mod percore;
#[cfg(target_arch = "powerpc64")]
mod smp;
#[cfg(all(target_arch = "powerpc64", debug_syscalls))]
mod snapshot;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
