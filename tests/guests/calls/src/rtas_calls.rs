// SPDX-License-Identifier: BSD-2-Clause
//! H_RTAS (SPEC 2.8, 4.4).

use guest_support::hypercall::hypercall;
use guest_support::memory::{fill, is_filled, read_be32, write_be32};
use guest_support::papr::hcall::number::H_RTAS;
use guest_support::papr::hcall::status::*;
use guest_support::{Case, Guest, Outcome, check, check_eq, fail, rtas};

pub const CASES: &[Case] = &[
    Case {
        name: "2.8 H_RTAS: counts of arguments and results are bounded (CVE-2021-37576)",
        body: counts,
    },
    Case {
        name: "2.8 H_RTAS: the argument block must be memory",
        body: blocks,
    },
    Case {
        name: "2.8 H_RTAS: unknown services, and wrong counts of known ones, are -3",
        body: unknown,
    },
    Case {
        name: "4.4 get-time-of-day, set-time-of-day",
        body: clock,
    },
    Case {
        name: "4.4 query-cpu-stopped-state, start-cpu",
        body: processors,
    },
    Case {
        name: "4.4 ibm,get-system-parameter",
        body: parameters,
    },
    Case {
        name: "4.4 display-character",
        body: display,
    },
    Case {
        name: "P4.3 4.4 RTAS entered in 32-bit mode, big-endian, at its entry point",
        body: entry_point,
    },
];

const BAD: u32 = -3i32 as u32;

fn counts(guest: &'static Guest) -> Outcome {
    let token = guest.token("get-time-of-day").unwrap_or(0);
    let block = guest.free[0] + 0x1_0000;
    for (nargs, nret) in [
        (16, 0),
        (16, 1),
        (0, 17),
        (15, 2),
        (8, 9),
        (17, 0),
        (u32::MAX, 1),
        (1, u32::MAX),
        (0x8000_0000, 0x8000_0000),
        (u32::MAX, u32::MAX),
    ] {
        fill(block - 0x1000, 0x3000, 7);
        for (i, word) in [token, nargs, nret].into_iter().enumerate() {
            write_be32(block + 4 * i as u64, word);
        }
        let [first, second] = [0, 8].map(|at| guest_support::memory::read(block + at));
        check_eq!(hypercall(H_RTAS, [block]).status, H_PARAMETER);
        // Nothing was written, before, in or after the block.
        check_eq!(guest_support::memory::read(block), first);
        check_eq!(guest_support::memory::read(block + 8), second);
        fill(block, 16, 0);
        guest_support::memory::write(block, same(block - 0x1000, 0x1000));
        guest_support::memory::write(block + 8, same(block - 0x1000, 0x1008));
        check!(is_filled(block - 0x1000, 0x3000, 7));
    }
    // The most that there is room for.
    fill(block, 0x1000, 7);
    for (i, word) in [token, 0, 16].into_iter().enumerate() {
        write_be32(block + 4 * i as u64, word);
    }
    check_eq!(hypercall(H_RTAS, [block]).status, H_SUCCESS);
    check_eq!(read_be32(block + 12), 0);
    Ok(())
}

/// What `fill(base, .., 7)` puts at `offset`.
fn same(base: u64, offset: u64) -> u64 {
    let scratch = base + 0x10_0000;
    fill(scratch, offset + 8, 7);
    guest_support::memory::read(scratch + offset)
}

