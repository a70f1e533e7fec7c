// SPDX-License-Identifier: BSD-2-Clause
//! CNode invocations and the derivation tree.

use crate::invariants::{check, explore, is_parent};
use crate::rig::{ALL, EMPTY, Rig};
use partita_abi::{CapRights, ErrorCode, InvocationLabel as L, ObjectType, init_cnode};
use partita_kernel_core::cap::{Cap, Zombie};
use partita_kernel_core::object::ThreadState;

const ROOT: u64 = init_cnode::CNODE as u64;

fn rights(rig: &Rig, slot: u64) -> CapRights {
    match rig.cap(slot) {
        Cap::Endpoint { rights, .. } | Cap::Notification { rights, .. } => rights,
        Cap::Frame(f) => f.rights,
        other => panic!("{other:?} has no rights"),
    }
}

#[test]
fn cnodeop0001_copy() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let copy = rig.fresh();
    rig.ok(
        ROOT,
        L::CNodeCopy,
        &[copy, 64, ep, 64, CapRights::WRITE.0],
        &[ROOT],
    );
    assert_eq!(rights(&rig, copy), CapRights::WRITE);
    assert_eq!(rights(&rig, ep), CapRights::ALL);
    rig.refused(
        ROOT,
        L::CNodeCopy,
        &[copy, 64, ep, 64, ALL],
        &[ROOT],
        ErrorCode::DeleteFirst,
        &[],
    );
    // A copy of a copy has no more than it.
    let third = rig.copy(copy);
    assert_eq!(rights(&rig, third), CapRights::WRITE);
    check(&rig);
}

#[test]
fn cnodeop0002_delete() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let copy = rig.copy(ep);
    rig.delete(ep);
    assert_eq!(rig.cap(ep), Cap::Null);
    assert_ne!(rig.cap(copy), Cap::Null);
    rig.delete(copy);
    // Deleting an empty slot is no error.
    rig.delete(copy);
    check(&rig);
}

#[test]
fn cnodeop0003_mint() {
    let rig = Rig::new();
    for kind in [ObjectType::Endpoint, ObjectType::Notification] {
        let object = rig.make(kind);
        let badged = rig.mint(object, CapRights::WRITE.0, 0xbad6e);
        assert_eq!(rig.cap(badged).badge(), Some(0xbad6e));
        assert_eq!(rights(&rig, badged), CapRights::WRITE);
        // No second badge.
        let dest = rig.fresh();
        rig.refused(
            ROOT,
            L::CNodeMint,
            &[dest, 64, badged, 64, ALL, 7],
            &[ROOT],
            ErrorCode::IllegalOperation,
            &[],
        );
    }
    // The data of a CNode is a guard.
    let cnode = rig.make_many(ObjectType::CNode, 4, 1);
    let guarded = rig.mint(cnode, ALL, (0x2a << 6) | 60);
    assert!(
        matches!(
            rig.cap(guarded),
            Cap::CNode {
                guard: 0x2a,
                guard_bits: 60,
                radix: 4,
                ..
            }
        ),
        "{:?}",
        rig.cap(guarded)
    );
    let dest = rig.fresh();
    rig.refused(
        ROOT,
        L::CNodeMint,
        &[dest, 64, cnode, 64, ALL, 61],
        &[ROOT],
        ErrorCode::IllegalOperation,
        &[],
    );
    check(&rig);
}

#[test]
fn cnodeop0004_move() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let copy = rig.copy(ep);
    let dest = rig.fresh();
    let before = rig.cap(ep);
    rig.ok(ROOT, L::CNodeMove, &[dest, 64, ep, 64], &[ROOT]);
    assert_eq!((rig.cap(ep), rig.cap(dest)), (Cap::Null, before));
    check(&rig);
    // It is still the parent of its copy.
    rig.revoke(dest);
    assert_eq!(rig.cap(copy), Cap::Null);
    assert_eq!(rig.cap(dest), before);
    check(&rig);
}

#[test]
fn cnodeop0005_mutate() {
    let rig = Rig::new();
    let cnode = rig.make_many(ObjectType::CNode, 4, 1);
    let dest = rig.fresh();
    rig.ok(
        ROOT,
        L::CNodeMutate,
        &[dest, 64, cnode, 64, (1 << 6) | 4],
        &[ROOT],
    );
    assert!(matches!(
        rig.cap(dest),
        Cap::CNode {
            guard: 1,
            guard_bits: 4,
            ..
        }
    ));
    // As in seL4 an endpoint's badge cannot be changed by a move.
    let ep = rig.make(ObjectType::Endpoint);
    let other = rig.fresh();
    rig.refused(
        ROOT,
        L::CNodeMutate,
        &[other, 64, ep, 64, 3],
        &[ROOT],
        ErrorCode::IllegalOperation,
        &[],
    );
    check(&rig);
}

