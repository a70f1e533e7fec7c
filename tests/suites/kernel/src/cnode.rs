// SPDX-License-Identifier: BSD-2-Clause
//! CNODEOP: operations on capability slots and the look-up of capabilities.

use crate::support::{receive_once, refused, send_once};
use partita_abi::{ErrorCode, InvocationLabel as L};
use sel4::init_thread::slot;
use sel4::{CNodeCapData, CPtr, CapRights, Error, ObjectBlueprint, cap};
use testkit::{Case, Helper, Kit, Outcome, check, check_eq, invoke};

pub const CASES: &[Case] = &[
    Case {
        name: "CNODEOP0001 copy",
        body: copy,
    },
    Case {
        name: "CNODEOP0002 delete",
        body: delete,
    },
    Case {
        name: "CNODEOP0003 mint",
        body: mint,
    },
    Case {
        name: "CNODEOP0004 move",
        body: move_,
    },
    Case {
        name: "CNODEOP0005 mutate",
        body: mutate,
    },
    Case {
        name: "CNODEOP0006 cancel badged sends",
        body: cancel_badged_sends,
    },
    Case {
        name: "CNODEOP0007 revoke",
        body: revoke,
    },
    Case {
        name: "CNODEOP0008 rotate",
        body: rotate,
    },
    Case {
        name: "CNODEOP0009 swap by rotate",
        body: swap,
    },
    Case {
        name: "CNODEOP0010 depth and guard of a look-up",
        body: look_up,
    },
    Case {
        name: "CNODEOP0011 two levels",
        body: two_levels,
    },
    Case {
        name: "CNODEOP0012 guards of CNode capabilities",
        body: guards,
    },
    Case {
        name: "CNODEOP0013 what does not copy",
        body: not_copied,
    },
    Case {
        name: "CNODEOP0014 a CNode in itself",
        body: in_itself,
    },
];

/// Whether signals through `a` arrive at `b`, with this badge.
fn same(a: cap::Notification, b: cap::Notification, badge: u64) -> Outcome {
    check_eq!(b.poll().1, 0);
    a.signal();
    check_eq!(b.poll().1, badge);
    Ok(())
}

fn copy(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let badged = kit.mint(ntfn, CapRights::all(), 0x77)?;
    let twin = kit.copy(badged, CapRights::all())?;
    same(twin, ntfn, 0x77)?;
    let (used, empty, free) = (twin.cptr(), kit.slot(), kit.slot());
    let all = CapRights::all();
    let attempt = kit.absolute(used).copy(&kit.absolute(ntfn), all);
    check_eq!(attempt, Err(Error::DeleteFirst));
    same(twin, ntfn, 0x77)?;
    let attempt = kit.absolute(free).copy(&kit.absolute(empty), all);
    check_eq!(attempt, Err(Error::FailedLookup));
    check!(kit.is_empty(free.bits()));
    // A CSpace that is none.
    let answer = invoke(
        slot::CNODE.cptr().bits(),
        L::CNodeCopy,
        &[free.bits(), 64, ntfn.bits(), 64, 15],
        &[ntfn.bits()],
    );
    refused(answer, ErrorCode::FailedLookup)?;
    check_eq!(answer.words[..2], [1, 1]);
    check!(kit.is_empty(free.bits()));
    Ok(())
}

fn delete(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let twin = kit.copy(ntfn, CapRights::all())?;
    kit.delete(twin)?;
    check!(kit.is_empty(twin.bits()));
    check!(!kit.is_empty(ntfn.bits()));
    // Deleting nothing is no error.
    kit.delete(twin)?;
    kit.delete(ntfn)?;
    check!(kit.is_empty(ntfn.bits()));
    Ok(())
}

