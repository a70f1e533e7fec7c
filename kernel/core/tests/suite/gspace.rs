// SPDX-License-Identifier: BSD-2-Clause
//! Guest-physical address spaces: what is left of them in their tables, and of their pages in views.

use crate::rig::{Answer, DEVICE, READ_WRITE, Rig};
use partita_abi::{CapRights, ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode};
use partita_kernel_core::machine::Machine;
use partita_kernel_core::vspace::pages;
use partita_papr::hpte;

const WINDOW: u64 = 0x100_8000;

/// A GSpace with a bound table.
struct Space {
    gspace: u64,
    hpt: u64,
}

/// One without pages.
fn space(rig: &Rig) -> Space {
    let gspace = rig.gspace();
    let (hpt, _) = rig.hpt(gspace);
    Space { gspace, hpt }
}

/// One with tables for small pages, and a window to show them in.
fn viewable(rig: &Rig) -> Space {
    let space = space(rig);
    rig.gpage_tables(space.gspace);
    rig.own_page_tables(WINDOW);
    space
}

fn map(rig: &Rig, view: u64, gpa: u64) -> Answer {
    let vspace = init_cnode::VSPACE as u64;
    rig.invoke(view, L::ViewMap, &[gpa, WINDOW, 0], &[vspace])
}

fn insert(rig: &Rig, space: &Space, entry: u64) -> Result<(), E> {
    let words = [entry, 0x1000 | hpte::VALID, hpte::M | 2];
    let answer = rig.invoke(space.hpt, L::HPTInsert, &words, &[]);
    answer.map(drop).map_err(|(error, _)| error)
}

#[test]
fn gspace0001_tables_of_a_dead_gspace_bring_no_pages_into_another() {
    let rig = Rig::new();
    let [first, second] = [space(&rig), space(&rig)];
    let tables = rig.gpage_tables(first.gspace);
    rig.guest_page(first.gspace, 0);
    insert(&rig, &first, 1).unwrap();
    rig.delete(first.gspace);
    for table in tables {
        let (at, old) = ([0, 0], E::InvalidCapability);
        rig.refused(table, L::GPageTableMap, &at, &[second.gspace], old, &[0]);
        rig.ok(table, L::GPageTableUnmap, &[], &[]);
        rig.ok(table, L::GPageTableMap, &[0, 0], &[second.gspace]);
    }
    assert_eq!(insert(&rig, &second, 1), Err(E::FailedLookup));
    // Not in use: they can be unmapped again.
    for table in tables.into_iter().rev() {
        rig.ok(table, L::GPageTableUnmap, &[], &[]);
    }
    crate::invariants::check(&rig);
}

#[test]
fn gspace0002_a_table_below_a_deleted_one_is_empty_and_free() {
    let rig = Rig::new();
    let space = space(&rig);
    let [outer, inner] = rig.gpage_tables(space.gspace);
    let frame = rig.guest_page(space.gspace, 0);
    insert(&rig, &space, 1).unwrap();
    rig.refused(inner, L::GPageTableUnmap, &[], &[], E::RevokeFirst, &[]);
    // It holds what is pinned: the table is poisoned, and neither page nor pins can be found any more.
    rig.delete(outer);
    assert_eq!(insert(&rig, &space, 2), Err(E::IllegalOperation));
    rig.ok(space.hpt, L::HPTClear, &[], &[]);
    assert_eq!(insert(&rig, &space, 2), Err(E::FailedLookup));
    rig.ok(frame, L::PageUnmap, &[], &[]);
    rig.ok(inner, L::GPageTableUnmap, &[], &[]);
    // In its place anew it has no page and no pin, and works.
    rig.gpage_table(space.gspace);
    rig.ok(inner, L::GPageTableMap, &[0, 0], &[space.gspace]);
    assert_eq!(insert(&rig, &space, 3), Err(E::FailedLookup));
    rig.ok(frame, L::PageMap, &[0, READ_WRITE, 0], &[space.gspace]);
    insert(&rig, &space, 3).unwrap();
    rig.refused(inner, L::GPageTableUnmap, &[], &[], E::RevokeFirst, &[]);
    rig.ok(space.hpt, L::HPTRemove, &[3], &[]);
    rig.ok(frame, L::PageUnmap, &[], &[]);
    rig.ok(inner, L::GPageTableUnmap, &[], &[]);
    crate::invariants::check(&rig);
}

