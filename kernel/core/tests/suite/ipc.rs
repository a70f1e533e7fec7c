// SPDX-License-Identifier: BSD-2-Clause
//! Endpoints, notifications, reply objects, donation and faults.

use crate::invariants::check;
use crate::rig::{ALL, EMPTY, Rig, Thread};
use partita_abi::{
    CapRights, ErrorCode as E, FaultLabel, InvocationLabel as L, IpcBufferLayout, MessageInfo,
    ObjectType, fault, init_cnode, syscall,
};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::object::ThreadState as S;

const ROOT: u64 = init_cnode::CNODE as u64;
const W: u64 = CapRights::WRITE.0;
const R: u64 = CapRights::READ.0;
const GRANT: u64 = CapRights::GRANT.0;
const GRANT_REPLY: u64 = CapRights::GRANT_REPLY.0;

fn words(n: usize) -> Vec<u64> {
    (0..n as u64).map(|i| 0x1000 + 3 * i).collect()
}

#[track_caller]
fn got(rig: &Rig, th: &Thread, badge: u64, label: u64, words: &[u64]) {
    assert_eq!(rig.badge(th.t), badge, "badge");
    assert_eq!(rig.info(th.t).label(), label, "label");
    assert_eq!(rig.info(th.t).length() as usize, words.len(), "length");
    for (i, w) in words.iter().enumerate() {
        assert_eq!(rig.mr(th.t, i), *w, "message register {i}");
    }
    for i in words.len()..8 {
        assert_eq!(
            rig.mr(th.t, i),
            0,
            "message register {i} beyond the message"
        );
    }
    assert_eq!(rig.gpr(th.t, 0), 0);
}

/// A passive server that waits, which is checked.
fn passive_server(rig: &Rig, priority: u64, ep: u64) -> Thread {
    let server = rig.passive_server(priority, ep);
    assert_eq!(rig.state(server.t), S::BlockedOnReceive);
    check(rig);
    server
}

fn has_sc(rig: &Rig, th: &Thread, owner: &Thread) -> bool {
    rig.tcb(th.t)
        .sched_context
        .get()
        .is_some_and(|sc| sc.addr() == rig.addr(owner.sc))
}

#[test]
fn ipc0001_send_and_receive_in_both_orders_and_all_lengths() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let badged = rig.mint(ep, W, 0x77);
    for n in [0, 1, 4, 7, 8, 9, 50, 119, 120] {
        let message = words(n);
        for sender_first in [true, false] {
            let send = || {
                rig.message(a.t, 5, &message, &[]);
                rig.syscall(a.t, syscall::SEND, badged);
            };
            if sender_first {
                send();
                assert_eq!(rig.state(a.t), S::BlockedOnSend);
                check(&rig);
                rig.recv(b.t, ep, EMPTY);
            } else {
                rig.recv(b.t, ep, EMPTY);
                assert_eq!(rig.state(b.t), S::BlockedOnReceive);
                check(&rig);
                send();
            }
            assert!(rig.can_run(a.t) && rig.can_run(b.t));
            got(&rig, &b, 0x77, 5, &message);
            check(&rig);
        }
    }
    // Longer lengths than 120 are cut.
    rig.message(a.t, 0, &words(120), &[]);
    rig.set_gpr(a.t, 12, MessageInfo::new(0, 0, 0, 127).0);
    rig.syscall(a.t, syscall::SEND, ep);
    rig.recv(b.t, ep, EMPTY);
    assert_eq!(rig.info(b.t).length(), 120);
}

#[test]
fn a_message_without_buffers_is_cut_to_registers() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    rig.ok(b.tcb, L::TCBSetIPCBuffer, &[0], &[EMPTY]);
    rig.message(a.t, 0, &words(20), &[ep, ep, ep]);
    rig.syscall(a.t, syscall::SEND, ep);
    rig.recv(b.t, ep, EMPTY);
    assert_eq!((rig.info(b.t).length(), rig.info(b.t).extra_caps()), (8, 0));
    check(&rig);
}

#[test]
fn ipc0002_non_blocking_halves() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let ntfn = rig.make(ObjectType::Notification);
    rig.nb_send(a.t, ep, &[1]);
    assert_eq!(rig.current(), Some(a.t));
    rig.nb_recv(b.t, ep, EMPTY);
    got(&rig, &b, 0, 0, &[]);
    rig.syscall(b.t, syscall::NB_WAIT, ntfn);
    got(&rig, &b, 0, 0, &[]);
    rig.recv(b.t, ep, EMPTY);
    rig.nb_send(a.t, ep, &[9]);
    got(&rig, &b, 0, 0, &[9]);
    rig.send(a.t, ep, &[8]);
    assert_eq!(rig.state(a.t), S::BlockedOnSend);
    rig.nb_recv(b.t, ep, EMPTY);
    got(&rig, &b, 0, 0, &[8]);
    check(&rig);
}

#[test]
fn a_send_to_an_empty_slot_is_nobodys_business() {
    let rig = Rig::new();
    let th = rig.thread(60);
    let ep = rig.make(ObjectType::Endpoint);
    // The slow path remembers where small pointers lead.
    rig.syscall(th.t, syscall::NB_SEND, EMPTY);
    let nobody = |number: isize, cptr: u64| {
        rig.set_gpr(th.t, 0, number as u64);
        rig.set_gpr(th.t, 3, cptr);
        rig.run_as(th.t);
        rig.k().sends_to_nobody()
    };
    assert!(nobody(syscall::NB_SEND, EMPTY));
    assert!(
        !nobody(syscall::NB_SEND, ep),
        "an endpoint may have a receiver"
    );
    assert!(!nobody(syscall::SEND, EMPTY), "a fault");
    assert!(!nobody(syscall::CALL, EMPTY), "an error or a fault");
    // Nothing is what the slow path does, too.
    let before = rig.gpr(th.t, 12);
    rig.syscall(th.t, syscall::NB_SEND, EMPTY);
    assert!(rig.can_run(th.t));
    assert_eq!(rig.gpr(th.t, 12), before);
    check(&rig);
}

