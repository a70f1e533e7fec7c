// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: attempts to reach what is not the guest's (SPEC 6.1, 6 row 43). Each must fail, or
//! hit memory of the guest's own.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod instructions;
#[cfg(target_arch = "powerpc64")]
mod memory;

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::Guest;

    guest_support::guest_program!(main);

    fn main(guest: &'static Guest) -> ! {
        guest_support::run(
            "guest-foreign",
            guest,
            &[super::instructions::CASES, super::memory::CASES],
        )
    }
}
