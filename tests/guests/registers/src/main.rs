// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: what hypercalls and exits leave of the registers (SPEC H2.2, 5.1, C6).
//!
//! All registers that the guest can write hold values that occur nowhere else; after a hypercall or
//! exit each must be what it was, unless PAPR names it as a result. What the guest can only read must
//! not show anything of the hypervisor's.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod calls;
#[cfg(target_arch = "powerpc64")]
mod exits;
#[cfg(target_arch = "powerpc64")]
mod patterns;
#[cfg(target_arch = "powerpc64")]
mod scan;

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::Guest;

    guest_support::guest_program!(main);

    fn main(guest: &'static Guest) -> ! {
        guest_support::run(
            "guest-registers",
            guest,
            // The scan first: it also looks at what the start left.
            &[super::scan::CASES, super::calls::CASES, super::exits::CASES],
        )
    }
}
