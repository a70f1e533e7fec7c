// SPDX-License-Identifier: BSD-2-Clause
//! Every special-purpose register that the guest can read.

use guest_support::hypercall::hypercall;
use guest_support::machine::{execute, sleep};
use guest_support::papr::hcall::number::*;
use guest_support::{Case, Guest, Outcome, Random, check, fail, println};

pub const CASES: &[Case] = &[
    Case {
        name: "5.1 what can be read after the start is the guest's or the processor's",
        body: at_start,
    },
    Case {
        name: "5.1 C6 what can be read does not change by hypercalls and exits",
        body: unchanged,
    },
];

/// mfspr r3, n
fn mfspr(n: u32) -> u32 {
    0x7c60_02a6 | (n & 31) << 16 | (n >> 5) << 11
}

/// What the guest reads from SPR `n`; `None`: it traps, or does nothing.
fn read(n: u32) -> Option<u64> {
    const CANARY: u64 = 0x5ca1_ab1e_0ddb_a115;
    let done = execute(&[mfspr(n)], [CANARY, 0, 0, 0]);
    match done.trap {
        Some(_) => None,
        None if done.gpr[0] == CANARY => None,
        None => Some(done.gpr[0]),
    }
}

/// Time goes on: DEC, TB (both halves, and its alternates), VTB, PURR, SPURR, IC; and what the
/// program itself changes from one instruction to the next: LR, CTR, SRR0, SRR1, SPRG2, CFAR.
const MOVING: &[u32] = &[
    8, 9, 22, 26, 27, 28, 268, 269, 274, 309, 308, 526, 527, 848, 849, 780, 796, 770, 786, 787,
];

/// Read-only facts of the processor: CTRL, TBU40 (time), PVR, PIR; MMCR0, whose FC is set.
const FACTS: &[u32] = &[136, 286, 287, 1023, 779, 795];

fn at_start(guest: &'static Guest) -> Outcome {
    let mut readable = 0;
    for n in 0..1024 {
        let Some(value) = read(n) else { continue };
        readable += 1;
        if MOVING.contains(&n) || FACTS.contains(&n) || value == 0 {
            continue;
        }
        // SPRG3 and what the program has done so far: addresses of its own, small numbers, DEC's.
        let own = value < guest.memory || value == u64::from(i32::MAX as u32);
        // Masks: all ones in the low or high part (AMR, UAMOR and the like), or single mode bits
        // that are not a real address beyond the guest's memory.
        let address = (guest.memory..1 << 50).contains(&value);
        if !own && address {
            fail!("SPR {n}: {value:#x}");
        }
        println!("SPR {n}: {value:#x}");
    }
    check!(readable > 20);
    Ok(())
}

fn unchanged(guest: &'static Guest) -> Outcome {
    let mut first = [None; 1024];
    for (n, value) in (0..1024).zip(&mut first) {
        *value = read(n);
    }
    let mut random = Random::new(11);
    let fresh = guest.memory / 2 + guest.memory / 4;
    for round in 0..3u64 {
        for number in (0..0x460).step_by(4).chain([0xf000, 0xf004]) {
            // Those that would stop the program, change modes or areas are left out.
            let harmless = ![H_ENTER, H_REMOVE, H_BULK_REMOVE, H_PROTECT, H_PAGE_INIT]
                .contains(&number)
                && ![
                    H_SET_SPRG0,
                    H_CLEAR_HPT,
                    H_SIGNAL_SYS_RESET,
                    H_SET_MODE,
                    H_CEDE,
                ]
                .contains(&number)
                && ![
                    H_CPPR,
                    H_EOI,
                    H_IPI,
                    H_XIRR,
                    H_XIRR_X,
                    H_REGISTER_VPA,
                    H_JOIN,
                ]
                .contains(&number)
                && ![H_RTAS, H_PUT_TERM_CHAR, H_CONFER].contains(&number);
            if harmless {
                hypercall(number, [random.word() | 1 << 62, random.word() | 1 << 62]);
            }
        }
        sleep(100_000);
        guest_support::memory::read(fresh + (round << 21));
        for n in 0..1024u32 {
            let value = read(n);
            if value != first[n as usize] && !MOVING.contains(&n) {
                fail!("SPR {n}: {value:x?}, was {:x?}", first[n as usize]);
            }
        }
    }
    Ok(())
}