#[test]
fn ipc0003_call_and_reply() {
    let rig = Rig::new();
    let (client, server) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    for receive_first in [true, false] {
        if receive_first {
            rig.recv(server.t, ep, server.reply);
        }
        rig.call_ep(client.t, ep, &words(3));
        if !receive_first {
            assert_eq!(rig.state(client.t), S::BlockedOnSend);
            check(&rig);
            rig.recv(server.t, ep, server.reply);
        }
        assert_eq!(rig.state(client.t), S::BlockedOnReply);
        got(&rig, &server, 0, 0, &words(3));
        check(&rig);
        // The answer is sent by the reply capability.
        rig.message(server.t, 3, &words(9), &[]);
        rig.syscall(server.t, syscall::SEND, server.reply);
        got(&rig, &client, 0, 3, &words(9));
        assert!(rig.can_run(client.t));
        check(&rig);
        // A second answer goes nowhere.
        rig.send(server.t, server.reply, &[1]);
        got(&rig, &client, 0, 3, &words(9));
    }
}

#[test]
fn ipc0004_reply_recv_serves_one_after_the_other() {
    let rig = Rig::new();
    let server = rig.thread(200);
    let clients = [
        rig.thread(10),
        rig.thread(30),
        rig.thread(20),
        rig.thread(30),
    ];
    let ep = rig.make(ObjectType::Endpoint);
    for (i, c) in clients.iter().enumerate() {
        rig.call_ep(c.t, ep, &[i as u64]);
    }
    check(&rig);
    // By priority, equal ones in order of arrival.
    rig.recv(server.t, ep, server.reply);
    for i in [1, 3, 2, 0] {
        got(&rig, &server, 0, 0, &[i]);
        rig.reply_recv(server.t, ep, server.reply, &[i + 100]);
        got(&rig, &clients[i as usize], 0, 0, &[i + 100]);
        check(&rig);
    }
    assert_eq!(rig.state(server.t), S::BlockedOnReceive);
}

#[test]
fn ipc1001_a_change_of_priority_moves_a_waiting_thread() {
    let rig = Rig::new();
    let threads = [rig.thread(10), rig.thread(20), rig.thread(30)];
    let server = rig.thread(100);
    let ep = rig.make(ObjectType::Endpoint);
    for (i, t) in threads.iter().enumerate() {
        rig.send(t.t, ep, &[i as u64]);
    }
    let tcb = init_cnode::TCB as u64;
    rig.ok(threads[0].tcb, L::TCBSetPriority, &[25], &[tcb]);
    rig.ok(threads[2].tcb, L::TCBSetPriority, &[20], &[tcb]);
    check(&rig);
    for i in [0, 1, 2] {
        rig.recv(server.t, ep, EMPTY);
        got(&rig, &server, 0, 0, &[i]);
    }
    let ntfn = rig.make(ObjectType::Notification);
    for t in &threads {
        rig.wait(t.t, ntfn);
    }
    rig.ok(threads[1].tcb, L::TCBSetPriority, &[90], &[tcb]);
    check(&rig);
    rig.nb_send(rig.root, ntfn, &[]);
    assert!(rig.can_run(threads[1].t));
    check(&rig);
}

#[test]
fn ipcrights0001_send_needs_write_and_receive_needs_read() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let handler = rig.make(ObjectType::Endpoint);
    for kind in [ObjectType::Endpoint, ObjectType::Notification] {
        let object = rig.make(kind);
        let read_only = rig.mint(object, R, 0);
        // Send is dropped without a word; Call says why.
        for number in [syscall::SEND, syscall::NB_SEND] {
            rig.message(a.t, 0, &[1], &[]);
            rig.syscall(a.t, number, read_only);
            assert_eq!(rig.state(a.t), rig.state(b.t));
        }
        rig.message(a.t, 0, &[1], &[]);
        rig.syscall(a.t, syscall::CALL, read_only);
        assert_eq!(rig.answer(a.t), Err((E::InvalidCapability, vec![0])));
        // Receiving without Read is a fault of the receiver.
        let write_only = rig.mint(object, W, 0);
        rig.ok(
            b.tcb,
            L::TCBSetSchedParams,
            &[255, 100],
            &[1, b.sc, handler],
        );
        for number in [
            syscall::RECV,
            syscall::NB_RECV,
            syscall::WAIT,
            syscall::NB_WAIT,
        ] {
            rig.set_gpr(b.t, 14, b.reply);
            rig.syscall(b.t, number, write_only);
            assert_eq!(rig.state(b.t), S::BlockedOnSend, "{kind:?} {number}");
            rig.recv(a.t, handler, a.reply);
            use fault::cap_fault as w;
            assert_eq!(rig.info(a.t).label(), FaultLabel::CapFault as u64);
            assert_eq!(rig.mr(a.t, w::ADDRESS), write_only);
            assert_eq!(rig.mr(a.t, w::IN_RECV_PHASE), 1);
            assert_eq!(rig.mr(a.t, w::LOOKUP_FAILURE_TYPE), 2);
            check(&rig);
            rig.send(a.t, a.reply, &[]);
            assert!(rig.can_run(b.t));
        }
    }
}

#[test]
fn ipcrights0004_a_call_needs_grant_or_grant_reply() {
    let rig = Rig::new();
    let server = rig.thread(100);
    let ep = rig.make(ObjectType::Endpoint);
    for receive_first in [true, false] {
        for (rights, answered) in [
            (W, false),
            (W | R, false),
            (W | GRANT_REPLY, true),
            (W | GRANT, true),
            (ALL, true),
        ] {
            let client = rig.thread(100);
            let cap = rig.mint(ep, rights, 1);
            if receive_first {
                rig.recv(server.t, ep, server.reply);
            }
            rig.call_ep(client.t, cap, &[2]);
            if !receive_first {
                rig.recv(server.t, ep, server.reply);
            }
            got(&rig, &server, 1, 0, &[2]);
            let state = if answered {
                S::BlockedOnReply
            } else {
                S::Inactive
            };
            assert_eq!(rig.state(client.t), state, "{rights}");
            check(&rig);
            rig.send(server.t, server.reply, &[]);
            check(&rig);
        }
    }
}

#[test]
fn a_call_that_is_received_without_a_reply_object_is_never_answered() {
    let rig = Rig::new();
    let (client, server) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    rig.wait(server.t, ep);
    rig.call_ep(client.t, ep, &[]);
    assert_eq!(rig.state(client.t), S::Inactive);
    check(&rig);
}

fn transfer(
    rig: &Rig,
    from: &Thread,
    to: &Thread,
    send: u64,
    recv: u64,
    caps: &[u64],
) -> MessageInfo {
    rig.recv(to.t, recv, EMPTY);
    rig.message(from.t, 0, &[1], caps);
    rig.syscall(from.t, syscall::SEND, send);
    check(rig);
    rig.info(to.t)
}

