// SPDX-License-Identifier: BSD-2-Clause
//! The memory slots of one guest, as immutable generations in shared memory (S3).
//!
//! One PD writes ([`Writer`], in `memslots`); any number of others read ([`Reader`]). A reader
//! sees one immutable snapshot for as long as it holds a [`ReadGuard`], also across calls that
//! block (S3.1). The writer never waits: after [`Writer::publish`] it asks [`Writer::drained`]
//! whether every reader has let go of what was published before (S3.2), and the answer is no
//! later than now: yes, or the reader that has not.
//!
//! Shared memory: one [`Table`], writable for the writer and read-only for all others; one
//! [`EpochWord`] for each reader, in a region of that reader's own, read-only for the writer. All
//! zeros is a valid empty table and an idle reader.
//!
//! Two generations have room: number `n` lies in half `n & 1`. Generation `n + 1` may be
//! published only when no reader is left in `n - 1`, so that is checked first.
//!
//! How it works: a reader stores the generation number that it is about to read, then a full
//! barrier, then loads the number again and uses what it finds. The writer stores the new number,
//! then a full barrier, then loads the readers' words. Either the writer sees the reader or the
//! reader sees the new number. The number a reader has stored is never newer than what it uses.
//!
//! A reader cannot call the writer's publishing side by construction: they are different PDs, and
//! `memslots` calls nobody.
#![no_std]
#![forbid(unsafe_code)]

mod reader;
mod slot;
mod table;
mod writer;

pub use reader::{ReadGuard, Reader};
pub use slot::{Policy, Slot, SlotFlags};
pub use table::{EpochWord, MAX_SLOTS, Table};
pub use writer::{Drained, PublishError, Writer};

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