fn mint(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let badged = kit.mint(ntfn, CapRights::all(), 0xbad6e)?;
    same(badged, ntfn, 0xbad6e)?;
    // A badge is for good.
    let free = kit.slot();
    let place = kit.absolute(free);
    let again = place.mint(&kit.absolute(badged), CapRights::all(), 1);
    check_eq!(again, Err(Error::IllegalOperation));
    check!(kit.is_empty(free.bits()));
    // Rights only shrink.
    let reader = kit.mint(ntfn, CapRights::read_only(), 0)?;
    let still = kit.copy(reader, CapRights::all())?;
    still.signal();
    check_eq!(ntfn.poll().1, 0);
    check_eq!(
        invoke(still.bits(), L::InvalidInvocation, &[], &[]).error(),
        Some(ErrorCode::InvalidCapability)
    );
    // The same of an endpoint.
    let endpoint = kit.endpoint()?;
    let badged = kit.mint(endpoint, CapRights::all(), 5)?;
    let again = place.mint(&kit.absolute(badged), CapRights::all(), 6);
    check_eq!(again, Err(Error::IllegalOperation));
    Ok(())
}

fn move_(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let badged = kit.mint(ntfn, CapRights::all(), 3)?;
    let dest = kit.slot();
    kit.absolute(dest).move_(&kit.absolute(badged))?;
    check!(kit.is_empty(badged.bits()));
    same(dest.cast(), ntfn, 3)?;
    let attempt = kit.absolute(dest).move_(&kit.absolute(ntfn));
    check_eq!(attempt, Err(Error::DeleteFirst));
    let empty = badged.cptr();
    let other = kit.slot();
    let attempt = kit.absolute(other).move_(&kit.absolute(empty));
    check_eq!(attempt, Err(Error::FailedLookup));
    // What was derived before the move is still derived after it.
    let moved = kit.slot();
    kit.absolute(moved).move_(&kit.absolute(ntfn))?;
    kit.absolute(moved).revoke()?;
    check!(kit.is_empty(dest.bits()));
    check!(!kit.is_empty(moved.bits()));
    Ok(())
}

fn mutate(kit: &mut Kit) -> Outcome {
    // A CNode gets another guard by the move.
    let plain: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 4 })?;
    let dest = kit.slot();
    let data = CNodeCapData::new(5, 3).into_word();
    kit.absolute(dest).mutate(&kit.absolute(plain), data)?;
    check!(kit.is_empty(plain.bits()));
    let inner = dest.cast::<sel4::cap_type::CNode>();
    let ntfn = kit.notification()?;
    let right = inner.absolute_cptr_from_bits_with_depth(5 << 4 | 9, 7);
    right.copy(&kit.absolute(ntfn), CapRights::all())?;
    let wrong = inner.absolute_cptr_from_bits_with_depth(4 << 4 | 9, 7);
    check_eq!(wrong.delete(), Err(Error::FailedLookup));
    // Badges are not changed by moves.
    let other = kit.slot();
    let attempt = kit.absolute(other).mutate(&kit.absolute(ntfn), 4);
    check_eq!(attempt, Err(Error::IllegalOperation));
    check!(!kit.is_empty(ntfn.bits()));
    check!(kit.is_empty(other.bits()));
    Ok(())
}

fn cancel_badged_sends(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let mut threads = [None; 4];
    for (i, thread) in threads.iter_mut().enumerate() {
        let badge = 1 + i as u64 % 2;
        let sender = kit.mint(endpoint, CapRights::all(), badge)?;
        let args = [sender.bits(), 7, i as u64];
        *thread = Some((Helper::new(send_once).args(args).start(kit)?, sender));
    }
    kit.settle()?;
    // Without all rights, or of something else: refused.
    let weak = kit.mint(endpoint, CapRights::write_only(), 1)?;
    let attempt = kit.absolute(weak).cancel_badged_sends();
    check_eq!(attempt, Err(Error::IllegalOperation));
    let ntfn = kit.notification()?;
    let attempt = kit.absolute(ntfn).cancel_badged_sends();
    check_eq!(attempt, Err(Error::IllegalOperation));
    // Badge 1's senders start their calls again, behind those with badge 2: nothing is lost. Which of
    // two equal threads runs first is the scheduler's (a time slice may end between them).
    let badge1 = threads[0].map_or(endpoint, |t| t.1);
    kit.absolute(badge1).cancel_badged_sends()?;
    kit.settle()?;
    let mut order = [0; 4];
    for place in &mut order {
        *place = endpoint.recv_with_mrs(cap::Reply::from_bits(0)).msg[0];
    }
    order[..2].sort_unstable();
    order[2..].sort_unstable();
    check_eq!(order, [1, 3, 0, 2]);
    for (thread, _) in threads.iter().flatten() {
        check_eq!(thread.join(kit)?, 1);
    }
    Ok(())
}