fn blocks(guest: &'static Guest) -> Outcome {
    let token = guest.token("get-time-of-day").unwrap_or(0);
    for address in [
        guest.memory,
        guest.memory + 0x1000,
        1 << 40,
        1 << 57,
        (1 << 60) - 16,
    ] {
        check_eq!(hypercall(H_RTAS, [address]).status, H_PARAMETER);
    }
    // A block that begins in the last words of memory: header outside, arguments outside.
    for room in [4, 8, 12] {
        let block = guest.memory - room;
        let before: [u32; 3] = core::array::from_fn(|i| read_be32(guest.memory - 4 - 4 * i as u64));
        for (i, word) in [token, 0, 8]
            .into_iter()
            .enumerate()
            .take(room as usize / 4)
        {
            write_be32(block + 4 * i as u64, word);
        }
        check_eq!(hypercall(H_RTAS, [block]).status, H_PARAMETER);
        for (i, word) in before.into_iter().enumerate() {
            write_be32(guest.memory - 4 - 4 * i as u64, word);
        }
    }
    // Across a page, at any multiple of four.
    for offset in [4, 8, 12, 16, 36] {
        let block = guest.free[0] + 0x1000 - offset;
        for (i, word) in [token, 0, 8].into_iter().enumerate() {
            write_be32(block + 4 * i as u64, word);
        }
        check_eq!(hypercall(H_RTAS, [block]).status, H_SUCCESS);
        check_eq!(read_be32(block + 12), 0);
        check!((2000..2200).contains(&read_be32(block + 16)));
    }
    // The top four bits of the address mean nothing.
    let block = rtas::block() as u64;
    rtas::call(token, &[], 8);
    check_eq!(hypercall(H_RTAS, [block | 0xc << 60]).status, H_SUCCESS);
    Ok(())
}

fn unknown(guest: &'static Guest) -> Outcome {
    for token in [0, 1, 0x2000, 0x2009, 0x2fff, u32::MAX] {
        let (status, [answer]) = rtas::service(token, &[]);
        check!(status == H_PARAMETER || status == H_SUCCESS);
        check_eq!(answer, BAD);
        // No room for an answer: nothing is written.
        rtas::call(token, &[1, 2], 0);
        check_eq!([rtas::get(3), rtas::get(4)], [1, 2]);
    }
    for (name, nargs, nret) in [
        ("get-time-of-day", 1, 8),
        ("get-time-of-day", 0, 7),
        ("set-time-of-day", 6, 1),
        ("power-off", 1, 1),
        ("power-off", 2, 0),
        ("system-reboot", 1, 1),
        ("system-reboot", 0, 0),
        ("query-cpu-stopped-state", 1, 1),
        ("start-cpu", 2, 1),
        ("stop-self", 1, 0),
        ("ibm,set-xive", 2, 1),
        ("ibm,get-xive", 1, 2),
        ("ibm,int-off", 0, 1),
        ("ibm,int-on", 2, 1),
        ("ibm,os-term", 0, 1),
        ("ibm,get-system-parameter", 2, 1),
        ("display-character", 0, 1),
    ] {
        let Some(token) = guest.token(name) else {
            fail!("{name} has no token")
        };
        let args = [0; 8];
        let status = rtas::call(token, &args[..nargs], nret);
        check_eq!(status, H_SUCCESS);
        if nret > 0 && rtas::get(3 + nargs) != BAD {
            fail!(
                "{name} with {nargs} and {nret}: {:#x}",
                rtas::get(3 + nargs)
            );
        }
    }
    Ok(())
}

