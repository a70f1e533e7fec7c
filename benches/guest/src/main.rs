// SPDX-License-Identifier: BSD-2-Clause
//! A guest that measures what its hypercalls and exits cost, in instructions, and then powers off.
//! Meaningful only with QEMU's `-icount shift=0,sleep=off`, where an instruction takes one nanosecond.
//!
//! It runs in real mode on vCPU 0, little-endian, with external interrupts off.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod arch;
#[cfg(target_arch = "powerpc64")]
mod measure;
#[cfg(target_arch = "powerpc64")]
mod rows;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
guest_support::guest_program!(start);

#[cfg(target_arch = "powerpc64")]
fn start(guest: &'static guest_support::Guest) -> ! {
    guest_support::runner::begin("bench-guest");
    match guest.argument("pair") {
        Some(_) => rows::pair(),
        None => rows::all(guest),
    }
    guest_support::println!("bench done");
    guest.power_off()
}