fn revoke(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let one = kit.mint(ntfn, CapRights::all(), 1)?;
    let one_copy = kit.copy(one, CapRights::all())?;
    let two = kit.mint(ntfn, CapRights::all(), 2)?;
    // A badged capability's copies are its descendants, other badges are not.
    kit.revoke(one)?;
    check!(kit.is_empty(one_copy.bits()));
    check!(!kit.is_empty(one.bits()) && !kit.is_empty(two.bits()));
    kit.revoke(ntfn)?;
    check!(kit.is_empty(one.bits()) && kit.is_empty(two.bits()));
    check!(!kit.is_empty(ntfn.bits()));
    same(ntfn, ntfn, 0)?;
    // Revoking an empty slot is no error.
    kit.revoke(one)?;
    Ok(())
}

fn rotate(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let pivot = kit.mint(ntfn, CapRights::all(), 1)?;
    let src = kit.mint(ntfn, CapRights::all(), 2)?;
    let dest = kit.slot();
    let place = |c: CPtr| kit.absolute(c);
    // Notifications are not rebadged by moves, so a rotation of them is refused...
    let attempt = place(dest).rotate(0, &place(pivot.cptr()), 0, &place(src.cptr()));
    check_eq!(attempt, Err(Error::IllegalOperation));
    same(pivot, ntfn, 1)?;
    same(src, ntfn, 2)?;
    // ... one of scheduling contexts goes through.
    let a: cap::SchedContext = kit.sched_context(1000, 1000)?;
    let b: cap::SchedContext = kit.sched_context(2000, 2000)?;
    let place = |c: CPtr| kit.absolute(c);
    place(dest).rotate(0, &place(a.cptr()), 0, &place(b.cptr()))?;
    check!(kit.is_empty(b.bits()));
    check!(!kit.is_empty(a.bits()) && !kit.is_empty(dest.bits()));
    // `a`'s slot now names what `b` named: binding it twice shows.
    let tcb = kit.tcb()?;
    a.sched_context_bind(tcb)?;
    check_eq!(
        dest.cast::<sel4::cap_type::SchedContext>()
            .sched_context_bind(tcb),
        Err(Error::IllegalOperation)
    );
    a.sched_context_unbind()?;
    dest.cast::<sel4::cap_type::SchedContext>()
        .sched_context_bind(tcb)?;
    Ok(())
}

fn swap(kit: &mut Kit) -> Outcome {
    let a: cap::SchedContext = kit.sched_context(1000, 1000)?;
    let tcb = kit.tcb()?;
    let ntfn = kit.notification()?;
    let place = |c: CPtr| kit.absolute(c);
    // Source and destination are one slot: the capabilities change places.
    place(a.cptr()).rotate(0, &place(tcb.cptr()), 0, &place(a.cptr()))?;
    let (new_tcb, new_sc) = (
        a.cast::<sel4::cap_type::Tcb>(),
        tcb.cast::<sel4::cap_type::SchedContext>(),
    );
    new_sc.sched_context_bind(new_tcb)?;
    // Pivot equal to source or destination is refused.
    let free = kit.slot();
    let place = |c: CPtr| kit.absolute(c);
    let attempt = place(free).rotate(0, &place(a.cptr()), 0, &place(a.cptr()));
    check_eq!(attempt, Err(Error::IllegalOperation));
    let attempt = place(free).rotate(0, &place(free), 0, &place(a.cptr()));
    check_eq!(attempt, Err(Error::IllegalOperation));
    // Empty source or pivot, used destination.
    let empty = kit.slot();
    let place = |c: CPtr| kit.absolute(c);
    let attempt = place(free).rotate(0, &place(a.cptr()), 0, &place(empty));
    check_eq!(attempt, Err(Error::FailedLookup));
    let attempt = place(free).rotate(0, &place(empty), 0, &place(a.cptr()));
    check_eq!(attempt, Err(Error::FailedLookup));
    let attempt = place(ntfn.cptr()).rotate(0, &place(a.cptr()), 0, &place(tcb.cptr()));
    check_eq!(attempt, Err(Error::DeleteFirst));
    check!(kit.is_empty(free.bits()));
    new_sc.sched_context_unbind()?;
    new_sc.sched_context_bind(new_tcb)?;
    Ok(())
}

