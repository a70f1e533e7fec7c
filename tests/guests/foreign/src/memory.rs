// SPDX-License-Identifier: BSD-2-Clause
//! Addresses that are not the guest's.

use guest_support::hypercall::hypercall;
use guest_support::machine::{execute, execute_at};
use guest_support::memory::{fill, read};
use guest_support::mmu::{access, map_identity, segment, translated};
use guest_support::papr::PageSize;
use guest_support::papr::hash::VRMA_VSID;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::{flags, status::*};
use guest_support::papr::hpte::{self, M};
use guest_support::trap::vector;
use guest_support::{Case, Guest, Outcome, Random, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "S2.14 real mode ends with the memory: loads, stores, fetches",
        body: real_mode,
    },
    Case {
        name: "6.1 entries by chance map what they say, of the guest's memory, or are refused",
        body: entries_by_chance,
    },
    Case {
        name: "6.1 flags and reserved bits open nothing beyond memory",
        body: flag_games,
    },
    Case {
        name: "6.1 an entry of the guest's own for the virtual real mode area maps its own page",
        body: forged_real_mode,
    },
    Case {
        name: "6.1 addresses in arguments: areas, pages, argument blocks, buffers",
        body: arguments,
    },
];

/// Bytes of the virtual real mode area's segment.
const SEGMENT: u64 = 1 << 40;

fn real_mode(guest: &'static Guest) -> Outcome {
    let mut address = guest.memory;
    while address < SEGMENT {
        for at in [address, address + 0x1_0000 - 8, address | 0x2000_0000] {
            // ld r3, 0(r4); std r3, 0(r4)
            for code in [0xe864_0000, 0xf864_0000] {
                let done = execute(&[code], [0x5ca1_ab1e, at, 0, 0]);
                let Some(trap) = done.trap else {
                    fail!("{at:#x} can be reached: {:#x}", done.gpr[0]);
                };
                check_eq!((trap.vector, trap.dar), (vector::DATA_STORAGE, at));
                check_eq!(done.gpr[0], 0x5ca1_ab1e);
            }
        }
        let done = execute_at(address, [0; 4]);
        check_eq!(
            done.trap.map(|t| (t.vector, t.srr0)),
            Some((vector::INSTRUCTION_STORAGE, address))
        );
        address <<= 1;
    }
    // The area is one segment: an address beyond it is one in it.
    for at in (40..60).map(|bit| guest.free[0] | 1 << bit) {
        let done = execute(&[0xe864_0000], [0, at, 0, 0]);
        check!(done.trap.is_some() || done.gpr[0] == read(guest.free[0]));
        let at = at | 0x2000_0000;
        check!(execute(&[0xe864_0000], [0, at, 0, 0]).trap.is_some());
    }
    // The top four bits mean nothing.
    fill(guest.free[0], 64, 3);
    let own = read(guest.free[0]);
    for top in [1u64, 8, 0xc, 0xf] {
        let done = execute(&[0xe864_0000], [0, guest.free[0] | top << 60, 0, 0]);
        check_eq!((done.trap, done.gpr[0]), (None, own));
    }
    Ok(())
}

fn entries_by_chance(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    for address in (guest.free[0]..guest.memory).step_by(0x1000) {
        // Each page says where it is. The tree and RTAS behind `free` are not needed any more but
        // for the end of the program.
        if address < guest.free[1] {
            guest_support::memory::write(address + 0x100, address);
        }
    }
    let mut random = Random::new(99);
    let (mut accepted, mut reached) = (0, 0);
    for round in 0..4000u64 {
        let base = random.pick(&[PageSize::Size4K, PageSize::Size64K]);
        let map = segment(
            (8 + (round & 1)) << 40,
            0x9000 + base.base_shift() as u64,
            base,
        );
        map.load(1);
        let ea = map.base + (random.below(256) << 16);
        let large = base == PageSize::Size64K || random.below(2) == 1;
        let v = map.segment.avpn(ea) | if large { hpte::LARGE } else { 0 } | 1;
        let page = match random.below(4) {
            0 => random.word() & hpte::RPN,
            1 => (guest.memory - 0x2_0000 + (random.below(64) << 12)) & hpte::RPN,
            _ => random.below(guest.memory) & !0xfff,
        };
        let lp = random.pick(&[0, 0x1000, 0x7000, 0x8000, 0x3_8000]);
        let r = (page & !0xf000) | lp | M | (random.word() & (hpte::WIMG | 2 | hpte::MODIFIED));
        let answer = hypercall(H_ENTER, [0, map.group(guest, ea), v, r]);
        if answer.status != H_SUCCESS {
            check!([H_PARAMETER, H_PTEG_FULL].contains(&answer.status));
            continue;
        }
        accepted += 1;
        let Some(size) = PageSize::decode(v, r) else {
            fail!("an unknown size is accepted: {r:#x}")
        };
        let first = size.real_address(r);
        if first + size.bytes() > guest.memory {
            fail!("dw1 {r:#x} is accepted");
        }
        // What is found through it is what is there.
        if access(ea + 0x100, false).is_none() {
            reached += 1;
            let offset = (ea + 0x100) & (size.bytes() - 1);
            let (through, there) = (translated(|| read(ea + 0x100)), read(first + offset));
            if through != there {
                fail!("dw1 {r:#x}: {through:#x}, not {there:#x}");
            }
        }
        check_eq!(hypercall(H_REMOVE, [0, answer.words[0]]).status, H_SUCCESS);
    }
    check!(accepted > 200 && reached > 100);
    Ok(())
}