/// What a view shows at its place.
fn shown(rig: &Rig) -> u64 {
    let root = rig.addr(init_cnode::VSPACE as u64);
    let mut at = root + 8 * (WINDOW >> 39);
    for shift in [30, 21, 12] {
        let next = rig.m.read_pte(at) & 0x01ff_ffff_ffff_ff00;
        at = next + 8 * ((WINDOW >> shift) & 511);
    }
    let leaf = rig.m.read_pte(at);
    if leaf >> 63 == 0 {
        return 0;
    }
    leaf & 0x01ff_ffff_ffff_f000
}

#[test]
fn gspace0003_a_view_whose_page_is_taken_away_shows_an_empty_page_till_it_is_unmapped() {
    let rig = Rig::new();
    let space = viewable(&rig);
    let frame = rig.guest_page(space.gspace, 0);
    let views = [0; 2].map(|_| rig.view(space.gspace));
    map(&rig, views[0], 0).unwrap();
    assert_eq!(shown(&rig), rig.addr(frame));
    let empty = rig.addr(space.gspace) + 4096;
    rig.delete(frame);
    assert_eq!(shown(&rig), empty, "no access to it is a fault");
    // Emptying the table does not bring the page back, nor is the place free.
    rig.ok(space.hpt, L::HPTClear, &[], &[]);
    assert_eq!(shown(&rig), empty);
    rig.guest_page(space.gspace, 0);
    assert_eq!(shown(&rig), empty);
    assert!(map(&rig, views[1], 0).is_err());
    insert(&rig, &space, 1).unwrap();
    crate::invariants::check(&rig);
    rig.ok(views[0], L::ViewUnmap, &[], &[]);
    assert_eq!(shown(&rig), 0);
    map(&rig, views[1], 0).unwrap();
    assert_ne!(shown(&rig), empty);
    // The end of the GSpace ends what views show, the empty page too.
    rig.ok(space.hpt, L::HPTRemove, &[1], &[]);
    for view in [views[0], space.gspace] {
        rig.delete(view);
    }
    assert_ne!(shown(&rig), 0, "a view keeps it alive");
    rig.delete(views[1]);
    assert_eq!(shown(&rig), 0);
    crate::invariants::check(&rig);
}

/// A copy of a view with fewer rights shows a page with fewer rights; one that may not even read shows none.
#[test]
fn gspace0006_a_copy_of_a_view_has_no_more_rights_than_it_was_given() {
    let rig = Rig::new();
    let space = viewable(&rig);
    rig.guest_page(space.gspace, 0);
    let view = rig.view(space.gspace);
    let (root, vspace) = (init_cnode::CNODE as u64, init_cnode::VSPACE as u64);
    let copies = [CapRights::READ, CapRights::WRITE].map(|rights| {
        let copy = rig.fresh();
        let words = [copy, 64, view, 64, rights.0];
        rig.ok(root, L::CNodeCopy, &words, &[root]);
        copy
    });
    map(&rig, copies[0], 0).unwrap();
    let writable = || {
        let mut found = None;
        pages(&*rig.m, rig.addr(vspace), &mut |page| {
            if page.vaddr == WINDOW {
                found = Some(page.rights.contains(CapRights::WRITE));
            }
        });
        found
    };
    assert_eq!(writable(), Some(false));
    rig.ok(copies[0], L::ViewUnmap, &[], &[]);
    let none = Err((E::InvalidCapability, vec![0]));
    assert_eq!(map(&rig, copies[1], 0), none);
    map(&rig, view, 0).unwrap();
    assert_eq!(writable(), Some(true));
    crate::invariants::check(&rig);
}

