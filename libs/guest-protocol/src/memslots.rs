// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `memslots`. It calls nobody.
//!
//! `hpt` and `vpa` may ask for pages ([`REQUEST`], [`ZERO`], [`COPY`]); the rest is for `vcpu` and
//! `control`.

use crate::{Answer, Words, answer};

/// Words: gfn, log2 of the bytes (12 to 34) with [`WRITE`]. Makes the page present in the GSpace.
/// Answer: label [`READY`], [`BUSY`] or [`REFUSED`].
pub const REQUEST: u64 = 1;
/// Words: gfn, log2 of the bytes. Zeroes them; they become present. Answer as of [`REQUEST`].
pub const ZERO: u64 = 2;
/// Words: gfn of the destination, gfn of the source. Copies 4 KiB; both become present. Answer as
/// of [`REQUEST`].
pub const COPY: u64 = 3;
/// Words: slot id, base, size, flags ([`FLAG_READ_ONLY`], [`FLAG_LOG_DIRTY`]). Creates, moves or
/// flags a slot; size 0 deletes it. Answer: [`Step`], or label `answer::INVALID` + 1 + [`Refusal`].
pub const SET_REGION: u64 = 4;
/// Takes the change in progress one step further. Answer as of [`SET_REGION`].
pub const ADVANCE: u64 = 5;
/// Gives up the change in progress. Answer as of [`SET_REGION`].
pub const ABORT: u64 = 6;
/// Words: [`Source`], offset in it, guest real address, bytes. Copies them, or the first [`LOAD_STEP`]
/// of them, into guest memory, read-only slots too. Answer: as of [`REQUEST`], word 0 is the number of
/// bytes copied; the caller goes on behind them until none are left.
pub const LOAD: u64 = 7;
/// Word: [`STATS_SLOTS`], or 1 + the number of a frame size (4 KiB, 64 KiB, 2 MiB). Answer: slots,
/// pages held, of these foreign, mapped, busy, log2 of the largest page that all slots can have; or bytes of a frame, frames in all, free, committed.
pub const STATS: u64 = 8;
/// Word: gfn. The piece of memory that holds it becomes BUSY. Answer: first gfn, first gfn behind
/// it: flush these (`hpt` maps none of them again while they are BUSY) and release their areas
/// (`vpa`; a guest can register one there anew, then [`RECLAIM_FINISH`] says so).
pub const RECLAIM_BEGIN: u64 = 9;
/// Word: gfn. Unmaps a BUSY piece and frees its frame. Answer: [`Step`].
pub const RECLAIM_FINISH: u64 = 10;
/// Word: gfn. Leaves a BUSY piece to the guest after all.
pub const RECLAIM_CANCEL: u64 = 11;
/// Word: gfn. The frame of the piece of memory that holds it is destroyed and freed at once, whoever uses it: then the
/// guest's table is poisoned, and the guest stops until it is reset. The piece is found anew when it is needed.
/// Answer: [`Step`].
pub const RECLAIM_BY_FORCE: u64 = 12;

/// Bit of the second word of [`REQUEST`]: the page will be written.
pub const WRITE: u64 = 1 << 8;
/// Bytes that one [`LOAD`] copies at most.
pub const LOAD_STEP: u64 = 64 << 12;
/// Word of [`STATS`].
pub const STATS_SLOTS: u64 = 0;

/// Flag of [`SET_REGION`]: the guest may not write.
pub const FLAG_READ_ONLY: u64 = 2;
/// Flag of [`SET_REGION`]: changed pages are logged.
pub const FLAG_LOG_DIRTY: u64 = 4;

/// Label: the page is in the GSpace.
pub const READY: u64 = answer::OK;
/// Label: the page is being reclaimed, try later.
pub const BUSY: u64 = 1;
/// Label: no such page, no memory for it, or not allowed.
pub const REFUSED: u64 = 2;

/// Where [`LOAD`] takes bytes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Source {
    /// The guest's kernel file.
    Kernel = 0,
    /// The guest's initrd file.
    Initrd = 1,
    /// Zeros, as many as one wants.
    Zeros = 2,
}