fn flag_games(guest: &'static Guest) -> Outcome {
    let map = segment(5 << 40, 0x7007, PageSize::Size4K);
    let ea = map.base + 0x7000;
    let group = map.group(guest, ea);
    let (v, _) = map.entry(ea, 0, PageSize::Size4K, 0);
    for page in [guest.memory, 0x2000_0000, 0x8000_0000, 1 << 46, hpte::RPN] {
        for bit in 0..64 {
            for (flags, dw0, dw1) in [
                (1 << bit, v, page | M),
                (0, v ^ 1 << bit, page | M),
                (flags::EXACT, v, page | M | 1 << bit),
            ] {
                let index = group + 3;
                let answer = hypercall(H_ENTER, [flags, index, dw0, dw1]);
                // A bit that makes it a page of the guest's is one of the address.
                let size = PageSize::decode(dw0, dw1);
                let inside = size.is_some_and(|s| s.real_address(dw1) < guest.memory);
                if answer.status == H_SUCCESS && !inside {
                    fail!("flags {flags:#x}, dw0 {dw0:#x}, dw1 {dw1:#x}");
                }
                if answer.status == H_SUCCESS {
                    hypercall(H_REMOVE, [0, answer.words[0]]);
                }
            }
            // An entry that is there does not get another page by its protection.
            let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
            let answer = hypercall(H_ENTER, [0, group, v, r]);
            check_eq!(answer.status, H_SUCCESS);
            hypercall(H_PROTECT, [1 << bit, answer.words[0], page]);
            let now = hypercall(H_READ, [0, answer.words[0]]).words;
            check_eq!(now[1] & hpte::RPN, r & hpte::RPN);
            hypercall(H_REMOVE, [0, answer.words[0]]);
        }
    }
    Ok(())
}

fn forged_real_mode(guest: &'static Guest) -> Outcome {
    // Real mode beyond memory, to a page of its own: that is the guest's affair.
    let map = segment(0, VRMA_VSID, PageSize::Size64K);
    let far = 0x80_0000_0000;
    let answer = map.enter(guest, far, guest.free[0], PageSize::Size64K, 0);
    check_eq!(answer.status, H_SUCCESS);
    fill(guest.free[0], 64, 8);
    let done = execute(&[0xe864_0000], [0, far, 0, 0]);
    check_eq!((done.trap, done.gpr[0]), (None, read(guest.free[0])));
    hypercall(H_REMOVE, [0, answer.words[0]]);
    let done = execute(&[0xe864_0000], [0, far, 0, 0]);
    check_eq!(done.trap.map(|t| t.vector), Some(vector::DATA_STORAGE));
    // Beyond memory: no.
    let answer = map.enter(guest, far, guest.memory, PageSize::Size64K, 0);
    check_eq!(answer.status, H_PARAMETER);
    Ok(())
}

fn arguments(guest: &'static Guest) -> Outcome {
    for address in [
        guest.memory,
        0x2000_0000,
        0x3000_0000,
        1 << 32,
        1 << 50,
        1 << 59,
    ] {
        for function in 1..4 {
            let answer = hypercall(H_REGISTER_VPA, [function << 45, 0, address]);
            check_eq!(answer.status, H_PARAMETER);
        }
        for call in [flags::ZERO_PAGE, flags::COPY_PAGE] {
            let [to, from] = [address, guest.free[0]];
            check_eq!(hypercall(H_PAGE_INIT, [call, to, from]).status, H_PARAMETER);
        }
        let copy = hypercall(H_PAGE_INIT, [flags::COPY_PAGE, guest.free[0], address]);
        check_eq!(copy.status, H_PARAMETER);
        check_eq!(hypercall(H_RTAS, [address]).status, H_PARAMETER);
        let token = guest.token("ibm,get-system-parameter").unwrap_or(0);
        if address < 1 << 32 {
            let args = [20, address as u32, 0x100];
            let (_, [answer]) = guest_support::rtas::service(token, &args);
            check_eq!(answer as i32, -3);
        }
    }
    Ok(())
}