/// Devices lie above 2^48.
#[test]
fn gspace0005_a_page_of_a_device_is_that_of_the_device() {
    let rig = Rig::new();
    let space = viewable(&rig);
    let (kind, frame) = (ObjectType::Frame4K as u64, rig.fresh());
    let root = init_cnode::CNODE as u64;
    let make = [kind, 0, 0, 0, frame, 1];
    rig.ok(rig.device, L::UntypedRetype, &make, &[root]);
    rig.ok(frame, L::PageMap, &[0, READ_WRITE, 0], &[space.gspace]);
    insert(&rig, &space, 1).unwrap();
    let dw1 = rig.m.read_hpte(rig.addr(space.hpt) + 16, 1);
    assert_eq!(dw1 & hpte::RPN_ISA30, DEVICE);
    assert_eq!(dw1 & hpte::WIMG, hpte::I | hpte::G);
    let view = rig.view(space.gspace);
    map(&rig, view, 0).unwrap();
    assert_eq!(shown(&rig), DEVICE);
    rig.ok(view, L::ViewUnmap, &[], &[]);
    rig.refused(frame, L::PageUnmap, &[], &[], E::RevokeFirst, &[]);
    rig.ok(space.hpt, L::HPTRemove, &[1], &[]);
    rig.ok(frame, L::PageUnmap, &[], &[]);
    assert_eq!(insert(&rig, &space, 1), Err(E::FailedLookup));
    crate::invariants::check(&rig);
}

const MIB: u64 = 1 << 20;
const LARGE: u64 = 16 * MIB;

/// Two views were mapped at one place, one after the other; the first one's page was taken away, and the page table that
/// showed it is gone.
#[test]
fn gspace0004_a_view_ends_its_own_mapping_not_one_that_stood_there_before() {
    let rig = Rig::new();
    let space = space(&rig);
    rig.gpage_tables(space.gspace);
    let [_, _, last] = rig.own_page_tables(WINDOW);
    let vspace = init_cnode::VSPACE as u64;
    let frame = rig.guest_page(space.gspace, 0);
    let [old, new] = [0; 2].map(|_| rig.view(space.gspace));
    map(&rig, old, 0).unwrap();
    rig.delete(frame);
    rig.ok(space.hpt, L::HPTClear, &[], &[]);
    rig.ok(last, L::PageTableUnmap, &[], &[]);
    rig.ok(last, L::PageTableMap, &[WINDOW, 0], &[vspace]);
    let frame = rig.guest_page(space.gspace, 0x1000);
    map(&rig, new, 0x1000).unwrap();
    assert_eq!(shown(&rig), rig.addr(frame));
    rig.delete(new);
    assert_eq!(shown(&rig), 0);
    rig.ok(frame, L::PageUnmap, &[], &[]);
    rig.ok(old, L::ViewUnmap, &[], &[]);
    crate::invariants::check(&rig);
}

/// Eight frames of 2 MiB in a row from a real address that is a multiple of 16 MiB.
fn row(rig: &Rig) -> Vec<u64> {
    let frames = rig.make_many(ObjectType::Frame2M, 0, 15);
    let first = (frames..).find(|f| rig.addr(*f).is_multiple_of(LARGE));
    (first.unwrap()..).take(8).collect()
}

/// Maps frames one after another from a guest real address on.
fn map_row(rig: &Rig, space: &Space, frames: &[u64], gpa: u64, rights: impl Fn(usize) -> u64) {
    for (i, frame) in frames.iter().enumerate() {
        let words = [gpa + 2 * MIB * i as u64, rights(i), 0];
        rig.ok(*frame, L::PageMap, &words, &[space.gspace]);
    }
}

/// An entry for a page of 16 MiB at `gpa`; `lp` says in which segment.
fn insert_large(rig: &Rig, space: &Space, entry: u64, gpa: u64, lp: u64) -> Result<(), E> {
    let words = [
        entry,
        0x1000 | hpte::LARGE | hpte::VALID,
        gpa | lp | hpte::M | 2,
    ];
    let answer = rig.invoke(space.hpt, L::HPTInsert, &words, &[]);
    answer.map(drop).map_err(|(error, _)| error)
}

