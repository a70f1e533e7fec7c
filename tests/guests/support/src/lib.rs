// SPDX-License-Identifier: BSD-2-Clause
//! For guest programs of our own: they run as the kernel of a guest of the default system, without any
//! operating system, and print results as the suites do.
//!
//! A program is entered as SPEC P4.1 says (big-endian, real mode, r3 = device tree), turns
//! little-endian and calls its `main`, which is named by [`guest_program!`]. One that only runs cases names these:
//!
//! ```ignore
//! guest_support::guest_cases!("guest-calls", table::CASES, pages::CASES);
//! ```
//!
//! Guest memory of a program:
//!
//! | real address | content |
//! |---|---|
//! | 0x100 to 0x2fff | interrupt vectors ([`trap`]) |
//! | 0x3000 | what a trap saved, one area for each vCPU ([`low`]) |
//! | 0x4000 to 0x5fff | the vectors again, for interrupts with translation on (AIL) |
//! | 0x6000 to 0x7fff | registers before and after ([`registers`]) |
//! | 0x1_0000 | the program |
//! | [`Guest::free`] | free memory |
#![cfg_attr(target_arch = "powerpc64", no_std)]

pub mod hypercall;

#[cfg(target_arch = "powerpc64")]
pub mod console;
#[cfg(target_arch = "powerpc64")]
pub mod low;
#[cfg(target_arch = "powerpc64")]
pub mod machine;
#[cfg(target_arch = "powerpc64")]
pub mod memory;
#[cfg(target_arch = "powerpc64")]
pub mod mmu;
#[cfg(target_arch = "powerpc64")]
pub mod platform;
#[cfg(target_arch = "powerpc64")]
pub mod registers;
#[cfg(target_arch = "powerpc64")]
pub mod rtas;
#[cfg(target_arch = "powerpc64")]
pub mod runner;
#[cfg(target_arch = "powerpc64")]
mod start;
#[cfg(target_arch = "powerpc64")]
pub mod trap;

pub use checks::{Failure, Outcome, Random, check, check_eq, fail};
pub use partita_papr as papr;

#[cfg(target_arch = "powerpc64")]
pub use platform::Guest;
#[cfg(target_arch = "powerpc64")]
pub use runner::{Case, run};

/// Names the program's `fn(&'static Guest) -> !`.
#[macro_export]
macro_rules! guest_program {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn guest_main(tree: u64) -> ! {
            let main: fn(&'static $crate::Guest) -> ! = $main;
            $crate::platform::start(tree, main)
        }
    };
}

/// The beginning of a program that runs lists of cases and no more: its name, and the lists. On any other machine than a guest
/// it does nothing.
#[macro_export]
macro_rules! guest_cases {
    ($name:literal, $($cases:path),+ $(,)?) => {
        #[cfg(target_arch = "powerpc64")]
        $crate::guest_program!(run_cases);

        #[cfg(target_arch = "powerpc64")]
        fn run_cases(guest: &'static $crate::Guest) -> ! {
            $crate::run($name, guest, &[$($cases),+])
        }

        #[cfg(not(target_arch = "powerpc64"))]
        fn main() {}
    };
}
