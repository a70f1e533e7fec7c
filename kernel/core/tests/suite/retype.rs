// SPDX-License-Identifier: BSD-2-Clause
//! Retype.

use crate::invariants::check;
use crate::rig::Rig;
use partita_abi::{ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode, limits};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::machine::Machine;

const ROOT: u64 = init_cnode::CNODE as u64;

fn free(rig: &Rig, slot: u64) -> u64 {
    match rig.cap(slot) {
        Cap::Untyped(u) => u.free,
        other => panic!("{other:?}"),
    }
}

#[test]
fn retype0000_every_object_is_made_aligned_and_clear() {
    let rig = Rig::new();
    for (kind, size_bits) in [
        (ObjectType::Endpoint, 0),
        (ObjectType::Tcb, 0),
        (ObjectType::Notification, 0),
        (ObjectType::CNode, 3),
        (ObjectType::Reply, 0),
        (ObjectType::SchedContext, 0),
        (ObjectType::Frame4K, 0),
        (ObjectType::Frame64K, 0),
        (ObjectType::PageTable, 0),
        (ObjectType::VSpace, 0),
        (ObjectType::Timer, 0),
        (ObjectType::Untyped, 13),
        (ObjectType::Frame2M, 0),
    ] {
        let slot = rig.make_many(kind, size_bits, 1);
        let (addr, size) = rig.cap(slot).region().expect("memory");
        let bits = match kind {
            ObjectType::CNode => 5 + size_bits as u32,
            ObjectType::Untyped => size_bits as u32,
            other => other.bits(),
        };
        assert_eq!((size, addr % size), (1 << bits, 0), "{kind:?}");
        if kind != ObjectType::Tcb {
            assert!(
                (0..size / 8).all(|i| rig.m.read_word(addr + 8 * i) == 0),
                "{kind:?}"
            );
        }
        check(&rig);
    }
}

#[test]
fn retype0001_sizes_follow_each_other_without_overlap() {
    let rig = Rig::new();
    let mine = rig.make_many(ObjectType::Untyped, 16, 1);
    let first = rig.fresh();
    let retype = |kind: ObjectType, slot: u64, n: u64| {
        rig.invoke(
            mine,
            L::UntypedRetype,
            &[kind as u64, 0, 0, 0, slot, n],
            &[ROOT],
        )
    };
    retype(ObjectType::Endpoint, first, 1).expect("64 bytes");
    assert_eq!(free(&rig, mine), 64);
    let second = rig.fresh();
    retype(ObjectType::Frame4K, second, 1).expect("the gap is skipped");
    assert_eq!(free(&rig, mine), 0x2000);
    assert_eq!(rig.addr(second), rig.addr(first) + 0x1000);
    // Exactly what is left.
    let third = rig.fresh();
    for _ in 0..13 {
        rig.fresh();
    }
    rig.refused(
        mine,
        L::UntypedRetype,
        &[ObjectType::Frame4K as u64, 0, 0, 0, third, 15],
        &[ROOT],
        E::NotEnoughMemory,
        &[0xe000],
    );
    retype(ObjectType::Frame4K, third, 14).expect("all");
    assert_eq!(free(&rig, mine), 0x1_0000);
    check(&rig);
    rig.refused(
        mine,
        L::UntypedRetype,
        &[ObjectType::Endpoint as u64, 0, 0, 0, 600, 1],
        &[ROOT],
        E::NotEnoughMemory,
        &[0],
    );
}

