// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: time, sleep and waking (SPEC 2.4, 5.5, 5.6), alone and with another vCPU on the
//! same core. Virtual time counts instructions, so the bounds hold on any machine.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod alone;
#[cfg(target_arch = "powerpc64")]
mod together;

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::Guest;

    guest_support::guest_program!(main);

    fn main(guest: &'static Guest) -> ! {
        guest_support::run(
            "guest-time",
            guest,
            &[super::alone::CASES, super::together::CASES],
        )
    }
}