#[test]
fn ipcrights0005_capabilities_travel_with_grant_only() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let ntfn = rig.make(ObjectType::Notification);
    let gift = rig.mint(ntfn, W, 0x61f7);
    let dest = rig.fresh();
    rig.set_receive_slot(b.t, dest);
    let no_grant = rig.mint(ep, W | GRANT_REPLY, 0);
    let info = transfer(&rig, &a, &b, no_grant, ep, &[gift]);
    assert_eq!((info.extra_caps(), info.length()), (0, 1));
    assert_eq!(rig.cap(dest), Cap::Null);
    let info = transfer(&rig, &a, &b, ep, ep, &[gift]);
    assert_eq!((info.extra_caps(), info.caps_unwrapped()), (1, 0));
    assert_eq!(rig.cap(dest), rig.cap(gift));
    // It is a copy: below the same original.
    rig.revoke(ntfn);
    assert_eq!(rig.cap(dest), Cap::Null);
}

#[test]
fn ipcrights0003_unwrapping_and_truncation() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let (x, y) = (rig.mint(ep, W, 0x11), rig.mint(ep, R, 0x22));
    let n = rig.make(ObjectType::Notification);
    let dest = rig.fresh();
    rig.set_receive_slot(b.t, dest);
    let badge = |i: usize| rig.buffer_word(b.t, IpcBufferLayout::CAPS_OR_BADGES + i);
    // Capabilities to the very endpoint arrive as badges, and need no slot.
    let info = transfer(&rig, &a, &b, ep, ep, &[x, n, y]);
    assert_eq!((info.extra_caps(), info.caps_unwrapped()), (3, 0b101));
    assert_eq!((badge(0), badge(2)), (0x11, 0x22));
    assert!(matches!(rig.cap(dest), Cap::Notification { .. }));
    // The slot is in use now: what needs one, and all after it, is cut off.
    let info = transfer(&rig, &a, &b, ep, ep, &[x, n, y]);
    assert_eq!((info.extra_caps(), info.caps_unwrapped()), (1, 1));
    rig.delete(dest);
    // One slot takes one capability.
    let info = transfer(&rig, &a, &b, ep, ep, &[n, n]);
    assert_eq!((info.extra_caps(), info.caps_unwrapped()), (1, 0));
    rig.delete(dest);
    // An empty slot or a capability that cannot be copied ends it.
    let info = transfer(&rig, &a, &b, ep, ep, &[EMPTY, n]);
    assert_eq!(info.extra_caps(), 0);
    let info = transfer(&rig, &a, &b, ep, ep, &[rig.untyped, n]);
    assert_eq!(info.extra_caps(), 0);
    assert_eq!(rig.cap(dest), Cap::Null);
    // A receive path that leads nowhere.
    rig.set_buffer_word(b.t, IpcBufferLayout::RECEIVE_DEPTH, 99);
    let info = transfer(&rig, &a, &b, ep, ep, &[x, n]);
    assert_eq!((info.extra_caps(), info.caps_unwrapped()), (1, 1));
}

#[test]
fn a_bad_pointer_among_the_extra_capabilities() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let n = rig.make(ObjectType::Notification);
    let dest = rig.fresh();
    rig.set_receive_slot(b.t, dest);
    let bad = 1 << 40;
    // As in seL4 a blocking send faults; a non-blocking one is dropped.
    rig.recv(b.t, ep, EMPTY);
    rig.message(a.t, 0, &[1], &[n, bad]);
    rig.syscall(a.t, syscall::NB_SEND, ep);
    assert_eq!(rig.state(b.t), S::BlockedOnReceive);
    assert!(rig.can_run(a.t));
    rig.message(a.t, 0, &[1], &[n, bad]);
    rig.syscall(a.t, syscall::SEND, ep);
    assert_eq!(rig.state(a.t), S::Inactive, "the fault has no handler");
    assert_eq!(rig.state(b.t), S::BlockedOnReceive);
    check(&rig);
    // A pointer that goes bad while the sender waits: the message comes without capabilities.
    let c = rig.thread(100);
    rig.nb_send(c.t, ep, &[]);
    rig.message(c.t, 0, &[7], &[n, n]);
    rig.syscall(c.t, syscall::SEND, ep);
    rig.set_buffer_word(c.t, IpcBufferLayout::CAPS_OR_BADGES + 1, bad);
    rig.recv(b.t, ep, EMPTY);
    assert_eq!((rig.info(b.t).extra_caps(), rig.mr(b.t, 0)), (0, 7));
    assert_eq!(rig.cap(dest), Cap::Null);
    check(&rig);
}

