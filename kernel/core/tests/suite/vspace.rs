// SPDX-License-Identifier: BSD-2-Clause
//! Frames, page tables, PIDs.

use crate::invariants::check;
use crate::mock::Event;
use crate::rig::{EMPTY, Rig};
use partita_abi::{
    CapRights, ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode, limits,
};
use partita_kernel_core::machine::Machine;
use partita_kernel_core::vspace::{MappedPage, pages};

const ROOT: u64 = init_cnode::CNODE as u64;
const POOL: u64 = init_cnode::ASID_POOL as u64;
const RW: u64 = 3;
const VADDR: u64 = 0x4000_0000;

/// An address space with tables down to 4 KiB pages around `VADDR`.
struct Space {
    vspace: u64,
    tables: [u64; 3],
}

fn space(rig: &Rig) -> Space {
    let vspace = rig.make(ObjectType::VSpace);
    rig.ok(POOL, L::ASIDPoolAssign, &[], &[vspace]);
    let tables = rig.page_tables(vspace, VADDR);
    Space { vspace, tables }
}

/// Maps a frame into a new address space; returns its slot.
pub fn mapped_frame(rig: &Rig, frame: u64) -> u64 {
    let s = space(rig);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
    frame
}

/// The leaf entry for `vaddr`.
fn leaf(rig: &Rig, vspace: u64, vaddr: u64) -> Option<u64> {
    let mut table = rig.addr(vspace);
    for shift in [39, 30, 21, 12] {
        let mask = if shift == 39 { 0x1fff } else { 0x1ff };
        let pte = rig.m.read_pte(table + 8 * ((vaddr >> shift) & mask));
        if pte >> 63 == 0 {
            return None;
        }
        if pte >> 62 & 1 == 1 {
            return Some(pte);
        }
        table = pte & 0x01ff_ffff_ffff_f000;
    }
    None
}

fn pid(rig: &Rig, vspace: u64) -> u64 {
    rig.m.read_pte(rig.addr(vspace) + 8191 * 8)
}

#[test]
fn frameexports0001_sizes_map_and_unmap() {
    let rig = Rig::with_memory(16 << 20);
    let s = space(&rig);
    for (kind, size) in [
        (ObjectType::Frame4K, 0x1000u64),
        (ObjectType::Frame64K, 0x1_0000),
    ] {
        let frame = rig.make(kind);
        rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
        for at in (0..size).step_by(0x1000) {
            let pte = leaf(&rig, s.vspace, VADDR + at).expect("mapped");
            assert_eq!(pte & 0x01ff_ffff_ffff_f000, rig.addr(frame) + at);
            assert_eq!(pte & 7, 7, "read, write, execute");
        }
        assert_eq!(leaf(&rig, s.vspace, VADDR + size), None);
        check(&rig);
        assert_eq!(
            rig.ok(frame, L::PageGetAddress, &[], &[]),
            [rig.addr(frame)]
        );
        rig.ok(frame, L::PageUnmap, &[], &[]);
        let flush = Event::Flush(pid(&rig, s.vspace), VADDR, size.trailing_zeros());
        assert_eq!(rig.m.log.borrow().last(), Some(&flush));
        assert_eq!(leaf(&rig, s.vspace, VADDR), None);
        // Unmapping what is not mapped is no error.
        rig.ok(frame, L::PageUnmap, &[], &[]);
        check(&rig);
    }
    // A large page has the place of a table.
    let large = rig.make(ObjectType::Frame2M);
    rig.refused(
        large,
        L::PageMap,
        &[VADDR, RW, 0],
        &[s.vspace],
        E::DeleteFirst,
        &[],
    );
    let next = VADDR + (2 << 20);
    rig.ok(large, L::PageMap, &[next, RW, 0], &[s.vspace]);
    assert!(leaf(&rig, s.vspace, next + 0x12_3000).is_some());
    let small = rig.make(ObjectType::Frame4K);
    rig.refused(
        small,
        L::PageMap,
        &[next, RW, 0],
        &[s.vspace],
        E::DeleteFirst,
        &[],
    );
    let table = rig.make(ObjectType::PageTable);
    rig.refused(
        table,
        L::PageTableMap,
        &[next, 0],
        &[s.vspace],
        E::DeleteFirst,
        &[],
    );
    check(&rig);
}

