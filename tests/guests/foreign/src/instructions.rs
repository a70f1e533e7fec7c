// SPDX-License-Identifier: BSD-2-Clause
//! The hypervisor's instructions and registers.

use guest_support::machine::{execute, mfmsr, msr};
use guest_support::trap::{ILLEGAL, PRIVILEGED, vector};
use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "5.1 the hypervisor's registers cannot be read or written",
        body: registers,
    },
    Case {
        name: "6.1 MSR[HV] cannot be set by mtmsrd or rfid",
        body: hypervisor_state,
    },
    Case {
        name: "5.2 tlbie and other instructions of the hypervisor trap",
        body: instructions,
    },
    Case {
        name: "5.7 slbie, slbia and slbmte are the guest's own",
        body: segments,
    },
];

/// Hypervisor registers (ISA 3.0B): HFSCR, CIABR, DAWR0, DAWRX0, DPDES' writing, TBU40, TBL, TBU,
/// HSPRG0, HSPRG1, HDSISR, HDAR, HDEC, HRMOR, HSRR0, HSRR1, LPCR, LPIDR, HMER, HMEER, PCR, HEIR, AMOR,
/// PTCR, ASDR, RMOR, TSCR, TTR, TRACE, HID, PMCR, PMSR, RPR, LDBAR, PSSCR in its hypervisor number.
const HYPERVISOR: &[u32] = &[
    190, 187, 180, 188, 284, 285, 286, 304, 305, 306, 307, 310, 312, 313, 314, 315, 318, 319, 336,
    337, 338, 339, 349, 464, 816, 855, 884, 921, 922, 1006, 1008, 186, 850,
];

fn mfspr(n: u32) -> u32 {
    0x7c60_02a6 | (n & 31) << 16 | (n >> 5) << 11
}

fn mtspr(n: u32) -> u32 {
    0x7c60_03a6 | (n & 31) << 16 | (n >> 5) << 11
}

const CANARY: u64 = 0x5ca1_ab1e_0ddb_a115;

fn registers(_: &'static Guest) -> Outcome {
    for n in HYPERVISOR {
        let done = execute(&[mfspr(*n)], [CANARY, 0, 0, 0]);
        if done.gpr[0] != CANARY {
            fail!("SPR {n} reads {:#x}", done.gpr[0]);
        }
        if let Some(trap) = done.trap {
            check_eq!(trap.vector, vector::PROGRAM);
        }
        for value in [0, u64::MAX, 0x2000_0000, CANARY] {
            let done = execute(&[mtspr(*n)], [value, 0, 0, 0]);
            if let Some(trap) = done.trap {
                check_eq!(trap.vector, vector::PROGRAM);
                check!(trap.srr1 & (ILLEGAL | PRIVILEGED) != 0);
            }
        }
    }
    // Every number: a write of all ones to what this guest does not use must leave it running.
    let own = [
        1, 8, 9, 3, 13, 17, 18, 19, 22, 26, 27, 28, 29, 48, 61, 128, 129, 130, 131, 153, 157, 159,
        256, 272, 273, 274, 275, 815, 896, 898, 797, 795, 768, 769, 770, 771, 772, 773, 774, 775,
        776, 779, 780, 781, 784, 785, 786, 787, 788, 789, 790, 791, 792, 796, 152, 136,
    ];
    for n in (0..1024).filter(|n| !own.contains(n)) {
        let done = execute(&[mtspr(n)], [0, 0, 0, 0]);
        if let Some(trap) = done.trap {
            check!([vector::PROGRAM, vector::FACILITY].contains(&trap.vector));
        }
    }
    check_eq!(mfmsr() & (msr::HV | msr::PR), 0);
    Ok(())
}