#[test]
fn answers_carry_capabilities_if_both_ends_grant() {
    let rig = Rig::new();
    let (client, server) = (rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let n = rig.make(ObjectType::Notification);
    let no_grant = rig.mint(server.reply, W, 0);
    let dest = rig.fresh();
    rig.set_receive_slot(client.t, dest);
    for (send, reply, arrives) in [
        (ep, server.reply, 1),
        (ep, no_grant, 0),
        (rig.mint(ep, W | GRANT_REPLY, 0), server.reply, 0),
    ] {
        rig.recv(server.t, ep, server.reply);
        rig.call_ep(client.t, send, &[]);
        rig.message(server.t, 0, &[], &[n]);
        rig.syscall(server.t, syscall::SEND, reply);
        assert_eq!(rig.info(client.t).extra_caps(), arrives);
        assert_eq!(rig.cap(dest).is_null(), arrives == 0);
        check(&rig);
        rig.delete(dest);
    }
}

#[test]
fn bind0001_a_bound_notification_comes_through_receive() {
    let rig = Rig::new();
    let th = rig.thread(100);
    let ep = rig.make(ObjectType::Endpoint);
    let ntfn = rig.make(ObjectType::Notification);
    let (n1, n2) = (rig.mint(ntfn, W, 1), rig.mint(ntfn, W, 2));
    rig.ok(th.tcb, L::TCBBindNotification, &[], &[ntfn]);
    check(&rig);
    rig.recv(th.t, ep, th.reply);
    rig.nb_send(rig.root, n1, &[]);
    got(&rig, &th, 1, 0, &[]);
    assert!(rig.reply(th.reply).tcb.is_none());
    check(&rig);
    // Bits that arrive while it runs are gathered.
    rig.nb_send(rig.root, n1, &[]);
    rig.nb_send(rig.root, n2, &[]);
    rig.recv(th.t, ep, th.reply);
    got(&rig, &th, 3, 0, &[]);
    rig.nb_recv(th.t, ep, th.reply);
    got(&rig, &th, 0, 0, &[]);
    // They come before a sender that waits.
    let sender = rig.thread(100);
    rig.send(sender.t, ep, &[5]);
    rig.nb_send(rig.root, n2, &[]);
    rig.recv(th.t, ep, th.reply);
    got(&rig, &th, 2, 0, &[]);
    rig.recv(th.t, ep, th.reply);
    got(&rig, &th, 0, 0, &[5]);
    check(&rig);
}

#[test]
fn bind0002_misuse() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let (n, m) = (
        rig.make(ObjectType::Notification),
        rig.make(ObjectType::Notification),
    );
    let ep = rig.make(ObjectType::Endpoint);
    let bind = L::TCBBindNotification;
    let illegal = E::IllegalOperation;
    rig.refused(a.tcb, bind, &[], &[], E::TruncatedMessage, &[]);
    rig.refused(a.tcb, bind, &[], &[ep], illegal, &[]);
    let write_only = rig.mint(n, W, 0);
    rig.refused(a.tcb, bind, &[], &[write_only], illegal, &[]);
    rig.refused(a.tcb, L::TCBUnbindNotification, &[], &[], illegal, &[]);
    rig.ok(a.tcb, bind, &[], &[n]);
    rig.refused(a.tcb, bind, &[], &[m], illegal, &[]);
    rig.refused(b.tcb, bind, &[], &[n], illegal, &[]);
    // A notification with a waiting thread.
    rig.wait(b.t, m);
    let c = rig.thread(100);
    rig.refused(c.tcb, bind, &[], &[m], illegal, &[]);
    // Nobody else waits for a bound notification.
    rig.wait(c.t, n);
    assert_eq!(rig.state(c.t), S::Inactive);
    rig.wait(a.t, n);
    assert_eq!(rig.state(a.t), S::BlockedOnNotification);
    check(&rig);
}

#[test]
fn bind0003_either_side_may_go() {
    let rig = Rig::new();
    for delete_thread in [true, false] {
        let th = rig.thread(100);
        let n = rig.make(ObjectType::Notification);
        rig.ok(th.tcb, L::TCBBindNotification, &[], &[n]);
        rig.delete(if delete_thread { th.tcb } else { n });
        check(&rig);
        if !delete_thread {
            let other = rig.make(ObjectType::Notification);
            rig.ok(th.tcb, L::TCBBindNotification, &[], &[other]);
            rig.ok(th.tcb, L::TCBUnbindNotification, &[], &[]);
        }
        check(&rig);
    }
}

#[test]
fn notifications_gather_wake_one_and_end() {
    let rig = Rig::new();
    let threads = [rig.thread(10), rig.thread(20)];
    let n = rig.make(ObjectType::Notification);
    let bits = [rig.mint(n, W, 1), rig.mint(n, W, 0x10)];
    for t in &threads {
        rig.wait(t.t, n);
    }
    rig.nb_send(rig.root, bits[0], &[]);
    got(&rig, &threads[1], 1, 0, &[]);
    assert_eq!(rig.state(threads[0].t), S::BlockedOnNotification);
    rig.nb_send(rig.root, bits[1], &[]);
    got(&rig, &threads[0], 0x10, 0, &[]);
    rig.nb_send(rig.root, bits[0], &[]);
    rig.nb_send(rig.root, bits[1], &[]);
    rig.wait(threads[0].t, n);
    got(&rig, &threads[0], 0x11, 0, &[]);
    // A signal can be a Call, too.
    assert_eq!(
        rig.invoke(bits[0], L::InvalidInvocation, &[], &[]),
        Ok(vec![])
    );
    rig.syscall(rig.root, syscall::NB_WAIT, n);
    // Waiters repeat their call when the notification is deleted, which then faults.
    rig.wait(threads[0].t, n);
    rig.revoke(n);
    let pc = rig.tcb(threads[0].t).context.pc.get();
    rig.delete(n);
    assert_eq!(rig.state(threads[0].t), S::Restart);
    assert_eq!(rig.tcb(threads[0].t).context.pc.get(), pc - 4);
    check(&rig);
}

#[test]
fn donation_a_passive_server_runs_on_its_callers_time() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let server = passive_server(&rig, 200, ep);
    let client = rig.thread(100);
    for i in 0..3 {
        rig.call_ep(client.t, ep, &[i]);
        assert!(has_sc(&rig, &server, &client));
        assert!(rig.tcb(client.t).sched_context.is_none());
        check(&rig);
        rig.reply_recv(server.t, ep, server.reply, &[i]);
        assert!(has_sc(&rig, &client, &client));
        assert!(rig.tcb(server.t).sched_context.is_none());
        got(&rig, &client, 0, 0, &[i]);
        check(&rig);
    }
    // Send does not donate: the server has its message and no time.
    rig.send(client.t, ep, &[9]);
    assert_eq!(rig.state(server.t), S::Running);
    assert!(rig.tcb(server.t).sched_context.is_none() && !rig.can_run(server.t));
    check(&rig);
}

/// client -> s1 -> s2 -> s3 on one scheduling context.
fn chain(rig: &Rig) -> (Thread, [Thread; 3], [u64; 3]) {
    let eps = [(); 3].map(|()| rig.make(ObjectType::Endpoint));
    let servers = [0, 1, 2].map(|i| passive_server(rig, 150 + i as u64, eps[i]));
    let client = rig.thread(100);
    rig.call_ep(client.t, eps[0], &[]);
    rig.call_ep(servers[0].t, eps[1], &[]);
    rig.call_ep(servers[1].t, eps[2], &[]);
    assert!(has_sc(rig, &servers[2], &client));
    check(rig);
    (client, servers, eps)
}

#[test]
fn donation_unwinds_a_nested_chain() {
    let rig = Rig::new();
    let (client, servers, eps) = chain(&rig);
    for i in [2, 1, 0] {
        assert!(has_sc(&rig, &servers[i], &client));
        rig.reply_recv(servers[i].t, eps[i], servers[i].reply, &[]);
        check(&rig);
    }
    assert!(has_sc(&rig, &client, &client) && rig.can_run(client.t));
}

