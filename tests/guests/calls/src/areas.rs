// SPDX-License-Identifier: BSD-2-Clause
//! H_REGISTER_VPA (SPEC S0, 3.1 to 3.3).

use guest_support::hypercall::hypercall;
use guest_support::machine::timebase;
use guest_support::memory::{
    fill, is_filled, read_be32, read_be64, read_byte, write_be32, write_byte,
};
use guest_support::papr::hcall::number::{H_PROD, H_REGISTER_VPA};
use guest_support::papr::hcall::status::*;
use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "S0.1 S0.6 unknown vCPUs and subfunctions are H_PARAMETER",
        body: unknown,
    },
    Case {
        name: "S0.7 addresses: zero, alignment, memory",
        body: addresses,
    },
    Case {
        name: "S0.8 S0.9 S0.10 S0.11 lengths",
        body: lengths,
    },
    Case {
        name: "S0.10 S0.11 S0.12 S0.13 the VPA comes first and goes last",
        body: order,
    },
    Case {
        name: "S0.14 S0.16 S0.17 registering again replaces, and initialises",
        body: replace,
    },
    Case {
        name: "3.1 the yield count is even while the vCPU runs, and counts its sleeps",
        body: yield_count,
    },
    Case {
        name: "3.3 the trace log gets an entry for each dispatch, in a ring",
        body: trace,
    },
    Case {
        name: "S0.1 S0.3 areas of another vCPU: it is that vCPU's to begin",
        body: other_vcpu,
    },
    Case {
        name: "S0.19 an area that was deregistered is not written any more",
        body: silent,
    },
];

const VPA: u64 = 1;
const DTL: u64 = 2;
const SLB: u64 = 3;
const REGISTER: [u64; 3] = [VPA, DTL, SLB];

/// Offsets in the VPA.
const STATUS: u64 = 9;
const YIELDS: u64 = 0x100;
const DTL_MASK: u64 = 0xb8;
const DTL_INDEX: u64 = 0x218;

fn call(function: u64, vcpu: u64, address: u64) -> i64 {
    hypercall(H_REGISTER_VPA, [function << 45, vcpu, address]).status
}

fn off(function: u64, vcpu: u64) -> i64 {
    call(function + 4, vcpu, 0)
}

fn all_off(vcpu: u64) -> Outcome {
    for function in [DTL, SLB, VPA] {
        check_eq!(off(function, vcpu), H_SUCCESS);
    }
    Ok(())
}

/// Says at `address` how long the area is.
fn state(function: u64, address: u64, bytes: u32) {
    match function {
        VPA => write_be32(address + 4, bytes << 16),
        _ => write_be32(address + 4, bytes),
    }
}

/// Areas of vCPU `vcpu` in free memory: VPA, trace log, SLB shadow.
fn places(guest: &Guest, vcpu: u64) -> [u64; 3] {
    let page = guest.free[0] + 0x2_0000 + vcpu * 0x4000;
    for offset in (0..0x4000).step_by(4) {
        write_be32(page + offset, 0);
    }
    let places = [page, page + 0x1000, page + 0x2000];
    state(VPA, places[0], 640);
    state(DTL, places[1], 48 * 4);
    state(SLB, places[2], 128);
    places
}

fn unknown(guest: &'static Guest) -> Outcome {
    let [vpa, ..] = places(guest, 0);
    for vcpu in [guest.vcpus as u64, 64, 1 << 32, u64::MAX] {
        for function in 1..8 {
            check_eq!(call(function, vcpu, vpa), H_PARAMETER);
        }
    }
    for function in [0, 4] {
        check_eq!(call(function, 0, vpa), H_PARAMETER);
    }
    // Only the three bits of the subfunction count.
    let flags = VPA << 45 | 0xffff_1fff_ffff_ffff;
    check_eq!(hypercall(H_REGISTER_VPA, [flags, 0, vpa]).status, H_SUCCESS);
    all_off(0)
}