#[test]
fn cnodeop0006_rotate() {
    let rig = Rig::new();
    let (a, b) = (rig.make(ObjectType::Tcb), rig.make(ObjectType::Tcb));
    let dest = rig.fresh();
    let (cap_a, cap_b) = (rig.cap(a), rig.cap(b));
    // a -> pivot b -> dest.
    rig.ok(
        ROOT,
        L::CNodeRotate,
        &[dest, 64, 0, b, 64, 0, a, 64],
        &[ROOT, ROOT],
    );
    assert_eq!(
        (rig.cap(a), rig.cap(b), rig.cap(dest)),
        (Cap::Null, cap_a, cap_b)
    );
    check(&rig);
    // Source and destination may be one slot: the two change places.
    rig.ok(
        ROOT,
        L::CNodeRotate,
        &[b, 64, 0, dest, 64, 0, b, 64],
        &[ROOT, ROOT],
    );
    assert_eq!((rig.cap(b), rig.cap(dest)), (cap_b, cap_a));
    check(&rig);
}

#[test]
fn cnodeop0007_swapped_neighbours_stay_in_the_list() {
    let rig = Rig::new();
    // Copies are neighbours in the derivation list, in both orders.
    let tcb = rig.make(ObjectType::Tcb);
    let (x, y) = (rig.copy(tcb), rig.copy(tcb));
    for (p, q) in [(x, y), (y, x), (tcb, y), (x, tcb)] {
        rig.ok(
            ROOT,
            L::CNodeRotate,
            &[p, 64, 0, q, 64, 0, p, 64],
            &[ROOT, ROOT],
        );
        check(&rig);
    }
    rig.revoke(rig.untyped);
    check(&rig);
    assert_eq!(
        (rig.cap(tcb), rig.cap(x), rig.cap(y)),
        (Cap::Null, Cap::Null, Cap::Null)
    );
}

#[test]
fn cnodeop0008_capabilities_that_do_not_copy() {
    let rig = Rig::new();
    let dest = rig.fresh();
    let copy = |src: u64| [dest, 64, src, 64, ALL];
    let illegal = ErrorCode::IllegalOperation;
    rig.refused(
        ROOT,
        L::CNodeCopy,
        &copy(init_cnode::IRQ_CONTROL as u64),
        &[ROOT],
        illegal,
        &[],
    );
    let table = rig.make(ObjectType::PageTable);
    rig.refused(ROOT, L::CNodeCopy, &copy(table), &[ROOT], illegal, &[]);
    // An untyped with children.
    rig.refused(
        ROOT,
        L::CNodeCopy,
        &copy(rig.untyped),
        &[ROOT],
        ErrorCode::RevokeFirst,
        &[],
    );
    // A copy of a mapped frame is not mapped; a move keeps the mapping.
    let frame = rig.make(ObjectType::Frame4K);
    let mapped = crate::vspace::mapped_frame(&rig, frame);
    let again = rig.copy(mapped);
    assert!(matches!(rig.cap(again), Cap::Frame(f) if f.mapping.is_none()));
    assert!(matches!(rig.cap(mapped), Cap::Frame(f) if f.mapping.is_some()));
    check(&rig);
}

#[test]
fn cnodeop0009_copies_of_an_untyped_share_no_memory() {
    let rig = Rig::new();
    let parent = rig.make_many(ObjectType::Untyped, 12, 1);
    let copy = rig.copy(parent);
    let dest = rig.fresh();
    let retype = |size: u64| [ObjectType::Endpoint as u64, size, 0, 0, dest, 1];
    // The original has handed all out.
    rig.refused(
        parent,
        L::UntypedRetype,
        &retype(0),
        &[ROOT],
        ErrorCode::NotEnoughMemory,
        &[0],
    );
    rig.ok(copy, L::UntypedRetype, &retype(0), &[ROOT]);
    check(&rig);
    // Without the copy its object belongs to the original, which still gives nothing.
    rig.delete(copy);
    check(&rig);
    let second = rig.fresh();
    rig.refused(
        parent,
        L::UntypedRetype,
        &[ObjectType::Endpoint as u64, 0, 0, 0, second, 1],
        &[ROOT],
        ErrorCode::NotEnoughMemory,
        &[0],
    );
    rig.revoke(parent);
    assert_eq!(rig.cap(dest), Cap::Null);
    rig.ok(parent, L::UntypedRetype, &retype(0), &[ROOT]);
    check(&rig);
}

