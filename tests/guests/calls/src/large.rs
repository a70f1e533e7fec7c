// SPDX-License-Identifier: BSD-2-Clause
//! Pages of 16 MiB (SPEC 3.5, H_ENTER 5 and 6, S4.7).

use guest_support::hypercall::hypercall;
use guest_support::memory::{read, write};
use guest_support::mmu::{Mapping, clear_table, execute_translated, map_identity, segment, slbia};
use guest_support::papr::PageSize;
use guest_support::papr::hcall::number::{H_ENTER, H_PROTECT, H_READ, H_REMOVE};
use guest_support::papr::hcall::status::{H_PARAMETER, H_SUCCESS};
use guest_support::papr::hpte::{C, R, VALID};
use guest_support::trap::vector;
use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "3.5 C3 the tree offers pages of 16 MiB where memory has them",
        body: offered,
    },
    Case {
        name: "H_ENTER 5, 6: a page of 16 MiB is memory in all of its places",
        body: alone,
    },
    Case {
        name: "3.5 pages of 16 MiB in segments of 64 KiB and 4 KiB pages",
        body: in_smaller,
    },
];

const LARGE: u64 = 16 << 20;
/// Places in a page, in each of its pieces of 2 MiB.
const PLACES: [u64; 9] = [
    0, 0x1_2340, 0x1f_fff8, 0x20_0000, 0x47_0008, 0x61_1110, 0x8f_fff8, 0xa0_0000, 0xff_fff8,
];
/// DSISR: no entry, not permitted.
const NO_ENTRY: u64 = 0x4000_0000;
const NOT_PERMITTED: u64 = 0x0800_0000;
/// PP: read and write; read only.
const WRITABLE: u64 = 2;
const READ_ONLY: u64 = 3;

/// ld r3, 0(r4); blr
static LOAD: [u32; 2] = [0xe864_0000, 0x4e80_0020];
/// std r3, 0(r4); blr
static STORE: [u32; 2] = [0xf864_0000, 0x4e80_0020];

fn load(ea: u64) -> Result<u64, (u64, u64)> {
    let done = execute_translated(LOAD.as_ptr() as u64, [0, ea, 0, 0]);
    let trap = done.trap.map(|trap| (trap.vector, trap.dsisr));
    trap.map_or(Ok(done.gpr[0]), Err)
}

fn store(ea: u64, value: u64) -> Result<(), (u64, u64)> {
    let done = execute_translated(STORE.as_ptr() as u64, [value, ea, 0, 0]);
    done.trap
        .map_or(Ok(()), |trap| Err((trap.vector, trap.dsisr)))
}

/// A page of 16 MiB of memory that nobody uses.
fn free_page(guest: &Guest) -> Option<u64> {
    let first = guest.free[0].next_multiple_of(LARGE);
    (first + LARGE <= guest.free[1]).then_some(first)
}

fn offered(guest: &'static Guest) -> Outcome {
    // 64 MiB: four pages of 16 MiB, and memory behind all of it.
    check!(guest.offers_pages(12) && guest.offers_pages(16) && guest.offers_pages(24));
    check!(!guest.offers_pages(34));
    let huge = segment(1 << 40, 0x7100, PageSize::Size16M);
    for page in 0..2 * guest.memory / LARGE {
        let (v, r) = huge.entry(huge.base, page * LARGE, PageSize::Size16M, WRITABLE);
        let answer = hypercall(H_ENTER, [0, huge.group(guest, huge.base), v, r]);
        if page * LARGE >= guest.memory {
            check_eq!(answer.status, H_PARAMETER);
        } else {
            check_eq!(answer.status, H_SUCCESS);
            check_eq!(
                hypercall(H_REMOVE, [0, answer.words[0], 0]).status,
                H_SUCCESS
            );
        }
        let (v, r) = huge.entry(huge.base, page * LARGE, PageSize::Size16G, WRITABLE);
        let answer = hypercall(H_ENTER, [0, huge.group(guest, huge.base), v, r]);
        check_eq!(answer.status, H_PARAMETER);
    }
    Ok(())
}