fn addresses(guest: &'static Guest) -> Outcome {
    let places = places(guest, 0);
    check_eq!(call(VPA, 0, places[0]), H_SUCCESS);
    for (function, place) in REGISTER.into_iter().zip(places) {
        for address in [
            0,
            place + 1,
            place + 64,
            guest.memory,
            guest.memory + 0x1_0000,
            1 << 57,
            !127,
        ] {
            check_eq!(call(function, 0, address), H_PARAMETER);
        }
    }
    all_off(0)
}

fn lengths(guest: &'static Guest) -> Outcome {
    let places = places(guest, 0);
    check_eq!(call(VPA, 0, places[0]), H_SUCCESS);
    let cases: [(u64, &[u32], &[u32]); 3] = [
        (VPA, &[0, 7, 8, 639, 0x1001, 0xffff], &[640, 1024, 0x1000]),
        (DTL, &[0, 7, 8, 47, 0x1001, u32::MAX], &[48, 100, 0x1000]),
        (SLB, &[0, 7, 8, 15, 0x1001, u32::MAX], &[16, 128, 0x1000]),
    ];
    for ((function, bad, good), place) in cases.into_iter().zip(places) {
        for bytes in bad {
            state(function, place, *bytes);
            check_eq!(call(function, 0, place), H_PARAMETER);
        }
        for bytes in good {
            state(function, place, *bytes);
            check_eq!(call(function, 0, place), H_SUCCESS);
        }
        // No crossing of 4 KiB.
        let late = place + 0x1000 - 640;
        state(function, late, 640);
        check_eq!(call(function, 0, late), H_SUCCESS);
        let late = late + 128;
        state(function, late, 640);
        check_eq!(call(function, 0, late), H_PARAMETER);
        state(function, place, 640);
        check_eq!(call(function, 0, place), H_SUCCESS);
    }
    all_off(0)
}

fn order(guest: &'static Guest) -> Outcome {
    let [vpa, dtl, slb] = places(guest, 0);
    // Deregistering what is not registered succeeds.
    all_off(0)?;
    check_eq!(call(DTL, 0, dtl), H_RESOURCE);
    check_eq!(call(SLB, 0, slb), H_RESOURCE);
    check_eq!(call(VPA, 0, vpa), H_SUCCESS);
    check_eq!(call(SLB, 0, slb), H_SUCCESS);
    check_eq!(off(VPA, 0), H_RESOURCE);
    check_eq!(call(DTL, 0, dtl), H_SUCCESS);
    check_eq!(off(SLB, 0), H_SUCCESS);
    check_eq!(off(VPA, 0), H_RESOURCE);
    check_eq!(off(DTL, 0), H_SUCCESS);
    check_eq!(off(VPA, 0), H_SUCCESS);
    check_eq!(off(VPA, 0), H_SUCCESS);
    // A bad length is found before a missing VPA.
    state(DTL, dtl, 47);
    check_eq!(call(DTL, 0, dtl), H_PARAMETER);
    Ok(())
}

fn replace(guest: &'static Guest) -> Outcome {
    let [vpa, ..] = places(guest, 0);
    let second = vpa + 0x800;
    state(VPA, second, 640);
    write_byte(vpa + STATUS, 0x10);
    check_eq!(call(VPA, 0, vpa), H_SUCCESS);
    check_eq!(read_byte(vpa + STATUS), 0x12);
    check_eq!(read_be32(vpa + YIELDS) & 1, 0);
    check_eq!(call(VPA, 0, second), H_SUCCESS);
    check_eq!(read_byte(second + STATUS), 2);
    check_eq!(read_be32(second + YIELDS) & 1, 0);
    // The first one is nobody's any more.
    fill(vpa, 640, 3);
    sleep_a_little();
    check!(is_filled(vpa, 640, 3));
    all_off(0)
}

/// Gives the processor up for a moment: the decrementer wakes us.
fn sleep_a_little() {
    guest_support::machine::sleep(100_000);
}

