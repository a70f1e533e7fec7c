// SPDX-License-Identifier: BSD-2-Clause
//! `/init` of a Linux guest: it measures what processes do all day, in instructions, and then powers off.
//! Meaningful only with QEMU's `-icount shift=0,sleep=off`, where an instruction takes one nanosecond.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod rows;
#[cfg(target_arch = "powerpc64")]
mod system;
