// SPDX-License-Identifier: BSD-2-Clause
//! Numbers that come from outside, as types that say what has been checked.

/// log2 of the unit in which guest pages are counted (a [`Gfn`]): 4 KiB.
pub const PAGE_SHIFT: u32 = 12;

/// log2 of the size of a hash page table in bytes, 18 to 36.
///
/// The ISA allows 46; links between entries are 32 bits wide, so 36 is the end (SPEC finding 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HptOrder(u32);

impl HptOrder {
    /// Smallest order.
    pub const MIN: u32 = 18;
    /// Largest order.
    pub const MAX: u32 = 36;

    /// `order` if it is in 18..=36.
    #[inline]
    pub const fn new(order: u32) -> Option<Self> {
        if order >= Self::MIN && order <= Self::MAX {
            Some(HptOrder(order))
        } else {
            None
        }
    }

    /// The number itself.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Entries in the table: 2^(order-4), at most 2^32.
    #[inline]
    pub const fn entries(self) -> u64 {
        1 << (self.0 - 4)
    }

    /// Groups in the table: 2^(order-7).
    #[inline]
    pub const fn groups(self) -> u64 {
        1 << (self.0 - 7)
    }

    /// Mask of a group number.
    #[inline]
    pub const fn group_mask(self) -> u64 {
        self.groups() - 1
    }
}

/// Index of an entry of one hash page table. The constructor has compared it with the table's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ptex(u32);

impl Ptex {
    /// `index` if the table has that entry.
    #[inline]
    pub const fn new(index: u64, order: HptOrder) -> Option<Self> {
        if index < order.entries() {
            Some(Ptex(index as u32))
        } else {
            None
        }
    }

    /// `index` if it is below `entries`, the length of an array with an element for each entry.
    #[inline]
    pub const fn below(index: u64, entries: u64) -> Option<Self> {
        if index < entries && index >> 32 == 0 {
            Some(Ptex(index as u32))
        } else {
            None
        }
    }

    /// Entry `slot` (taken modulo 8) of group `group` (taken modulo the number of groups).
    #[inline]
    pub const fn in_group(group: u64, slot: u32, order: HptOrder) -> Self {
        Ptex((((group & order.group_mask()) << 3) as u32) | (slot & 7))
    }

    /// The index, less than 2^32.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0 as u64
    }

    /// The index for links and slices.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Group number.
    #[inline]
    pub const fn group(self) -> u64 {
        (self.0 >> 3) as u64
    }

    /// Entry `slot` (taken modulo 8) of the same group.
    #[inline]
    pub const fn sibling(self, slot: u32) -> Self {
        Ptex((self.0 & !7) | (slot & 7))
    }
}

/// A guest real address below 2^57: what the RPN field of an ISA 3.0 entry can hold (S3.4 (c)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GuestReal(u64);

impl GuestReal {
    /// First address that is too large.
    pub const END: u64 = 1 << 57;

    /// `address` if it is below 2^57.
    #[inline]
    pub const fn new(address: u64) -> Option<Self> {
        if address < Self::END {
            Some(GuestReal(address))
        } else {
            None
        }
    }

    /// The address in bytes.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The 4 KiB page that holds it.
    #[inline]
    pub const fn gfn(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }

    /// Whether it is a multiple of 2^`shift`; false for a shift of 64 or more.
    #[inline]
    pub const fn is_aligned(self, shift: u32) -> bool {
        match 1u64.checked_shl(shift) {
            Some(size) => self.0 & (size - 1) == 0,
            None => false,
        }
    }
}

/// Guest frame number: guest real address / 4096, below 2^45.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gfn(u64);

impl Gfn {
    /// `number` if it is below 2^45.
    #[inline]
    pub const fn new(number: u64) -> Option<Self> {
        if number < GuestReal::END >> PAGE_SHIFT {
            Some(Gfn(number))
        } else {
            None
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its first byte.
    #[inline]
    pub const fn address(self) -> GuestReal {
        GuestReal(self.0 << PAGE_SHIFT)
    }
}

/// Logical partition id of a guest: 1..=4095 (POWER9 has 12 bits; 0 is the host).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Lpid(u16);

impl Lpid {
    /// `id` if it names a guest.
    #[inline]
    pub const fn new(id: u64) -> Option<Self> {
        if id >= 1 && id <= 4095 {
            Some(Lpid(id as u16))
        } else {
            None
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors_check() {
        assert_eq!(HptOrder::new(17), None);
        assert_eq!(HptOrder::new(37), None);
        let order = HptOrder::new(24).unwrap();
        assert_eq!((order.entries(), order.groups()), (1 << 20, 1 << 17));
        assert!(Ptex::new((1 << 20) - 1, order).is_some());
        assert_eq!(Ptex::new(1 << 20, order), None);
        assert_eq!(Ptex::new(u64::MAX, HptOrder::new(36).unwrap()), None);
        assert_eq!(
            Ptex::new(u32::MAX as u64, HptOrder::new(36).unwrap())
                .unwrap()
                .get(),
            0xffff_ffff
        );
        assert_eq!(Ptex::below(8, 8), None);
        assert_eq!(Ptex::below(1 << 32, u64::MAX), None);
        assert_eq!(Ptex::below(7, 8).unwrap().get(), 7);
        assert_eq!(GuestReal::new(1 << 57), None);
        assert_eq!(Gfn::new(1 << 45), None);
        assert_eq!(Gfn::new(0x12).unwrap().address().get(), 0x12000);
        assert!(!GuestReal::new(0).unwrap().is_aligned(64));
        assert_eq!((Lpid::new(0), Lpid::new(4096)), (None, None));
        assert_eq!(Lpid::new(4095).unwrap().get(), 4095);
    }
}