#[test]
fn guards_and_depths_are_looked_up_exactly() {
    let rig = Rig::new();
    let inner = rig.make_many(ObjectType::CNode, 2, 1);
    let ep = rig.make(ObjectType::Endpoint);
    // A guard of 5 bits, 0b10110, before the 2 bits of the index.
    let node = rig.mint(inner, ALL, (0b10110 << 6) | 5);
    let path = |index: u64| (0b10110 << 2) | index;
    rig.ok(node, L::CNodeCopy, &[path(3), 7, ep, 64, ALL], &[ROOT]);
    let fails = |index: u64, depth: u64, details: &[u64]| {
        rig.refused(
            node,
            L::CNodeCopy,
            &[index, depth, ep, 64, ALL],
            &[ROOT],
            ErrorCode::FailedLookup,
            details,
        );
    };
    // Guard mismatch: bits left, guard, its width; both for a wrong guard and for too few bits.
    fails((0b10111 << 2) | 3, 7, &[0, 4, 7, 0b10110, 5]);
    fails(path(3), 4, &[0, 4, 4, 0b10110, 5]);
    // Depth mismatch: bits left and what the level resolves; the guard fits.
    fails(0b10110, 5, &[0, 3, 5, 7, 0]);
    // Bits left over behind a capability that is no CNode.
    fails(path(3) << 1, 8, &[0, 3, 1, 0, 0]);
    for depth in [0, 65, u64::MAX] {
        rig.refused(
            node,
            L::CNodeCopy,
            &[path(0), depth, ep, 64, ALL],
            &[ROOT],
            ErrorCode::RangeError,
            &[1, 64],
        );
    }
    rig.ok(node, L::CNodeDelete, &[path(3), 7], &[]);
    check(&rig);
}

#[test]
fn two_level_look_ups_follow_changes() {
    let rig = Rig::new();
    // A Microkit CSpace: root of 2^6 slots with guard, slot 0 a CNode of 2^9.
    let top = rig.make_many(ObjectType::CNode, 6, 1);
    let leaf = rig.make_many(ObjectType::CNode, 9, 1);
    let other = rig.make_many(ObjectType::CNode, 9, 1);
    let ntfn = rig.make(ObjectType::Notification);
    let n7 = rig.mint(ntfn, ALL, 7);
    let root = rig.mint(top, ALL, 49);
    let fill = |node: u64| {
        rig.ok(node, L::CNodeCopy, &[5, 9, n7, 64, ALL], &[ROOT]);
    };
    fill(leaf);
    let th = rig.thread(255);
    let vspace = init_cnode::VSPACE as u64;
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &[EMPTY, root, vspace]);
    let signalled = || {
        rig.nb_send(th.t, 5, &[]);
        rig.syscall(rig.root, partita_abi::syscall::NB_WAIT, ntfn);
        rig.badge(rig.root) == 7
    };
    // Whether it is, with the inner CNode in the thread's cache from before.
    let cached = |node: u64| {
        // The cache is filled anew after a CNode capability went anywhere.
        rig.delete(rig.copy(top));
        let there = signalled();
        let cached = rig.tcb(th.t).fast_cnode.get() == rig.addr(node);
        assert_eq!(cached, rig.tcb(th.t).fast_cnode_slots.get() == 512);
        there && cached
    };
    assert!(!signalled(), "slot 0 is empty");
    rig.ok(top, L::CNodeCopy, &[0, 6, leaf, 64, ALL], &[ROOT]);
    assert!(signalled(), "found without the cache");
    assert!(cached(leaf));
    // The look-up follows when the inner CNode is taken out or changed for another.
    rig.ok(top, L::CNodeDelete, &[0, 6], &[]);
    assert!(!signalled());
    rig.ok(top, L::CNodeCopy, &[0, 6, other, 64, ALL], &[ROOT]);
    assert!(!signalled());
    fill(other);
    assert!(signalled());
    assert!(cached(other));
    rig.ok(top, L::CNodeMove, &[1, 6, 0, 6], &[top]);
    assert!(!signalled());
    rig.ok(top, L::CNodeMutate, &[0, 6, 1, 6, (1 << 6) | 1], &[top]);
    assert!(!signalled(), "the guard does not fit");
    rig.ok(top, L::CNodeMutate, &[2, 6, 0, 6, 0], &[top]);
    rig.ok(top, L::CNodeMove, &[0, 6, 2, 6], &[top]);
    assert!(cached(other));
    rig.revoke(rig.untyped);
    check(&rig);
    check(&rig);
}

