// SPDX-License-Identifier: BSD-2-Clause
//! Pages of every size, used (SPEC 3.5, 3.6).

use crate::table::{drop_entry, entry, test_segment};
use guest_support::hypercall::hypercall;
use guest_support::memory::{fill, is_filled, read, write};
use guest_support::mmu::{self, map_identity, slbmte, translated};
use guest_support::papr::PageSize;
use guest_support::papr::hash::SLB_KS;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::papr::hpte::{C, N, PP0, R, SECONDARY};
use guest_support::trap::vector;
use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "3.5 pages of 4 KiB are reached through their entries",
        body: |guest| reached(guest, PageSize::Size4K, PageSize::Size4K),
    },
    Case {
        name: "3.5 pages of 64 KiB are reached through their entries",
        body: |guest| reached(guest, PageSize::Size64K, PageSize::Size64K),
    },
    Case {
        name: "3.5 pages of 64 KiB in a segment of 4 KiB pages are reached through their entries",
        body: |guest| reached(guest, PageSize::Size4K, PageSize::Size64KIn4K),
    },
    Case {
        name: "3.6 entries of the secondary group are found",
        body: secondary,
    },
    Case {
        name: "H_PROTECT, H_REMOVE: hardware forgets what it was allowed",
        body: forgotten,
    },
    Case {
        name: "3.4 protection: PP, PP0 and N decide for supervisor and user",
        body: protection,
    },
];

fn reached(guest: &'static Guest, base: PageSize, size: PageSize) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let map = test_segment(base);
    map.load(1);
    let memory = (guest.free[0] + 0x1_0000) & !0xffff;
    let mut indices = [0; 8];
    // In reverse, so that address and page differ.
    for i in 0..8 {
        let (ea, page) = (map.base + i * size.bytes(), memory + (7 - i) * size.bytes());
        // One entry for every base page that it serves, as hardware asks for each.
        for piece in (0..size.bytes()).step_by(base.bytes() as usize) {
            let answer = map.enter(guest, ea + piece, page, size, 2);
            check_eq!(answer.status, H_SUCCESS);
            indices[i as usize] = answer.words[0];
        }
    }
    for i in 0..8 {
        fill(memory + (7 - i) * size.bytes(), size.bytes(), i);
    }
    let all = translated(|| {
        let step = size.bytes();
        (0..8).all(|i| is_filled(map.base + i * step, step, i))
    });
    check!(all);
    translated(|| fill(map.base + 3 * size.bytes(), size.bytes(), 99));
    check!(is_filled(memory + 4 * size.bytes(), size.bytes(), 99));
    check!(is_filled(memory + 5 * size.bytes(), size.bytes(), 2));
    check!(entry(indices[3]).1 & (R | C) == R | C);
    check!(guest_support::mmu::clear_table());
    Ok(())
}

fn secondary(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let map = test_segment(PageSize::Size4K);
    map.load(1);
    let (ea, page) = (map.base + 0x5000, guest.free[0]);
    let (v, r) = map.entry(ea, page, PageSize::Size4K, 0);
    let group = map.second_group(guest, ea);
    let answer = hypercall(H_ENTER, [0, group, v | SECONDARY, r]);
    check_eq!(answer.status, H_SUCCESS);
    write(page, 77);
    check_eq!(translated(|| read(ea)), 77);
    drop_entry(answer.words[0]);
    // Without the bit it is not found there.
    let answer = hypercall(H_ENTER, [0, group, v, r]);
    check_eq!(access(ea, false), Some(vector::DATA_STORAGE));
    drop_entry(answer.words[0]);
    Ok(())
}

/// The trap of a load or store with data translation, if there is one.
fn access(ea: u64, store: bool) -> Option<u64> {
    mmu::access(ea, store).map(|trap| trap.vector)
}

fn forgotten(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let map = test_segment(PageSize::Size4K);
    map.load(1);
    let (ea, page) = (map.base + 0x9000, guest.free[0]);
    let answer = map.enter(guest, ea, page, PageSize::Size4K, 0);
    check_eq!(answer.status, H_SUCCESS);
    let index = answer.words[0];
    check_eq!(access(ea, true), None);
    // Read-only, and writable again.
    check_eq!(hypercall(H_PROTECT, [3, index]).status, H_SUCCESS);
    check_eq!(access(ea, true), Some(vector::DATA_STORAGE));
    check_eq!(access(ea, false), None);
    check_eq!(hypercall(H_PROTECT, [0, index]).status, H_SUCCESS);
    check_eq!(access(ea, true), None);
    check_eq!(hypercall(H_REMOVE, [0, index]).status, H_SUCCESS);
    check_eq!(access(ea, false), Some(vector::DATA_STORAGE));
    // In bulk.
    let answer = map.enter(guest, ea, page, PageSize::Size4K, 0);
    check_eq!(access(ea, true), None);
    let done = hypercall(H_BULK_REMOVE, [1 << 62 | answer.words[0], 0, 3 << 62]);
    check_eq!((done.status, done.words[0] >> 60), (H_SUCCESS, 8));
    check_eq!(access(ea, false), Some(vector::DATA_STORAGE));
    Ok(())
}

fn protection(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let base = test_segment(PageSize::Size4K);
    let (ea, page) = (base.base + 0x1_1000, guest.free[0]);
    // PP0 and PP; what key 0 and key 1 may do: 0 nothing, 1 read, 2 write too.
    let table = [(0, 2, 0), (1, 2, 1), (2, 2, 2), (3, 1, 1), (PP0 | 2, 1, 0)];
    for (bits, key0, key1) in table {
        let answer = base.enter(guest, ea, page, PageSize::Size4K, bits | N);
        check_eq!(answer.status, H_SUCCESS);
        for (key, may) in [(0, key0), (1, key1)] {
            // Ks of the segment is the key of supervisor state.
            let word = base.segment.word() | if key == 1 { SLB_KS } else { 0 };
            slbmte(1, base.base, word);
            let got = [access(ea, false), access(ea, true)];
            let expected = [(may < 1), (may < 2)].map(|no| no.then_some(vector::DATA_STORAGE));
            if got != expected {
                fail!("dw1 bits {bits:#x}, key {key}: {got:x?}");
            }
        }
        // N: no execution.
        base.load(1);
        let Some(trap) = mmu::jump(ea) else {
            fail!("executed from a page with N")
        };
        check_eq!(trap.vector, vector::INSTRUCTION_STORAGE);
        check!(trap.srr1 & 0x1000_0000 != 0);
        check_eq!(trap.srr0, ea);
        drop_entry(answer.words[0]);
    }
    Ok(())
}
