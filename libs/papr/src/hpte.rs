// SPDX-License-Identifier: BSD-2-Clause
//! Hash page table entries: the guest's format ("old", PAPR) and ISA 3.0's (S3.4).
//!
//! In memory an entry is two big-endian doublewords; here they are numbers.

/// dw0: valid.
pub const VALID: u64 = 1;
/// dw0: reached by the secondary hash.
pub const SECONDARY: u64 = 2;
/// dw0: large page.
pub const LARGE: u64 = 4;
/// dw0: software lock of Linux guests.
pub const GUEST_LOCK: u64 = 8;
/// dw0: software bit for entries that a guest does not evict.
pub const BOLTED: u64 = 0x10;
/// dw0 in the hypervisor's own array: the guest's entry exists, the real one does not.
pub const ABSENT: u64 = 0x20;
/// dw0 in the hypervisor's own array: the entry is locked.
pub const LOCK: u64 = 0x40;
/// dw0: abbreviated virtual page number, without B.
pub const AVPN: u64 = 0x3fff_ffff_ffff_ff80;
/// dw0, guest format: segment size, 0 is 256 MiB, 1 is 1 TiB, 2 and 3 are reserved.
pub const B: u64 = 3 << 62;
/// dw0, guest format: the segment is 1 TiB.
pub const B_1T: u64 = 1 << 62;
/// dw0: what the guest may set besides [`VALID`].
pub const GUEST_DW0: u64 = !(LOCK | ABSENT | VALID);

/// dw1: top bit of the protection.
pub const PP0: u64 = 1 << 63;
/// dw1 in the hypervisor's own array: changed since the last read of the migration stream (S3.7).
pub const MODIFIED: u64 = 1 << 62;
/// dw1: high bits of the storage key.
pub const KEY_HIGH: u64 = 3 << 60;
/// dw1, guest format: real page number (low bits hold LP for large pages).
pub const RPN: u64 = 0x0fff_ffff_ffff_f000;
/// dw1, ISA 3.0: real page number.
pub const RPN_ISA30: u64 = 0x01ff_ffff_ffff_f000;
/// dw1, ISA 3.0: segment size.
pub const B_ISA30: u64 = 3 << 58;
/// dw1: low bits of the storage key.
pub const KEY_LOW: u64 = 7 << 9;
/// dw1: referenced.
pub const R: u64 = 0x100;
/// dw1: changed.
pub const C: u64 = 0x80;
/// dw1: write-through.
pub const W: u64 = 0x40;
/// dw1: caching inhibited.
pub const I: u64 = 0x20;
/// dw1: memory coherence.
pub const M: u64 = 0x10;
/// dw1: guarded.
pub const G: u64 = 0x08;
/// dw1: W, I, M and G.
pub const WIMG: u64 = W | I | M | G;
/// dw1: no execute.
pub const N: u64 = 4;
/// dw1: protection.
pub const PP: u64 = 3;
/// dw0 bits that an ISA 3.0 entry keeps.
pub const DW0_ISA30: u64 = 0x000f_ffff_ffff_ffff;

/// Byte of an entry in memory that holds R (hardware stores it alone).
pub const R_BYTE: usize = 14;
/// Byte of an entry in memory that holds C (hardware stores it alone).
pub const C_BYTE: usize = 15;
/// Bytes of an entry.
pub const SIZE: usize = 16;
/// Entries of a group.
pub const PER_GROUP: usize = 8;

/// An entry in the guest's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestHpte {
    /// First doubleword.
    pub v: u64,
    /// Second doubleword.
    pub r: u64,
}

/// An entry in the ISA 3.0 format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Isa30Hpte {
    /// First doubleword.
    pub v: u64,
    /// Second doubleword.
    pub r: u64,
}

impl GuestHpte {
    /// B moves from dw0 to dw1 (S3.4). The top bits of a real page number of 2^57 or more are
    /// lost: check with [`crate::GuestReal`] first.
    #[inline]
    pub const fn to_isa30(self) -> Isa30Hpte {
        Isa30Hpte {
            v: self.v & DW0_ISA30,
            r: (self.r & !B_ISA30) | ((self.v >> 62) << 58),
        }
    }

    /// Whether B is one of the two segment sizes that exist.
    #[inline]
    pub const fn has_valid_segment_size(self) -> bool {
        self.v >> 63 == 0
    }
}

impl Isa30Hpte {
    /// The inverse of [`GuestHpte::to_isa30`].
    #[inline]
    pub const fn to_guest(self) -> GuestHpte {
        GuestHpte {
            v: (self.v & DW0_ISA30) | ((self.r & B_ISA30) << 4),
            r: self.r & !B_ISA30,
        }
    }
}

/// Whether `v` matches the condition of H_REMOVE, H_PROTECT: `flags` AVPN compares without the low
/// seven bits, ANDCOND wants no common bit. Guest format; LOCK, ABSENT and VALID have no say in
/// AVPN, and ABSENT counts as VALID for ANDCOND.
#[inline]
pub const fn matches(v: u64, avpn: Option<u64>, andcond: Option<u64>) -> bool {
    if let Some(avpn) = avpn
        && v & !0x7f != avpn
    {
        return false;
    }
    if let Some(mask) = andcond
        && reported(v) & mask != 0
    {
        return false;
    }
    true
}

/// dw0 as the guest sees it: no lock, ABSENT shown as VALID.
#[inline]
pub const fn reported(v: u64) -> u64 {
    (v & GUEST_DW0) | ((v | (v >> 5)) & VALID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reported_hides_the_software_bits() {
        assert_eq!(reported(VALID | LOCK | BOLTED), VALID | BOLTED);
        assert_eq!(reported(ABSENT | LARGE), VALID | LARGE);
        assert_eq!(reported(LOCK), 0);
    }

    #[test]
    fn conditions() {
        let v = 0x4001_ffff_ff00_0011;
        assert!(matches(v, Some(0x4001_ffff_ff00_0000), None));
        assert!(
            !matches(v, Some(0x0001_ffff_ff00_0000), None),
            "B is compared (S3.4 (a))"
        );
        assert!(
            !matches(v, Some(0x4001_ffff_ff00_0011), None),
            "as given, low bits included"
        );
        assert!(!matches(v, None, Some(BOLTED)));
        assert!(matches(v, None, Some(SECONDARY)));
        assert!(matches(v, None, None));
    }

    proptest! {
        #[test]
        fn conversion_is_its_own_inverse(v: u64, r: u64) {
            // What an ISA 3.0 table can hold: AVPN bits 51:7, no reserved bits in dw1.
            let guest = GuestHpte { v: v & (DW0_ISA30 | B), r: r & !(B_ISA30) };
            prop_assert_eq!(guest.to_isa30().to_guest(), guest);
            let real = Isa30Hpte { v: v & DW0_ISA30, r };
            prop_assert_eq!(real.to_guest().to_isa30(), real);
        }
    }
}
