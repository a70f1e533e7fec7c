// SPDX-License-Identifier: BSD-2-Clause
//! The hash page table calls by what they answer (SPEC 2.2).

use guest_support::hypercall::hypercall;
use guest_support::machine::{execute, mfmsr, mtmsrd};
use guest_support::memory::{fill, is_filled, is_zero, write};
use guest_support::mmu::{Mapping, map_identity, segment, translated};
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::{flags, proc_tbl, status::*};
use guest_support::papr::hpte::{self, BOLTED, C, M, N, PP0, R, VALID};
use guest_support::papr::{PageSize, hash};
use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "H_ENTER S4.9: an entry goes into its group and H_READ shows the guest's view",
        body: enter,
    },
    Case {
        name: "H_ENTER: EXACT takes that entry or none",
        body: enter_exact,
    },
    Case {
        name: "H_ENTER: the ninth entry of a group is H_PTEG_FULL",
        body: group_full,
    },
    Case {
        name: "H_ENTER: reserved B, places beyond the table, pages beyond memory are H_PARAMETER",
        body: enter_errors,
    },
    Case {
        name: "H_ENTER 3.5: every encoding of a page size is known or H_PARAMETER",
        body: encodings,
    },
    Case {
        name: "H_ENTER: software bits are stripped, WIMG and others kept for the guest",
        body: view_bits,
    },
    Case {
        name: "H_ENTER: flags without effect are no error",
        body: ignored_flags,
    },
    Case {
        name: "H_ENTER: ZERO_PAGE zeroes the page, and only it",
        body: zero_page,
    },
    Case {
        name: "H_REMOVE: answers the entry; AVPN, ANDCOND, H_NOT_FOUND, H_PARAMETER",
        body: remove,
    },
    Case {
        name: "H_BULK_REMOVE: each pair its own answer, the first parameter error ends it",
        body: bulk_remove,
    },
    Case {
        name: "H_PROTECT: protection bits as SPEC 3.10 has them; H_NOT_FOUND, H_PARAMETER",
        body: protect,
    },
    Case {
        name: "H_READ: one or four entries, H_PARAMETER beyond the table",
        body: read,
    },
    Case {
        name: "H_CLEAR_REF, H_CLEAR_MOD: answer and clear what accesses had set",
        body: clear_bits,
    },
    Case {
        name: "H_PAGE_INIT: zero, copy, flags, alignment, memory",
        body: page_init,
    },
    Case {
        name: "H_REGISTER_PROC_TBL finding 4",
        body: process_table,
    },
    Case {
        name: "H_CLEAR_HPT: everything goes but the virtual real mode area",
        body: clear_table,
    },
    Case {
        name: "H2.3 sc 1 of user mode is a system call of the guest",
        body: user_hypercall,
    },
    Case {
        name: "H2.4 numbers that are no hypercall are H_FUNCTION",
        body: unknown_numbers,
    },
];

/// Where the test entries' segment is.
const BASE: u64 = 5 << 40;
const VSID: u64 = 0x7007;

pub fn test_segment(pages: PageSize) -> Mapping {
    segment(BASE, VSID + pages.base_shift() as u64, pages)
}

/// An address of the segment whose primary group is empty.
pub fn empty_group(guest: &Guest, mapping: &Mapping) -> u64 {
    let step = mapping.segment.base().bytes();
    for page in 0..guest.hpt.groups() {
        let ea = mapping.base + page * step;
        let first = mapping.group(guest, ea);
        let halves = [first, first + 4].map(|at| hypercall(H_READ, [flags::READ_4, at]).words);
        if halves == [[0; 8]; 2] {
            return ea;
        }
    }
    guest_support::runner::abort(format_args!("no empty group"))
}

/// What H_READ says of an entry.
pub fn entry(index: u64) -> (u64, u64) {
    let words = hypercall(H_READ, [0, index]).words;
    (words[0], words[1])
}

pub fn drop_entry(index: u64) {
    hypercall(H_REMOVE, [0, index]);
}

fn enter(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 2);
    for offset in [0, 3, 7] {
        let answer = hypercall(H_ENTER, [0, group + offset, v, r]);
        check_eq!(answer.status, H_SUCCESS);
        // Any index of the group names the group: the first free entry is taken.
        check_eq!(answer.words[0], group);
        check_eq!(entry(group), (v, r));
        drop_entry(group);
        check_eq!(entry(group), (0, 0));
    }
    Ok(())
}

