// SPDX-License-Identifier: BSD-2-Clause
//! A memory slot.

use partita_papr::{Gfn, PAGE_SHIFT};

/// Flags of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotFlags(pub u8);

impl SlotFlags {
    /// No flag.
    pub const NONE: SlotFlags = SlotFlags(0);
    /// Being deleted or moved: nothing new through it, undoing still works (S3.5).
    pub const INVALID: SlotFlags = SlotFlags(1);
    /// The guest may not write.
    pub const READ_ONLY: SlotFlags = SlotFlags(2);
    /// Changed pages are logged.
    pub const LOG_DIRTY: SlotFlags = SlotFlags(4);

    /// Whether all flags of `other` are set.
    #[inline]
    pub const fn contains(self, other: SlotFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the flags of `other`.
    #[inline]
    pub const fn with(self, other: SlotFlags) -> SlotFlags {
        SlotFlags(self.0 | other.0)
    }

    /// Without the flags of `other`.
    #[inline]
    pub const fn without(self, other: SlotFlags) -> SlotFlags {
        SlotFlags(self.0 & !other.0)
    }
}

/// What a look-up is for (S3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// To make a new translation or use: an INVALID slot is not there.
    Instantiate,
    /// To undo one: an INVALID slot is there.
    Destroy,
}

/// A range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First guest page.
    pub base: Gfn,
    /// 4 KiB pages, at least 1.
    pub npages: u64,
    /// Flags.
    pub flags: SlotFlags,
    /// log2 of the smallest piece of backing: no larger page may be mapped by an entry. 12 to 34.
    pub page_shift: u8,
    /// Number that names the slot.
    pub id: u16,
}

impl Slot {
    /// First page after the slot.
    #[inline]
    pub const fn end(&self) -> u64 {
        self.base.get().saturating_add(self.npages)
    }

    /// Whether the page is inside.
    #[inline]
    pub const fn contains(&self, gfn: Gfn) -> bool {
        gfn.get().wrapping_sub(self.base.get()) < self.npages
    }

    /// Whether a page of 2^`shift` bytes may be mapped through the slot: base and size are
    /// multiples of it, and so is every piece of backing (S4.13, H_ENTER 5 and 6).
    #[inline]
    pub const fn suits(&self, shift: u32) -> bool {
        if shift > self.page_shift as u32 || shift < PAGE_SHIFT {
            return false;
        }
        let pages = 1u64 << ((shift - PAGE_SHIFT) & 63);
        (self.base.get() | self.npages) & (pages - 1) == 0
    }

    pub(crate) const fn meta(&self) -> u64 {
        self.flags.0 as u64 | (self.page_shift as u64) << 8 | (self.id as u64) << 16
    }

    pub(crate) const fn from_words(base: Gfn, npages: u64, meta: u64) -> Self {
        Slot {
            base,
            npages,
            flags: SlotFlags(meta as u8),
            page_shift: (meta >> 8) as u8,
            id: (meta >> 16) as u16,
        }
    }
}
