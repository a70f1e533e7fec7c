// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: every hypercall, what it answers and what it does (SPEC 2, 4.4, S0).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

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

guest_support::guest_cases!(
    "guest-calls",
    table::CASES,
    large::CASES,
    pages::CASES,
    areas::CASES,
    interrupts::CASES,
    schedule::CASES,
    modes::CASES,
    terminal::CASES,
    rtas_calls::CASES,
);
