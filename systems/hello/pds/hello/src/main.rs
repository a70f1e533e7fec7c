// SPDX-License-Identifier: BSD-2-Clause
//! A PD that says hello.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{Handler, Infallible, debug_println, pd_name, protection_domain};

    #[protection_domain]
    fn init() -> HandlerImpl {
        debug_println!("{}: hello, world", pd_name().unwrap_or("?"));
        HandlerImpl
    }

    struct HandlerImpl;

    impl Handler for HandlerImpl {
        type Error = Infallible;
    }
}
