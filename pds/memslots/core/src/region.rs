// SPDX-License-Identifier: BSD-2-Clause
//! What a region may be, and what its pages will be made of.

use crate::pool::{GROUP, GROUP_SHIFT};
use crate::{Error, FrameSize, Kernel, MemSlots, Region};
use heapless::Vec;
use partita_papr::{Gfn, GuestReal, PAGE_SHIFT};
use partita_srcu::{MAX_SLOTS, Slot, SlotFlags};

/// Flags that a caller may give.
pub(crate) const KNOWN: SlotFlags = SlotFlags::READ_ONLY.with(SlotFlags::LOG_DIRTY);

/// A region that has been checked on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub base: Gfn,
    pub npages: u64,
    pub flags: SlotFlags,
}

impl<K: Kernel> MemSlots<'_, K> {
    /// The checks that need no other slot (S2.2, S3 list).
    pub(crate) fn check_extent(&self, base: u64, size: u64, flags: u8) -> Result<Extent, Error> {
        let flags = SlotFlags(flags);
        if !KNOWN.contains(flags) {
            return Err(Error::Flags);
        }
        let unit = 1u64 << self.ram_shift.clamp(PAGE_SHIFT, FrameSize::Large.shift());
        if (base | size) & (unit - 1) != 0 {
            return Err(Error::Alignment);
        }
        let end = base.checked_add(size).ok_or(Error::Range)?;
        let base = GuestReal::new(base).ok_or(Error::Range)?.gfn();
        if end > GuestReal::END || size == 0 {
            return Err(Error::Range);
        }
        Ok(Extent {
            base,
            npages: size >> PAGE_SHIFT,
            flags,
        })
    }

    /// Whether another slot than `id` has part of the region.
    pub(crate) fn check_overlap(&self, id: u16, extent: &Extent) -> Result<(), Error> {
        let end = extent.base.get() + extent.npages;
        match self
            .regions
            .iter()
            .map(|region| region.slot)
            .find(|slot| slot.id != id && slot.base.get() < end && extent.base.get() < slot.end())
        {
            Some(slot) => Err(Error::Overlap(slot.id)),
            None => Ok(()),
        }
    }

    /// The largest frames that fit the region's alignment and that the pool has enough of for all
    /// of it. If it has too few of every size, the largest that fit: memory may be found missing
    /// when it is touched, not now (S2.1).
    pub(crate) fn choose_size(&self, extent: &Extent) -> FrameSize {
        let fits = |size: &FrameSize| {
            size.shift() >= self.ram_shift
                && (extent.base.get() | extent.npages) & (size.pages() - 1) == 0
        };
        let enough =
            |size: &FrameSize| self.pool.uncommitted(*size) >= extent.npages / size.pages();
        let fitting = || FrameSize::ALL.into_iter().rev().filter(fits);
        fitting()
            .find(enough)
            .or_else(|| fitting().find(|size| self.pool.stats(*size).total > 0))
            .or_else(|| fitting().last())
            .unwrap_or(FrameSize::Small)
    }

    /// Whether a new slot of frames of `size` gets them in groups of 16 MiB: it must be aligned so, and there be a whole
    /// group for each. Then it can have pages of that size.
    pub(crate) fn promise_groups(&mut self, extent: &Extent, size: FrameSize) -> bool {
        let pages = 1 << (GROUP_SHIFT - PAGE_SHIFT);
        size == FrameSize::Large
            && (extent.base.get() | extent.npages) & (pages - 1) == 0
            && self.pool.promise(extent.npages / pages)
    }

    /// The first gap of `count` page words.
    pub(crate) fn find_words(&self, count: usize) -> Result<usize, Error> {
        let mut taken: Vec<(usize, usize), MAX_SLOTS> =
            self.regions.iter().map(|region| region.words).collect();
        taken.sort_unstable();
        let mut first = 0;
        for (start, length) in taken {
            if start.saturating_sub(first) >= count {
                break;
            }
            first = start + length;
        }
        if self.words.len().saturating_sub(first) >= count {
            Ok(first)
        } else {
            Err(Error::NoPageWords)
        }
    }

    /// The slots as they are to be published: `changed` in place of the one with its number (or
    /// added), or without number `removed`.
    pub(crate) fn published(
        &self,
        changed: Option<Slot>,
        removed: Option<u16>,
    ) -> Vec<Slot, MAX_SLOTS> {
        let mut slots: Vec<Slot, MAX_SLOTS> = self
            .regions
            .iter()
            .map(|region| region.slot)
            .filter(|slot| Some(slot.id) != removed && Some(slot.id) != changed.map(|s| s.id))
            .collect();
        if let Some(slot) = changed {
            // There is room: a new slot was checked against the limit.
            let _full = slots.push(slot);
        }
        slots.sort_unstable_by_key(|slot| slot.base);
        slots
    }

    pub(crate) fn region(&self, id: u16) -> Option<Region> {
        self.regions
            .iter()
            .copied()
            .find(|region| region.slot.id == id)
    }

    pub(crate) fn region_mut(&mut self, id: u16) -> Option<&mut Region> {
        self.regions.iter_mut().find(|region| region.slot.id == id)
    }
}

impl Region {
    /// 4 KiB pages of a piece: what is found, and taken back, at one time.
    pub(crate) fn piece_pages(&self) -> u64 {
        self.size.pages() * self.piece_words() as u64
    }

    /// Page words of a piece.
    pub(crate) fn piece_words(&self) -> usize {
        if self.grouped { GROUP } else { 1 }
    }

    /// Page words of the piece that word `number` is in.
    pub(crate) fn piece(&self, number: usize) -> core::ops::Range<usize> {
        let words = self.piece_words();
        let first = number / words * words;
        first..first + words
    }
}
