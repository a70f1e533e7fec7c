// SPDX-License-Identifier: BSD-2-Clause
//! Conformance suite of the kernel's guest objects: GSpace, views, hash page tables, VCPU. A root task that
//! plays all the servers of a tiny guest.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod cases;
#[cfg(target_arch = "powerpc64")]
mod guest;
#[cfg(target_arch = "powerpc64")]
mod isolation;
#[cfg(target_arch = "powerpc64")]
mod multicore;
#[cfg(target_arch = "powerpc64")]
mod payload;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