#[test]
fn revoke_deletes_descendants_only() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let neighbour = rig.make(ObjectType::Endpoint);
    let badged = rig.mint(ep, ALL, 5);
    let child = rig.copy(badged);
    let plain = rig.copy(ep);
    let other = rig.mint(ep, ALL, 6);
    rig.revoke(badged);
    assert_eq!(rig.cap(child), Cap::Null);
    for kept in [ep, neighbour, badged, plain, other] {
        assert_ne!(rig.cap(kept), Cap::Null);
    }
    // A copy that is no original has no descendants.
    let copy_of_plain = rig.copy(plain);
    rig.revoke(plain);
    assert_ne!(rig.cap(copy_of_plain), Cap::Null);
    rig.revoke(ep);
    for gone in [badged, plain, other, copy_of_plain] {
        assert_eq!(rig.cap(gone), Cap::Null);
    }
    assert_ne!(rig.cap(neighbour), Cap::Null);
    check(&rig);
}

#[test]
fn revoke0001_everything_from_one_untyped() {
    for preempt in [0, 1, 2, 3, 7] {
        let rig = Rig::new();
        let threads: Vec<_> = (0..3).map(|_| rig.thread(100)).collect();
        let ep = rig.make(ObjectType::Endpoint);
        for th in &threads {
            rig.message(th.t, 0, &[], &[]);
            rig.syscall(th.t, partita_abi::syscall::SEND, ep);
            assert_eq!(rig.state(th.t), ThreadState::BlockedOnSend);
        }
        let cnode = rig.make_many(ObjectType::CNode, 5, 1);
        for i in 0..20 {
            rig.ok(cnode, L::CNodeMint, &[i, 5, ep, 64, ALL, i + 1], &[ROOT]);
        }
        rig.ok(cnode, L::CNodeCopy, &[31, 5, cnode, 64, ALL], &[ROOT]);
        rig.m.preempt_every.set(preempt);
        rig.revoke(rig.untyped);
        rig.m.preempt_every.set(0);
        check(&rig);
        let w = explore(&rig);
        assert_eq!(w.threads.len(), 1);
        assert!(w.endpoints.is_empty() && w.contexts.len() == 1);
        // The memory is free again.
        let Cap::Untyped(u) = rig.cap(rig.untyped) else {
            panic!()
        };
        let half = rig.make_many(ObjectType::Untyped, u64::from(u.bits) - 1, 2);
        assert_eq!(rig.addr(half), u.addr);
        check(&rig);
    }
}

#[test]
fn revoke0002_a_cnode_that_holds_itself() {
    for preempt in [0, 1, 2] {
        for at in [0, 1, 3] {
            let rig = Rig::new();
            let mine = rig.make_many(ObjectType::Untyped, 12, 1);
            let cnode = rig.fresh();
            rig.ok(
                mine,
                L::UntypedRetype,
                &[ObjectType::CNode as u64, 2, 0, 0, cnode, 1],
                &[ROOT],
            );
            let ep = rig.make(ObjectType::Endpoint);
            for i in 0..4 {
                let src = if i == at { cnode } else { ep };
                rig.ok(cnode, L::CNodeCopy, &[i, 2, src, 64, ALL], &[ROOT]);
            }
            rig.m.preempt_every.set(preempt);
            // The outer capability goes; the CNode lives on by its own.
            rig.delete(cnode);
            check(&rig);
            rig.revoke(mine);
            rig.m.preempt_every.set(0);
            check(&rig);
            assert_eq!(
                explore(&rig)
                    .slots
                    .values()
                    .filter(|c| matches!(c, Cap::Zombie(_)))
                    .count(),
                0
            );
            rig.revoke(ep);
            rig.ok(
                mine,
                L::UntypedRetype,
                &[ObjectType::CNode as u64, 7, 0, 0, cnode, 1],
                &[ROOT],
            );
            check(&rig);
        }
    }
}