/// What hardware would translate, in order, with its rights.
#[test]
fn vspace0002_pages_of_a_space_are_listed() {
    let rig = Rig::with_memory(16 << 20);
    let s = space(&rig);
    let root = rig.addr(s.vspace);
    let listed = || {
        let mut list = Vec::new();
        pages(&*rig.m, root, &mut |page| list.push(page));
        list
    };
    assert_eq!(listed(), []);
    let high = rig.make(ObjectType::Frame4K);
    rig.ok(high, L::PageMap, &[VADDR + 0x3000, 2, 1 | 2], &[s.vspace]);
    let low = rig.make(ObjectType::Frame4K);
    rig.ok(low, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
    let page = |frame, offset, rights, execute| MappedPage {
        vaddr: VADDR + offset,
        addr: rig.addr(frame),
        bits: 12,
        rights: CapRights(rights),
        execute,
        device: false,
    };
    let (first, second) = (page(low, 0, 3, true), page(high, 0x3000, 2, false));
    assert_eq!(listed(), [first, second]);
    rig.ok(low, L::PageUnmap, &[], &[]);
    assert_eq!(listed(), [second]);
}

#[test]
fn vspace0001_misuse_of_page_map() {
    let rig = Rig::with_memory(16 << 20);
    let s = space(&rig);
    let frame = rig.make(ObjectType::Frame4K);
    let (f16, f21) = (
        rig.make(ObjectType::Frame64K),
        rig.make(ObjectType::Frame2M),
    );
    let good = [VADDR, RW, 0];
    let refused = |frame: u64, args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(frame, L::PageMap, args, caps, e, d);
    };
    for n in 0..3 {
        refused(frame, &good[..n], &[s.vspace], E::TruncatedMessage, &[]);
    }
    refused(frame, &good, &[], E::TruncatedMessage, &[]);
    refused(frame, &good, &[frame], E::InvalidCapability, &[1]);
    refused(frame, &good, &[EMPTY], E::InvalidCapability, &[1]);
    let unassigned = rig.make(ObjectType::VSpace);
    refused(
        frame,
        &good,
        &[unassigned],
        E::FailedLookup,
        &[0, 1, 0, 0, 0],
    );
    refused(
        frame,
        &[VADDR + 8, RW, 0],
        &[s.vspace],
        E::AlignmentError,
        &[],
    );
    refused(
        f16,
        &[VADDR + 0x1000, RW, 0],
        &[s.vspace],
        E::AlignmentError,
        &[],
    );
    refused(
        f21,
        &[VADDR + 0x1_0000, RW, 0],
        &[s.vspace],
        E::AlignmentError,
        &[],
    );
    for top in [1 << 46, 1 << 47, 1 << 63, !0xfff] {
        refused(frame, &[top, RW, 0], &[s.vspace], E::InvalidArgument, &[0]);
    }
    // The last page of user space is inside; it only lacks its tables.
    let last = (1 << 46) - 0x1000;
    refused(
        frame,
        &[last, RW, 0],
        &[s.vspace],
        E::FailedLookup,
        &[0, 2, 39, 0, 0],
    );
    refused(
        frame,
        &[VADDR + (1 << 30), RW, 0],
        &[s.vspace],
        E::FailedLookup,
        &[0, 2, 30, 0, 0],
    );
    refused(
        frame,
        &[VADDR + (2 << 20), RW, 0],
        &[s.vspace],
        E::FailedLookup,
        &[0, 2, 21, 0, 0],
    );
    // In use by another frame; a 64K frame over one small page.
    let other = rig.make(ObjectType::Frame4K);
    rig.ok(other, L::PageMap, &[VADDR + 0x5000, RW, 0], &[s.vspace]);
    refused(
        frame,
        &[VADDR + 0x5000, RW, 0],
        &[s.vspace],
        E::DeleteFirst,
        &[],
    );
    refused(f16, &good, &[s.vspace], E::DeleteFirst, &[]);
    // Mapped elsewhere already, here or in another space.
    refused(other, &good, &[s.vspace], E::InvalidCapability, &[0]);
    let second = space(&rig);
    refused(
        other,
        &[VADDR + 0x5000, RW, 0],
        &[second.vspace],
        E::InvalidCapability,
        &[0],
    );
    refused(frame, &[], &[], E::TruncatedMessage, &[]);
    rig.refused(frame, L::TCBResume, &[], &[], E::IllegalOperation, &[]);
    rig.refused(s.vspace, L::PageMap, &good, &[], E::IllegalOperation, &[]);
    check(&rig);
}