#[test]
fn donation_a_chain_is_cut_in_the_middle() {
    // What happens to the middle server, or to its reply objects, while the last one runs.
    for what in 0..6 {
        let rig = Rig::new();
        let (client, servers, eps) = chain(&rig);
        match what {
            0 => drop(rig.ok(servers[0].tcb, L::TCBSuspend, &[], &[])),
            1 => rig.delete(servers[0].tcb),
            2 => rig.delete(servers[1].reply),
            3 => rig.delete(servers[0].reply),
            4 => drop(rig.ok(client.tcb, L::TCBSuspend, &[], &[])),
            _ => rig.delete(client.tcb),
        }
        check(&rig);
        // The last two servers can still answer each other, and nobody gets stuck in the kernel.
        assert!(has_sc(&rig, &servers[2], &client), "{what}");
        rig.reply_recv(servers[2].t, eps[2], servers[2].reply, &[1]);
        check(&rig);
        assert!(has_sc(&rig, &servers[1], &client), "{what}");
        got(&rig, &servers[1], 0, 0, &[1]);
        rig.reply_recv(servers[1].t, eps[1], servers[1].reply, &[2]);
        check(&rig);
        assert_eq!(rig.state(servers[1].t), S::BlockedOnReceive);
        if what >= 3 {
            // The first server was not cut off; it cannot answer its caller and goes on to receive.
            assert!(has_sc(&rig, &servers[0], &client), "{what}");
            rig.reply_recv(servers[0].t, eps[0], servers[0].reply, &[3]);
            check(&rig);
        }
        // Whoever has nothing to do any more gives the time back to the client.
        if what == 5 {
            assert!(rig.sc(client.sc).tcb.is_none());
        } else {
            assert!(has_sc(&rig, &client, &client), "{what}");
        }
        if what == 3 || what == 4 {
            // It makes the call again, and the servers serve it.
            assert_eq!(rig.state(client.t), S::Inactive);
            rig.ok(client.tcb, L::TCBResume, &[], &[]);
            assert!(rig.can_run(client.t));
        }
        if what == 4 {
            rig.call_ep(client.t, eps[0], &[]);
            assert!(has_sc(&rig, &servers[0], &client));
            rig.reply_recv(servers[0].t, eps[0], servers[0].reply, &[4]);
            got(&rig, &client, 0, 0, &[4]);
            assert!(has_sc(&rig, &client, &client) && rig.can_run(client.t));
        }
        check(&rig);
        rig.revoke(rig.untyped);
        check(&rig);
    }
}

#[test]
fn donation_deleting_the_reply_object_on_top_returns_the_time() {
    let rig = Rig::new();
    let (client, servers, _) = chain(&rig);
    rig.delete(servers[2].reply);
    // As in seL4 the caller is left inactive, with the time.
    assert!(has_sc(&rig, &servers[1], &client));
    assert_eq!(rig.state(servers[1].t), S::Inactive);
    assert!(!rig.can_run(servers[2].t));
    check(&rig);
    rig.ok(servers[1].tcb, L::TCBResume, &[], &[]);
    assert!(rig.can_run(servers[1].t));
    check(&rig);
}

#[test]
fn donation_survives_the_end_of_the_scheduling_context() {
    let rig = Rig::new();
    let (client, servers, eps) = chain(&rig);
    rig.delete(client.sc);
    check(&rig);
    assert!(rig.tcb(servers[2].t).sched_context.is_none());
    rig.ok(servers[2].sc, L::SchedContextBind, &[], &[servers[2].tcb]);
    rig.reply_recv(servers[2].t, eps[2], servers[2].reply, &[]);
    assert_eq!(rig.state(servers[1].t), S::Running);
    assert!(!rig.can_run(servers[1].t));
    check(&rig);
}

#[test]
fn sched_context_unbind_ends_the_loan() {
    let rig = Rig::new();
    let (client, servers, eps) = chain(&rig);
    rig.ok(client.sc, L::SchedContextUnbind, &[], &[]);
    check(&rig);
    let other = rig.passive_thread(90);
    rig.ok(client.sc, L::SchedContextBind, &[], &[other.tcb]);
    // An answer does not take it from its new thread.
    rig.ok(servers[2].sc, L::SchedContextBind, &[], &[servers[2].tcb]);
    rig.reply_recv(servers[2].t, eps[2], servers[2].reply, &[]);
    assert!(has_sc(&rig, &other, &client));
    check(&rig);
}

#[test]
fn a_reply_object_is_taken_from_who_waits_with_it() {
    let rig = Rig::new();
    let (client, s1, s2) = (rig.thread(100), rig.thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    rig.recv(s1.t, ep, s1.reply);
    rig.recv(s2.t, ep, s1.reply);
    assert_eq!(rig.state(s1.t), S::Inactive);
    check(&rig);
    rig.call_ep(client.t, ep, &[]);
    assert_eq!(rig.state(client.t), S::BlockedOnReply);
    // Received with again before the answer: the caller is given up.
    rig.recv(s2.t, ep, s1.reply);
    assert_eq!(rig.state(client.t), S::Inactive);
    check(&rig);
}

#[test]
fn nb_send_recv_and_nb_send_wait() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let (ep, back) = (
        rig.make(ObjectType::Endpoint),
        rig.make(ObjectType::Endpoint),
    );
    let ntfn = rig.make(ObjectType::Notification);
    rig.recv(b.t, ep, b.reply);
    rig.message(a.t, 4, &[1, 2], &[]);
    rig.set_gpr(a.t, 15, ep);
    rig.set_gpr(a.t, 14, a.reply);
    rig.syscall(a.t, syscall::NB_SEND_RECV, back);
    got(&rig, &b, 0, 4, &[1, 2]);
    assert_eq!(
        rig.state(a.t),
        S::BlockedOnReceive,
        "a new thread receives, too"
    );
    check(&rig);
    rig.send(b.t, back, &[3]);
    got(&rig, &a, 0, 0, &[3]);
    rig.message(a.t, 0, &[], &[]);
    rig.set_gpr(a.t, 15, EMPTY);
    rig.syscall(a.t, syscall::NB_SEND_WAIT, ntfn);
    assert_eq!(
        rig.state(a.t),
        S::BlockedOnNotification,
        "a bad destination is no fault"
    );
    check(&rig);
}

