// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: every hypercall, what it answers and what it does (SPEC 2, 4.4, S0).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod areas;
#[cfg(target_arch = "powerpc64")]
mod interrupts;
#[cfg(target_arch = "powerpc64")]
mod large;
#[cfg(target_arch = "powerpc64")]
mod modes;
#[cfg(target_arch = "powerpc64")]
mod pages;
#[cfg(target_arch = "powerpc64")]
mod rtas_calls;
#[cfg(target_arch = "powerpc64")]
mod schedule;
#[cfg(target_arch = "powerpc64")]
mod table;
#[cfg(target_arch = "powerpc64")]
mod terminal;

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::Guest;

    guest_support::guest_program!(main);

    fn main(guest: &'static Guest) -> ! {
        guest_support::run(
            "guest-calls",
            guest,
            &[
                super::table::CASES,
                super::large::CASES,
                super::pages::CASES,
                super::areas::CASES,
                super::interrupts::CASES,
                super::schedule::CASES,
                super::modes::CASES,
                super::terminal::CASES,
                super::rtas_calls::CASES,
            ],
        )
    }
}
