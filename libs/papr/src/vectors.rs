// SPDX-License-Identifier: BSD-2-Clause
//! The test vectors of SPEC 3.10.

use crate::hash::{Segment, vrma_entry, vrma_ptex};
use crate::hpte::{GuestHpte, SECONDARY};
use crate::{HptOrder, PageSize, Ptex, tlbie};

struct Row {
    name: &'static str,
    ea: u64,
    /// VSID word; `None` for the VRMA.
    slb: Option<u64>,
    order: u32,
    ptex: u64,
    guest: (u64, u64),
    real: (u64, u64),
    rb: u64,
}

#[rustfmt::skip]
const ROWS: [Row; 12] = [
    Row { name: "256M/4K", ea: 0x10003000, slb: Some(0x1234567000), order: 24, ptex: 0xa2b20,
        guest: (0x0000001234567001, 0x5194), real: (0x0000001234567001, 0x5194), rb: 0x0012345670003000 },
    Row { name: "256M/4K secondary", ea: 0x10003000, slb: Some(0x1234567000), order: 24, ptex: 0x5d4db,
        guest: (0x0000001234567003, 0x5194), real: (0x0000001234567003, 0x5194), rb: 0x0012345670003000 },
    Row { name: "1T/64K", ea: 0xc000000012340000, slb: Some(0x40001a2b3c000110), order: 26, ptex: 0x11c847,
        guest: (0x40001a2b3c001205, 0x12341190), real: (0x00001a2b3c001205, 0x0400000012341190), rb: 0x1a2b3c0012341141 },
    Row { name: "1T/16M", ea: 0xc000000003000000, slb: Some(0x4000000408000100), order: 24, ptex: 0x2059,
        guest: (0x4000000408000305, 0x03000190), real: (0x0000000408000305, 0x0400000003000190), rb: 0x0004080003000101 },
    Row { name: "1T/64K in 4K", ea: 0x7fff80011000, slb: Some(0x4000000077000000), order: 24, ptex: 0x332,
        guest: (0x4000000077ff8005, 0x47192), real: (0x0000000077ff8005, 0x0400000000047192), rb: 0x000077ff800111a0 },
    Row { name: "1T/16M in 64K", ea: 0xc000000005010000, slb: Some(0x4000000408000110), order: 24, ptex: 0x848,
        guest: (0x4000000408000505, 0x05008190), real: (0x0000000408000505, 0x0400000005008190), rb: 0x0004080005008111 },
    Row { name: "VRMA 4K page 0", ea: 0, slb: None, order: 24, ptex: 0xfffff,
        guest: (0x4001ffffff000011, 0x190), real: (0x0001ffffff000011, 0x0400000000000190), rb: 0xffffff0000000100 },
    Row { name: "VRMA 64K page 0", ea: 0, slb: None, order: 24, ptex: 0xfffff,
        guest: (0x4001ffffff000015, 0x1190), real: (0x0001ffffff000015, 0x0400000000001190), rb: 0xffffff0000001101 },
    Row { name: "VRMA 4K page 1", ea: 0x1000, slb: None, order: 24, ptex: 0xffff7,
        guest: (0x4001ffffff000011, 0x1190), real: (0x0001ffffff000011, 0x0400000000001190), rb: 0xffffff0000001100 },
    Row { name: "VRMA 64K page 1", ea: 0x10000, slb: None, order: 24, ptex: 0xffff7,
        guest: (0x4001ffffff000015, 0x11190), real: (0x0001ffffff000015, 0x0400000000011190), rb: 0xffffff0000011111 },
    Row { name: "VRMA 4K page 0xfff", ea: 0xfff000, slb: None, order: 24, ptex: 0xf8007,
        guest: (0x4001ffffff000091, 0xfff190), real: (0x0001ffffff000091, 0x0400000000fff190), rb: 0xffffff0000fff100 },
    Row { name: "VRMA 64K page 0xfff", ea: 0xfff0000, slb: None, order: 24, ptex: 0xf8007,
        guest: (0x4001ffffff000f95, 0xfff1190), real: (0x0001ffffff000f95, 0x040000000fff1190), rb: 0xffffff000fff11f1 },
];

#[test]
fn spec_3_10() {
    for row in ROWS {
        let order = HptOrder::new(row.order).unwrap();
        let guest = GuestHpte {
            v: row.guest.0,
            r: row.guest.1,
        };
        let size = PageSize::decode(guest.v, guest.r).expect(row.name);
        let segment = match row.slb {
            Some(word) => Segment::new(word).expect(row.name),
            None => Segment::vrma(size),
        };
        assert_eq!(
            segment.base().base_shift(),
            size.base_shift(),
            "{}",
            row.name
        );
        let group = if guest.v & SECONDARY != 0 {
            segment.secondary_group(row.ea, order)
        } else {
            segment.primary_group(row.ea, order)
        };
        let ptex = Ptex::new(row.ptex, order).expect(row.name);
        assert_eq!(group, ptex.group(), "{}: group", row.name);
        assert_eq!(segment.avpn(row.ea), guest.v & !0x7f, "{}: AVPN", row.name);
        let real = guest.to_isa30();
        assert_eq!((real.v, real.r), row.real, "{}: ISA 3.0", row.name);
        assert_eq!(real.to_guest(), guest, "{}: back", row.name);
        assert_eq!(
            tlbie::rb(ptex, guest.v, guest.r, size),
            row.rb,
            "{}: RB",
            row.name
        );
        if row.slb.is_none() {
            assert_eq!(vrma_entry(row.ea, size), guest, "{}: entry", row.name);
            assert_eq!(vrma_ptex(row.ea, size, order), ptex, "{}: place", row.name);
        }
    }
}