fn look_up(kit: &mut Kit) -> Outcome {
    let cnode = slot::CNODE.cptr().bits();
    let bits = kit.boot().cnode_bits;
    let ntfn = kit.notification()?;
    let delete = |index: u64, depth: u64| invoke(cnode, L::CNodeDelete, &[index, depth], &[]);
    for depth in [0, 65, u64::MAX] {
        let answer = delete(ntfn.bits(), depth);
        refused(answer, ErrorCode::RangeError)?;
        check_eq!(answer.words[..2], [1, 64]);
    }
    // Too short for the guard.
    let answer = delete(ntfn.bits(), 63 - bits);
    refused(answer, ErrorCode::FailedLookup)?;
    check_eq!(answer.words[..5], [0, 4, 63 - bits, 0, 64 - bits]);
    // Long enough for the guard, not for the index.
    let answer = delete(ntfn.bits(), 63);
    refused(answer, ErrorCode::FailedLookup)?;
    check_eq!(answer.words[..4], [0, 3, 63, 64]);
    // The guard differs.
    let answer = delete(1 << 63 | ntfn.bits(), 64);
    refused(answer, ErrorCode::FailedLookup)?;
    check_eq!(answer.words[..5], [0, 4, 64, 0, 64 - bits]);
    // Bits left over behind something that is no CNode.
    let small = kit.new_cnode(4)?;
    let plain: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 4 })?;
    let inner = plain.absolute_cptr_from_bits_with_depth(3, 4);
    inner.copy(&kit.absolute(ntfn), CapRights::all())?;
    let answer = invoke(plain.bits(), L::CNodeDelete, &[0x31, 8], &[]);
    refused(answer, ErrorCode::FailedLookup)?;
    check_eq!(answer.words[..3], [0, 3, 4]);
    check!(!kit.is_empty(ntfn.bits()));
    kit.delete(small)?;
    Ok(())
}

fn two_levels(kit: &mut Kit) -> Outcome {
    // The shape of a Microkit PD's CSpace: slot 0 of a root CNode is another CNode.
    let top: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 6 })?;
    let low: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 9 })?;
    let place = top.absolute_cptr_from_bits_with_depth(0, 6);
    place.copy(&kit.absolute(low), CapRights::all())?;
    let guarded = kit.mint(top, CapRights::all(), CNodeCapData::skip(49).into_word())?;
    let endpoint = kit.endpoint()?;
    let badged = kit.mint(endpoint, CapRights::all(), 0x44)?;
    let inside = guarded.absolute_cptr_from_bits_with_depth(400, 64);
    inside.copy(&kit.absolute(badged), CapRights::all())?;
    let deep = low.absolute_cptr_from_bits_with_depth(400, 9);
    check_eq!(
        deep.copy(&kit.absolute(badged), CapRights::all()),
        Err(Error::DeleteFirst)
    );
    // A thread with that CSpace uses it.
    let thread = Helper::new(send_once)
        .args([400, 1, 0x1234])
        .cspace(guarded)
        .start(kit)?;
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!((got.badge, got.msg[0]), (0x44, 0x1234));
    kit.settle()?;
    check_eq!(thread.result(), Some(1));
    // When the capability moves, the old pointer leads nowhere, at once.
    let other = guarded.absolute_cptr_from_bits_with_depth(401, 64);
    let faults = kit.endpoint()?;
    let thread = Helper::new(receive_once)
        .args([400, 0])
        .cspace(guarded)
        .fault(faults)
        .make(kit)?;
    other.move_(&inside)?;
    thread.tcb.tcb_resume()?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), partita_abi::FaultLabel::CapFault as u64);
    Ok(())
}

