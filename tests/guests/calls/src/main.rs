// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: every hypercall and what it answers.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
guest_support::guest_program!(cases::main);

#[cfg(target_arch = "powerpc64")]
mod cases {
    use guest_support::{Case, Guest, Outcome, check};

    pub fn main(guest: &'static Guest) -> ! {
        guest_support::run("guest-calls", guest, &[CASES])
    }

    const CASES: &[Case] = &[Case {
        name: "P4.1 entry",
        body: entry,
    }];

    fn entry(guest: &'static Guest) -> Outcome {
        check!(guest.free[0] < guest.free[1]);
        Ok(())
    }
}
