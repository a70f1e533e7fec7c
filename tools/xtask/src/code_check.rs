// SPDX-License-Identifier: BSD-2-Clause
//! No PD and no part of the kernel but the guest's register switch may hold a floating-point or
//! vector instruction: their registers belong to the guest, also while others run.

use crate::build::Builder;
use crate::elf::{Elf, Kind};
use crate::error::{Error, Result};
use crate::toolchain::Variant;
use crate::workspace::Workspace;

/// Functions of the kernel that switch a guest's floating-point and vector registers.
const KERNEL_SWITCH: [&str; 2] = ["guest_vsx_save", "guest_vsx_restore"];

/// Compiles every program of the release configuration and looks through it; what runs in a guest
/// may use all registers.
pub fn run(workspace: &Workspace) -> Result<()> {
    let variant = Variant {
        board: "qemu_powernv9".into(),
        config: "release".into(),
    };
    let guests = [
        "tests/guests",
        "benches/guest",
        "benches/cores",
        "benches/init",
    ];
    let guests = guests.map(|f| workspace.root.join(f));
    let packages: Vec<&str> = workspace
        .machine_packages()
        .filter(|p| p.program.is_some() && !guests.iter().any(|g| p.folder.starts_with(g)))
        .map(|p| p.name.as_str())
        .collect();
    for file in Builder::new(workspace).programs(&variant, &packages)? {
        let elf = Elf::read(&file)?;
        if let Some((address, word)) = find(&elf) {
            let place = elf.symbol_at(address).map_or("?", |(name, _)| name);
            let why = format!("floating-point or vector instruction {word:#010x} in {place}");
            return Err(Error::Content { path: file, why });
        }
    }
    Ok(())
}

/// The first instruction that must not be there.
fn find(elf: &Elf) -> Option<(u64, u32)> {
    let text = elf.sections.iter().filter(|s| s.kind == Kind::Text);
    let words = text.flat_map(|s| (s.address..s.address + s.size).step_by(4));
    words
        .filter_map(|address| Some((address, elf.word(address)?)))
        .filter(|(_, word)| uses_fp_or_vector(*word))
        .find(|(address, _)| {
            elf.symbol_at(*address)
                .is_none_or(|(name, _)| !KERNEL_SWITCH.contains(&name))
        })
}

/// Whether an instruction names a floating-point, vector or VSX register (ISA 3.0B, book I).
fn uses_fp_or_vector(word: u32) -> bool {
    let extended = (word >> 1) & 0x3ff;
    match word >> 26 {
        // VMX, but for the integer maddhd, maddhdu, maddld.
        4 => !matches!(word & 0x3f, 48 | 49 | 51),
        // lfs..stfdu; lfdp, lxsd; FP arithmetic; VSX; stfdp, lxv, stxv; FP arithmetic.
        48..=55 | 57 | 59..=61 | 63 => true,
        31 => matches!(
            extended,
            // lvebx.. lvxl, stvebx.. stvxl, lvsl, lvsr
            6 | 7 | 38 | 39 | 71 | 103 | 135 | 167 | 199 | 231 | 359 | 487
            // lfsx.. stfiwx, lfdpx, stfdpx
            | 535 | 567 | 599 | 631 | 663 | 695 | 727 | 759 | 791 | 855 | 887 | 919 | 983
            // VSX loads, stores and moves
            | 12 | 51 | 76 | 115 | 140 | 179 | 211 | 243 | 268 | 269 | 301 | 307 | 332 | 364 | 396
            | 397 | 403 | 429 | 435 | 524 | 588 | 652 | 716 | 780 | 781 | 812 | 813 | 844 | 876
            | 908 | 909 | 940 | 941 | 972 | 1004
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::sample;

    #[test]
    fn instructions_are_told_apart() {
        let fp = [
            0xc821_0010, // lfd f1,16(r1)
            0xd821_0010, // stfd f1,16(r1)
            0xfc20_1090, // fmr f1,f2
            0x1000_0484, // vor v0,v0,v0
            0x7c00_1e99, // lxvd2x vs32,0,r3
            0x7c00_18ce, // lvx v0,0,r3
            0x7c60_0067, // mfvsrd r3,vs32
            0xf000_0497, // xxlor
        ];
        let integer = [
            0x4e80_0020, // blr
            0x4400_0002, // sc
            0xf821_ffe1, // stdu r1,-32(r1)
            0xe861_0020, // ld r3,32(r1)
            0x7c63_2214, // add r3,r3,r4
            0x7c03_201e, // isel r0,r3,r4,0
            0x7d4a_4b78, // or r10,r10,r9
            0x7c60_1828, // lwarx r3,0,r3
            0x1064_28f3, // maddld r3,r4,r5,r3
            0x7c00_04ac, // hwsync
        ];
        for word in fp {
            assert!(uses_fp_or_vector(word), "{word:#x}");
        }
        for word in integer {
            assert!(!uses_fp_or_vector(word), "{word:#x}");
        }
    }

    #[test]
    fn only_the_switch_functions_may() {
        let words = [0x6000_0000, 0xc821_0010];
        assert_eq!(find(&sample("f", &words)), Some((4, 0xc821_0010)));
        assert_eq!(find(&sample("guest_vsx_save", &words)), None);
        assert_eq!(find(&sample("f", &[0x6000_0000])), None);
    }
}