fn guards(kit: &mut Kit) -> Outcome {
    let plain: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 4 })?;
    let free = kit.slot();
    // Guard and index must fit a word.
    let data = CNodeCapData::new(0, 61).into_word();
    let place = kit.absolute(free);
    let attempt = place.mint(&kit.absolute(plain), CapRights::all(), data);
    check_eq!(attempt, Err(Error::IllegalOperation));
    check!(kit.is_empty(free.bits()));
    let data = CNodeCapData::new(0x2a, 6).into_word();
    place.mint(&kit.absolute(plain), CapRights::all(), data)?;
    let guarded = free.cast::<sel4::cap_type::CNode>();
    let ntfn = kit.notification()?;
    let inside = guarded.absolute_cptr_from_bits_with_depth(0x2a << 4 | 2, 10);
    inside.copy(&kit.absolute(ntfn), CapRights::all())?;
    let same = plain.absolute_cptr_from_bits_with_depth(2, 4);
    check_eq!(
        same.copy(&kit.absolute(ntfn), CapRights::all()),
        Err(Error::DeleteFirst)
    );
    Ok(())
}

fn not_copied(kit: &mut Kit) -> Outcome {
    let free = kit.slot();
    let all = CapRights::all();
    let place = kit.absolute(free);
    // Authority over interrupts, unmapped page tables, memory that was handed out.
    let attempt = place.copy(&kit.absolute(slot::IRQ_CONTROL.cptr()), all);
    check_eq!(attempt, Err(Error::IllegalOperation));
    let table: cap::PT = kit.object(sel4::ObjectBlueprintArch::PT.into())?;
    let attempt = place.copy(&kit.absolute(table), all);
    check_eq!(attempt, Err(Error::IllegalOperation));
    let memory = kit.untyped(12)?;
    let inside: cap::Endpoint = kit.retype(memory, ObjectBlueprint::Endpoint)?;
    let attempt = place.copy(&kit.absolute(memory), all);
    check_eq!(attempt, Err(Error::RevokeFirst));
    check!(kit.is_empty(free.bits()));
    kit.delete(inside)?;
    // Memory in two capabilities: only one of them hands it out.
    place.copy(&kit.absolute(memory), all)?;
    let twin = free.cast::<sel4::cap_type::Untyped>();
    let first: Result<cap::Endpoint, _> = kit.retype(twin, ObjectBlueprint::Endpoint);
    check!(first.is_ok());
    let second: Result<cap::Endpoint, _> = kit.retype(memory, ObjectBlueprint::Endpoint);
    check_eq!(second, Err(Error::NotEnoughMemory));
    Ok(())
}

fn in_itself(kit: &mut Kit) -> Outcome {
    // A CNode's only capability moves into that CNode: no root names it any more, and only its
    // memory's capability can end it.
    let memory = kit.untyped(12)?;
    let cnode: cap::CNode = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 4 })?;
    let endpoint = kit.endpoint()?;
    cnode
        .absolute_cptr_from_bits_with_depth(5, 4)
        .copy(&kit.absolute(endpoint), CapRights::all())?;
    let inside = cnode.absolute_cptr_from_bits_with_depth(2, 4);
    inside.move_(&kit.absolute(cnode))?;
    check!(kit.is_empty(cnode.bits()));
    kit.revoke(memory)?;
    // The endpoint is alive, and the memory is whole again.
    let big: Result<cap::CNode, _> = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 7 });
    check!(big.is_ok());
    let thread = Helper::new(send_once)
        .args([endpoint.bits(), 1, 2])
        .start(kit)?;
    let receiver = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .start(kit)?;
    check_eq!(receiver.join(kit)?, 2);
    thread.join(kit)?;
    Ok(())
}
