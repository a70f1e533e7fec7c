// SPDX-License-Identifier: BSD-2-Clause
//! Partition table entry of a guest with a hash page table (S3.6).

use crate::{HptOrder, PageSize};

/// HTABORG of dw0.
pub const HTABORG: u64 = 0x0fff_ffff_fffc_0000;
/// HR: the partition uses radix translation.
pub const HR: u64 = 1 << 63;

/// PS field (bits 7:5) from the L and LP bits of an SLB word.
#[inline]
pub const fn ps(slb_llp: u64) -> u64 {
    ((slb_llp & 0x100) >> 1) | ((slb_llp & 0x30) << 1)
}

/// dw0 for a table of 2^`order` bytes at host real address `base`, whose VRMA has pages of `vrma`;
/// `None` if `base` is not aligned to the table's size or outside HTABORG. dw1 is 0.
#[inline]
pub const fn dw0(base: u64, order: HptOrder, vrma: PageSize) -> Option<u64> {
    let size = 1u64 << order.get();
    if base & (size - 1) != 0 || base & !HTABORG != 0 {
        return None;
    }
    Some(base | ps(vrma.slb_llp()) | (order.get() - HptOrder::MIN) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_size_field() {
        assert_eq!(ps(0), 0);
        assert_eq!(ps(0x110), 0b101 << 5);
        assert_eq!(ps(0x100), 0b100 << 5);
    }

    #[test]
    fn dw0_checks_its_base() {
        let order = HptOrder::new(24).unwrap();
        assert_eq!(
            dw0(0x1200_0000, order, PageSize::Size64K),
            Some(0x1200_00a6)
        );
        assert_eq!(dw0(0x1280_0000, order, PageSize::Size4K), None);
        assert_eq!(dw0(1 << 60, order, PageSize::Size4K), None);
    }
}