#[test]
fn nb_send_recv_donates_to_a_passive_thread() {
    let rig = Rig::new();
    let (ep, back) = (
        rig.make(ObjectType::Endpoint),
        rig.make(ObjectType::Endpoint),
    );
    let passive = passive_server(&rig, 100, ep);
    let a = rig.thread(100);
    rig.message(a.t, 0, &[1], &[]);
    rig.set_gpr(a.t, 15, ep);
    rig.set_gpr(a.t, 14, a.reply);
    rig.syscall(a.t, syscall::NB_SEND_RECV, back);
    assert!(
        has_sc(&rig, &passive, &a),
        "as in seL4 the time goes with the message"
    );
    assert_eq!(rig.state(a.t), S::BlockedOnReceive);
    check(&rig);
}

#[test]
fn a_signalled_passive_thread_runs_on_the_notifications_time() {
    let rig = Rig::new();
    let (ep, ntfn) = (
        rig.make(ObjectType::Endpoint),
        rig.make(ObjectType::Notification),
    );
    let th = passive_server(&rig, 100, ep);
    let signal = rig.mint(ntfn, W, 8);
    rig.ok(th.tcb, L::TCBBindNotification, &[], &[ntfn]);
    rig.ok(th.sc, L::SchedContextBind, &[], &[ntfn]);
    rig.refused(
        th.sc,
        L::SchedContextBind,
        &[],
        &[th.tcb],
        E::IllegalOperation,
        &[],
    );
    check(&rig);
    for _ in 0..2 {
        rig.nb_send(rig.root, signal, &[]);
        got(&rig, &th, 8, 0, &[]);
        assert!(has_sc(&rig, &th, &th));
        check(&rig);
        // Polling keeps it; waiting gives it back.
        rig.nb_recv(th.t, ep, th.reply);
        assert!(has_sc(&rig, &th, &th), "a thread that polls goes on");
        check(&rig);
        rig.recv(th.t, ep, th.reply);
        assert_eq!(rig.state(th.t), S::BlockedOnReceive);
        assert!(rig.tcb(th.t).sched_context.is_none());
        check(&rig);
    }
    // With a caller's time it serves the caller.
    let client = rig.thread(90);
    rig.call_ep(client.t, ep, &[]);
    assert!(has_sc(&rig, &th, &client));
    // Bits that come meanwhile wait, and wake it on the notification's time after the answer.
    rig.nb_send(rig.root, signal, &[]);
    rig.reply_recv(th.t, ep, th.reply, &[]);
    assert!(has_sc(&rig, &th, &th) && has_sc(&rig, &client, &client));
    check(&rig);
    rig.delete(ntfn);
    check(&rig);
}

/// `count` threads that wait to send with badges 1, 2, 1, 2, ...
fn crowd(rig: &Rig, ep: u64, count: u64) -> Vec<(u64, Thread)> {
    let badged = [rig.mint(ep, W, 1), rig.mint(ep, W, 2)];
    let senders = (0..count).map(|i| {
        let th = rig.thread(50 + i % 7);
        rig.send(th.t, badged[i as usize % 2], &[]);
        (i % 2 + 1, th)
    });
    senders.collect()
}

#[test]
fn cancel_badged_sends_in_steps() {
    // Between two steps nothing happens, or a sender comes, goes or changes its priority.
    for between in 0..4 {
        let rig = Rig::new();
        let ep = rig.make(ObjectType::Endpoint);
        let one = rig.mint(ep, ALL, 1);
        let senders = crowd(&rig, ep, 20);
        let (late_one, late_two) = (rig.thread(99), rig.thread(99));
        let send = [rig.mint(ep, W, 1), rig.mint(ep, W, 2)];
        rig.message(rig.root, L::CNodeCancelBadgedSends as u64, &[one, 64], &[]);
        rig.set_gpr(rig.root, 0, syscall::CALL as u64);
        rig.set_gpr(rig.root, 3, ROOT);
        let registers: Vec<u64> = (0..32).map(|i| rig.gpr(rig.root, i)).collect();
        let mut steps = 0;
        loop {
            rig.m.preempt_every.set(1);
            let seen = rig.m.preemptions.get();
            let pc = rig.tcb(rig.root).context.pc.get();
            rig.enter(rig.root);
            rig.m.preempt_every.set(0);
            check(&rig);
            steps += 1;
            if rig.m.preemptions.get() == seen {
                break;
            }
            assert_eq!(rig.tcb(rig.root).context.pc.get(), pc, "it comes again");
            match (between, steps) {
                (1, 3) => rig.send(late_one.t, send[0], &[]),
                (1, 5) => rig.send(late_two.t, send[1], &[]),
                (2, 3 | 5 | 7) => {
                    let receiver = rig.thread(120);
                    rig.recv(receiver.t, ep, receiver.reply);
                }
                (3, 2..9) => {
                    let t = senders[steps * 2 - 3].1.tcb;
                    let priority = if steps % 2 == 0 { 10 } else { 90 };
                    rig.ok(t, L::TCBSetPriority, &[priority], &[init_cnode::TCB as u64]);
                }
                _ => {}
            }
            for (i, value) in registers.iter().enumerate() {
                rig.set_gpr(rig.root, i, *value);
            }
            rig.message(rig.root, L::CNodeCancelBadgedSends as u64, &[one, 64], &[]);
            assert!(steps < 200, "no progress");
        }
        assert!(steps > 5);
        for (badge, th) in &senders {
            let waits = rig.state(th.t) == S::BlockedOnSend;
            assert!(!waits || *badge == 2, "one with the badge waits still");
            assert!(waits || *badge == 1 || between == 2);
        }
        if between == 1 {
            // Who came in time is cancelled, too.
            assert_eq!(rig.state(late_one.t), S::Restart);
            assert_eq!(rig.state(late_two.t), S::BlockedOnSend);
        }
        rig.revoke(rig.untyped);
        check(&rig);
    }
}