#[test]
fn retype0002_misuse() {
    let rig = Rig::new();
    let ep = ObjectType::Endpoint as u64;
    let good = [ep, 0, 0, 0, 300, 1];
    let with = |i: usize, value: u64| {
        let mut args = good;
        args[i] = value;
        args
    };
    let refused = |args: &[u64], e: E, details: &[u64]| {
        rig.refused(rig.untyped, L::UntypedRetype, args, &[ROOT], e, details);
    };
    for n in 0..6 {
        refused(&good[..n], E::TruncatedMessage, &[]);
    }
    rig.refused(
        rig.untyped,
        L::UntypedRetype,
        &good,
        &[],
        E::TruncatedMessage,
        &[],
    );
    for kind in [ObjectType::COUNT as u64, 1000, u64::MAX] {
        refused(&with(0, kind), E::InvalidArgument, &[0]);
    }
    let untyped = ObjectType::Untyped as u64;
    let cnode = ObjectType::CNode as u64;
    // Too small is an invalid argument, too large a range error, as in seL4.
    refused(&[untyped, 5, 0, 0, 300, 1], E::InvalidArgument, &[1]);
    refused(&[cnode, 0, 0, 0, 300, 1], E::InvalidArgument, &[1]);
    refused(&[untyped, 48, 0, 0, 300, 1], E::RangeError, &[6, 47]);
    refused(&[untyped, u64::MAX, 0, 0, 300, 1], E::RangeError, &[6, 47]);
    refused(&[cnode, 43, 0, 0, 300, 1], E::RangeError, &[1, 42]);
    refused(&[cnode, u64::MAX, 0, 0, 300, 1], E::RangeError, &[1, 42]);
    let Cap::Untyped(u) = rig.cap(rig.untyped) else {
        panic!()
    };
    refused(
        &[untyped, 47, 0, 0, 300, 1],
        E::NotEnoughMemory,
        &[1 << u.bits],
    );
    refused(
        &[cnode, 42, 0, 0, 300, 1],
        E::NotEnoughMemory,
        &[1 << u.bits],
    );
    refused(&with(4, 1024), E::RangeError, &[0, 1023]);
    refused(&with(4, u64::MAX), E::RangeError, &[0, 1023]);
    let most = limits::RETYPE_FAN_OUT as u64;
    refused(&with(5, 0), E::RangeError, &[1, most]);
    refused(&with(5, most + 1), E::RangeError, &[1, most]);
    refused(&with(5, u64::MAX), E::RangeError, &[1, most]);
    refused(&[ep, 0, 0, 0, 1000, 25], E::RangeError, &[1, 24]);
    // The window has a slot in use.
    refused(&[ep, 0, 0, 0, 0, 2], E::DeleteFirst, &[]);
    // The destination is found by index and depth and must be a CNode.
    refused(&[ep, 0, 300, 64, 0, 1], E::FailedLookup, &[0, 2, 64, 0, 0]);
    refused(
        &[ep, 0, init_cnode::TCB as u64, 64, 0, 1],
        E::FailedLookup,
        &[0, 2, 64, 0, 0],
    );
    refused(&[ep, 0, 0, 65, 0, 1], E::RangeError, &[1, 64]);
    refused(
        &[ep, 0, 1 << 40, 64, 0, 1],
        E::FailedLookup,
        &[0, 4, 64, 0, 54],
    );
    let tcb = init_cnode::TCB as u64;
    rig.refused(
        rig.untyped,
        L::UntypedRetype,
        &good,
        &[tcb],
        E::FailedLookup,
        &[0, 2, 0, 0, 0],
    );
    rig.refused(
        rig.untyped,
        L::UntypedRetype,
        &with(3, 64),
        &[tcb],
        E::FailedLookup,
        &[0, 1, 0, 0, 0],
    );
    rig.refused(
        rig.untyped,
        L::TCBResume,
        &[],
        &[],
        E::IllegalOperation,
        &[],
    );
}

#[test]
fn device_memory_becomes_frames_only() {
    let rig = Rig::new();
    let slot = rig.fresh();
    let retype = |kind: ObjectType| [kind as u64, 12, 0, 0, slot, 1];
    for kind in [
        ObjectType::Endpoint,
        ObjectType::Tcb,
        ObjectType::CNode,
        ObjectType::VSpace,
    ] {
        let mut args = retype(kind);
        args[1] = 1;
        rig.refused(
            rig.device,
            L::UntypedRetype,
            &args,
            &[ROOT],
            E::InvalidArgument,
            &[1],
        );
    }
    // Nothing reads or clears it: the mock would stop at an address outside of memory.
    rig.ok(
        rig.device,
        L::UntypedRetype,
        &retype(ObjectType::Frame4K),
        &[ROOT],
    );
    assert!(matches!(rig.cap(slot), Cap::Frame(f) if f.device));
    let child = rig.fresh();
    let args = [ObjectType::Untyped as u64, 13, 0, 0, child, 1];
    rig.ok(rig.device, L::UntypedRetype, &args, &[ROOT]);
    assert!(matches!(rig.cap(child), Cap::Untyped(u) if u.device));
    check(&rig);
    rig.revoke(rig.device);
    check(&rig);
    rig.ok(
        rig.device,
        L::UntypedRetype,
        &retype(ObjectType::Frame64K),
        &[ROOT],
    );
}

