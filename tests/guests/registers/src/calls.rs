// SPDX-License-Identifier: BSD-2-Clause
//! Every hypercall, successful and refused.

use crate::patterns::{Allowed, compare, patterns};
use guest_support::hypercall::hypercall;
use guest_support::machine::mfspr;
use guest_support::mmu::segment;
use guest_support::papr::PageSize;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::{flags, status::*};
use guest_support::papr::hpte::M;
use guest_support::registers::{Registers, SPRS, run};
use guest_support::{Case, Guest, Outcome, Random, check, check_eq, fail, rtas};

pub const CASES: &[Case] = &[
    Case {
        name: "H2.2 all registers come through the program's own load and save",
        body: nothing,
    },
    Case {
        name: "H2.2 successful hypercalls change r3, their results and CR0",
        body: successes,
    },
    Case {
        name: "H2.2 refused hypercalls change r3 and CR0",
        body: refusals,
    },
    Case {
        name: "H2.2 H_CEDE and H_CONFER change r3 and CR0",
        body: sleeping,
    },
    Case {
        name: "H2.2 H_RTAS changes r3 and CR0",
        body: rtas_call,
    },
];

/// sc 1
pub const HYPERCALL: u32 = 0x4400_0022;

/// Index of SPRG3 in [`SPRS`].
pub const SPRG3: usize = 3;

fn nothing(_: &'static Guest) -> Outcome {
    let mut random = Random::new(1);
    for _ in 0..4 {
        let before = patterns(&mut random);
        let after = run(&before, &[0x6000_0000]);
        compare(&before, &after, &Allowed::default())?;
    }
    check!(SPRS[SPRG3].0 == 275);
    Ok(())
}

/// A hypercall with all other registers full of patterns.
fn call(random: &mut Random, number: u64, args: &[u64], results: u32) -> Outcome<Registers> {
    let mut before = patterns(random);
    before.gpr[3] = number;
    before.gpr[4..4 + args.len()].copy_from_slice(args);
    let after = run(&before, &[HYPERCALL]);
    compare(&before, &after, &Allowed::hypercall(results))?;
    Ok(after)
}

fn successes(guest: &'static Guest) -> Outcome {
    let mut random = Random::new(2);
    let map = segment(5 << 40, 0x7007, PageSize::Size4K);
    let ea = map.base + 0x3000;
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    let page = guest.free[0] + 0x1_0000;
    let exact = flags::EXACT;
    let calls: &[(u64, &[u64], u32)] = &[
        (H_ENTER, &[exact, group + 1, v, r], 1),
        (H_READ, &[0, group + 1], 2),
        (H_READ, &[flags::READ_4, group], 8),
        (H_PROTECT, &[3, group + 1, 0], 0),
        (H_CLEAR_REF, &[0, group + 1], 1),
        (H_CLEAR_MOD, &[0, group + 1], 1),
        (H_REMOVE, &[0, group + 1, 0], 2),
        // An entry of a page that nobody has touched.
        (H_ENTER, &[exact, group + 1, v, (page + 0x100_0000) | M], 1),
        (H_BULK_REMOVE, &[1 << 62 | (group + 1), 0, 3 << 62], 8),
        (H_PAGE_INIT, &[flags::ZERO_PAGE, page, 0], 0),
        (H_PAGE_INIT, &[flags::COPY_PAGE, page, page + 0x1000], 0),
        (H_REGISTER_PROC_TBL, &[0, 0, 0, 0], 0),
        (H_REGISTER_VPA, &[5 << 45, 0, 0], 0),
        (H_CPPR, &[0xff], 0),
        (H_IPI, &[0, 4], 0),
        (H_IPOLL, &[0], 2),
        (H_XIRR, &[0xff], 1),
        (H_IPI, &[0, 0xff], 0),
        (H_EOI, &[0xff00_0002], 0),
        (H_XIRR_X, &[0xff], 2),
        (H_RANDOM, &[], 1),
        (H_GET_TERM_CHAR, &[0], 3),
        (H_PUT_TERM_CHAR, &[0, 0, 0, 0], 0),
        (H_GET_CPU_CHARACTERISTICS, &[], 2),
        (H_SET_MODE, &[1, 4, 0, 0], 0),
        (H_SET_MODE, &[0, 3, 0, 0], 0),
        (H_SET_MODE, &[0, 1, 0, 0], 0),
        (H_PROD, &[1], 0),
        (H_SIGNAL_SYS_RESET, &[1], 0),
    ];
    for (number, args, results) in calls {
        // Twice: the first time may find something to do that the second does not.
        let after = call(&mut random, *number, args, *results)?;
        if after.gpr[3] != 0 {
            fail!("hypercall {number:#x}: {}", after.gpr[3] as i64);
        }
    }
    // The whole table: many kernel invocations within one call.
    let after = call(&mut random, H_CLEAR_HPT, &[], 0)?;
    check!([H_CONTINUE, H_SUCCESS].contains(&(after.gpr[3] as i64)));
    // SPRG0 is named, so it may change.
    let mut before = patterns(&mut random);
    before.gpr[3..5].copy_from_slice(&[H_SET_SPRG0, 0x1234_5678]);
    let after = run(&before, &[HYPERCALL]);
    let allowed = Allowed {
        sprs: &[272],
        ..Allowed::hypercall(0)
    };
    compare(&before, &after, &allowed)?;
    check_eq!((after.gpr[3], after.spr[0]), (0, 0x1234_5678));
    Ok(())
}