impl Source {
    /// From a word.
    pub const fn from_word(word: u64) -> Option<Source> {
        match word {
            0 => Some(Source::Kernel),
            1 => Some(Source::Initrd),
            2 => Some(Source::Zeros),
            _ => None,
        }
    }
}

/// Why a change of the slots was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Refusal {
    /// Base or size is not aligned.
    Alignment = 0,
    /// The region wraps or is too high.
    Range = 1,
    /// No such flag.
    Flags = 2,
    /// Another slot has part of the region; word 0 is its id.
    Overlap = 3,
    /// Size or read-only flag would change.
    Changed = 4,
    /// No such slot.
    NoSlot = 5,
    /// All slots are in use.
    TooManySlots = 6,
    /// No page words are left.
    NoPageWords = 7,
    /// Another change is in progress.
    InProgress = 8,
    /// There is no change in progress, or it cannot be aborted.
    NoChange = 9,
}

impl Refusal {
    /// All, in the order of their numbers.
    pub const ALL: [Refusal; 10] = [
        Refusal::Alignment,
        Refusal::Range,
        Refusal::Flags,
        Refusal::Overlap,
        Refusal::Changed,
        Refusal::NoSlot,
        Refusal::TooManySlots,
        Refusal::NoPageWords,
        Refusal::InProgress,
        Refusal::NoChange,
    ];

    /// Label of the answer.
    pub const fn label(self) -> u64 {
        answer::INVALID + 1 + self as u64
    }

    /// From the label of an answer.
    pub fn from_label(label: u64) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|r| r.label() == label)
    }
}

/// How far a change of the slots has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is complete.
    Done,
    /// The original slot is back.
    Restored,
    /// `hpt` has to flush these pages and `vpa` to release them; then [`ADVANCE`].
    Flush {
        /// First gfn.
        first: u64,
        /// First gfn behind them.
        end: u64,
    },
    /// Call [`ADVANCE`] again: it was enough for one call.
    Again,
    /// This reader (number of its epoch word) still uses the slots as they were. Call again.
    Reader(u64),
    /// This page is still in use: flush and release all pages of the change, or of the piece, again (an entry of a large
    /// page is found by its first page).
    Pinned(u64),
    /// The kernel or the table of slots refused. The change stays where it is.
    Failed,
}

impl Step {
    /// As an answer.
    pub fn to_answer(self) -> Answer {
        Answer::ok(match self {
            Step::Done => [0, 0, 0],
            Step::Restored => [1, 0, 0],
            Step::Flush { first, end } => [2, first, end],
            Step::Again => [3, 0, 0],
            Step::Reader(number) => [4, number, 0],
            Step::Pinned(gfn) => [5, gfn, 0],
            Step::Failed => [6, 0, 0],
        })
    }

    /// From the words of an answer with label OK.
    pub const fn from_words(words: &Words) -> Option<Step> {
        let [kind, a, b, ..] = *words;
        Some(match kind {
            0 => Step::Done,
            1 => Step::Restored,
            2 => Step::Flush { first: a, end: b },
            3 => Step::Again,
            4 => Step::Reader(a),
            5 => Step::Pinned(a),
            6 => Step::Failed,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_refusals_come_back() {
        for step in [
            Step::Done,
            Step::Restored,
            Step::Flush { first: 1, end: 9 },
            Step::Again,
            Step::Reader(3),
            Step::Pinned(77),
            Step::Failed,
        ] {
            let Answer { label, words } = step.to_answer();
            assert_eq!((label, Step::from_words(&words)), (answer::OK, Some(step)));
        }
        assert_eq!(Step::from_words(&[7; 8]), None);
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_label(refusal.label()), Some(refusal));
        }
        assert_eq!(Refusal::from_label(answer::OK), None);
        assert_eq!(Refusal::from_label(answer::INVALID), None);
        for source in [Source::Kernel, Source::Initrd, Source::Zeros] {
            assert_eq!(Source::from_word(source as u64), Some(source));
        }
    }
}