#[test]
fn memory_comes_back_when_the_last_child_goes_and_is_clear() {
    let rig = Rig::new();
    let mine = rig.make_many(ObjectType::Untyped, 12, 1);
    let slot = rig.fresh();
    let frame = [ObjectType::Frame4K as u64, 0, 0, 0, slot, 1];
    rig.ok(mine, L::UntypedRetype, &frame, &[ROOT]);
    let addr = rig.addr(slot);
    for i in 0..512 {
        rig.m.write_word(addr + 8 * i, u64::MAX);
    }
    let copy = rig.copy(slot);
    rig.delete(slot);
    rig.refused(
        mine,
        L::UntypedRetype,
        &frame,
        &[ROOT],
        E::NotEnoughMemory,
        &[0],
    );
    rig.delete(copy);
    let cnode = [ObjectType::CNode as u64, 7, 0, 0, slot, 1];
    rig.ok(mine, L::UntypedRetype, &cnode, &[ROOT]);
    assert_eq!(rig.addr(slot), addr);
    assert!((0..512).all(|i| rig.m.read_word(addr + 8 * i) == 0));
    check(&rig);
}

#[test]
fn a_preempted_retype_goes_on_and_clears_all() {
    for preempt in [1, 2, 3, 5] {
        let rig = Rig::new();
        // Something before it, so that the frame does not start at 0.
        rig.make(ObjectType::Endpoint);
        let Cap::Untyped(u) = rig.cap(rig.untyped) else {
            panic!()
        };
        for i in 8..(1 << u.bits) / 8 {
            rig.m.write_word(u.addr + 8 * i, 0xdead);
        }
        rig.m.preempt_every.set(preempt);
        let frame = rig.make(ObjectType::Frame2M);
        rig.m.preempt_every.set(0);
        assert!(rig.m.preemptions.get() >= 32 / preempt - 1);
        let addr = rig.addr(frame);
        assert!((0..(2 << 20) / 8).all(|i| rig.m.read_word(addr + 8 * i) == 0));
        check(&rig);
    }
}

#[test]
fn an_abandoned_retype_leaves_nothing_uncleared() {
    let rig = Rig::new();
    let Cap::Untyped(u) = rig.cap(rig.untyped) else {
        panic!()
    };
    let (addr, size) = (u.addr, 1 << u.bits);
    for i in 0..size / 8 {
        rig.m.write_word(addr + 8 * i, 0xdead);
    }
    // Stop in the middle of a large frame, and then make something else.
    rig.m.preempt_every.set(4);
    let slot = rig.fresh();
    let args = [ObjectType::Frame2M as u64, 0, 0, 0, slot, 1];
    rig.message(rig.root, L::UntypedRetype as u64, &args, &[ROOT]);
    rig.set_gpr(rig.root, 0, partita_abi::syscall::CALL as u64);
    rig.set_gpr(rig.root, 3, rig.untyped);
    rig.enter(rig.root);
    assert_eq!(rig.cap(slot), Cap::Null);
    rig.m.preempt_every.set(0);
    check(&rig);
    let tables = rig.make_many(ObjectType::VSpace, 0, 20);
    for i in tables..tables + 20 {
        let at = rig.addr(i);
        assert!(
            (0..8192).all(|i| rig.m.read_word(at + 8 * i) == 0),
            "object {i}"
        );
    }
    check(&rig);
}

#[test]
fn retype_into_a_node_below_the_root() {
    let rig = Rig::new();
    let cnode = rig.make_many(ObjectType::CNode, 4, 1);
    let args = [ObjectType::Endpoint as u64, 0, cnode, 64, 14, 2];
    rig.ok(rig.untyped, L::UntypedRetype, &args, &[ROOT]);
    let dest = rig.fresh();
    rig.ok(ROOT, L::CNodeMove, &[dest, 64, 15, 4], &[cnode]);
    assert!(matches!(rig.cap(dest), Cap::Endpoint { .. }));
    let args = [ObjectType::Endpoint as u64, 0, cnode, 64, 15, 2];
    rig.refused(
        rig.untyped,
        L::UntypedRetype,
        &args,
        &[ROOT],
        E::RangeError,
        &[1, 1],
    );
    check(&rig);
}
