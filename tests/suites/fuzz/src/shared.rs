// SPDX-License-Identifier: BSD-2-Clause
//! What the fuzz thread, the bystander and the supervisor share: words at the same virtual address in
//! three address spaces. The fuzz thread owns no capability to that memory, but writes it: the
//! supervisor believes nothing there but counts.

use core::sync::atomic::{AtomicU32, AtomicU64};
use partita_abi::{ErrorCode, InvocationLabel};

/// Fuzz threads at most: one on each of the first cores, in one CSpace and address space.
pub const FUZZERS: usize = 2;

/// What the fuzz threads count.
#[repr(C)]
pub struct Counts {
    /// State of the generator of each fuzz thread.
    pub random: [AtomicU64; FUZZERS],
    /// System calls made by each.
    pub calls: [AtomicU64; FUZZERS],
    /// System calls that came back.
    pub returned: AtomicU64,
    /// System calls by number (negated; 0: any other number).
    pub numbers: [AtomicU64; 12],
    /// Invocations sent, by label.
    pub sent: [AtomicU32; InvocationLabel::COUNT],
    /// Answers by label and error.
    pub answers: [[AtomicU32; ErrorCode::COUNT]; InvocationLabel::COUNT],
}

/// What the bystander reports.
#[repr(C)]
pub struct Bystander {
    /// Rounds computed.
    pub rounds: AtomicU64,
    /// Rounds with another result than the first.
    pub wrong: AtomicU64,
}

/// Address of [`Counts`].
pub const COUNTS: usize = testkit::kit::WINDOW + 0x10_0000;
/// Address of [`Bystander`]'s page.
pub const BYSTANDER: usize = testkit::kit::WINDOW + 0x12_0000;

/// The fuzz thread's counts, once they are mapped.
pub fn counts() -> &'static Counts {
    // SAFETY: `World` maps zeroed memory of this size there, in each address space where this is
    // called, for as long as its threads run; atomics are valid for any bytes.
    unsafe { &*core::ptr::with_exposed_provenance::<Counts>(COUNTS) }
}

/// The bystander's report, once it is mapped.
pub fn bystander() -> &'static Bystander {
    // SAFETY: as for `counts`.
    unsafe { &*core::ptr::with_exposed_provenance::<Bystander>(BYSTANDER) }
}

const _: () = assert!(size_of::<Counts>() <= 0x1_0000);