fn enter_exact(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    let call = |index| hypercall(H_ENTER, [flags::EXACT, index, v, r]);
    let answer = call(group + 5);
    check_eq!((answer.status, answer.words[0]), (H_SUCCESS, group + 5));
    check_eq!(call(group + 5).status, H_PTEG_FULL);
    check_eq!(entry(group), (0, 0));
    drop_entry(group + 5);
    Ok(())
}

fn group_full(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    // Different entries of one group: other segments.
    let call = |i: u64| hypercall(H_ENTER, [0, group, v + (i << 44), r]);
    for i in 0..8 {
        let answer = call(i);
        check_eq!((answer.status, answer.words[0]), (H_SUCCESS, group + i));
    }
    check_eq!(call(8).status, H_PTEG_FULL);
    drop_entry(group + 4);
    check_eq!(call(9).words[0], group + 4);
    (0..8).for_each(|i| drop_entry(group + i));
    Ok(())
}

fn enter_errors(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    let parameter = |flags, index, v, r| {
        let answer = hypercall(H_ENTER, [flags, index, v, r]);
        answer.status == H_PARAMETER && answer.words[0] == flags
    };
    for exact in [0, flags::EXACT] {
        for b in [2, 3u64] {
            check!(parameter(exact, group, (v & !hpte::B) | b << 62, r));
        }
        for index in [
            guest.hpt.entries(),
            guest.hpt.entries() + 8,
            1 << 32,
            u64::MAX,
        ] {
            check!(parameter(exact, index, v, r));
        }
        let mut address = guest.memory;
        while address < 1 << 60 {
            for page in [address, address + 0x1000, address | guest.free[0]] {
                check!(parameter(exact, group, v, (page & hpte::RPN) | M));
            }
            address <<= 1;
        }
        check!(parameter(exact, group, v, hpte::RPN | M));
    }
    check_eq!(entry(group), (0, 0));
    // The last page of memory is one.
    let last = hypercall(H_ENTER, [0, group, v, (guest.memory - 0x1000) | M]);
    check_eq!(last.status, H_SUCCESS);
    drop_entry(last.words[0]);
    Ok(())
}

fn encodings(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size64K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, _) = map.entry(ea, 0, PageSize::Size64K, 0);
    let page = guest.free[0] & !0xf_ffff;
    for lp in 0..256u64 {
        let r = page | lp << 12 | M;
        let status = hypercall(H_ENTER, [flags::EXACT, group, v, r]).status;
        let expected = match (lp & 0xf, lp >> 4) {
            // 64 KiB pages, alone or among 4 KiB ones; the upper digit is address.
            (1 | 7, _) => H_SUCCESS,
            // 16 MiB, alone and among smaller ones.
            (0 | 8, 0) | (8, 3) if guest.offers_pages(24) => H_SUCCESS,
            // 16 GiB: no memory has that. Everything else is no encoding.
            _ => H_PARAMETER,
        };
        if status != expected {
            fail!("LP {lp:#x}: {status}, not {expected}");
        }
        if status == H_SUCCESS {
            check_eq!(entry(group).1, r);
            drop_entry(group);
        }
    }
    Ok(())
}

fn view_bits(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    let place = |v, r| {
        let status = hypercall(H_ENTER, [flags::EXACT, group, v, r]).status;
        let found = entry(group);
        drop_entry(group);
        (status, found)
    };
    // LOCK and ABSENT are ours, VALID comes from us; BOLTED and the guest's lock are the guest's.
    check_eq!(place((v & !VALID) | 0x60, r), (H_SUCCESS, (v, r)));
    let kept = v | BOLTED | hpte::GUEST_LOCK;
    check_eq!(place(kept, r), (H_SUCCESS, (kept, r)));
    check_eq!(place(v, r | hpte::MODIFIED), (H_SUCCESS, (v, r)));
    for wimg in 0..16u64 {
        let r = (r & !hpte::WIMG) | wimg << 3;
        check_eq!(place(v, r), (H_SUCCESS, (v, r)));
    }
    let rest = PP0 | hpte::KEY_HIGH | hpte::KEY_LOW | R | C | N | 3;
    check_eq!(place(v, r | rest), (H_SUCCESS, (v, r | rest)));
    Ok(())
}