#[test]
fn framexn0001_rights_and_attributes() {
    let rig = Rig::new();
    let s = space(&rig);
    let frame = rig.make(ObjectType::Frame4K);
    let read_only = rig.mint(frame, CapRights::READ.0, 0);
    let map = |slot: u64, rights: u64, attr: u64| {
        rig.ok(slot, L::PageMap, &[VADDR, rights, attr], &[s.vspace]);
        let pte = leaf(&rig, s.vspace, VADDR).expect("mapped");
        check(&rig);
        rig.ok(slot, L::PageUnmap, &[], &[]);
        pte & 0x3f
    };
    assert_eq!(map(frame, RW, 0), 0x7);
    assert_eq!(map(frame, RW, 1), 0x6, "execute never");
    assert_eq!(map(frame, 2, 0), 0x5);
    assert_eq!(map(frame, 2, 1), 0x4);
    assert_eq!(map(frame, 0, 0), 0, "no right, no access");
    assert_eq!(map(frame, RW, 2), 0x7, "memory is cached");
    // The capability's rights bound those asked for.
    assert_eq!(map(read_only, RW, 1), 0x4);
    let device = rig.fresh();
    let args = [ObjectType::Frame4K as u64, 0, 0, 0, device, 1];
    rig.ok(rig.device, L::UntypedRetype, &args, &[ROOT]);
    assert_eq!(
        map(device, RW, 0),
        0x26,
        "device pages are guarded and hold no code"
    );
}

#[test]
fn frame_remap_changes_rights_and_breaks_before_it_makes() {
    let rig = Rig::new();
    let s = space(&rig);
    let frame = rig.make(ObjectType::Frame64K);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 1], &[s.vspace]);
    let flushes = rig.m.log.borrow().len();
    rig.ok(frame, L::PageMap, &[VADDR, 2, 1], &[s.vspace]);
    assert_eq!(leaf(&rig, s.vspace, VADDR + 0xf000).expect("mapped") & 7, 4);
    assert!(rig.m.log.borrow().len() > flushes);
    check(&rig);
}

#[test]
fn frames_are_unmapped_with_their_capability() {
    let rig = Rig::new();
    let s = space(&rig);
    let frame = rig.make(ObjectType::Frame4K);
    let copy = rig.copy(frame);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
    rig.ok(copy, L::PageMap, &[VADDR + 0x1000, RW, 0], &[s.vspace]);
    rig.delete(copy);
    assert!(leaf(&rig, s.vspace, VADDR).is_some());
    assert!(leaf(&rig, s.vspace, VADDR + 0x1000).is_none());
    // The mapping goes with a move.
    let moved = rig.fresh();
    rig.ok(ROOT, L::CNodeMove, &[moved, 64, frame, 64], &[ROOT]);
    rig.delete(moved);
    assert!(leaf(&rig, s.vspace, VADDR).is_none());
    check(&rig);
}

