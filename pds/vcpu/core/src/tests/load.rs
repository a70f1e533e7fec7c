// SPDX-License-Identifier: BSD-2-Clause
//! P4.1 to P4.5: where things go.

use crate::load::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

const TEXT: Segment = Segment {
    kind: 1,
    offset: 0x200,
    paddr: 0,
    filesz: 0x100,
    memsz: 0x2_0000,
};

/// An ELF64 file of 4 KiB.
fn elf(little: bool, kind: u16, entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    let mut put = |at: usize, size: usize, value: u64| {
        let bytes = if little {
            value.to_le_bytes()
        } else {
            value.swap_bytes().to_le_bytes()
        };
        let bytes = if little {
            &bytes[..size]
        } else {
            &bytes[8 - size..]
        };
        file[at..at + size].copy_from_slice(bytes);
    };
    put(16, 2, kind.into());
    put(18, 2, 21);
    put(24, 8, entry);
    put(32, 8, 64);
    put(54, 2, 56);
    put(56, 2, segments.len() as u64);
    for (n, s) in segments.iter().enumerate() {
        let at = 64 + 56 * n;
        put(at, 4, s.kind.into());
        put(at + 8, 8, s.offset);
        put(at + 16, 8, s.paddr | 0xc000_0000_0000_0000);
        put(at + 24, 8, s.paddr);
        put(at + 32, 8, s.filesz);
        put(at + 40, 8, s.memsz);
    }
    file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, if little { 1 } else { 2 }, 1, 0]);
    file
}

const MEMORY: u64 = 1 << 30;
const PHYSICAL: u64 = 0xc000_0000_0000_0000;

#[test]
fn p4_1_executables_of_both_endiannesses() {
    for little in [true, false] {
        let high = Segment {
            paddr: PHYSICAL | 0x10_0000,
            memsz: 0x100,
            ..TEXT
        };
        let note = Segment {
            kind: 4,
            paddr: 0,
            filesz: 1 << 40,
            ..TEXT
        };
        let file = elf(little, 2, PHYSICAL | 0x10, &[TEXT, note, high]);
        let plan = plan(&file, 0, MEMORY).unwrap();
        assert_eq!(plan.entry, 0x10);
        let expected = |gpa, zeros| Copy {
            source: Source::Kernel,
            offset: 0x200,
            gpa,
            bytes: 0x100,
            zeros,
        };
        assert_eq!(plan.copies[0], expected(0, 0x1_ff00));
        assert_eq!(plan.copies[1], expected(0x10_0000, 0));
        assert_eq!(
            plan.kernel,
            Range {
                start: 0,
                end: 0x10_0100
            }
        );
        assert_eq!(plan.initrd, None);
    }
}

#[test]
fn relocatable_kernels_go_to_4_mib_and_flat_ones_to_0() {
    let file = elf(true, 3, PHYSICAL, &[TEXT]);
    let relocatable = plan(&file, 0, MEMORY).unwrap();
    assert_eq!(
        (relocatable.entry, relocatable.copies[0].gpa),
        (4 << 20, 4 << 20)
    );
    let flat = plan(&[0x48; 100], 0, MEMORY).unwrap();
    let copy = Copy {
        source: Source::Kernel,
        offset: 0,
        gpa: 0,
        bytes: 100,
        zeros: 0,
    };
    assert_eq!((flat.entry, flat.copies[0]), (0, copy));
}

#[test]
fn p4_4_p4_5_the_rest_lies_apart_and_below_its_limits() {
    let flat = vec![0; 0x10_0001];
    for memory in [64 << 20, 256 << 20, 1 << 30, 8 << 30, 1 << 40] {
        let plan = plan(&flat, 0x12_3789, memory).unwrap();
        let initrd = plan.initrd.unwrap();
        assert_eq!(initrd.end - initrd.start, 0x12_3789);
        assert!(plan.kernel.end <= plan.rtas.start && plan.rtas.end <= plan.tree.start);
        assert!(plan.tree.end <= initrd.start && initrd.end <= memory.min(768 << 20));
        for range in [plan.rtas, plan.tree, initrd] {
            assert_eq!(range.start % 0x1_0000, 0);
        }
    }
    // A large initrd needs more than 768 MiB; RTAS is still below 4 GiB.
    let large = plan(&flat, 1 << 30, 8 << 30).unwrap();
    assert!(large.initrd.unwrap().end <= 1 << 32);
    // It must not lie in the vectors.
    assert_eq!(
        plan(&[1], 0, 0x2_7000),
        Err(PlanError::NoRoom(Source::Rtas))
    );
    assert!(plan(&[1], 0, 0x3_0000).is_ok());
}