#[test]
fn an_endpoint_and_a_notification_end_in_steps() {
    for notification in [false, true] {
        let rig = Rig::new();
        let object = rig.make(if notification {
            ObjectType::Notification
        } else {
            ObjectType::Endpoint
        });
        let threads: Vec<Thread> = (0..12).map(|i| rig.thread(50 + i)).collect();
        for th in &threads {
            if notification {
                rig.wait(th.t, object);
            } else {
                rig.send(th.t, object, &[]);
            }
        }
        let late = rig.thread(40);
        rig.message(rig.root, L::CNodeDelete as u64, &[object, 64], &[]);
        rig.set_gpr(rig.root, 0, syscall::CALL as u64);
        rig.set_gpr(rig.root, 3, ROOT);
        rig.m.preempt_every.set(1);
        rig.enter(rig.root);
        rig.m.preempt_every.set(0);
        check(&rig);
        let woken = |rig: &Rig| {
            let all = threads.iter();
            all.filter(|th| rig.state(th.t) == S::Restart).count()
        };
        assert_eq!(woken(&rig), 1);
        // The capability is still there, and good for nothing: who tries to wait by it faults.
        assert!(!rig.cap(object).is_null());
        if notification {
            rig.wait(late.t, object);
        } else {
            rig.send(late.t, object, &[]);
        }
        assert_eq!(rig.tcb(late.t).blocked_on.get(), 0);
        check(&rig);
        rig.m.preempt_every.set(1);
        rig.message(rig.root, L::CNodeDelete as u64, &[object, 64], &[]);
        rig.syscall(rig.root, syscall::CALL, ROOT);
        rig.m.preempt_every.set(0);
        assert_eq!(rig.answer(rig.root), Ok(vec![]));
        assert!(rig.cap(object).is_null());
        assert_eq!(woken(&rig), threads.len());
        assert!(rig.m.preemptions.get() >= 10);
        check(&rig);
    }
}

#[test]
fn cancel_badged_sends() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let (one, two) = (rig.mint(ep, ALL, 1), rig.mint(ep, ALL, 2));
    let threads: Vec<_> = (0..6).map(|_| rig.thread(100)).collect();
    for (i, t) in threads.iter().enumerate() {
        rig.message(t.t, 0, &[], &[]);
        let number = if i < 3 { syscall::SEND } else { syscall::CALL };
        rig.syscall(t.t, number, [one, two, ep][i % 3]);
    }
    rig.ok(ROOT, L::CNodeCancelBadgedSends, &[one, 64], &[]);
    check(&rig);
    for (i, t) in threads.iter().enumerate() {
        let cancelled = i % 3 == 0;
        let state = if cancelled {
            S::Restart
        } else {
            S::BlockedOnSend
        };
        assert_eq!(rig.state(t.t), state, "thread {i}");
    }
    // An unbadged capability cancels nothing; one without all rights may not.
    rig.ok(ROOT, L::CNodeCancelBadgedSends, &[ep, 64], &[]);
    assert_eq!(rig.state(threads[2].t), S::BlockedOnSend);
    let weak = rig.mint(ep, W | R | GRANT, 1);
    let refuse = |slot: u64| {
        let e = E::IllegalOperation;
        rig.refused(ROOT, L::CNodeCancelBadgedSends, &[slot, 64], &[], e, &[]);
    };
    refuse(weak);
    refuse(ROOT);
    refuse(EMPTY);
    rig.revoke(ep);
    rig.delete(ep);
    for t in &threads {
        assert_eq!(rig.state(t.t), S::Restart);
    }
    check(&rig);
}

/// A handler, its endpoint, and the thread whose faults go there.
fn handled(rig: &Rig) -> (Thread, u64, Thread) {
    let handler = rig.thread(200);
    let ep = rig.make(ObjectType::Endpoint);
    let th = rig.thread(100);
    let caps = [ep, ROOT, init_cnode::VSPACE as u64];
    rig.ok(th.tcb, L::TCBSetSpace, &[0, 0], &caps);
    (handler, ep, th)
}

#[test]
fn fault0001_every_fault_reaches_its_handler_and_its_answer() {
    let rig = Rig::new();
    let handler = rig.thread(200);
    let ep = rig.make(ObjectType::Endpoint);
    let badged = rig.mint(ep, W | GRANT_REPLY, 0xfa17);
    let th = rig.thread(100);
    rig.ok(
        th.tcb,
        L::TCBSetSpace,
        &[0, 0],
        &[badged, ROOT, init_cnode::VSPACE as u64],
    );
    let raise = |label: FaultLabel, words: &[u64]| {
        rig.run_as(th.t);
        let k = rig.k();
        k.fault(label, words);
        k.finish();
        check(&rig);
    };
    for handler_first in [true, false] {
        for (label, words) in [
            (FaultLabel::VMFault, vec![1, 2, 0, 4]),
            (FaultLabel::UserException, vec![1, 2, 3, 0x700, 5]),
        ] {
            let receive = || rig.recv(handler.t, ep, handler.reply);
            rig.tcb(th.t).context.pc.set(0x100);
            if handler_first {
                receive();
                raise(label, &words);
            } else {
                raise(label, &words);
                assert_eq!(rig.state(th.t), S::BlockedOnSend);
                receive();
            }
            got(&rig, &handler, 0xfa17, label as u64, &words);
            assert_eq!(rig.state(th.t), S::BlockedOnReply);
            check(&rig);
            // New ip and stack pointer where the fault allows it.
            rig.send(handler.t, handler.reply, &[0x9000, 0x8000]);
            assert!(rig.can_run(th.t));
            let c = &rig.tcb(th.t).context;
            let exception = label == FaultLabel::UserException;
            assert_eq!(c.pc.get() == 0x9000 && c.gpr[1].get() == 0x8000, exception);
            check(&rig);
        }
    }
    // An answer with a label keeps the thread stopped.
    raise(FaultLabel::UserException, &[1, 2, 3, 4, 5]);
    rig.recv(handler.t, ep, handler.reply);
    rig.message(handler.t, 1, &[], &[]);
    rig.syscall(handler.t, syscall::SEND, handler.reply);
    assert_eq!(rig.state(th.t), S::Inactive);
    check(&rig);
}

#[test]
fn fault0002_unknown_system_calls_can_be_emulated() {
    let rig = Rig::new();
    let (handler, ep, th) = handled(&rig);
    use fault::unknown_syscall as w;
    for number in [syscall::LAST - 100, 0, 1, 4000] {
        for i in 3..11 {
            rig.set_gpr(th.t, i, 0x30 + i as u64);
        }
        let pc = rig.tcb(th.t).context.pc.get();
        rig.set_gpr(th.t, 0, number as u64);
        rig.enter(th.t);
        rig.recv(handler.t, ep, handler.reply);
        assert_eq!(
            rig.info(handler.t).label(),
            FaultLabel::UnknownSyscall as u64
        );
        assert_eq!(rig.info(handler.t).length() as usize, w::LENGTH);
        assert_eq!(rig.mr(handler.t, w::R3 + 2), 0x35);
        assert_eq!(rig.mr(handler.t, w::FAULT_IP), pc, "the sc instruction");
        assert_eq!(rig.mr(handler.t, w::SYSCALL), number as u64);
        // The handler answers with r3 = 7 and goes on behind the instruction.
        let mut answer: Vec<u64> = (0..w::LENGTH).map(|i| rig.mr(handler.t, i)).collect();
        answer[w::R3] = 7;
        answer[w::FAULT_IP] = pc + 4;
        rig.send(handler.t, handler.reply, &answer);
        assert_eq!(rig.gpr(th.t, 3), 7);
        assert_eq!(rig.tcb(th.t).context.pc.get(), pc + 4);
        check(&rig);
    }
}