#[test]
fn revoke0003_cnodes_that_hold_each_other() {
    for preempt in [0, 1, 2, 5] {
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let rig = Rig::new();
            let mine = rig.make_many(ObjectType::Untyped, 12, 1);
            let a = rig.fresh();
            let b = rig.fresh();
            rig.ok(
                mine,
                L::UntypedRetype,
                &[ObjectType::CNode as u64, 1, 0, 0, a, 2],
                &[ROOT],
            );
            rig.ok(a, L::CNodeCopy, &[i, 1, b, 64, ALL], &[ROOT]);
            rig.ok(b, L::CNodeCopy, &[j, 1, a, 64, ALL], &[ROOT]);
            // A thread in the ring, too: its slots are a container.
            let th = rig.passive_thread(10);
            rig.ok(a, L::CNodeMove, &[1 - i, 1, th.tcb, 64], &[ROOT]);
            rig.m.preempt_every.set(preempt);
            rig.delete(a);
            check(&rig);
            rig.delete(b);
            check(&rig);
            rig.revoke(mine);
            rig.m.preempt_every.set(0);
            check(&rig);
            rig.revoke(rig.untyped);
            check(&rig);
            let zombies = explore(&rig);
            assert!(!zombies.slots.values().any(|c| matches!(c, Cap::Zombie(_))));
        }
    }
}

#[test]
fn revoke0004_a_preempted_delete_leaves_a_zombie_that_is_no_use() {
    let rig = Rig::new();
    let cnode = rig.make_many(ObjectType::CNode, 4, 1);
    let ep = rig.make(ObjectType::Endpoint);
    for i in 0..16 {
        rig.ok(cnode, L::CNodeCopy, &[i, 4, ep, 64, ALL], &[ROOT]);
    }
    rig.m.preempt_every.set(1);
    rig.message(rig.root, L::CNodeDelete as u64, &[cnode, 64], &[]);
    rig.set_gpr(rig.root, 0, partita_abi::syscall::CALL as u64);
    rig.set_gpr(rig.root, 3, ROOT);
    let pc = rig.tcb(rig.root).context.pc.get();
    rig.enter(rig.root);
    assert_eq!(
        rig.tcb(rig.root).context.pc.get(),
        pc,
        "the call is to be repeated"
    );
    rig.m.preempt_every.set(0);
    let Cap::Zombie(Zombie { remaining, .. }) = rig.cap(cnode) else {
        panic!("{:?}", rig.cap(cnode))
    };
    assert!(remaining < 16 && remaining > 0);
    check(&rig);
    // A zombie cannot be copied, invoked or looked through.
    let dest = rig.fresh();
    rig.refused(
        ROOT,
        L::CNodeCopy,
        &[dest, 64, cnode, 64, ALL],
        &[ROOT],
        ErrorCode::IllegalOperation,
        &[],
    );
    rig.refused(
        cnode,
        L::CNodeDelete,
        &[0, 4],
        &[],
        ErrorCode::InvalidCapability,
        &[0],
    );
    rig.refused(
        ROOT,
        L::CNodeCopy,
        &[dest, 64, 0, 4, ALL],
        &[cnode],
        ErrorCode::FailedLookup,
        &[1, 1, 0, 0, 0],
    );
    rig.delete(cnode);
    assert_eq!(rig.cap(cnode), Cap::Null);
    check(&rig);
}

#[test]
fn derivation_of_badges_is_a_tree() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let b1 = rig.mint(ep, ALL, 1);
    let b1_copy = rig.copy(b1);
    let second_b1 = rig.mint(ep, ALL, 1);
    let at = |slot: u64| std::ptr::from_ref(rig.slot(slot)) as u64;
    assert!(is_parent(&rig, at(ep), at(b1)));
    assert!(is_parent(&rig, at(b1), at(b1_copy)));
    // Minted apart with the same badge: siblings, not parent and child.
    assert!(!is_parent(&rig, at(b1), at(second_b1)));
    // Deleting the first of its badge passes that mark on: the copy does not fall to the sibling.
    rig.delete(b1);
    rig.revoke(second_b1);
    assert_ne!(rig.cap(b1_copy), Cap::Null);
    check(&rig);
    rig.revoke(ep);
    assert_eq!(
        (rig.cap(b1_copy), rig.cap(second_b1)),
        (Cap::Null, Cap::Null)
    );
    check(&rig);
}

