// SPDX-License-Identifier: BSD-2-Clause
//! The reading side.

use crate::table::{EpochWord, Generation, Table};
use crate::{Policy, Slot, SlotFlags};
use partita_instance::atomic::{Ordering, fence};
use partita_papr::Gfn;

/// One reader: a PD instance with its own epoch word. It has one thread.
#[derive(Debug)]
pub struct Reader<'a> {
    table: &'a Table,
    epoch: &'a EpochWord,
}

impl<'a> Reader<'a> {
    /// Called when the PD starts, or starts again: whatever it was reading before, it reads no
    /// more, so the word becomes idle and a deletion that waits for a crashed reader goes on.
    pub fn new(table: &'a Table, epoch: &'a EpochWord) -> Self {
        epoch.0.store(0, Ordering::Release);
        Reader { table, epoch }
    }

    /// Begins a read section. Sections may nest; the inner one may see a newer generation.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_> {
        let outer = self.epoch.0.load(Ordering::Relaxed);
        if outer == 0 {
            // An older number than the newest only makes the writer wait longer.
            let announced = self.table.number_at_least() << 1 | 1;
            self.epoch.0.store(announced, Ordering::Relaxed);
            // The writer's half of this barrier is in `Writer::drained`.
            fence(Ordering::SeqCst);
        }
        let number = self.table.number();
        ReadGuard {
            generation: self.table.half(number),
            number,
            epoch: self.epoch,
            outer,
        }
    }

    /// The generation word, for caches: equal words with bit 63 clear mean an unchanged table.
    #[inline]
    pub fn word(&self) -> u64 {
        self.table.word()
    }
}

/// A read section: one immutable generation. It ends when this is dropped.
#[derive(Debug)]
pub struct ReadGuard<'r> {
    generation: &'r Generation,
    number: u64,
    epoch: &'r EpochWord,
    outer: u64,
}

impl ReadGuard<'_> {
    /// The slot that holds `gfn`, if `policy` lets it be seen (S3.6).
    #[inline]
    pub fn lookup(&self, gfn: Gfn, policy: Policy) -> Option<Slot> {
        self.generation.lookup(gfn, policy)
    }

    /// Whether changes of a page are logged: while its slot is INVALID, too, since a deletion may be
    /// given up (S3.6, S3.8).
    #[inline]
    pub fn is_logged(&self, gfn: Gfn) -> bool {
        let slot = self.lookup(gfn, Policy::Destroy);
        slot.is_some_and(|slot| slot.flags.contains(SlotFlags::LOG_DIRTY))
    }

    /// The slot with number `id`, INVALID or not.
    pub fn find(&self, id: u16) -> Option<Slot> {
        self.iter().find(|slot| slot.id == id)
    }

    /// All slots in order of their base, INVALID ones too.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.generation.len()).map_while(|i| self.generation.get(i))
    }

    /// Number of this generation.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.epoch.0.store(self.outer, Ordering::Release);
    }
}
