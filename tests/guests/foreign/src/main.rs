// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: attempts to reach what is not the guest's (SPEC 6.1, 6 row 43). Each must fail, or
//! hit memory of the guest's own.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod instructions;
#[cfg(target_arch = "powerpc64")]
mod memory;

guest_support::guest_cases!("guest-foreign", instructions::CASES, memory::CASES,);
