// SPDX-License-Identifier: BSD-2-Clause
//! A small test library for root tasks that test the kernel in QEMU.
//!
//! A suite is a root task whose `main` calls [`run`] with a table of [`Case`]s. Each case gets a
//! [`Kit`]: fresh slots, memory and threads, all of which are revoked after it, so that no case sees
//! what another left. A case returns `Result`; nothing panics for a failed check. Results go to the
//! UART, as the kernel of the `release` configuration does not print:
//!
//! ```text
//! test IPC0001 a message arrives ... ok
//! suite kernel: 1 passed, 0 failed
//! ```
//!
//! A guard thread above all others ends a suite that hangs or faults.
#![cfg_attr(target_os = "none", no_std)]

pub mod console;
mod guard;
pub mod kit;
pub mod raw;
pub mod runner;
pub mod space;
pub mod thread;

pub use checks::{Failure, Outcome, Random, check, check_eq, fail};
pub use kit::Kit;
pub use raw::{Answer, invoke};
pub use runner::{Case, panicked, run};
pub use space::{Image, Space};
pub use thread::{Env, Helper, Thread};

/// A cheap checksum (FNV-1a over words), to see that nobody touched some memory.
pub fn checksum(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The timebase, in ticks.
#[inline(always)]
pub fn timebase() -> u64 {
    #[cfg(target_arch = "powerpc64")]
    {
        let ticks;
        // SAFETY: user mode may read the timebase; nothing changes.
        unsafe {
            core::arch::asm!("mfspr {}, 268", out(reg) ticks, options(nomem, nostack, preserves_flags));
        }
        ticks
    }
    #[cfg(not(target_arch = "powerpc64"))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_sees_order_and_value() {
        assert_eq!(checksum([1, 2]), checksum([1, 2]));
        assert_ne!(checksum([1, 2]), checksum([2, 1]));
        assert_ne!(checksum([1, 2]), checksum([1, 3]));
        assert_ne!(checksum([0]), checksum([]));
    }
}