fn ignored_flags(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    let ignored = [
        flags::LARGE_PAGE,
        flags::ICACHE_INVALIDATE,
        flags::ICACHE_SYNCHRONIZE,
        flags::COALESCE_CAND,
        flags::PAGE_STATE,
        flags::LOCAL,
    ];
    for flag in ignored {
        let answer = hypercall(H_ENTER, [flag, group, v, r]);
        check_eq!((answer.status, answer.words[0]), (H_SUCCESS, group));
        drop_entry(group);
    }
    Ok(())
}

fn zero_page(guest: &'static Guest) -> Outcome {
    let page = guest.free[0] + 0x1_0000;
    for size in [PageSize::Size4K, PageSize::Size64K, PageSize::Size64KIn4K] {
        let base = if size == PageSize::Size64K {
            size
        } else {
            PageSize::Size4K
        };
        let map = test_segment(base);
        let ea = empty_group(guest, &map);
        let group = map.group(guest, ea);
        fill(page - 0x1000, size.bytes() + 0x2000, 1);
        let (v, r) = map.entry(ea, page, size, 0);
        let answer = hypercall(H_ENTER, [flags::ZERO_PAGE, group, v, r]);
        check_eq!(answer.status, H_SUCCESS);
        check!(is_zero(page, size.bytes()));
        check!(is_filled(page - 0x1000, 0x1000, 1));
        check!(guest_support::memory::read(page + size.bytes()) != 0);
        drop_entry(answer.words[0]);
    }
    // Refused: nothing is zeroed.
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, page, PageSize::Size4K, 0);
    hypercall(H_ENTER, [flags::EXACT, group, v, r]);
    fill(page, 0x1000, 2);
    let full = hypercall(H_ENTER, [flags::EXACT | flags::ZERO_PAGE, group, v, r]);
    check_eq!(full.status, H_PTEG_FULL);
    check!(is_filled(page, 0x1000, 2));
    drop_entry(group);
    Ok(())
}

fn remove(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 2);
    let bolted = v | BOLTED;
    let enter = |v| hypercall(H_ENTER, [flags::EXACT, group, v, r]).status;
    let call = |flags, index, condition| hypercall(H_REMOVE, [flags, index, condition]);
    check_eq!(call(0, group, 0).status, H_NOT_FOUND);
    for index in [guest.hpt.entries(), 1 << 40, u64::MAX] {
        check_eq!(call(0, index, 0).status, H_PARAMETER);
    }
    check_eq!(enter(bolted), H_SUCCESS);
    // Linux's eviction spares bolted entries.
    check_eq!(call(flags::ANDCOND, group, BOLTED).status, H_NOT_FOUND);
    let other = (v & !0x7f) ^ 0x80;
    check_eq!(call(flags::AVPN, group, other).status, H_NOT_FOUND);
    check_eq!(entry(group), (bolted, r));
    let gone = call(flags::AVPN, group, v & !0x7f);
    check_eq!(
        (gone.status, gone.words[0], gone.words[1]),
        (H_SUCCESS, bolted, r)
    );
    check_eq!(entry(group), (0, 0));
    check_eq!(enter(v), H_SUCCESS);
    let gone = call(flags::ANDCOND, group, BOLTED);
    check_eq!(
        (gone.status, gone.words[0], gone.words[1]),
        (H_SUCCESS, v, r)
    );
    check_eq!(enter(v), H_SUCCESS);
    check_eq!(call(0, group, !0).status, H_SUCCESS);
    check_eq!(call(0, group, 0).status, H_NOT_FOUND);
    Ok(())
}

