// SPDX-License-Identifier: BSD-2-Clause
//! From an effective address and a segment to a group of entries (S3.6), and the VRMA.

use crate::hpte::{AVPN, B, B_1T, BOLTED, C, GuestHpte, M, R, VALID};
use crate::{HptOrder, PageSize, Ptex};

/// SLB VSID word: key in privileged state.
pub const SLB_KS: u64 = 0x800;
/// SLB VSID word: key in problem state.
pub const SLB_KP: u64 = 0x400;
/// SLB VSID word: no execute.
pub const SLB_N: u64 = 0x200;
/// SLB VSID word: L and LP.
pub const SLB_LLP: u64 = 0x130;
/// SLB ESID word: valid.
pub const SLB_ESID_V: u64 = 0x0800_0000;
/// VSID of the virtual real mode area.
pub const VRMA_VSID: u64 = 0x1ff_ffff;
/// dw0 of a VRMA entry without the address bits, BOLTED, L and V: B and the VSID.
pub const VRMA_DW0: u64 = B_1T | VRMA_VSID << 24;
/// The bits of dw0 that decide whether an entry belongs to the VRMA.
pub const VRMA_DW0_MASK: u64 = !0 << 24;
/// The VRMA ends here: one segment of 1 TiB.
pub const VRMA_END: u64 = 1 << 40;

/// A segment: the VSID word of an SLB entry (or ASDR) whose B and page size are known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    word: u64,
    base: PageSize,
}

impl Segment {
    /// From the VSID word; `None` for a reserved B or an unknown page size.
    #[inline]
    pub const fn new(vsid_word: u64) -> Option<Self> {
        if vsid_word >> 63 != 0 {
            return None;
        }
        match PageSize::from_slb(vsid_word) {
            Some(base) => Some(Segment {
                word: vsid_word,
                base,
            }),
            None => None,
        }
    }

    /// The segment that a guest with translation off uses: keys 0, `base` pages.
    #[inline]
    pub const fn vrma(base: PageSize) -> Self {
        // Only the base size counts; give back the size without MPSS.
        let base = match base.base_shift() {
            12 => PageSize::Size4K,
            16 => PageSize::Size64K,
            24 => PageSize::Size16M,
            _ => PageSize::Size16G,
        };
        Segment {
            word: VRMA_DW0 | base.slb_llp(),
            base,
        }
    }

    /// The VSID word.
    #[inline]
    pub const fn word(self) -> u64 {
        self.word
    }

    /// Base page size.
    #[inline]
    pub const fn base(self) -> PageSize {
        self.base
    }

    /// Whether it is a segment of 1 TiB (else 256 MiB).
    #[inline]
    pub const fn is_1t(self) -> bool {
        self.word & B != 0
    }

    #[inline]
    const fn offset(self, ea: u64) -> u64 {
        if self.is_1t() {
            ea & ((1 << 40) - 1)
        } else {
            ea & ((1 << 28) - 1)
        }
    }

    /// The primary hash of `ea`; the secondary one is its complement.
    #[inline]
    pub const fn hash(self, ea: u64) -> u64 {
        let page = self.offset(ea) >> self.base.base_shift();
        let body = self.word & !B;
        if self.is_1t() {
            let vsid = body >> 24;
            vsid ^ (vsid << 25) ^ page
        } else {
            (body >> 12) ^ page
        }
    }

    /// Number of the primary group.
    #[inline]
    pub const fn primary_group(self, ea: u64, order: HptOrder) -> u64 {
        self.hash(ea) & order.group_mask()
    }

    /// Number of the secondary group.
    #[inline]
    pub const fn secondary_group(self, ea: u64, order: HptOrder) -> u64 {
        !self.hash(ea) & order.group_mask()
    }

    /// B and AVPN in place as in dw0, for the comparison; bits below the base page size are clear.
    #[inline]
    pub const fn avpn(self, ea: u64) -> u64 {
        let vsid_mask: u64 = if self.is_1t() { !0 << 24 } else { !0 << 12 };
        let mut offset = self.offset(ea);
        if self.base.base_shift() > 23 {
            offset &= !(self.base.bytes() - 1);
        }
        (self.word & vsid_mask & (B | AVPN)) | ((offset >> 16) & !0x7f)
    }
}

/// Whether `v` (guest format) belongs to the VRMA.
#[inline]
pub const fn is_vrma(v: u64) -> bool {
    v & VRMA_DW0_MASK == VRMA_DW0
}

/// The VRMA entry of the page at guest real address `gpa` (aligned down to `size`), in the guest's
/// format: bolted, valid, R, C, M, PP=0 (S2.18).
#[inline]
pub const fn vrma_entry(gpa: u64, size: PageSize) -> GuestHpte {
    GuestHpte {
        v: VRMA_DW0 | BOLTED | size.large() | ((gpa & (VRMA_END - 1)) >> 16 & !0x7f) | VALID,
        r: size.real_address(gpa) | size.lp() | R | C | M,
    }
}

/// Where [`vrma_entry`] goes when the table is empty: the last entry of its primary group (S2.18).
#[inline]
pub const fn vrma_ptex(gpa: u64, size: PageSize, order: HptOrder) -> Ptex {
    Ptex::in_group(Segment::vrma(size).primary_group(gpa, order), 7, order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_segments() {
        assert_eq!(Segment::new(2 << 62), None);
        assert_eq!(Segment::new(3 << 62), None);
        assert_eq!(Segment::new(0x130), None);
        assert!(Segment::new(0x110).is_some());
    }

    proptest! {
        /// S2.18: the closed formula and the generic look-up agree.
        #[test]
        fn vrma_group_formula(page in 0u64..1 << 28, order in 18u32..=36, big: bool) {
            let order = HptOrder::new(order).unwrap();
            let size = if big { PageSize::Size64K } else { PageSize::Size4K };
            let gpa = (page << size.shift()) & (VRMA_END - 1);
            let i = gpa >> size.shift();
            let group = (i ^ (VRMA_VSID ^ (VRMA_VSID << 25))) & order.group_mask();
            prop_assert_eq!(vrma_ptex(gpa, size, order).group(), group);
            let entry = vrma_entry(gpa, size);
            prop_assert!(is_vrma(entry.v));
            prop_assert_eq!(entry.v & (B | AVPN), Segment::vrma(size).avpn(gpa));
        }

        #[test]
        fn no_input_panics(word: u64, ea: u64, order in 18u32..=36) {
            if let Some(segment) = Segment::new(word) {
                let order = HptOrder::new(order).unwrap();
                prop_assert!(segment.primary_group(ea, order) < order.groups());
                prop_assert_eq!(
                    segment.primary_group(ea, order) ^ segment.secondary_group(ea, order),
                    order.group_mask()
                );
                prop_assert_eq!(segment.avpn(ea) & 0x7f, 0);
            }
        }
    }
}
