// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `hpt` from `vcpu` and `control`. Hypercalls and storage faults come by the routes.

use crate::answer;

/// Words: next gfn, first gfn behind the range. Makes entries that map pages of the range ABSENT. From then on
/// such a page is mapped again only when `memslots` has answered that it is ready.
/// Answer: next gfn, [`MORE`] or [`DONE`]. Label [`TABLE`]: the kernel refused (word 0 as it was).
pub const FLUSH: u64 = 1;
/// Word: cursor, 0 at first. Empties the table; no vCPU may run. Answer: cursor, [`MORE`] or
/// [`DONE`]. It goes through a word for each entry and each guest page, [`SCAN`] of them a call.
pub const RESET: u64 = 2;
/// Words: cursor (0 at first), bytes. Sets the virtual real mode area up, once after each reset,
/// [`BATCH`] pages a call. Answer: cursor, [`MORE`] or [`DONE`]. Label [`VRMA_FAILED`]: [`VrmaError`], address.
pub const SET_UP_VRMA: u64 = 3;
/// Words: cursor, valid entries, entries that need interception, members of chains so far, place in a
/// chain (all 0 at first). Checks the invariants on a live table. Answer: the same five, [`MORE`] or
/// [`DONE`]. The totals are compared at the end, so a guest that runs meanwhile can make them
/// differ. Label [`VIOLATION`]: [`Violation`], page or entry, entry.
pub const VERIFY: u64 = 4;
/// Answer: order of the table, entries that need interception, 1 if faults are intercepted,
/// runs of identical storage faults of a vCPU that have been reported since the start.
pub const STATS: u64 = 5;
/// Words: next gfn, first gfn behind the range, 1 if no vCPU runs. Moves what has changed since the
/// last call into the dirty log region; pages that more than [`SCAN`] entries map always count as changed. Answer as of [`FLUSH`].
pub const COLLECT_DIRTY: u64 = 6;

/// Entries that one call changes at most, and pages of a call of [`SET_UP_VRMA`] that is not the last.
pub const BATCH: u64 = 64;
/// Words that one call looks at (fewer than twice as many where it follows chains), and that a call of
/// [`RESET`] which is not the last does.
pub const SCAN: u64 = 1024;

/// Call again with the cursor of the answer. That of [`RESET`] and [`SET_UP_VRMA`] has grown.
pub const MORE: u64 = 1;
/// Complete.
pub const DONE: u64 = 0;

/// Label: the kernel refused, because the table is poisoned or there is no such page.
pub const TABLE: u64 = 1;
/// Label: the virtual real mode area cannot be set up.
pub const VRMA_FAILED: u64 = 2;
/// Label: an invariant does not hold.
pub const VIOLATION: u64 = 3;
/// Label: there is no dirty log region.
pub const NO_LOG: u64 = 4;

/// Why the virtual real mode area cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum VrmaError {
    /// No slot at 0.
    NoMemory = 0,
    /// The slot at 0 cannot have pages of this size.
    PageSize = 1,
    /// The page at the address cannot be had.
    Page = 2,
    /// No entry is free for the address.
    Full = 3,
    /// The kernel refused.
    Table = 4,
}

impl VrmaError {
    /// From a word.
    pub const fn from_word(word: u64) -> Option<Self> {
        match word {
            0 => Some(VrmaError::NoMemory),
            1 => Some(VrmaError::PageSize),
            2 => Some(VrmaError::Page),
            3 => Some(VrmaError::Full),
            4 => Some(VrmaError::Table),
            _ => None,
        }
    }
}

/// What is wrong; the numbers after the name are words 1 and 2 of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Violation {
    /// Entry: on no chain (I1).
    NotOnChain = 0,
    /// Entry: links are broken (I2).
    BrokenLinks = 1,
    /// Page: its chain does not end (I3).
    Endless = 2,
    /// Page, entry: on a wrong chain (I4).
    WrongChain = 3,
    /// Page: malformed chain head (I5).
    BadHead = 4,
    /// Page, entry: a free member (I6).
    FreeMember = 5,
    /// Members, valid entries: not as many.
    Count = 6,
    /// Entry: maps a page of no slot (I7).
    NoSlot = 7,
    /// Entry: the real one does not fit.
    RealEntry = 8,
    /// Entry: malformed.
    BadEntry = 9,
    /// Counted, found: entries that need interception.
    FaultMode = 10,
}

const _: () = assert!(DONE == answer::OK);