fn bulk_remove(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    let enter = |i: u64, bits| {
        let r = r | bits;
        hypercall(H_ENTER, [flags::EXACT, group + i, v + (i << 44), r]).status
    };
    let (request, end) = (1u64 << 62, 3u64 << 62);
    let (absolute, andcond, avpn) = (0, 1u64 << 56, 2u64 << 56);
    for i in 0..4 {
        check_eq!(enter(i, i << 7), H_SUCCESS);
    }
    let done = hypercall(
        H_BULK_REMOVE,
        [
            request | absolute | group,
            0,
            request | avpn | (group + 1),
            (v + (1 << 44)) & !0x7f,
            request | avpn | (group + 2),
            0,
            request | andcond | (group + 3),
            VALID,
        ],
    );
    check_eq!(done.status, H_SUCCESS);
    // Success with R and C in bits 59:58 (C is 0x80, R 0x100); not found; ANDCOND holds: not found.
    check_eq!(done.words[0], 0x80 << 56 | group);
    check_eq!(done.words[2], 0x82 << 56 | 1 << 58 | (group + 1));
    check_eq!(done.words[4], 0x92 << 56 | (group + 2));
    check_eq!(done.words[6], 0x91 << 56 | (group + 3));
    check_eq!([entry(group), entry(group + 1)], [(0, 0); 2]);
    check_eq!(entry(group + 2).0, v + (2 << 44));
    // The end: what follows is not looked at.
    let done = hypercall(
        H_BULK_REMOVE,
        [
            request | andcond | (group + 2),
            0,
            end,
            0,
            request | (group + 3),
            0,
        ],
    );
    check_eq!(done.status, H_SUCCESS);
    check_eq!(done.words[0], 0x81 << 56 | 2 << 58 | (group + 2));
    check_eq!(done.words[4], request | (group + 3));
    check!(entry(group + 3).0 != 0);
    // A parameter error ends the call: a place beyond the table, both flags, an invalid type.
    for bad in [
        request | guest.hpt.entries(),
        request | 3 << 56 | group,
        group,
        2 << 62 | group,
    ] {
        let done = hypercall(H_BULK_REMOVE, [bad, 0, request | (group + 3), 0]);
        check_eq!(done.status, H_PARAMETER);
        check_eq!(done.words[0] >> 60, 0xa);
        check_eq!(done.words[2], request | (group + 3));
        check!(entry(group + 3).0 != 0);
    }
    drop_entry(group + 3);
    Ok(())
}

fn protect(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 2);
    let call = |flags, index, avpn| hypercall(H_PROTECT, [flags, index, avpn]).status;
    check_eq!(call(0, group, 0), H_NOT_FOUND);
    check_eq!(call(0, guest.hpt.entries(), 0), H_PARAMETER);
    check_eq!(call(0, u64::MAX, 0), H_PARAMETER);
    check_eq!(
        hypercall(H_ENTER, [flags::EXACT, group, v, r]).status,
        H_SUCCESS
    );
    check_eq!(
        call(flags::AVPN | 3, group, (v ^ 0x80) & !0x7f),
        H_NOT_FOUND
    );
    check_eq!(entry(group), (v, r));
    check_eq!(call(flags::AVPN | 3, group, v & !0x7f), H_SUCCESS);
    check_eq!(entry(group), (v, r | 3));
    // SPEC 3.10.
    check_eq!(call(0x3f07, group, 0), H_SUCCESS);
    check_eq!(entry(group).1 & !(hpte::RPN | M), 0xb000_0000_0000_0e07);
    check_eq!(call(0, group, 0), H_SUCCESS);
    check_eq!(entry(group), (v, r & !3));
    drop_entry(group);
    Ok(())
}

fn read(guest: &'static Guest) -> Outcome {
    let map = test_segment(PageSize::Size4K);
    let ea = empty_group(guest, &map);
    let group = map.group(guest, ea);
    let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
    for i in [1, 3] {
        hypercall(H_ENTER, [flags::EXACT, group + i, v + (i << 44), r]);
    }
    for i in 0..4 {
        let four = hypercall(H_READ, [flags::READ_4, group + i]);
        check_eq!(four.status, H_SUCCESS);
        let expected = [0, 0, v + (1 << 44), r, 0, 0, v + (3 << 44), r];
        check_eq!(four.words, expected);
    }
    check_eq!(hypercall(H_READ, [flags::R_XLATE, group + 1]).words[1], r);
    let entries = guest.hpt.entries();
    for flag in [0, flags::READ_4] {
        check_eq!(hypercall(H_READ, [flag, entries - 1]).status, H_SUCCESS);
        for index in [entries, entries + 3, 1 << 32, u64::MAX] {
            check_eq!(hypercall(H_READ, [flag, index]).status, H_PARAMETER);
        }
    }
    drop_entry(group + 1);
    drop_entry(group + 3);
    Ok(())
}