#[test]
fn deleting_the_own_thread_and_cspace_is_survived() {
    for preempt in [0, 1] {
        let rig = Rig::new();
        let th = rig.thread(255);
        let cnode = rig.make_many(ObjectType::CNode, 4, 1);
        // Slot 1: the CNode itself; slot 2: the thread.
        rig.ok(cnode, L::CNodeMint, &[1, 4, cnode, 64, ALL, 60], &[ROOT]);
        rig.ok(cnode, L::CNodeCopy, &[2, 4, th.tcb, 64, ALL], &[ROOT]);
        let vspace = init_cnode::VSPACE as u64;
        rig.ok(th.tcb, L::TCBSetSpace, &[60, 0], &[EMPTY, cnode, vspace]);
        rig.delete(th.tcb);
        rig.delete(cnode);
        check(&rig);
        // The last capability to the thread, by its own call.
        rig.m.preempt_every.set(preempt);
        rig.message(th.t, L::CNodeDelete as u64, &[2, 64], &[]);
        rig.syscall(th.t, partita_abi::syscall::CALL, 1);
        rig.m.preempt_every.set(0);
        assert_eq!(rig.current(), Some(rig.root));
        check(&rig);
        rig.revoke(rig.untyped);
        check(&rig);
        assert_eq!(explore(&rig).threads.len(), 1);
    }
}

#[test]
fn pointers_into_other_cnodes_follow_changes() {
    let rig = Rig::new();
    // As `<cspace>` of a system description makes it: slot 1 of the root is a CNode of 2^9.
    let top = rig.make_many(ObjectType::CNode, 6, 1);
    let (leaf, other) = (
        rig.make_many(ObjectType::CNode, 9, 1),
        rig.make_many(ObjectType::CNode, 9, 1),
    );
    let ntfn = rig.make(ObjectType::Notification);
    let n7 = rig.mint(ntfn, ALL, 7);
    let root = rig.mint(top, ALL, 49);
    for node in [leaf, other] {
        rig.ok(node, L::CNodeCopy, &[5, 9, n7, 64, ALL], &[ROOT]);
    }
    let th = rig.thread(255);
    let vspace = init_cnode::VSPACE as u64;
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &[EMPTY, root, vspace]);
    let signalled = |cptr: u64| {
        rig.nb_send(th.t, cptr, &[]);
        rig.syscall(rig.root, partita_abi::syscall::NB_WAIT, ntfn);
        rig.badge(rig.root) == 7
    };
    let pointer = 1 << 9 | 5;
    assert!(!signalled(pointer), "slot 1 is empty");
    rig.ok(top, L::CNodeCopy, &[1, 6, leaf, 64, ALL], &[ROOT]);
    assert!(signalled(pointer));
    assert_eq!(rig.tcb(th.t).near_cnode.get(), rig.addr(leaf));
    assert!(signalled(pointer), "found again");
    assert!(!signalled(pointer + 1), "its neighbour is empty");
    assert!(!signalled(2 << 9 | 5), "another CNode is not there");
    rig.ok(top, L::CNodeDelete, &[1, 6], &[]);
    assert!(!signalled(pointer));
    rig.ok(top, L::CNodeCopy, &[1, 6, other, 64, ALL], &[ROOT]);
    assert!(signalled(pointer));
    assert_eq!(rig.tcb(th.t).near_cnode.get(), rig.addr(other));
    rig.ok(top, L::CNodeMove, &[2, 6, 1, 6], &[top]);
    assert!(!signalled(pointer));
    assert!(signalled(2 << 9 | 5));
    // A slot of a root without a guard: its index is in the highest bits, and those left over mean nothing.
    let high = 3 << 58 | 1;
    let bare = rig.mint(top, ALL, 0);
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &[EMPTY, bare, vspace]);
    rig.ok(top, L::CNodeCopy, &[3, 6, n7, 64, ALL], &[ROOT]);
    assert!(signalled(high) && signalled(high) && signalled(high + 1));
    assert_eq!(rig.tcb(th.t).near_cnode.get(), rig.addr(top));
    assert!(!signalled(2 << 58), "not the CNode that is there");
    assert!(!signalled(4 << 58), "empty");
    assert!(signalled(high));
    rig.ok(top, L::CNodeDelete, &[3, 6], &[]);
    assert!(!signalled(high));
    // The thread's root goes: nothing of it is found any more.
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &[EMPTY, ROOT, vspace]);
    assert!(!signalled(2 << 9 | 5));
    rig.revoke(rig.untyped);
    check(&rig);
}
