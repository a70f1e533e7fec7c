// SPDX-License-Identifier: BSD-2-Clause
//! What lies in shared memory.

use crate::{Policy, Slot, SlotFlags};
use partita_instance::atomic::{AtomicU64, Ordering};
use partita_papr::Gfn;

/// Slots that a guest can have at one time.
pub const MAX_SLOTS: usize = 64;

/// Bit of the generation word: published, but not every reader is known to have seen it. Caches of
/// look-ups must not be filled meanwhile.
pub(crate) const UPDATE: u64 = 1 << 63;

/// Three words for a slot.
#[derive(Debug)]
#[repr(C)]
struct SlotWords {
    base: AtomicU64,
    npages: AtomicU64,
    meta: AtomicU64,
}

/// One generation: slots sorted by base.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Generation {
    count: AtomicU64,
    slots: [SlotWords; MAX_SLOTS],
}

/// The shared table: 3136 bytes, fits a page. Native byte order.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Table {
    generation: AtomicU64,
    halves: [Generation; 2],
}

/// A reader's word: 0 is idle, else generation * 2 + 1. In a region of the reader's own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct EpochWord(pub(crate) AtomicU64);

impl EpochWord {
    /// An idle reader.
    pub fn new() -> Self {
        EpochWord(AtomicU64::new(0))
    }
}

impl Default for EpochWord {
    fn default() -> Self {
        Self::new()
    }
}

impl Generation {
    fn new() -> Self {
        Generation {
            count: AtomicU64::new(0),
            slots: core::array::from_fn(|_| SlotWords {
                base: AtomicU64::new(0),
                npages: AtomicU64::new(0),
                meta: AtomicU64::new(0),
            }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        (self.count.load(Ordering::Relaxed) as usize).min(MAX_SLOTS)
    }

    #[inline]
    fn base(&self, index: usize) -> u64 {
        match self.slots.get(index) {
            Some(words) => words.base.load(Ordering::Relaxed),
            None => u64::MAX,
        }
    }

    /// Slot number `index` in order of the base; `None` past the end or for a base that is none.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Slot> {
        let words = self.slots.get(index)?;
        Some(Slot::from_words(
            Gfn::new(words.base.load(Ordering::Relaxed))?,
            words.npages.load(Ordering::Relaxed),
            words.meta.load(Ordering::Relaxed),
        ))
    }

    pub(crate) fn fill(&self, slots: &[Slot]) {
        for (words, slot) in self.slots.iter().zip(slots) {
            words.base.store(slot.base.get(), Ordering::Relaxed);
            words.npages.store(slot.npages, Ordering::Relaxed);
            words.meta.store(slot.meta(), Ordering::Relaxed);
        }
        self.count.store(slots.len() as u64, Ordering::Relaxed);
    }

    /// The one look-up (S3 list): the slot that holds `gfn`, by binary search.
    #[inline]
    pub(crate) fn lookup(&self, gfn: Gfn, policy: Policy) -> Option<Slot> {
        // Invariant: if any slot holds it, it is among the `size` slots from `first`.
        let (mut first, mut size) = (0, self.len());
        while size > 1 {
            let half = size / 2;
            if self.base(first + half) <= gfn.get() {
                first += half;
            }
            size -= half;
        }
        // An empty table has no slot 0 of any size.
        let slot = self.get(first).filter(|_| size != 0)?;
        if !slot.contains(gfn) {
            return None;
        }
        match policy {
            Policy::Instantiate if slot.flags.contains(SlotFlags::INVALID) => None,
            _ => Some(slot),
        }
    }
}

impl Table {
    /// An empty table, generation 0.
    pub fn new() -> Self {
        Table {
            generation: AtomicU64::new(0),
            halves: [Generation::new(), Generation::new()],
        }
    }

    /// The generation word: the number of the newest generation, bit 63 set while not all readers
    /// are known to have left the one before.
    #[inline]
    pub fn word(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.word() & !UPDATE
    }

    /// A number that is or was the newest, and not newer than what [`Table::number`] gives the
    /// same thread afterwards; without ordering for what it leads to.
    #[inline]
    pub(crate) fn number_at_least(&self) -> u64 {
        self.generation.load(Ordering::Relaxed) & !UPDATE
    }

    pub(crate) fn set_word(&self, word: u64) {
        self.generation.store(word, Ordering::Release);
    }

    #[inline]
    pub(crate) fn half(&self, number: u64) -> &Generation {
        let [even, odd] = &self.halves;
        if number & 1 == 0 { even } else { odd }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}