#[test]
fn files_that_are_refused() {
    let plan_of = |file: &[u8]| plan(file, 0, MEMORY).unwrap_err();
    assert_eq!(plan_of(&[]), PlanError::NoKernel);
    let good = elf(true, 2, 0, &[TEXT]);
    assert_eq!(plan_of(&good[..63]), PlanError::Truncated);
    assert_eq!(plan_of(&good[..100]), PlanError::Truncated);
    assert_eq!(plan_of(&good[..0x2ff]), PlanError::Truncated);
    for (at, value) in [(4, 1), (5, 3), (6, 0), (18, 20)] {
        let mut file = good.clone();
        file[at] = value;
        assert_eq!(plan_of(&file), PlanError::WrongMachine);
    }
    let mut small_headers = good.clone();
    small_headers[54] = 55;
    assert_eq!(plan_of(&small_headers), PlanError::Truncated);
    let mut far_table = good.clone();
    far_table[32..40].copy_from_slice(&[0xff; 8]);
    assert_eq!(plan_of(&far_table), PlanError::Truncated);
    assert_eq!(plan_of(&elf(true, 1, 0, &[TEXT])), PlanError::WrongType(1));
    assert_eq!(plan_of(&elf(true, 2, 0, &[])), PlanError::SegmentCount);
    let many: Vec<_> = (0..17)
        .map(|n| Segment {
            paddr: n << 20,
            ..TEXT
        })
        .collect();
    assert_eq!(plan_of(&elf(false, 2, 0, &many)), PlanError::SegmentCount);
    let segment = |s| plan_of(&elf(true, 2, 0, &[TEXT, s]));
    let far = Segment {
        paddr: 1 << 28,
        ..TEXT
    };
    assert_eq!(
        segment(Segment {
            filesz: 0x2_0001,
            offset: 0,
            ..far
        }),
        PlanError::Truncated
    );
    assert_eq!(
        segment(Segment { memsz: 0xff, ..far }),
        PlanError::BadSegment(1)
    );
    assert_eq!(
        segment(Segment {
            offset: u64::MAX,
            ..far
        }),
        PlanError::Truncated
    );
    assert_eq!(
        segment(Segment {
            memsz: u64::MAX,
            ..far
        }),
        PlanError::BadSegment(1)
    );
    assert_eq!(
        segment(Segment {
            paddr: 0x1_ffff,
            ..TEXT
        }),
        PlanError::SegmentsOverlap
    );
    assert_eq!(
        segment(Segment {
            paddr: MEMORY,
            ..TEXT
        }),
        PlanError::NoRoom(Source::Kernel)
    );
    assert_eq!(
        plan_of(&elf(true, 2, 0x100, &[TEXT])),
        PlanError::EntryOutside(0x100)
    );
    assert_eq!(
        plan(&[1], MEMORY - 0x1_0000, MEMORY),
        Err(PlanError::NoRoom(Source::Tree))
    );
    assert_eq!(
        plan(&[1], u64::MAX, MEMORY),
        Err(PlanError::NoRoom(Source::Initrd))
    );
    assert_eq!(
        PlanError::BadSegment(1).to_string(),
        "loadable segment 1 of the kernel is malformed"
    );
}

#[test]
fn the_rtas_entry_is_the_documented_code() {
    let hex: String = RTAS_BLOB.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "7c641b783c6000006063f000440000224e800020");
}

proptest! {
    #[test]
    fn any_file_is_laid_out_without_overlap_or_refused(
        little in any::<bool>(),
        kind in 2..4u16,
        entry in any::<u64>(),
        segments in prop::collection::vec(
            (0..2u32, 0..5000u64, 0..1u64 << 28, 0..5000u64, 0..1u64 << 26)
                .prop_map(|(kind, offset, paddr, filesz, memsz)| {
                    Segment { kind, offset, paddr, filesz, memsz }
                }),
            0..5,
        ),
        noise in prop::collection::vec((0..400usize, any::<u8>()), 0..3),
        initrd in 0..1u64 << 29,
        memory in 0..1u64 << 31,
        start in any::<bool>(),
    ) {
        let entry = if start { 0 } else { entry };
        let mut file = elf(little, kind, entry, &segments);
        for (at, byte) in noise {
            file[at] = byte;
        }
        if let Ok(plan) = plan(&file, initrd, memory) {
            let ranges: Vec<_> = plan
                .copies
                .iter()
                .map(|c| (c.gpa, c.gpa + c.bytes + c.zeros))
                .filter(|(start, end)| start != end)
                .collect();
            for (i, (start, end)) in ranges.iter().enumerate() {
                prop_assert!(start < end && *end <= memory);
                for (other_start, other_end) in &ranges[i + 1..] {
                    prop_assert!(end <= other_start || other_end <= start);
                }
            }
            for copy in plan.copies.iter().filter(|c| c.source == Source::Kernel) {
                prop_assert!(copy.offset + copy.bytes <= file.len() as u64);
            }
            prop_assert!(plan.rtas.end <= 1 << 32);
        }
    }
}