#[test]
fn pagetable_misuse_and_unmap() {
    let rig = Rig::new();
    let s = space(&rig);
    let table = rig.make(ObjectType::PageTable);
    let refused = |slot: u64, args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(slot, L::PageTableMap, args, caps, e, d);
    };
    refused(table, &[], &[s.vspace], E::TruncatedMessage, &[]);
    refused(table, &[VADDR], &[s.vspace], E::TruncatedMessage, &[]);
    refused(table, &[VADDR, 0], &[], E::TruncatedMessage, &[]);
    refused(table, &[VADDR, 0], &[table], E::InvalidCapability, &[1]);
    refused(table, &[VADDR, 0], &[s.vspace], E::DeleteFirst, &[]);
    refused(table, &[1 << 46, 0], &[s.vspace], E::InvalidArgument, &[0]);
    let unassigned = rig.make(ObjectType::VSpace);
    refused(
        table,
        &[VADDR, 0],
        &[unassigned],
        E::FailedLookup,
        &[0, 1, 0, 0, 0],
    );
    // Mapped already.
    refused(
        s.tables[2],
        &[VADDR + (2 << 20), 0],
        &[s.vspace],
        E::InvalidCapability,
        &[0],
    );
    rig.refused(table, L::PageMap, &[], &[], E::IllegalOperation, &[]);
    // A copy keeps the table where it is.
    let copy = rig.copy(s.tables[2]);
    rig.refused(
        s.tables[2],
        L::PageTableUnmap,
        &[],
        &[],
        E::RevokeFirst,
        &[],
    );
    let frame = rig.make(ObjectType::Frame4K);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
    rig.delete(s.tables[2]);
    assert!(leaf(&rig, s.vspace, VADDR).is_some(), "the copy holds it");
    rig.ok(copy, L::PageTableUnmap, &[], &[]);
    assert!(leaf(&rig, s.vspace, VADDR).is_none());
    rig.ok(copy, L::PageTableMap, &[VADDR, 0], &[s.vspace]);
    assert!(
        leaf(&rig, s.vspace, VADDR).is_none(),
        "an unmapped table is clear"
    );
    check(&rig);
    rig.delete(copy);
    check(&rig);
    // The frame can be mapped again after its table went.
    rig.ok(table, L::PageTableMap, &[VADDR, 0], &[s.vspace]);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
    check(&rig);
}

/// A table keeps its entries when its address space goes; frames that are deleted then are not found
/// in it. It must not come back with them.
#[test]
fn a_table_of_a_dead_space_maps_nothing_elsewhere() {
    let rig = Rig::new();
    let (dead, live) = (space(&rig), space(&rig));
    let frame = rig.make(ObjectType::Frame4K);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[dead.vspace]);
    let copy = rig.copy(dead.tables[2]);
    rig.delete(dead.vspace);
    rig.delete(frame);
    check(&rig);
    let elsewhere = VADDR + (2 << 20);
    // Neither capability of the table maps it before it is unmapped, which clears it.
    for table in [copy, dead.tables[2]] {
        rig.refused(
            table,
            L::PageTableMap,
            &[elsewhere, 0],
            &[live.vspace],
            E::InvalidCapability,
            &[0],
        );
    }
    rig.delete(copy);
    rig.ok(dead.tables[2], L::PageTableUnmap, &[], &[]);
    rig.ok(
        dead.tables[2],
        L::PageTableMap,
        &[elsewhere, 0],
        &[live.vspace],
    );
    assert_eq!(leaf(&rig, live.vspace, elsewhere), None);
    check(&rig);
}

fn second_pool(rig: &Rig) -> (u64, u64) {
    let memory = rig.make_many(ObjectType::Untyped, 12, 1);
    let pool = rig.fresh();
    let control = init_cnode::ASID_CONTROL as u64;
    rig.ok(
        control,
        L::ASIDControlMakePool,
        &[pool, 64],
        &[memory, ROOT],
    );
    (memory, pool)
}

#[test]
fn asid_control_misuse() {
    let rig = Rig::new();
    let control = init_cnode::ASID_CONTROL as u64;
    let (small, large) = (
        rig.make_many(ObjectType::Untyped, 11, 1),
        rig.make_many(ObjectType::Untyped, 13, 1),
    );
    let memory = rig.make_many(ObjectType::Untyped, 12, 1);
    let refused = |args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(control, L::ASIDControlMakePool, args, caps, e, d);
    };
    refused(&[], &[memory, ROOT], E::TruncatedMessage, &[]);
    refused(&[EMPTY], &[memory, ROOT], E::TruncatedMessage, &[]);
    refused(&[EMPTY, 64], &[memory], E::TruncatedMessage, &[]);
    for bad in [small, large, rig.device, ROOT] {
        refused(&[EMPTY, 64], &[bad, ROOT], E::InvalidCapability, &[1]);
    }
    refused(&[1, 64], &[memory, ROOT], E::DeleteFirst, &[]);
    refused(&[1, 65], &[memory, ROOT], E::RangeError, &[1, 64]);
    refused(
        &[EMPTY, 64],
        &[memory, memory],
        E::FailedLookup,
        &[0, 1, 0, 0, 0],
    );
    let args = [ObjectType::Endpoint as u64, 0, 0, 0, 700, 1];
    rig.ok(memory, L::UntypedRetype, &args, &[ROOT]);
    refused(&[EMPTY, 64], &[memory, ROOT], E::RevokeFirst, &[]);
    rig.refused(
        control,
        L::ASIDPoolAssign,
        &[],
        &[],
        E::IllegalOperation,
        &[],
    );
    for _ in 1..limits::MAX_ASID_POOLS {
        second_pool(&rig);
    }
    let last = rig.make_many(ObjectType::Untyped, 12, 1);
    refused(&[EMPTY, 64], &[last, ROOT], E::DeleteFirst, &[]);
    check(&rig);
}

