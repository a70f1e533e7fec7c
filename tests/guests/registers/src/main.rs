// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: what hypercalls and exits leave of the registers (SPEC H2.2, 5.1, C6).
//!
//! All registers that the guest can write hold values that occur nowhere else; after a hypercall or
//! exit each must be what it was, unless PAPR names it as a result. What the guest can only read must
//! not show anything of the hypervisor's.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod calls;
#[cfg(target_arch = "powerpc64")]
mod exits;
#[cfg(target_arch = "powerpc64")]
mod patterns;
#[cfg(target_arch = "powerpc64")]
mod scan;

// The scan first: it also looks at what the start left.
guest_support::guest_cases!("guest-registers", scan::CASES, calls::CASES, exits::CASES,);
