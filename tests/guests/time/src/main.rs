// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: time, sleep and waking (SPEC 2.4, 5.5, 5.6), alone and with another vCPU on the
//! same core. Virtual time counts instructions, so the bounds hold on any machine.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod alone;
#[cfg(target_arch = "powerpc64")]
mod together;

guest_support::guest_cases!("guest-time", alone::CASES, together::CASES,);
