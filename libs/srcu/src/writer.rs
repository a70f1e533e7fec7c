// SPDX-License-Identifier: BSD-2-Clause
//! The writing side.

use crate::table::{EpochWord, MAX_SLOTS, Table, UPDATE};
use crate::{Policy, Slot};
use partita_instance::atomic::{Ordering, fence};
use partita_papr::Gfn;

/// Answer of [`Writer::drained`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// No reader uses a generation older than the newest.
    Done,
    /// This reader (index into the writer's list) still does.
    NotYet(usize),
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The half that the new generation needs is still read by this reader.
    NotDrained(usize),
    /// More than [`MAX_SLOTS`].
    TooMany,
    /// Empty, not sorted by base, overlapping, or past the end of guest real addresses.
    Malformed,
}

/// The writer: one for each table.
#[derive(Debug)]
pub struct Writer<'a> {
    table: &'a Table,
    readers: &'a [&'a EpochWord],
}

impl<'a> Writer<'a> {
    /// All state is in `table`, so a writer that starts again goes on where it was.
    pub fn new(table: &'a Table, readers: &'a [&'a EpochWord]) -> Self {
        Writer { table, readers }
    }

    /// Publishes `slots`, sorted by base, as the next generation and returns its number. Readers
    /// that begin from now on see it; older ones may go on with the one before until
    /// [`Writer::drained`] says otherwise.
    pub fn publish(&self, slots: &[Slot]) -> Result<u64, PublishError> {
        if slots.len() > MAX_SLOTS {
            return Err(PublishError::TooMany);
        }
        let mut end = 0;
        for slot in slots {
            let (base, last) = (slot.base.get(), slot.end().wrapping_sub(1));
            if base < end || slot.npages == 0 || Gfn::new(last).is_none() {
                return Err(PublishError::Malformed);
            }
            end = slot.end();
        }
        if let Drained::NotYet(reader) = self.drained() {
            return Err(PublishError::NotDrained(reader));
        }
        let number = self.table.number() + 1;
        self.table.half(number).fill(slots);
        self.table.set_word(number | UPDATE);
        Ok(number)
    }

    /// Whether every reader has left the generations before the newest. Looks once at each
    /// reader's word and never waits.
    pub fn drained(&self) -> Drained {
        let word = self.table.word();
        if word & UPDATE == 0 {
            return Drained::Done;
        }
        let number = word & !UPDATE;
        // The readers' half of this barrier is in `Reader::read`.
        fence(Ordering::SeqCst);
        for (i, reader) in self.readers.iter().enumerate() {
            let epoch = reader.0.load(Ordering::Acquire);
            if epoch != 0 && epoch >> 1 < number {
                return Drained::NotYet(i);
            }
        }
        self.table.set_word(number);
        Drained::Done
    }

    /// Number of the newest generation.
    pub fn generation(&self) -> u64 {
        self.table.number()
    }

    /// The slot that holds `gfn` in the newest generation.
    pub fn lookup(&self, gfn: Gfn, policy: Policy) -> Option<Slot> {
        self.table.half(self.table.number()).lookup(gfn, policy)
    }
}