fn refusals(guest: &'static Guest) -> Outcome {
    let mut random = Random::new(3);
    let outside = guest.memory;
    let calls: &[(u64, &[u64], i64)] = &[
        (H_ENTER, &[0, u64::MAX, 0, 0], H_PARAMETER),
        (H_ENTER, &[0, 0, 0, outside], H_PARAMETER),
        (H_REMOVE, &[0, u64::MAX, 0], H_PARAMETER),
        (H_READ, &[0, u64::MAX], H_PARAMETER),
        (H_PROTECT, &[0, u64::MAX, 0], H_PARAMETER),
        (H_CLEAR_REF, &[0, u64::MAX], H_PARAMETER),
        (H_CLEAR_MOD, &[0, u64::MAX], H_PARAMETER),
        (H_PAGE_INIT, &[1, 0, 0], H_PARAMETER),
        (H_REGISTER_PROC_TBL, &[u64::MAX, 0, 0, 0], H_PARAMETER),
        (H_REGISTER_VPA, &[0, 0, 0], H_PARAMETER),
        (H_REGISTER_VPA, &[3 << 45, 0, outside], H_PARAMETER),
        (H_IPI, &[u64::MAX, 0], H_PARAMETER),
        (H_IPOLL, &[u64::MAX], H_PARAMETER),
        (H_EOI, &[1], H_PARAMETER),
        (H_GET_TERM_CHAR, &[1], H_PARAMETER),
        (H_PUT_TERM_CHAR, &[0, 17, 0, 0], H_PARAMETER),
        (H_SET_MODE, &[0, 0, 0, 0], H_P2),
        (H_SET_DABR, &[0], H_HARDWARE),
        (H_SET_XDABR, &[0, 0], H_PARAMETER),
        (H_PROD, &[u64::MAX], H_PARAMETER),
        (H_CONFER, &[77, 0], H_PARAMETER),
        (H_JOIN, &[], H_CONTINUE),
        (H_SIGNAL_SYS_RESET, &[77], H_PARAMETER),
        (H_RTAS, &[outside], H_PARAMETER),
        (H_GET_PPP, &[], H_FUNCTION),
        (0xf800, &[], H_FUNCTION),
        (0xef00, &[], H_UNSUPPORTED),
        (1, &[], H_FUNCTION),
        (u64::MAX, &[], H_FUNCTION),
    ];
    for (number, args, status) in calls {
        let after = call(&mut random, *number, args, 0)?;
        if after.gpr[3] as i64 != *status {
            fail!("hypercall {number:#x}: {}", after.gpr[3] as i64);
        }
    }
    // A refused pair leaves its response in its word.
    let after = call(&mut random, H_BULK_REMOVE, &[u64::MAX >> 2, 0], 8)?;
    check_eq!(after.gpr[3] as i64, H_PARAMETER);
    Ok(())
}

fn sleeping(_: &'static Guest) -> Outcome {
    let mut random = Random::new(4);
    let sprg3 = mfspr::<275>();
    for _ in 0..8 {
        // The prod lets H_CEDE return at once; it sets MSR[EE], so SPRG3 must be the trap area.
        check_eq!(hypercall(H_PROD, [0]).status, H_SUCCESS);
        let mut before = patterns(&mut random);
        before.spr[SPRG3] = sprg3;
        before.gpr[3] = H_CEDE;
        let after = run(&before, &[HYPERCALL]);
        compare(&before, &after, &Allowed::hypercall(0))?;
        check_eq!(after.gpr[3], 0);
        for args in [[u64::MAX, 0], [0, 1], [1, 1]] {
            let after = call(&mut random, H_CONFER, &args, 0)?;
            check_eq!(after.gpr[3], 0);
        }
    }
    Ok(())
}

fn rtas_call(guest: &'static Guest) -> Outcome {
    let mut random = Random::new(5);
    let token = guest.token("get-time-of-day").unwrap_or(0);
    for _ in 0..4 {
        rtas::call(token, &[], 8);
        let after = call(&mut random, H_RTAS, &[rtas::block() as u64], 0)?;
        check_eq!(after.gpr[3], 0);
        check_eq!(rtas::get(3), 0);
    }
    Ok(())
}