/// Stores through translation are seen in memory, and the other way round.
fn same_memory(ea: u64, address: u64, seed: u64) -> Outcome {
    check_eq!(store(ea, seed), Ok(()));
    check_eq!(read(address), seed);
    write(address, !seed);
    check_eq!(load(ea), Ok(!seed));
    Ok(())
}

fn alone(guest: &'static Guest) -> Outcome {
    let Some(gpa) = free_page(guest) else {
        fail!("no free page of 16 MiB");
    };
    check!(map_identity(guest, 4 << 20));
    let huge = segment(1 << 40, 0x7100, PageSize::Size16M);
    huge.load(3);
    let ea = huge.base + 5 * LARGE;
    let entered = huge.enter(guest, ea, gpa, PageSize::Size16M, WRITABLE);
    check_eq!(entered.status, H_SUCCESS);
    let ptex = entered.words[0];
    for (i, place) in PLACES.into_iter().enumerate() {
        same_memory(ea + place, gpa + place, 0x1234_5678_0000 + i as u64)?;
    }
    check_eq!(load(ea + LARGE), Err((vector::DATA_STORAGE, NO_ENTRY)));
    let seen = hypercall(H_READ, [0, ptex]);
    check_eq!(seen.words[1] & (R | C), R | C);
    // What changes for the entry changes in all of its places.
    check_eq!(hypercall(H_PROTECT, [READ_ONLY, ptex, 0]).status, H_SUCCESS);
    for place in PLACES {
        check!(load(ea + place).is_ok());
        let trap = store(ea + place, 0);
        check!(
            trap.is_err_and(|(v, dsisr)| v == vector::DATA_STORAGE && dsisr & NOT_PERMITTED != 0)
        );
    }
    let removed = hypercall(H_REMOVE, [0, ptex, 0]);
    check_eq!(removed.status, H_SUCCESS);
    check_eq!(removed.words[0] & VALID, VALID);
    check_eq!(removed.words[1] & (R | C), R | C);
    for place in PLACES {
        check_eq!(load(ea + place), Err((vector::DATA_STORAGE, NO_ENTRY)));
    }
    check!(clear_table());
    slbia();
    Ok(())
}

/// One entry for each base page that is touched, all of the one large page.
fn in_smaller(guest: &'static Guest) -> Outcome {
    let Some(gpa) = free_page(guest) else {
        fail!("no free page of 16 MiB");
    };
    check!(map_identity(guest, 4 << 20));
    let segments: [(Mapping, PageSize, u64); 2] = [
        (
            segment(1 << 40, 0x7101, PageSize::Size64K),
            PageSize::Size16MIn64K,
            3,
        ),
        (
            segment(2 << 40, 0x7102, PageSize::Size4K),
            PageSize::Size16MIn4K,
            4,
        ),
    ];
    for (map, size, index) in segments {
        map.load(index);
        let mut entries = [0; PLACES.len()];
        for (i, place) in PLACES.into_iter().enumerate() {
            let ea = map.base + 7 * LARGE + place;
            let entered = map.enter(guest, ea, gpa, size, WRITABLE);
            check_eq!(entered.status, H_SUCCESS);
            entries[i] = entered.words[0];
            same_memory(ea & !7, gpa + place, 0x77_0000 + i as u64)?;
        }
        // The base page beside it has no entry.
        let beside = map.base + 7 * LARGE + 0x30_0000;
        check_eq!(load(beside), Err((vector::DATA_STORAGE, NO_ENTRY)));
        for (ptex, place) in entries.into_iter().zip(PLACES) {
            check_eq!(hypercall(H_REMOVE, [0, ptex, 0]).status, H_SUCCESS);
            let ea = map.base + 7 * LARGE + place;
            check_eq!(load(ea & !7), Err((vector::DATA_STORAGE, NO_ENTRY)));
        }
    }
    check!(clear_table());
    slbia();
    Ok(())
}