fn clear_bits(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let page = guest.free[0];
    let map = test_segment(PageSize::Size4K);
    map.load(1);
    let ea = empty_group(guest, &map);
    for call in [H_CLEAR_REF, H_CLEAR_MOD] {
        check_eq!(
            hypercall(call, [0, map.group(guest, ea)]).status,
            H_NOT_FOUND
        );
        check_eq!(
            hypercall(call, [0, guest.hpt.entries()]).status,
            H_PARAMETER
        );
        check_eq!(hypercall(call, [0, u64::MAX]).status, H_PARAMETER);
    }
    let answer = map.enter(guest, ea, page, PageSize::Size4K, 0);
    check_eq!(answer.status, H_SUCCESS);
    let index = answer.words[0];
    let (_, r) = map.entry(ea, page, PageSize::Size4K, 0);
    // Nothing was accessed yet (but the page itself, by another entry, may carry R and C).
    hypercall(H_CLEAR_REF, [0, index]);
    hypercall(H_CLEAR_MOD, [0, index]);
    check_eq!(entry(index).1, r);
    translated(|| guest_support::memory::read(ea));
    check_eq!(entry(index).1, r | R);
    translated(|| write(ea, 5));
    check_eq!(entry(index).1, r | R | C);
    let before = hypercall(H_CLEAR_REF, [0, index]);
    check_eq!((before.status, before.words[0]), (H_SUCCESS, r | R | C));
    check_eq!(entry(index).1, r | C);
    let before = hypercall(H_CLEAR_MOD, [0, index]);
    check_eq!((before.status, before.words[0]), (H_SUCCESS, r | C));
    check_eq!(entry(index).1, r);
    // They come again.
    translated(|| write(ea, 6));
    check_eq!(entry(index).1, r | R | C);
    check_eq!(hypercall(H_REMOVE, [0, index]).words[1], r | R | C);
    check_eq!(guest_support::memory::read(page), 6);
    Ok(())
}

fn page_init(guest: &'static Guest) -> Outcome {
    let (to, from) = (guest.free[0] + 0x2000, guest.free[0] + 0x8000);
    let call = |flags, to, from| hypercall(H_PAGE_INIT, [flags, to, from]).status;
    let (zero, copy) = (flags::ZERO_PAGE, flags::COPY_PAGE);
    fill(to - 0x1000, 0x3000, 3);
    fill(from, 0x1000, 4);
    check_eq!(call(0, to, from), H_SUCCESS);
    check!(is_filled(to - 0x1000, 0x3000, 3));
    check_eq!(call(zero, to, from), H_SUCCESS);
    check!(is_zero(to, 0x1000) && is_filled(to - 0x1000, 0x1000, 3));
    check!(guest_support::memory::read(to + 0x1000) != 0);
    for flags in [copy, copy | zero, copy | flags::ICACHE_SYNCHRONIZE] {
        fill(to, 0x1000, 5);
        check_eq!(call(flags, to, from), H_SUCCESS);
        check!(is_filled(to, 0x1000, 4) && is_filled(from, 0x1000, 4));
    }
    check_eq!(
        call(flags::ICACHE_INVALIDATE | flags::PAGE_STATE, to, 0),
        H_SUCCESS
    );
    for bad in [1, flags::EXACT, flags::AVPN, flags::LARGE_PAGE, 1 << 63] {
        check_eq!(call(zero | bad, to, from), H_PARAMETER);
    }
    for address in [
        to + 1,
        to + 0x800,
        guest.memory,
        guest.memory + 0x1000,
        1 << 57,
        !0xfff,
    ] {
        check_eq!(call(zero, address, from), H_PARAMETER);
        check_eq!(call(copy, address, from), H_PARAMETER);
        check_eq!(call(copy, to, address), H_PARAMETER);
    }
    check!(is_filled(to, 0x1000, 4));
    // The source counts only for a copy.
    check_eq!(call(zero, to, 1), H_SUCCESS);
    Ok(())
}

fn process_table(_: &'static Guest) -> Outcome {
    let call = |flags| hypercall(H_REGISTER_PROC_TBL, [flags, 0, 0, 0]).status;
    check_eq!(call(0), H_SUCCESS);
    check_eq!(call(proc_tbl::DEREGISTER), H_SUCCESS);
    for flags in [
        proc_tbl::GTSE,
        proc_tbl::HPT_PT,
        proc_tbl::RADIX,
        proc_tbl::NEW,
        proc_tbl::NEW | proc_tbl::RADIX,
        proc_tbl::NEW | proc_tbl::RADIX | proc_tbl::GTSE,
        proc_tbl::NEW | proc_tbl::HPT_PT,
        8,
        1 << 63,
    ] {
        check_eq!(call(flags), H_PARAMETER);
    }
    Ok(())
}

