// SPDX-License-Identifier: BSD-2-Clause
//! Deletion of a slot and the dirty log, as `control` drives them (S3.5, I7).

use super::machine::*;
use super::std::vec::Vec;
use crate::*;
use partita_papr::hcall::{number::*, status::*};
use partita_papr::hpte::*;
use partita_papr::{Gfn, HptOrder};
use partita_srcu::{Drained, Slot, SlotFlags, Writer};

/// S3.5, S3.6, S3.11, S4.12, finding 6, I7: an INVALID slot can be torn down, and afterwards
/// nothing refers to it.
#[test]
fn s3_5_s4_12_i7_delete_a_slot() {
    with(|memory, kernel, hpt| {
        let keep = slot(0, 0, 32, SlotFlags::NONE);
        memory.publish(&[keep, slot(1, 32, 64, SlotFlags::NONE)]);
        for i in 0..150 {
            assert_eq!(
                enter(hpt, i * 8, V | i << 7, (i % 96) << 12 | 2).status,
                H_SUCCESS
            );
            kernel.access(i * 8, i % 3 == 0);
        }
        memory.publish(&[keep, slot(1, 32, 64, SlotFlags::INVALID)]);
        assert_eq!(
            Writer::new(&memory.slots, &[&memory.epoch]).drained(),
            Drained::Done
        );
        // S4.12: removal through an INVALID slot unlinks.
        assert_eq!(
            hpt.hypercall(H_REMOVE, [0, 40 * 8, 0, 0, 0, 0, 0, 0])
                .status,
            H_SUCCESS
        );
        let mut range = GfnRange { next: 32, end: 96 };
        let mut calls = 1;
        while hpt.flush(&mut range).unwrap() == Progress::More {
            calls += 1;
        }
        assert!(calls >= 2, "at most {BATCH} entries a call");
        hpt.verify_unmapped(32, 96).unwrap();
        for gfn in 32..96 {
            kernel.unmap(gfn).expect("no pin is left");
        }
        memory.publish(&[keep]);
        hpt.verify_all().unwrap();
        kernel.assert_sound();
        // The guest still has its entries and gets rid of them (I7, I6).
        // i % 96 >= 32: 64 and 22 of them, less the one removed above.
        assert_eq!(hpt.state().fault_mode().0, 64 + 22 - 1);
        for i in 0..150 {
            hpt.hypercall(H_REMOVE, [0, i * 8, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(hpt.state().fault_mode().0, 0);
    });
}

/// A failure in the middle leaves a state from which the flush goes on.
#[test]
fn flush_survives_a_refusal() {
    with(|_, kernel, hpt| {
        for i in 0..4 {
            enter(hpt, i * 8, V, 0x5000);
        }
        let mut range = GfnRange {
            next: 0,
            end: u64::MAX,
        };
        kernel.reject.set(true);
        assert_eq!(hpt.flush(&mut range), Err(TableError::Rejected));
        hpt.verify_all().unwrap();
        assert_eq!(hpt.flush(&mut range), Ok(Progress::Done));
        assert_eq!(hpt.state().fault_mode(), (4, true));
    });
}

/// Dirty log: every store is reported once it is collected, large pages whole.
#[test]
fn dirty_log() {
    with(|_, kernel, hpt| {
        enter(hpt, 0, V, 0x5000 | 2);
        enter(hpt, 8, V | LARGE, 0x2_0000 | 0x1000 | 2);
        let collect = |stopped| {
            let mut pages = Vec::new();
            let mut range = GfnRange { next: 0, end: GFNS };
            let done = hpt.collect_dirty(&mut range, stopped, |gfn, n| {
                kernel.forget_touched(gfn.get(), C);
                pages.push((gfn.get(), n));
            });
            assert_eq!(done, Ok(Progress::Done));
            pages
        };
        assert_eq!(collect(false), []);
        kernel.access(0, true);
        kernel.access(8, false);
        assert_eq!(collect(false), [(5, 1)]);
        assert_eq!(collect(true), []);
        kernel.access(8, true);
        assert_eq!(collect(false), [(32, 16)]);
        let read = hpt.hypercall(H_READ, [0, 8, 0, 0, 0, 0, 0, 0]);
        assert!(read.words[1] & C != 0, "the guest's C stays");
        kernel.access(8, true);
        hpt.hypercall(H_REMOVE, [0, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(collect(false), [(32, 16)], "also of entries that are gone");
    });
}

/// S4.10: a member that is on its way in or out, which its lock bit says, is not judged by the rest of
/// it; the same member without the lock is a mistake.
#[test]
fn s4_10_a_locked_member_is_not_trusted() {
    use partita_instance::atomic::Ordering::Relaxed;
    with(|memory, _, hpt| {
        enter(hpt, 0, V, 0x5000);
        enter(hpt, 8, V, 0x5000);
        let entry = &memory.rev[8].v;
        let whole = entry.load(Relaxed);
        let chain = Gfn::new(5).unwrap();
        entry.store(LOCK, Relaxed);
        assert_eq!(hpt.verify_chain(chain, &mut 0), Ok(2));
        entry.store(0, Relaxed);
        let free = Violation::FreeMember { gfn: 5, index: 8 };
        assert_eq!(hpt.verify_chain(chain, &mut 0), Err(free));
        entry.store(whole, Relaxed);
    });
}

/// S4.14: there is always a place for each entry's links, and a page without a chain is not mapped.
#[test]
fn s4_14_regions_that_are_too_short_are_refused() {
    let memory = Memory::new(GFNS);
    let order = HptOrder::new(ORDER).unwrap();
    let new = |rev: usize, real: usize| {
        let (rev, real) = (&memory.rev[..rev], &memory.real[..real]);
        State::new(order, rev, &memory.rmap, real, &memory.control).is_some()
    };
    let entries = order.entries() as usize;
    assert!(new(entries, entries));
    assert!(!new(entries - 1, entries));
    assert!(!new(entries, entries - 1));
    with(|memory, _, hpt| {
        memory.publish(&[slot(0, 0, GFNS + 16, SlotFlags::NONE)]);
        assert_eq!(enter(hpt, 0, V, (GFNS - 1) << 12).status, H_SUCCESS);
        assert_eq!(enter(hpt, 8, V, GFNS << 12).status, H_PARAMETER);
    });
}

/// The walker finds what it is there for.
#[test]
fn i1_to_i7_walker_finds_damage() {
    use partita_instance::atomic::Ordering::Relaxed;
    let damaged = |damage: fn(&Memory), expected: fn(Violation) -> bool| {
        with(|memory, kernel, hpt| {
            enter(hpt, 0, V, 0x5000);
            enter(hpt, 8, V, 0x5000);
            enter(hpt, 16, V, 0x6000);
            let image: Vec<_> = memory
                .rev
                .iter()
                .map(|e| {
                    (
                        e.v.load(Relaxed),
                        e.r.load(Relaxed),
                        e.forw.load(Relaxed),
                        e.back.load(Relaxed),
                    )
                })
                .collect();
            let heads: Vec<_> = memory.rmap.iter().map(|h| h.load(Relaxed)).collect();
            hpt.verify_all().unwrap();
            damage(memory);
            let found = hpt.verify_all().unwrap_err();
            assert!(expected(found), "{found:?}");
            for (e, (v, r, forw, back)) in memory.rev.iter().zip(image) {
                e.v.store(v, Relaxed);
                e.r.store(r, Relaxed);
                e.forw.store(forw, Relaxed);
                e.back.store(back, Relaxed);
            }
            for (head, word) in memory.rmap.iter().zip(heads) {
                head.store(word, Relaxed);
            }
            memory.control.fault_mode.reset(&kernel).unwrap();
            kernel.assert_sound();
        });
    };
    damaged(
        |m| m.rmap[6].store(0, Relaxed),
        |v| v == Violation::NotOnChain { index: 16 },
    );
    damaged(
        |m| m.rev[0].forw.store(16, Relaxed),
        |v| v == Violation::BrokenLinks { index: 0 },
    );
    damaged(
        |m| m.rmap[5].store(chain::PRESENT | 16, Relaxed),
        |v| v == Violation::WrongChain { gfn: 5, index: 16 },
    );
    damaged(
        |m| m.rmap[9].store(3, Relaxed),
        |v| v == Violation::BadHead { gfn: 9 },
    );
    damaged(
        |m| {
            m.rmap[9].store(chain::PRESENT | 24, Relaxed);
            m.rev[24].forw.store(24, Relaxed);
            m.rev[24].back.store(24, Relaxed);
        },
        |v| v == Violation::FreeMember { gfn: 9, index: 24 },
    );
    damaged(
        |m| m.rev[0].v.store(V | ABSENT, Relaxed),
        |v| v == Violation::RealEntry { index: 0 },
    );
    damaged(
        |m| m.rev[0].v.store(V | VALID | ABSENT, Relaxed),
        |v| v == Violation::BadEntry { index: 0 },
    );
    damaged(
        |m| m.rev[24].v.store(V | ABSENT, Relaxed),
        |v| {
            v == Violation::FaultMode {
                counted: 0,
                found: 1,
            }
        },
    );
    // Entry 8 leaves the chain of page 5 but stays valid.
    damaged(
        |m| {
            m.rev[0].forw.store(0, Relaxed);
            m.rev[0].back.store(0, Relaxed);
        },
        |v| v == Violation::BrokenLinks { index: 8 },
    );
    damaged(
        |m| m.rev[0].r.store(GFNS << 12, Relaxed),
        |v| v == Violation::NoSlot { index: 0 },
    );
}

/// H_ENTER 5 and 6, S4.7, 3.5: pages of 16 MiB in segments of all base page sizes, where the slot has them in one piece.
#[test]
fn s4_7_pages_of_16_mib() {
    const PAGES: u64 = 4096;
    let memory = Memory::new(3 * PAGES);
    let kernel = Kernel::new(&memory);
    let large = Slot {
        page_shift: 24,
        ..slot(0, 0, 2 * PAGES, SlotFlags::NONE)
    };
    let small = Slot {
        page_shift: 21,
        ..slot(1, 2 * PAGES, PAGES, SlotFlags::NONE)
    };
    memory.publish(&[large, small]);
    let hpt = memory.hpt(&kernel);
    let gpa = PAGES << 12;
    for (i, lp) in [0, 0x8000, 0x3_8000].into_iter().enumerate() {
        let index = 8 * i as u64;
        let entered = enter(&hpt, index, V | LARGE | (i as u64) << 7, gpa | lp | 2);
        assert_eq!((entered.status, entered.words[0]), (H_SUCCESS, index));
        let refused = enter(&hpt, index, V | LARGE, (2 * gpa) | lp | 2);
        assert_eq!(refused.status, H_PARAMETER, "its pieces are of 2 MiB");
    }
    assert_eq!(kernel.requests.get(), 1, "all of it is found at once");
    // Beside a small one in the middle of it, on a chain of its own.
    enter(&hpt, 24, V | 9 << 7, (gpa + 0x5000) | 2);
    kernel.access(8, true);
    kernel.access(24, true);
    hpt.verify_all().unwrap();
    kernel.assert_sound();
    let mut pages = Vec::new();
    let mut range = GfnRange {
        next: 0,
        end: 3 * PAGES,
    };
    while hpt.collect_dirty(&mut range, false, |gfn, n| {
        kernel.forget_touched(gfn.get(), C);
        pages.push((gfn.get(), n));
    }) == Ok(Progress::More)
    {}
    assert_eq!(pages, [(PAGES, PAGES), (PAGES + 5, 1)]);
    // INVALID: everything goes, and the guest still gets rid of it (S3.6).
    memory.publish(&[
        Slot {
            flags: SlotFlags::INVALID,
            ..large
        },
        small,
    ]);
    let mut range = GfnRange {
        next: 0,
        end: 2 * PAGES,
    };
    while hpt.flush(&mut range).unwrap() == Progress::More {}
    hpt.verify_unmapped(0, 2 * PAGES).unwrap();
    for gfn in PAGES..2 * PAGES {
        kernel.unmap(gfn).expect("no pin is left");
    }
    assert_eq!(enter(&hpt, 32, V | LARGE, gpa | 2).status, H_PARAMETER);
    let removed = |index| hpt.hypercall(H_REMOVE, [0, index, 0, 0, 0, 0, 0, 0]);
    assert!(removed(8).words[1] & C != 0);
    for index in [0, 16, 24] {
        assert_eq!(removed(index).status, H_SUCCESS);
    }
    kernel.assert_sound();
    hpt.verify_all().unwrap();
}

/// A page that is being reclaimed (BUSY): its flush lets nothing of it be mapped again, although the
/// GSpace has it until the end: what a guest enters on another core is ABSENT, what it faults on stays
/// so, and the page can be unmapped. Afterwards, or if the reclaim is given up, the guest gets it back.
#[test]
fn s2_9_s3_6_a_page_that_is_reclaimed_is_not_mapped_again() {
    for given_up in [false, true] {
        with(|_, kernel, hpt| {
            // Four of the 16 pages of a piece.
            for i in 0..4 {
                enter(hpt, 8 * i, V | i << 7, (32 + i) << 12 | 2);
            }
            kernel.access(0, true);
            kernel.requests.set(0);
            for gfn in 32..48 {
                kernel.backing.borrow_mut().insert(gfn, Backing::Busy);
            }
            let mut range = GfnRange { next: 32, end: 48 };
            assert_eq!(hpt.flush(&mut range), Ok(Progress::Done));
            // A guest on another core: the same entries, another of a page that has one, a large one, one
            // of a page that had none; with EXACT and without.
            let enter_more = |hpt: &_| {
                for (index, v, r) in [
                    (40, V | 9 << 7, 32 << 12),
                    (48, V | 9 << 7 | LARGE, 32 << 12 | 0x1000),
                    (56, V | 9 << 7, 47 << 12),
                ] {
                    assert_eq!(enter(hpt, index, v, r | 2).status, H_SUCCESS);
                }
            };
            enter_more(hpt);
            for index in (0..64).step_by(8) {
                assert!(!kernel.access(index, false), "{index} is mapped");
            }
            assert_eq!(hpt.state().fault_mode(), (7, true));
            assert_eq!(kernel.requests.get(), 3);
            // H_PROTECT changes the guest's view only.
            let protect = hpt.hypercall(H_PROTECT, [1, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(protect.status, H_SUCCESS);
            assert!(!kernel.access(0, false));
            for gfn in 32..48 {
                match given_up {
                    true => assert!(
                        kernel
                            .gspace
                            .borrow()
                            .get(&gfn)
                            .is_none_or(|leaf| leaf.pins == 0)
                    ),
                    false => assert_eq!(kernel.unmap(gfn), Ok(()), "nothing pins it"),
                }
            }
            kernel.backing.borrow_mut().clear();
            // One question for each page, then none.
            kernel.requests.set(0);
            for (index, r, requests) in [(64, 32, 1), (72, 32, 1), (80, 33, 2), (88, 33, 2)] {
                assert_eq!(enter(hpt, index, V | 8 << 7, r << 12 | 2).status, H_SUCCESS);
                assert!(kernel.access(index, true));
                assert_eq!(kernel.requests.get(), requests);
            }
            // A page outside the range was never concerned.
            enter(hpt, 96, V, 31 << 12 | 2);
            enter(hpt, 104, V, 48 << 12 | 2);
            kernel.requests.set(0);
            enter(hpt, 112, V | 1 << 7, 31 << 12 | 2);
            enter(hpt, 120, V | 1 << 7, 48 << 12 | 2);
            assert_eq!(kernel.requests.get(), 0);
        });
    }
}

/// A reset lets everything in again.
#[test]
fn a_reset_ends_what_a_flush_has_held_back() {
    with(|_, kernel, hpt| {
        enter(hpt, 0, V, 32 << 12 | 2);
        assert_eq!(
            hpt.flush(&mut GfnRange { next: 0, end: GFNS }),
            Ok(Progress::Done)
        );
        let mut cursor = 0;
        while hpt.reset(&mut cursor).unwrap() == Progress::More {}
        kernel.requests.set(0);
        assert_eq!(enter(hpt, 0, V, 32 << 12 | 2).status, H_SUCCESS);
        assert_eq!(kernel.requests.get(), 0);
    });
}