#[test]
fn asid_pool_misuse() {
    let rig = Rig::new();
    let vspace = rig.make(ObjectType::VSpace);
    let refused = |caps: &[u64], e: E, d: &[u64]| {
        rig.refused(POOL, L::ASIDPoolAssign, &[], caps, e, d);
    };
    refused(&[], E::TruncatedMessage, &[]);
    refused(&[POOL], E::InvalidCapability, &[1]);
    rig.refused(
        POOL,
        L::ASIDControlMakePool,
        &[],
        &[],
        E::IllegalOperation,
        &[],
    );
    rig.ok(POOL, L::ASIDPoolAssign, &[], &[vspace]);
    assert!(matches!(
        rig.m.log.borrow().last(),
        Some(Event::SetPidRoot(2, _))
    ));
    refused(&[vspace], E::InvalidCapability, &[1]);
    check(&rig);
}

#[test]
fn a_pool_gives_its_pids_and_no_more() {
    let rig = Rig::with_memory(32 << 20);
    // PID 0 is never handed out and PID 1 is the root task's.
    let mut pids = Vec::new();
    for _ in 2..limits::ASIDS_PER_POOL {
        let v = rig.make(ObjectType::VSpace);
        rig.ok(POOL, L::ASIDPoolAssign, &[], &[v]);
        pids.push(pid(&rig, v));
    }
    assert_eq!(pids, (2..limits::ASIDS_PER_POOL as u64).collect::<Vec<_>>());
    let v = rig.make(ObjectType::VSpace);
    rig.refused(POOL, L::ASIDPoolAssign, &[], &[v], E::DeleteFirst, &[]);
    check(&rig);
}

#[test]
fn a_thread_leaves_a_space_that_is_deleted() {
    let rig = Rig::new();
    let s = space(&rig);
    let th = rig.thread(50);
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &[EMPTY, ROOT, s.vspace]);
    let old = pid(&rig, s.vspace);
    assert_eq!(rig.tcb(th.t).pid.get(), old);
    rig.delete(s.vspace);
    // The thread holds the last capability and keeps the space.
    assert_eq!(rig.tcb(th.t).pid.get(), old);
    check(&rig);
    rig.ok(
        th.tcb,
        L::TCBSetSpace,
        &[0, 0],
        &[EMPTY, ROOT, init_cnode::VSPACE as u64],
    );
    assert_eq!(rig.m.log.borrow().last(), Some(&Event::SetPidRoot(old, 0)));
    check(&rig);
}