fn yield_count(guest: &'static Guest) -> Outcome {
    let [vpa, ..] = places(guest, 0);
    check_eq!(call(VPA, 0, vpa), H_SUCCESS);
    let mut last = read_be32(vpa + YIELDS);
    for _ in 0..20 {
        sleep_a_little();
        let now = read_be32(vpa + YIELDS);
        check_eq!(now & 1, 0);
        // Off and on again; other dispatches may come between.
        check!(now.wrapping_sub(last) >= 2 && now.wrapping_sub(last) < 1000);
        last = now;
    }
    // A hypercall is no dispatch (unless a time slice ends in it).
    let from = read_be32(vpa + YIELDS);
    for _ in 0..100 {
        hypercall(H_PROD, [u64::MAX]);
    }
    check!(read_be32(vpa + YIELDS).wrapping_sub(from) < 20);
    all_off(0)
}

fn trace(guest: &'static Guest) -> Outcome {
    let [vpa, dtl, _] = places(guest, 0);
    check_eq!(call(VPA, 0, vpa), H_SUCCESS);
    state(DTL, dtl, 48 * 4 + 40);
    check_eq!(call(DTL, 0, dtl), H_SUCCESS);
    // Nothing is asked for: nothing is written.
    fill(dtl, 0x1000, 4);
    sleep_a_little();
    check!(is_filled(dtl, 0x1000, 4));
    check_eq!(read_be64(vpa + DTL_INDEX), 0);
    write_byte(vpa + DTL_MASK, 7);
    let from = timebase();
    for _ in 0..10 {
        sleep_a_little();
    }
    let to = timebase();
    let count = read_be64(vpa + DTL_INDEX);
    if !(10..1000).contains(&count) {
        fail!("{count} entries for 10 sleeps");
    }
    // Four entries are room for, and no more.
    check!(is_filled(dtl + 48 * 4, 0x1000 - 48 * 4, 4) || at_end(dtl));
    let mut latest = 0;
    for slot in 0..4 {
        let entry = dtl + 48 * slot;
        check_eq!(read_byte(entry), 7);
        check_eq!(read_byte(entry + 1), 0);
        let when = read_be64(entry + 16);
        check!(from <= when && when <= to);
        latest = latest.max(when);
        check_eq!(read_be64(entry + 24), 0);
    }
    // The newest is where the count says.
    let newest = (count - 1) % 4;
    check_eq!(read_be64(dtl + 48 * newest + 16), latest);
    all_off(0)
}

/// `fill` began at the log's start, so the rest is compared with the same pattern from there.
fn at_end(dtl: u64) -> bool {
    let copy = dtl + 0x1000;
    fill(copy, 0x1000, 4);
    (48 * 4..0x1000)
        .step_by(8)
        .all(|at| read_be64(dtl + at) == read_be64(copy + at))
}

fn other_vcpu(guest: &'static Guest) -> Outcome {
    let [vpa, dtl, slb] = places(guest, 1);
    check_eq!(call(DTL, 1, dtl), H_RESOURCE);
    check_eq!(call(VPA, 1, vpa), H_SUCCESS);
    check_eq!(call(SLB, 1, slb), H_SUCCESS);
    check_eq!(call(DTL, 1, dtl), H_SUCCESS);
    check_eq!(off(VPA, 1), H_RESOURCE);
    // It is stopped: whatever is written there says so.
    check!(read_be32(vpa + YIELDS) & 1 == 1 || read_be32(vpa + YIELDS) == 0);
    all_off(1)
}

fn silent(guest: &'static Guest) -> Outcome {
    let [vpa, dtl, slb] = places(guest, 0);
    write_byte(vpa + DTL_MASK, 7);
    for (function, place) in [(VPA, vpa), (DTL, dtl), (SLB, slb)] {
        check_eq!(call(function, 0, place), H_SUCCESS);
    }
    sleep_a_little();
    all_off(0)?;
    for place in [vpa, dtl, slb] {
        fill(place, 640, place);
    }
    for _ in 0..5 {
        sleep_a_little();
    }
    for place in [vpa, dtl, slb] {
        check!(is_filled(place, 640, place));
    }
    Ok(())
}