fn clear_table(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let map = test_segment(PageSize::Size4K);
    for i in 0..300u64 {
        let ea = map.base + (i << 12);
        let bolt = (i & 1) * BOLTED;
        let (v, r) = map.entry(ea, guest.free[0], PageSize::Size4K, 0);
        hypercall(H_ENTER, [0, map.group(guest, ea), v | bolt, r]);
    }
    let mut rounds = 0;
    loop {
        match hypercall(H_CLEAR_HPT, []).status {
            H_SUCCESS => break,
            H_CONTINUE => rounds += 1,
            other => fail!("status {other}"),
        }
        check!(rounds < guest.hpt.entries());
    }
    let mut vrma = 0;
    for index in (0..guest.hpt.entries()).step_by(4) {
        let words = hypercall(H_READ, [flags::READ_4, index]).words;
        for pair in words.as_chunks::<2>().0 {
            match pair[0] {
                0 => {}
                v if hash::is_vrma(v) => vrma += 1,
                v => fail!("entry {v:#x} is left near {index:#x}"),
            }
        }
    }
    check!(vrma > 0);
    Ok(())
}

fn user_hypercall(guest: &'static Guest) -> Outcome {
    const SC_1: u32 = 0x4400_0022;
    check!(map_identity(guest, guest.free[0]));
    let before = mfmsr();
    let done = guest_support::machine::execute_user(&[SC_1], [H_RANDOM, 4, 5, 6]);
    // SAFETY: as it was.
    unsafe { mtmsrd(before) };
    let Some(trap) = done.trap else {
        fail!("no trap")
    };
    check_eq!(trap.vector, guest_support::trap::vector::SYSTEM_CALL);
    check_eq!(done.gpr, [H_RANDOM, 4, 5, 6]);
    check!(trap.srr1 & guest_support::machine::msr::PR != 0);
    // And the guest's own sc 0 is one, too.
    let own = execute(&[0x4400_0002], [H_RANDOM, 4, 5, 6]);
    check_eq!(own.trap.map(|t| t.vector), Some(0xc00));
    check_eq!(own.gpr, [H_RANDOM, 4, 5, 6]);
    Ok(())
}

/// What `systems/linux` offers.
const OFFERED: &[u64] = &[
    H_REMOVE,
    H_ENTER,
    H_READ,
    H_CLEAR_MOD,
    H_CLEAR_REF,
    H_PROTECT,
    H_SET_SPRG0,
    H_SET_DABR,
    H_PAGE_INIT,
    H_GET_TERM_CHAR,
    H_PUT_TERM_CHAR,
    H_EOI,
    H_CPPR,
    H_IPI,
    H_IPOLL,
    H_XIRR,
    H_REGISTER_VPA,
    H_CEDE,
    H_CONFER,
    H_PROD,
    H_BULK_REMOVE,
    H_SET_XDABR,
    H_GET_CPU_CHARACTERISTICS,
    H_JOIN,
    H_XIRR_X,
    H_RANDOM,
    H_SET_MODE,
    H_CLEAR_HPT,
    H_REGISTER_PROC_TBL,
    H_SIGNAL_SYS_RESET,
    H_RPT_INVALIDATE,
    H_RTAS,
];

fn unknown_numbers(_: &'static Guest) -> Outcome {
    let expect = |number: u64, expected| {
        let args = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        let answer = hypercall(number, args);
        if answer.status != expected || answer.words != args {
            fail!("{number:#x}: {} {:x?}", answer.status, answer.words);
        }
        Ok(())
    };
    for number in (0..0x500).chain(0xeff0..0xf200).chain(0xf800..0xf810) {
        if !OFFERED.contains(&number) && !(0xef00..0xf000).contains(&number) {
            expect(number, H_FUNCTION)?;
        }
    }
    for number in [0xef00, 0xef04, 0xeffc, H_RPT_INVALIDATE] {
        expect(number, H_UNSUPPORTED)?;
    }
    // All 64 bits count, and only multiples of four are hypercalls.
    for number in OFFERED {
        expect(number | 1 << 32, H_FUNCTION)?;
        expect(number | 1 << 63, H_FUNCTION)?;
        expect(number + 1, H_FUNCTION)?;
        expect(number.wrapping_neg(), H_FUNCTION)?;
    }
    expect(u64::MAX, H_FUNCTION)
}
