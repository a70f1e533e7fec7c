// SPDX-License-Identifier: BSD-2-Clause
//! Base and actual page size of an entry (S3.5).

use crate::hpte::{LARGE, RPN};

/// Base and actual page size of a hash page table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 64 KiB in a segment of 4 KiB pages.
    Size64KIn4K,
    /// 16 MiB in a segment of 4 KiB pages.
    Size16MIn4K,
    /// 64 KiB.
    Size64K,
    /// 16 MiB in a segment of 64 KiB pages.
    Size16MIn64K,
    /// 16 MiB.
    Size16M,
    /// 16 GiB.
    Size16G,
}

impl PageSize {
    /// All of them.
    pub const ALL: [PageSize; 7] = [
        PageSize::Size4K,
        PageSize::Size64KIn4K,
        PageSize::Size16MIn4K,
        PageSize::Size64K,
        PageSize::Size16MIn64K,
        PageSize::Size16M,
        PageSize::Size16G,
    ];

    /// From L of dw0 and LP of dw1; `None` for an encoding that does not exist.
    #[inline]
    pub const fn decode(v: u64, r: u64) -> Option<Self> {
        if v & LARGE == 0 {
            return Some(PageSize::Size4K);
        }
        let low = (r >> 12) & 0xf;
        let high = (r >> 16) & 0xf;
        match (low, high) {
            (1, _) => Some(PageSize::Size64K),
            (7, _) => Some(PageSize::Size64KIn4K),
            (0, 0) => Some(PageSize::Size16M),
            (3, 0) => Some(PageSize::Size16G),
            (8, 0) => Some(PageSize::Size16MIn64K),
            (8, 3) => Some(PageSize::Size16MIn4K),
            _ => None,
        }
    }

    /// log2 of the base page size, the one that is hashed.
    #[inline]
    pub const fn base_shift(self) -> u32 {
        match self {
            PageSize::Size4K | PageSize::Size64KIn4K | PageSize::Size16MIn4K => 12,
            PageSize::Size64K | PageSize::Size16MIn64K => 16,
            PageSize::Size16M => 24,
            PageSize::Size16G => 34,
        }
    }

    /// log2 of the actual page size, the memory that the entry maps.
    #[inline]
    pub const fn shift(self) -> u32 {
        match self {
            PageSize::Size4K => 12,
            PageSize::Size64KIn4K | PageSize::Size64K => 16,
            PageSize::Size16MIn4K | PageSize::Size16MIn64K | PageSize::Size16M => 24,
            PageSize::Size16G => 34,
        }
    }

    /// Bytes that the entry maps.
    #[inline]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The LP field in place (dw1 bits 19:12); 0 for 4 KiB.
    #[inline]
    pub const fn lp(self) -> u64 {
        match self {
            PageSize::Size4K | PageSize::Size16M => 0,
            PageSize::Size64KIn4K => 0x7000,
            PageSize::Size16MIn4K => 0x38000,
            PageSize::Size64K => 0x1000,
            PageSize::Size16MIn64K => 0x8000,
            PageSize::Size16G => 0x3000,
        }
    }

    /// L in place in dw0.
    #[inline]
    pub const fn large(self) -> u64 {
        match self {
            PageSize::Size4K => 0,
            _ => LARGE,
        }
    }

    /// Real address of the page: the RPN field of `r` without the bits below the page size.
    #[inline]
    pub const fn real_address(self, r: u64) -> u64 {
        r & RPN & !(self.bytes() - 1)
    }

    /// The size of a page of a segment of its own size (no MPSS), from the SLB's L and LP bits.
    #[inline]
    pub const fn from_slb(vsid_word: u64) -> Option<Self> {
        match vsid_word & crate::hash::SLB_LLP {
            0 => Some(PageSize::Size4K),
            0x110 => Some(PageSize::Size64K),
            0x100 => Some(PageSize::Size16M),
            0x120 => Some(PageSize::Size16G),
            _ => None,
        }
    }

    /// L and LP bits of the SLB word of a segment with this base page size.
    #[inline]
    pub const fn slb_llp(self) -> u64 {
        match self.base_shift() {
            12 => 0,
            16 => 0x110,
            24 => 0x100,
            _ => 0x120,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_inverts_lp() {
        for size in PageSize::ALL {
            assert_eq!(PageSize::decode(size.large(), size.lp()), Some(size));
            assert_eq!(
                PageSize::from_slb(size.slb_llp()).unwrap().base_shift(),
                size.base_shift()
            );
        }
    }

    #[test]
    fn unknown_encodings() {
        for lp in 0..256u64 {
            let known = matches!((lp & 0xf, lp >> 4), (1 | 7, _) | (0 | 3 | 8, 0) | (8, 3));
            assert_eq!(
                PageSize::decode(LARGE, lp << 12).is_some(),
                known,
                "{lp:#x}"
            );
            assert_eq!(PageSize::decode(0, lp << 12), Some(PageSize::Size4K));
        }
        assert_eq!(PageSize::from_slb(0x130), None);
        assert_eq!(PageSize::from_slb(0x010), None);
    }

    #[test]
    fn address_of_a_large_page_has_no_lp() {
        assert_eq!(PageSize::Size64K.real_address(0x1234_1190), 0x1234_0000);
        assert_eq!(PageSize::Size64KIn4K.real_address(0x4_7192), 0x4_0000);
        assert_eq!(PageSize::Size4K.real_address(0xf000_0000_0000_5194), 0x5000);
    }
}