fn hypervisor_state(_: &'static Guest) -> Outcome {
    let before = mfmsr();
    check_eq!(before & msr::HV, 0);
    // mtmsrd r3; mfmsr r4; mtmsrd r5. S (secure) is bit 22 from the right.
    for bits in [msr::HV, msr::HV | 1 << 22, 1 << 22] {
        let done = execute(
            &[0x7c60_0164, 0x7c80_00a6, 0x7ca0_0164],
            [before | bits, 0, before, 0],
        );
        check_eq!(done.trap, None);
        check_eq!(done.gpr[1] & (msr::HV | 1 << 22), 0);
        // bcl 20,31,$+4; mflr r6; addi r6,r6,20; mtsrr0 r6; mtsrr1 r3; rfid; mfmsr r4; mtlr r5
        let code = [
            0x7ca8_02a6, // mflr r5
            0x429f_0005,
            0x7cc8_02a6,
            0x38c6_0014,
            0x7cda_03a6,
            0x7c7b_03a6,
            0x4c00_0024,
            0x7c80_00a6,
            0x7ca8_03a6, // mtlr r5
        ];
        let done = execute(&code, [before | bits, 0, 0, 0]);
        check_eq!(done.trap, None);
        check_eq!(done.gpr[1] & (msr::HV | 1 << 22), 0);
        check_eq!(done.gpr[1], before);
    }
    Ok(())
}

fn instructions(_: &'static Guest) -> Outcome {
    // With r3 and r4 where operands are needed. tlbiel is not among them: it reaches the guest's own
    // translations on its own core.
    let list: &[(u32, &str)] = &[
        (0x4c00_0224, "hrfid"),
        (0x4c00_0264, "urfid"),
        (0x7c80_1a64, "tlbie"),
        (0x7c88_1a64, "tlbie RIC=2"),
        (0x7c00_046c, "tlbsync"),
        (0x7c00_199c, "msgsnd"),
        (0x7c00_19dc, "msgclr"),
        (0x7c00_06ec, "msgsync"),
        (0x4c00_02e4, "stop"),
        (0x4c00_0364, "nap"),
        (0x4c00_03a4, "sleep"),
        (0x4c00_03e4, "rvwinkle"),
        (0x0000_0200, "attn"),
        (0x7c60_26aa, "lbzcix"),
        (0x7c60_27aa, "stbcix"),
        (0x7c60_262a, "lwzcix"),
        (0x7c60_26ea, "ldcix"),
        (0x7c60_27ea, "stdcix"),
    ];
    for (word, name) in list {
        let done = execute(&[*word], [0x2000_0000, 0x2000_0000, 0, 0]);
        let Some(trap) = done.trap else {
            // What does nothing for the guest may pass: a barrier or a wait that ends at once.
            if ["tlbsync", "msgsync", "stop"].contains(name) {
                continue;
            }
            fail!("{name} is executed");
        };
        if trap.vector != vector::PROGRAM {
            fail!("{name}: trap {:#x}", trap.vector);
        }
        check_eq!(done.gpr[0], 0x2000_0000);
    }
    Ok(())
}

fn segments(guest: &'static Guest) -> Outcome {
    use guest_support::mmu::{map_identity, segment, translated};
    use guest_support::papr::PageSize;
    check!(map_identity(guest, guest.free[0]));
    let map = segment(5 << 40, 0x7007, PageSize::Size64K);
    let answer = map.enter(guest, map.base, guest.free[0], PageSize::Size64K, 2);
    check_eq!(answer.status, 0);
    guest_support::memory::write(guest.free[0], 4711);
    for index in 1..32 {
        map.load(index);
        check_eq!(translated(|| guest_support::memory::read(map.base)), 4711);
    }
    // slbie of what is not there, slbia of all kinds but the one that takes entry 0 too.
    let done = execute(&[0x7c00_1b64, 0x7c20_03e4, 0x7cc0_03e4], [9 << 40, 0, 0, 0]);
    check_eq!(done.trap, None);
    map.load(1);
    check_eq!(translated(|| guest_support::memory::read(map.base)), 4711);
    Ok(())
}
