// SPDX-License-Identifier: BSD-2-Clause
//! What the protection domains of one guest (`memslots`, `hpt`, `vpa`, `vcpu`, and the operator's
//! `control`) say to each other, and the memory that they share.
//!
//! * [`channel`]: channel ids. An id names the peer, and is the same in every PD.
//! * [`memslots`], [`hpt`], [`vpa`], [`vcpu`]: one module for each server: labels and words of its protected
//!   procedure calls. A request's label is the operation, its words are in message registers 0 to 7
//!   in the order of the fields; an answer's label is [`answer::OK`] or says why not.
//! * [`power`]: the same of `power`, which several guests may share.
//! * [`layout`]: how many bytes each shared region needs.
//! * [`dirty`]: the log of changed pages, which several PDs write.
//! * [`symbol`]: symbols that the system description sets in the PDs.
//!
//! Every operation is bounded: a long one takes a cursor, and answers how far it came. Numbers are
//! bytes unless the name says otherwise; `gfn` is a guest real address / 4096.
#![no_std]
#![forbid(unsafe_code)]

pub mod channel;
pub mod dirty;
pub mod hpt;
pub mod layout;
pub mod memslots;
pub mod power;
pub mod symbol;
pub mod vcpu;
pub mod vpa;

/// Words of a request or an answer.
pub type Words = [u64; 8];

/// Labels of answers that every server uses. Others are the server's own.
pub mod answer {
    /// Done; the words are the result.
    pub const OK: u64 = 0;
    /// The label or a word is not of this protocol, or this caller may not use it.
    pub const INVALID: u64 = 0xffff;
}

/// An answer: label and words, 0 where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// [`answer::OK`] or why not.
    pub label: u64,
    /// The result.
    pub words: Words,
}

impl Answer {
    /// An answer whose first words are `result`, at most eight.
    #[inline]
    pub fn new<const N: usize>(label: u64, result: [u64; N]) -> Self {
        const { assert!(N <= 8, "an answer has at most eight words") };
        let mut words = [0; 8];
        words[..N].copy_from_slice(&result);
        Answer { label, words }
    }

    /// [`answer::OK`] with a result.
    #[inline]
    pub fn ok<const N: usize>(result: [u64; N]) -> Self {
        Answer::new(answer::OK, result)
    }

    /// A label alone.
    #[inline]
    pub fn label(label: u64) -> Self {
        Answer::new(label, [])
    }
}