fn clock(guest: &'static Guest) -> Outcome {
    let (get, set) = ("get-time-of-day", "set-time-of-day");
    let (get, set) = (guest.token(get).unwrap_or(0), guest.token(set).unwrap_or(0));
    let (status, [ok, year, month, day, hour, minute, second, _]) = rtas::service(get, &[]);
    check_eq!((status, ok), (H_SUCCESS, 0));
    check!((2020..2200).contains(&year) && (1..=12).contains(&month));
    check!((1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61);
    let (_, [ok]) = rtas::service(set, &[2031, 2, 28, 23, 59, 30, 0]);
    check_eq!(ok, 0);
    let (_, [ok, year, month, day, hour, minute, _, _]) = rtas::service(get, &[]);
    check_eq!([ok, year, month, day], [0, 2031, 2, 28]);
    check_eq!([hour, minute], [23, 59]);
    for date in [
        [2031, 13, 1, 0, 0, 0, 0],
        [2031, 0, 1, 0, 0, 0, 0],
        [2031, 2, 30, 0, 0, 0, 0],
        [2031, 1, 1, 24, 0, 0, 0],
        [2031, 1, 1, 0, 60, 0, 0],
        [u32::MAX; 7],
    ] {
        let (status, [answer]) = rtas::service(set, &date);
        check_eq!((status, answer), (H_SUCCESS, BAD));
    }
    let (_, [_, year, ..]): (i64, [u32; 8]) = rtas::service(get, &[]);
    check_eq!(year, 2031);
    Ok(())
}

fn processors(guest: &'static Guest) -> Outcome {
    let query = guest.token("query-cpu-stopped-state").unwrap_or(0);
    let start = guest.token("start-cpu").unwrap_or(0);
    check_eq!(rtas::service(query, &[0]), (H_SUCCESS, [0, 2]));
    check_eq!(rtas::service(query, &[1]), (H_SUCCESS, [0, 0]));
    for vcpu in [guest.vcpus as u32, 64, u32::MAX] {
        let (status, [answer, _]) = rtas::service(query, &[vcpu]);
        check_eq!((status, answer), (H_SUCCESS, BAD));
        check_eq!(rtas::service(start, &[vcpu, 0, 0]), (H_SUCCESS, [BAD]));
    }
    // It runs already.
    check_eq!(
        rtas::service(start, &[0, 0, 0]),
        (H_SUCCESS, [-1i32 as u32])
    );
    Ok(())
}

fn parameters(guest: &'static Guest) -> Outcome {
    let token = guest.token("ibm,get-system-parameter").unwrap_or(0);
    let buffer = guest.free[0] + 0x1_0000;
    let call = |parameter, address: u64, bytes| {
        rtas::service::<1>(token, &[parameter, address as u32, bytes])
    };
    fill(buffer, 0x1000, 9);
    check_eq!(call(20, buffer, 0x200), (H_SUCCESS, [0]));
    let length = u64::from(read_be32(buffer) >> 16);
    check!((40..120).contains(&length));
    for (i, byte) in b"MaxEntCap=200,DesMem=".iter().enumerate() {
        check_eq!(
            guest_support::memory::read_byte(buffer + 2 + i as u64),
            *byte
        );
    }
    check_eq!(guest_support::memory::read_byte(buffer + 1 + length), 0);
    // As much as there is room for, and nothing behind it.
    fill(buffer, 0x1000, 9);
    let behind = guest_support::memory::read_byte(buffer + 10);
    check_eq!(call(20, buffer, 10), (H_SUCCESS, [0]));
    check_eq!(guest_support::memory::read_byte(buffer + 10), behind);
    for bytes in [0, 1] {
        check_eq!(call(20, buffer, bytes), (H_SUCCESS, [-9999i32 as u32]));
    }
    check_eq!(call(20, guest.memory - 4, 0x200), (H_SUCCESS, [BAD]));
    check_eq!(call(20, guest.memory, 0x200), (H_SUCCESS, [BAD]));
    for parameter in [0, 19, 21, 50, u32::MAX] {
        check_eq!(call(parameter, buffer, 0x200), (H_SUCCESS, [BAD]));
    }
    Ok(())
}

fn display(guest: &'static Guest) -> Outcome {
    let token = guest.token("display-character").unwrap_or(0);
    let (status, [answer]) = rtas::service(token, &[u32::from(b'\n')]);
    check_eq!((status, answer), (H_SUCCESS, 0));
    Ok(())
}

fn entry_point(guest: &'static Guest) -> Outcome {
    let token = guest.token("get-time-of-day").unwrap_or(0);
    for (i, word) in [token, 0, 8].into_iter().enumerate() {
        rtas::set(i, word);
    }
    (3..11).for_each(|i| rtas::set(i, 0xdead_beef));
    guest_support::platform::enter_rtas(guest.rtas_entry, rtas::block() as u64);
    check_eq!(rtas::get(3), 0);
    check!((2000..2200).contains(&rtas::get(4)));
    Ok(())
}