#[test]
fn fault0003_without_a_handler_the_thread_stops() {
    let rig = Rig::new();
    let th = rig.thread(100);
    rig.run_as(th.t);
    rig.k().fault(FaultLabel::VMFault, &[1, 2, 3, 4]);
    rig.k().finish();
    assert_eq!(rig.state(th.t), S::Inactive);
    check(&rig);
    rig.ok(th.tcb, L::TCBResume, &[], &[]);
    assert!(rig.can_run(th.t));
    // A handler endpoint that is deleted meanwhile leaves it stopped, too.
    let ep = rig.make(ObjectType::Endpoint);
    rig.ok(
        th.tcb,
        L::TCBSetSpace,
        &[0, 0],
        &[ep, ROOT, init_cnode::VSPACE as u64],
    );
    rig.run_as(th.t);
    rig.k().fault(FaultLabel::VMFault, &[1, 2, 3, 4]);
    rig.k().finish();
    assert_eq!(rig.state(th.t), S::BlockedOnSend);
    check(&rig);
    rig.revoke(ep);
    rig.delete(ep);
    assert_eq!(rig.state(th.t), S::Inactive);
    check(&rig);
}

#[test]
fn fault0004_a_fault_donates_to_a_passive_handler() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let handler = passive_server(&rig, 200, ep);
    let th = rig.thread(100);
    rig.ok(
        th.tcb,
        L::TCBSetSpace,
        &[0, 0],
        &[ep, ROOT, init_cnode::VSPACE as u64],
    );
    rig.run_as(th.t);
    rig.k().fault(FaultLabel::VMFault, &[1, 2, 3, 4]);
    rig.k().finish();
    assert_eq!(rig.state(th.t), S::BlockedOnReply);
    assert!(has_sc(&rig, &handler, &th));
    check(&rig);
    rig.reply_recv(handler.t, ep, handler.reply, &[]);
    assert!(has_sc(&rig, &th, &th) && rig.can_run(th.t));
    check(&rig);
}

#[test]
fn fault0005_capability_faults_tell_where_the_look_up_ended() {
    let rig = Rig::new();
    let (handler, ep, th) = handled(&rig);
    use fault::cap_fault as w;
    for (number, cptr, receiving, details) in [
        (syscall::SEND, 1 << 40, 0, [4, 64, 0, 54]),
        (syscall::CALL, u64::MAX, 0, [4, 64, 0, 54]),
        (syscall::RECV, 1 << 63, 1, [4, 64, 0, 54]),
        (syscall::RECV, ROOT, 1, [2, 0, 0, 0]),
        (syscall::WAIT, EMPTY, 1, [2, 0, 0, 0]),
    ] {
        let pc = rig.tcb(th.t).context.pc.get();
        rig.message(th.t, 0, &[], &[]);
        rig.syscall(th.t, number, cptr);
        rig.recv(handler.t, ep, handler.reply);
        assert_eq!(rig.info(handler.t).label(), FaultLabel::CapFault as u64);
        assert_eq!(rig.mr(handler.t, w::IP), pc);
        assert_eq!(rig.mr(handler.t, w::ADDRESS), cptr);
        assert_eq!(rig.mr(handler.t, w::IN_RECV_PHASE), receiving);
        for (i, d) in details.into_iter().enumerate() {
            assert_eq!(rig.mr(handler.t, w::LOOKUP_FAILURE_TYPE + i), d);
        }
        // The answer repeats the call.
        rig.send(handler.t, handler.reply, &[]);
        assert_eq!(rig.tcb(th.t).context.pc.get(), pc);
        check(&rig);
    }
    // Non-blocking sends to nowhere are dropped.
    rig.nb_send(th.t, 1 << 40, &[]);
    assert!(rig.can_run(th.t));
    // A reply capability that is none.
    rig.recv(th.t, ep, ROOT);
    rig.recv(handler.t, ep, handler.reply);
    assert_eq!(rig.mr(handler.t, w::ADDRESS), ROOT);
    check(&rig);
}

#[test]
fn suspend_and_resume_in_every_state() {
    let rig = Rig::new();
    let (ep, n) = (
        rig.make(ObjectType::Endpoint),
        rig.make(ObjectType::Notification),
    );
    let server = rig.thread(200);
    let blocked: [&dyn Fn(&Thread); 5] = [
        &|t| rig.recv(t.t, ep, t.reply),
        &|t| rig.send(t.t, ep, &[]),
        &|t| rig.call_ep(t.t, ep, &[]),
        &|t| rig.wait(t.t, n),
        &|t| {
            rig.recv(server.t, ep, server.reply);
            rig.call_ep(t.t, ep, &[]);
        },
    ];
    for (i, block) in blocked.iter().enumerate() {
        for suspend in [true, false] {
            let t = rig.thread(100);
            let pc = rig.tcb(t.t).context.pc.get();
            block(&t);
            let state = [
                S::BlockedOnReceive,
                S::BlockedOnSend,
                S::BlockedOnSend,
                S::BlockedOnNotification,
                S::BlockedOnReply,
            ];
            assert_eq!(rig.state(t.t), state[i]);
            check(&rig);
            if suspend {
                rig.ok(t.tcb, L::TCBSuspend, &[], &[]);
                assert_eq!(rig.state(t.t), S::Inactive);
                check(&rig);
            }
            // It repeats its system call.
            rig.ok(t.tcb, L::TCBResume, &[], &[]);
            assert!(rig.can_run(t.t));
            assert_eq!(rig.tcb(t.t).context.pc.get(), pc);
            check(&rig);
            rig.enter(t.t);
            check(&rig);
            rig.delete(t.tcb);
            check(&rig);
        }
    }
}