fn unmap_all(rig: &Rig, frames: &[u64]) -> Vec<bool> {
    let unmap = |frame: &u64| rig.invoke(*frame, L::PageUnmap, &[], &[]).is_ok();
    frames.iter().map(unmap).collect()
}

#[test]
fn gspace0010_a_page_of_16_mib_pins_its_eight_frames() {
    let rig = Rig::with_memory(64 << 20);
    let space = space(&rig);
    rig.gpage_table(space.gspace);
    let frames = row(&rig);
    map_row(&rig, &space, &frames, LARGE, |_| READ_WRITE);
    // In segments of 16 MiB, 64 KiB and 4 KiB pages (SPEC 3.5).
    for (entry, lp) in [(1, 0), (2, 0x8000), (3, 0x3_8000)] {
        insert_large(&rig, &space, entry, LARGE, lp).unwrap();
        let at = rig.addr(space.hpt) + 16 * entry;
        let r = rig.m.read_hpte(at, 1);
        assert_eq!(
            r & hpte::RPN_ISA30 & !(LARGE - 1),
            rig.addr(frames[0]),
            "one address for all"
        );
        assert_eq!(r & 0xff000, lp);
    }
    assert_eq!(unmap_all(&rig, &frames), [false; 8]);
    for entry in [1, 2] {
        rig.ok(space.hpt, L::HPTRemove, &[entry], &[]);
        assert_eq!(unmap_all(&rig, &frames), [false; 8]);
    }
    rig.ok(space.hpt, L::HPTRemoveBatch, &[1, 3], &[]);
    assert_eq!(unmap_all(&rig, &frames), [true; 8]);
}

#[test]
fn gspace0011_the_frames_of_a_page_of_16_mib_are_alike_and_in_a_row() {
    let rig = Rig::with_memory(64 << 20);
    let space = space(&rig);
    rig.gpage_table(space.gspace);
    let frames = row(&rig);
    let insert = |gpa| insert_large(&rig, &space, 1, gpa, 0);
    // Not aligned: not at a multiple of 16 MiB of real memory.
    map_row(&rig, &space, &frames, LARGE + 2 * MIB, |_| READ_WRITE);
    assert_eq!(insert(LARGE), Err(E::FailedLookup));
    unmap_all(&rig, &frames);
    // Not in order.
    let mut other = frames.clone();
    other.swap(3, 6);
    map_row(&rig, &space, &other, LARGE, |_| READ_WRITE);
    assert_eq!(insert(LARGE), Err(E::FailedLookup));
    unmap_all(&rig, &frames);
    // With different rights.
    let odd = |i| {
        if i == 7 {
            CapRights::READ.0
        } else {
            READ_WRITE
        }
    };
    map_row(&rig, &space, &frames, LARGE, odd);
    assert_eq!(insert(LARGE), Err(E::FailedLookup));
    unmap_all(&rig, &frames);
    // One of them missing, whichever.
    for missing in 0..8 {
        map_row(&rig, &space, &frames, LARGE, |_| READ_WRITE);
        rig.ok(frames[missing], L::PageUnmap, &[], &[]);
        assert_eq!(insert(LARGE), Err(E::FailedLookup), "{missing}");
        assert_eq!(unmap_all(&rig, &frames), [true; 8]);
    }
    // No half of it is left pinned; all there, it works. One frame's end is the end of all.
    map_row(&rig, &space, &frames, LARGE, |_| READ_WRITE);
    insert(LARGE).unwrap();
    rig.delete(frames[5]);
    assert_eq!(
        insert_large(&rig, &space, 2, LARGE, 0),
        Err(E::IllegalOperation)
    );
    rig.ok(space.hpt, L::HPTClear, &[], &[]);
    assert_eq!(insert(LARGE), Err(E::FailedLookup));
    let rest: Vec<u64> = frames.iter().copied().filter(|f| *f != frames[5]).collect();
    assert_eq!(unmap_all(&rig, &rest), [true; 7]);
}