/// A PID pool that is deleted takes its address spaces' PIDs. No thread may find itself in another
/// space, and no space may come back with entries that the kernel could not remove meanwhile.
#[test]
fn a_deleted_pool_leaves_its_spaces_dead() {
    let rig = Rig::new();
    let (memory, pool) = second_pool(&rig);
    let vspace = rig.make(ObjectType::VSpace);
    rig.ok(pool, L::ASIDPoolAssign, &[], &[vspace]);
    let tables = rig.page_tables(vspace, VADDR);
    let frame = rig.make(ObjectType::Frame4K);
    rig.ok(frame, L::PageMap, &[VADDR, RW, 0], &[vspace]);
    let th = rig.thread(50);
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &[EMPTY, ROOT, vspace]);
    let old = rig.tcb(th.t).pid.get();
    rig.revoke(memory);
    assert!(rig.m.log.borrow().contains(&Event::SetPidRoot(old, 0)));
    check(&rig);
    // These go without a trace in the dead space ...
    rig.delete(tables[2]);
    rig.delete(frame);
    // ... so it must not get a PID again, nor be of use.
    rig.refused(
        POOL,
        L::ASIDPoolAssign,
        &[],
        &[vspace],
        E::InvalidCapability,
        &[1],
    );
    let other = rig.make(ObjectType::Frame4K);
    rig.refused(
        other,
        L::PageMap,
        &[VADDR, RW, 0],
        &[vspace],
        E::FailedLookup,
        &[0, 1, 0, 0, 0],
    );
    let set = [EMPTY, ROOT, vspace];
    rig.refused(
        th.tcb,
        L::TCBSetSpace,
        &[0, 0],
        &set,
        E::IllegalOperation,
        &[],
    );
    check(&rig);
    // A new pool does not give the PID of the stranded thread to somebody else.
    let (_, again) = second_pool(&rig);
    let stranger = rig.make(ObjectType::VSpace);
    rig.ok(again, L::ASIDPoolAssign, &[], &[stranger]);
    check(&rig);
    rig.delete(vspace);
    check(&rig);
    rig.revoke(rig.untyped);
    check(&rig);
}

#[test]
fn buffers_and_frames_of_a_thread() {
    let rig = Rig::new();
    let th = rig.thread(50);
    let frame = rig.make(ObjectType::Frame4K);
    let refused = |args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(th.tcb, L::TCBSetIPCBuffer, args, caps, e, d);
    };
    refused(&[], &[frame], E::TruncatedMessage, &[]);
    refused(&[VADDR], &[], E::TruncatedMessage, &[]);
    refused(&[VADDR + 8], &[frame], E::AlignmentError, &[]);
    refused(&[VADDR], &[ROOT], E::IllegalOperation, &[]);
    let read_only = rig.mint(frame, CapRights::READ.0, 0);
    refused(&[VADDR], &[read_only], E::IllegalOperation, &[]);
    let device = rig.fresh();
    let args = [ObjectType::Frame4K as u64, 0, 0, 0, device, 1];
    rig.ok(rig.device, L::UntypedRetype, &args, &[ROOT]);
    refused(&[VADDR], &[device], E::IllegalOperation, &[]);
    rig.ok(th.tcb, L::TCBSetIPCBuffer, &[VADDR + 0x400], &[frame]);
    assert_eq!(rig.tcb(th.t).ipc_buffer.get(), rig.addr(frame) + 0x400);
    check(&rig);
    // The buffer goes with the frame.
    rig.revoke(frame);
    assert_eq!(rig.tcb(th.t).ipc_buffer.get(), 0);
    check(&rig);
    // Address 0 takes it away; the capability does not matter then.
    rig.ok(th.tcb, L::TCBSetIPCBuffer, &[VADDR], &[frame]);
    rig.ok(th.tcb, L::TCBSetIPCBuffer, &[0], &[ROOT]);
    assert_eq!(rig.tcb(th.t).ipc_buffer.get(), 0);
    check(&rig);
}

/// A frame whose mapping is gone does not take away what stands in its place.
#[test]
fn frames_unmap_only_themselves() {
    let rig = Rig::new();
    let s = space(&rig);
    let (a, b) = (rig.make(ObjectType::Frame4K), rig.make(ObjectType::Frame4K));
    for delete in [false, true] {
        rig.ok(a, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
        rig.ok(s.tables[2], L::PageTableUnmap, &[], &[]);
        rig.ok(s.tables[2], L::PageTableMap, &[VADDR, 0], &[s.vspace]);
        rig.ok(b, L::PageMap, &[VADDR, RW, 0], &[s.vspace]);
        if delete {
            rig.delete(a);
        } else {
            rig.ok(a, L::PageUnmap, &[], &[]);
        }
        assert!(leaf(&rig, s.vspace, VADDR).is_some());
        check(&rig);
        rig.ok(b, L::PageUnmap, &[], &[]);
        assert!(leaf(&rig, s.vspace, VADDR).is_none());
    }
}
