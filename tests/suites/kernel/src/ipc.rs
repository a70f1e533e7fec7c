// SPDX-License-Identifier: BSD-2-Clause
//! IPC: messages through endpoints, calls, replies, the donation of time.

use crate::support::{
    FAST, LONGEST, call_once, compose, difference, echo, receive_once, root_buffer, send_once,
};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::{FaultLabel, syscall};
use sel4::{CapRights, Error, MessageInfo, arch, cap};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "IPC0001 every length, the receiver waits",
        body: receiver_first,
    },
    Case {
        name: "IPC0002 every length, the sender waits",
        body: sender_first,
    },
    Case {
        name: "IPC0003 every length, call and reply, passive server",
        body: calls_passive,
    },
    Case {
        name: "IPC0004 every length, call and reply, active server",
        body: calls_active,
    },
    Case {
        name: "IPC0005 a message without receiver is dropped by NBSend",
        body: nb_send,
    },
    Case {
        name: "IPC0006 NBRecv",
        body: nb_recv,
    },
    Case {
        name: "IPC0007 waiting threads go by priority",
        body: queue_order,
    },
    Case {
        name: "IPC0008 badges",
        body: badges,
    },
    Case {
        name: "IPC0009 without IPC buffer a message ends after its registers",
        body: no_buffer,
    },
    Case {
        name: "IPC0010 lengths beyond the longest are cut",
        body: too_long,
    },
    Case {
        name: "IPC0011 a suspended sender leaves the queue and sends when resumed",
        body: suspended_sender,
    },
    Case {
        name: "IPC0012 a suspended receiver leaves the queue and receives when resumed",
        body: suspended_receiver,
    },
    Case {
        name: "IPC0013 a passive server runs on its caller's time",
        body: donation,
    },
    Case {
        name: "IPC0014 nested calls",
        body: nested,
    },
    Case {
        name: "IPC0015 a chain of calls is cut in the middle",
        body: cut_chain,
    },
    Case {
        name: "IPC0016 Send gives a passive receiver no time",
        body: send_gives_no_time,
    },
    Case {
        name: "IPC0017 NBSendRecv",
        body: nb_send_recv,
    },
    Case {
        name: "IPC0018 NBSendWait",
        body: nb_send_wait,
    },
    Case {
        name: "IPC0019 NBSendRecv gives a passive receiver its time",
        body: nb_send_recv_donates,
    },
    Case {
        name: "IPC0020 a reply object in use is taken from its caller",
        body: reply_reused,
    },
    Case {
        name: "IPC0021 replying twice reaches nobody",
        body: reply_twice,
    },
    Case {
        name: "IPC0022 any holder of the reply object answers",
        body: delegated_reply,
    },
    Case {
        name: "IPC0023 a suspended caller's reply goes nowhere",
        body: reply_to_suspended,
    },
    Case {
        name: "IPC0024 many clients, one server",
        body: many_clients,
    },
    Case {
        name: "IPC0025 servers and clients of all priorities",
        body: priorities,
    },
    Case {
        name: "IPC0026 deleting the endpoint in a call does not end the call",
        body: endpoint_deleted,
    },
];

/// Sends messages of all lengths. Words: endpoint.
fn send_all(env: &Env) -> u64 {
    for length in 0..=LONGEST {
        let words = compose(env.buffer(), length as u64, length);
        let info = MessageInfo::new(length as u64, 0, 0, length);
        arch::send(syscall::SEND, env.args[0], info.into_word(), words);
    }
    LONGEST as u64
}

fn receive_all(kit: &mut Kit, sender_priority: u64) -> Outcome {
    let endpoint = kit.endpoint()?;
    let badged = kit.mint(endpoint, CapRights::write_only(), 0x5a5a)?;
    let sender = Helper::new(send_all)
        .args([badged.bits()])
        .priority(sender_priority)
        .start(kit)?;
    for length in 0..=LONGEST {
        let got = arch::recv(syscall::RECV, endpoint.bits(), 0);
        if let Some(at) = difference(root_buffer(kit), &got, length as u64, length) {
            fail!("length {length} differs at {at}");
        }
        check_eq!(got.badge, 0x5a5a);
        check_eq!(MessageInfo::from_word(got.info).label(), length as u64);
    }
    check_eq!(sender.join(kit)?, LONGEST as u64);
    Ok(())
}

fn receiver_first(kit: &mut Kit) -> Outcome {
    receive_all(kit, 50)
}

fn sender_first(kit: &mut Kit) -> Outcome {
    receive_all(kit, 150)
}

/// Calls with messages of all lengths. Words: endpoint. Result: 0, or where an answer was wrong.
fn call_all(env: &Env) -> u64 {
    for length in 0..=LONGEST {
        let words = compose(env.buffer(), length as u64, length);
        let info = MessageInfo::new(length as u64, 0, 0, length);
        let mut got = arch::call(env.args[0], info.into_word(), words);
        // The server added the badge to the first word.
        if length > 0 {
            got.words[0] = got.words[0].wrapping_sub(0x11);
        }
        if difference(env.buffer(), &got, length as u64, length).is_some()
            || MessageInfo::from_word(got.info).label() != length as u64 + 1
        {
            return 1 + length as u64;
        }
    }
    0
}

fn calls(kit: &mut Kit, passive: bool, server_priority: u64, client_priority: u64) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let server = Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .priority(server_priority);
    if passive {
        server.start_passive(kit)?;
    } else {
        server.start(kit)?;
    }
    let rights = CapRights::new(true, false, false, true);
    let badged = kit.mint(endpoint, rights, 0x11)?;
    let client = Helper::new(call_all)
        .args([badged.bits()])
        .priority(client_priority)
        .start(kit)?;
    check_eq!(client.join(kit)?, 0);
    Ok(())
}

fn calls_passive(kit: &mut Kit) -> Outcome {
    calls(kit, true, 120, 110)?;
    kit.clean_up()?;
    calls(kit, true, 110, 120)?;
    kit.clean_up()?;
    calls(kit, true, 90, 90)
}

fn calls_active(kit: &mut Kit) -> Outcome {
    calls(kit, false, 120, 110)?;
    kit.clean_up()?;
    calls(kit, false, 110, 120)?;
    kit.clean_up()?;
    calls(kit, false, 90, 90)
}

fn nb_send(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let info = MessageInfo::new(1, 0, 0, 1);
    endpoint.nb_send_with_mrs(info, [1]);
    let receiver = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .start(kit)?;
    kit.settle()?;
    check!(!receiver.finished());
    endpoint.nb_send_with_mrs(info, [2]);
    check_eq!(receiver.join(kit)?, 2);
    Ok(())
}

fn nb_recv(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let badged = kit.mint(endpoint, CapRights::all(), 4)?;
    let none = cap::Reply::from_bits(0);
    check_eq!(endpoint.nb_recv_with_mrs(none).badge, 0);
    check_eq!(endpoint.nb_wait_with_mrs().badge, 0);
    for which in 0..2 {
        let sender = Helper::new(send_once)
            .args([badged.bits(), 9, 33])
            .start(kit)?;
        check!(!sender.finished());
        let got = if which == 0 {
            endpoint.nb_recv_with_mrs(none)
        } else {
            endpoint.nb_wait_with_mrs()
        };
        check_eq!((got.badge, got.info.label(), got.msg[0]), (4, 9, 33));
        check_eq!(got.msg[1..], [0; 7]);
        sender.join(kit)?;
    }
    check_eq!(endpoint.nb_recv_with_mrs(none).badge, 0);
    Ok(())
}

fn queue_order(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    // Senders: the highest priority first, equal ones in order of arrival.
    let order = [(101, 0), (103, 1), (102, 2), (103, 3), (101, 4), (105, 5)];
    for (priority, number) in order {
        Helper::new(send_once)
            .args([endpoint.bits(), 0, number])
            .priority(priority)
            .start(kit)?;
    }
    let mut seen = [0; 6];
    for place in &mut seen {
        *place = endpoint.nb_recv_with_mrs(cap::Reply::from_bits(0)).msg[0];
    }
    check_eq!(seen, [5, 1, 3, 2, 0, 4]);
    // Receivers likewise.
    let mut receivers = [None; 4];
    for (i, priority) in [110, 112, 111, 112].into_iter().enumerate() {
        let args = [endpoint.bits(), 0];
        receivers[i] = Some(
            Helper::new(receive_once)
                .args(args)
                .priority(priority)
                .start(kit)?,
        );
    }
    for n in 1..=4 {
        endpoint.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [n]);
    }
    kit.settle()?;
    let results = receivers.map(|r| r.and_then(|r| r.result()).unwrap_or(0));
    check_eq!(results, [4, 1, 3, 2]);
    Ok(())
}

fn badges(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    for badge in [0, 1, 1 << 31, 1 << 63, u64::MAX] {
        let badged = kit.mint(endpoint, CapRights::all(), badge)?;
        for priority in [50, 150] {
            let sender = Helper::new(send_once)
                .args([badged.bits(), 1, 1])
                .priority(priority)
                .start(kit)?;
            check_eq!(
                endpoint.recv_with_mrs(cap::Reply::from_bits(0)).badge,
                badge
            );
            sender.join(kit)?;
        }
    }
    Ok(())
}

/// Sends a long message without an IPC buffer. Words: endpoint.
fn send_long(env: &Env) -> u64 {
    let words = arch::message([1, 2, 3, 4, 5, 6, 7, 8]);
    let info = MessageInfo::new(3, 0, 2, LONGEST);
    arch::send(syscall::SEND, env.args[0], info.into_word(), words);
    0
}

/// Receives a long message; returns length << 8 ^ the eighth word, 0 if the info word has bits that
/// it should not have. Words: endpoint.
fn receive_long(env: &Env) -> u64 {
    let got = arch::recv(syscall::RECV, env.args[0], 0);
    let info = partita_abi::MessageInfo(got.info);
    if info.caps_unwrapped() != 0 || info.extra_caps() != 0 {
        return 0;
    }
    info.length() << 8 ^ got.words[7]
}

fn no_buffer(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let sender = Helper::new(send_long)
        .args([endpoint.bits()])
        .without_buffer()
        .start(kit)?;
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!((got.info.length(), got.info.extra_caps()), (FAST, 0));
    check_eq!(got.msg, [1, 2, 3, 4, 5, 6, 7, 8]);
    sender.join(kit)?;
    let receiver = Helper::new(receive_long)
        .args([endpoint.bits()])
        .without_buffer()
        .start(kit)?;
    let words = compose(root_buffer(kit), 5, LONGEST);
    let info = MessageInfo::new(0, 0, 0, LONGEST);
    arch::send(syscall::SEND, endpoint.bits(), info.into_word(), words);
    let expected = (FAST as u64) << 8 ^ crate::support::word(5, 7);
    check_eq!(receiver.join(kit)?, expected);
    Ok(())
}

fn too_long(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let receiver = Helper::new(receive_long)
        .args([endpoint.bits()])
        .start(kit)?;
    for length in LONGEST + 1..128 {
        let words = compose(root_buffer(kit), 6, LONGEST);
        // The bits that say what was unwrapped are the kernel's: a sender's do not arrive.
        let info = partita_abi::MessageInfo::new(1, 7, 0, length as u64);
        arch::send(syscall::SEND, endpoint.bits(), info.0, words);
        let expected = (LONGEST as u64) << 8 ^ crate::support::word(6, 7);
        check_eq!(receiver.join(kit)?, expected);
        receiver.restart()?;
    }
    Ok(())
}

fn suspended_sender(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let sender = Helper::new(send_once)
        .args([endpoint.bits(), 1, 8])
        .start(kit)?;
    let none = cap::Reply::from_bits(0);
    sender.tcb.tcb_suspend()?;
    check_eq!(endpoint.nb_recv_with_mrs(none).info.length(), 0);
    check!(!sender.finished());
    sender.tcb.tcb_resume()?;
    check_eq!(endpoint.nb_recv_with_mrs(none).msg[0], 8);
    sender.join(kit)?;
    Ok(())
}

fn suspended_receiver(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let receiver = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .start(kit)?;
    receiver.tcb.tcb_suspend()?;
    let info = MessageInfo::new(0, 0, 0, 1);
    endpoint.nb_send_with_mrs(info, [4]);
    kit.settle()?;
    check!(!receiver.finished());
    receiver.tcb.tcb_resume()?;
    kit.settle()?;
    check!(!receiver.finished());
    endpoint.nb_send_with_mrs(info, [5]);
    check_eq!(receiver.join(kit)?, 5);
    Ok(())
}

/// A server that works for a while before it answers. Words: endpoint, reply object, ticks.
fn work(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let until = testkit::timebase() + env.args[2];
        while testkit::timebase() < until {}
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = arch::reply_recv(endpoint, info, arch::message([got.words[0]]), reply);
    }
}

fn donation(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let us = 3000;
    let server = Helper::new(work)
        .args([
            endpoint.bits(),
            reply.bits(),
            testkit::kit::microseconds(us),
        ])
        .priority(130)
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 9])
        .priority(50)
        .start(kit)?;
    client.sc.sched_context_consumed()?;
    check_eq!(client.join(kit)?, 9);
    // The client's scheduling context paid for the work, and is the client's again.
    check!(client.sc.sched_context_consumed()? >= us);
    let bound = client.sc.sched_context_bind(server.tcb);
    check_eq!(bound, Err(Error::IllegalOperation));
    client.sc.sched_context_unbind_object(client.tcb)?;
    client.sc.sched_context_bind(server.tcb)?;
    Ok(())
}

/// A server that asks another one: adds 1 to the word on the way there and on the way back. Words:
/// endpoint, reply object, endpoint of the next server.
fn relay(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let next = cap::Endpoint::from_bits(env.args[2]);
    let info = MessageInfo::new(0, 0, 0, 1);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let answer = next.call_with_mrs(info, [got.words[0] + 1]).msg[0] + 1;
        got = arch::reply_recv(endpoint, info.into_word(), arch::message([answer]), reply);
    }
}

/// Starts `length` passive servers, each asking the next, the last an echo; returns the endpoint of
/// the first and what was made: (thread, reply object, endpoint) of each.
fn chain<const N: usize>(
    kit: &mut Kit,
) -> Outcome<[(testkit::Thread, cap::Reply, cap::Endpoint); N]> {
    let mut next = cap::Endpoint::from_bits(0);
    let mut made = None;
    for i in (0..N).rev() {
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        let body = if i == N - 1 { echo } else { relay };
        let thread = Helper::new(body)
            .args([endpoint.bits(), reply.bits(), next.bits()])
            .priority(110 + i as u64)
            .start_passive(kit)?;
        next = endpoint;
        let made = made.get_or_insert([(thread, reply, endpoint); N]);
        made[i] = (thread, reply, endpoint);
    }
    made.ok_or_else(|| testkit::Failure::new(format_args!("an empty chain")))
}

fn nested(kit: &mut Kit) -> Outcome {
    let servers = chain::<5>(kit)?;
    let client = Helper::new(call_once)
        .args([servers[0].2.bits(), 0, 1000])
        .start(kit)?;
    check_eq!(client.join(kit)?, 1008);
    // And from this thread, again and again.
    let info = MessageInfo::new(0, 0, 0, 1);
    for n in 0..100 {
        check_eq!(servers[0].2.call_with_mrs(info, [n]).msg[0], n + 8);
    }
    Ok(())
}

fn cut_chain(kit: &mut Kit) -> Outcome {
    // client -> a -> b -> c, and c waits for ever; then b, in the middle, is suspended.
    let endpoints = [kit.endpoint()?, kit.endpoint()?, kit.endpoint()?];
    let replies = [kit.reply()?, kit.reply()?, kit.reply()?];
    let gate = kit.notification()?;
    let c = Helper::new(wait_inside)
        .args([endpoints[2].bits(), replies[2].bits(), gate.bits()])
        .priority(113)
        .start_passive(kit)?;
    let b = Helper::new(relay)
        .args([endpoints[1].bits(), replies[1].bits(), endpoints[2].bits()])
        .priority(112)
        .start_passive(kit)?;
    let a = Helper::new(relay)
        .args([endpoints[0].bits(), replies[0].bits(), endpoints[1].bits()])
        .priority(111)
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoints[0].bits(), 0, 1])
        .start(kit)?;
    kit.settle()?;
    b.tcb.tcb_suspend()?;
    gate.signal();
    kit.settle()?;
    // c has answered nobody; it waits for the next call. a and the client wait for b's answer, which
    // whoever holds the reply object can give: the client's time is not on that stack any more.
    check!(!client.finished() && !a.finished() && !c.finished());
    replies[1].send_with_mrs(MessageInfo::new(0, 0, 0, 1), [50]);
    kit.settle()?;
    check!(!client.finished());
    // a has no time to go on with; given some, it answers the client, whose time must come back by hand.
    let more = kit.sched_context(10_000, 10_000)?;
    more.sched_context_bind(a.tcb)?;
    kit.settle()?;
    client.sc.sched_context_unbind()?;
    if client.sc.sched_context_bind(client.tcb).is_err() {
        // The answer already brought it.
        check!(client.finished());
    }
    check_eq!(client.join(kit)?, 51);
    Ok(())
}

/// A server that waits for a notification before each answer. Words: endpoint, reply object,
/// notification.
fn wait_inside(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        cap::Notification::from_bits(env.args[2]).wait();
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = arch::reply_recv(endpoint, info, arch::message([got.words[0]]), reply);
    }
}

fn send_gives_no_time(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let receiver = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .start_passive(kit)?;
    endpoint.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [6]);
    kit.settle()?;
    check!(!receiver.finished());
    receiver.sc.sched_context_bind(receiver.tcb)?;
    check_eq!(receiver.join(kit)?, 6);
    Ok(())
}

/// Sends and receives in one. Words: destination, source. Returns badge << 32 | first word.
fn send_and_receive(env: &Env) -> u64 {
    let destination = cap::Endpoint::from_bits(env.args[0]);
    let source = cap::Endpoint::from_bits(env.args[1]);
    let none = cap::Reply::from_bits(0);
    let info = MessageInfo::new(5, 0, 0, 2);
    let got = destination.nb_send_recv_with_mrs(info, [21, 22], source, none);
    got.badge << 32 | got.msg[0]
}

fn nb_send_recv(kit: &mut Kit) -> Outcome {
    let (to, from) = (kit.endpoint()?, kit.endpoint()?);
    let badged = kit.mint(from, CapRights::all(), 3)?;
    let info = MessageInfo::new(0, 0, 0, 1);
    // Nobody waits: the message is dropped, the receive goes on.
    let thread = Helper::new(send_and_receive)
        .args([to.bits(), from.bits()])
        .start(kit)?;
    check_eq!(
        to.nb_recv_with_mrs(cap::Reply::from_bits(0)).info.length(),
        0
    );
    badged.send_with_mrs(info, [7]);
    check_eq!(thread.join(kit)?, 3 << 32 | 7);
    // Somebody waits.
    let receiver = Helper::new(receive_once).args([to.bits(), 0]).start(kit)?;
    thread.restart()?;
    kit.settle()?;
    check_eq!(receiver.result(), Some(21));
    badged.send_with_mrs(info, [8]);
    check_eq!(thread.join(kit)?, 3 << 32 | 8);
    // To a notification: a signal.
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x10)?;
    let thread = Helper::new(send_and_receive)
        .args([bell.bits(), from.bits()])
        .start(kit)?;
    check_eq!(ntfn.poll().1, 0x10);
    badged.send_with_mrs(info, [9]);
    check_eq!(thread.join(kit)?, 3 << 32 | 9);
    Ok(())
}

/// Sends to an endpoint and waits for a notification in one. Words: endpoint, notification.
fn send_and_wait(env: &Env) -> u64 {
    let destination = cap::Endpoint::from_bits(env.args[0]);
    let source = cap::Notification::from_bits(env.args[1]);
    destination
        .nb_send_wait_with_mrs(MessageInfo::new(0, 0, 0, 1), [31], source)
        .badge
}

fn nb_send_wait(kit: &mut Kit) -> Outcome {
    let to = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x20)?;
    let receiver = Helper::new(receive_once).args([to.bits(), 0]).start(kit)?;
    let thread = Helper::new(send_and_wait)
        .args([to.bits(), ntfn.bits()])
        .start(kit)?;
    kit.settle()?;
    check_eq!(receiver.result(), Some(31));
    check!(!thread.finished());
    bell.signal();
    check_eq!(thread.join(kit)?, 0x20);
    Ok(())
}

fn nb_send_recv_donates(kit: &mut Kit) -> Outcome {
    // As in seL4: NBSendRecv passes the caller's time to a passive receiver.
    let (to, from) = (kit.endpoint()?, kit.endpoint()?);
    let receiver = Helper::new(receive_once)
        .args([to.bits(), 0])
        .start_passive(kit)?;
    let thread = Helper::new(send_and_receive)
        .args([to.bits(), from.bits()])
        .start(kit)?;
    kit.settle()?;
    check_eq!(receiver.result(), Some(21));
    // The sender's scheduling context is the receiver's now.
    check_eq!(
        thread.sc.sched_context_unbind_object(thread.tcb),
        Err(Error::IllegalOperation)
    );
    thread.sc.sched_context_unbind_object(receiver.tcb)?;
    thread.sc.sched_context_bind(thread.tcb)?;
    from.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    check_eq!(thread.join(kit)?, 1);
    Ok(())
}

/// Takes two calls with one reply object, then answers. Words: endpoint, reply object.
fn take_two(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let reply = cap::Reply::from_bits(env.args[1]);
    endpoint.recv_with_mrs(reply);
    let second = endpoint.recv_with_mrs(reply);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [second.msg[0] + 100]);
    1
}

fn reply_reused(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let server = Helper::new(take_two)
        .args([endpoint.bits(), reply.bits()])
        .priority(120)
        .start(kit)?;
    let first = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .priority(110)
        .start(kit)?;
    check!(!first.finished());
    let second = Helper::new(call_once)
        .args([endpoint.bits(), 0, 2])
        .priority(110)
        .start(kit)?;
    check_eq!(second.join(kit)?, 102);
    check_eq!(server.join(kit)?, 1);
    // The first caller was given up. Resumed, it calls again.
    check!(!first.finished());
    first.tcb.tcb_resume()?;
    let got = endpoint.recv_with_mrs(reply);
    check_eq!(got.msg[0], 1);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [5]);
    check_eq!(first.join(kit)?, 5);
    Ok(())
}

fn reply_twice(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .start(kit)?;
    let got = endpoint.recv_with_mrs(reply);
    check_eq!(got.msg[0], 1);
    let info = MessageInfo::new(0, 0, 0, 1);
    reply.send_with_mrs(info, [10]);
    check_eq!(client.join(kit)?, 10);
    reply.send_with_mrs(info, [11]);
    check_eq!(client.result(), Some(10));
    Ok(())
}

fn delegated_reply(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let twin = kit.copy(reply, CapRights::all())?;
    let server = Helper::new(receive_once)
        .args([endpoint.bits(), reply.bits()])
        .start(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .start(kit)?;
    check_eq!(server.join(kit)?, 1);
    check!(!client.finished());
    // Another thread answers, with a copy, from a lower priority.
    let other = Helper::new(send_once)
        .args([twin.bits(), 0, 12])
        .priority(50)
        .start(kit)?;
    check_eq!(other.join(kit)?, 1);
    check_eq!(client.join(kit)?, 12);
    Ok(())
}

fn reply_to_suspended(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .start(kit)?;
    endpoint.recv_with_mrs(reply);
    client.tcb.tcb_suspend()?;
    let info = MessageInfo::new(0, 0, 0, 1);
    reply.send_with_mrs(info, [2]);
    kit.settle()?;
    check!(!client.finished());
    // Resumed, it calls again.
    client.tcb.tcb_resume()?;
    check_eq!(endpoint.recv_with_mrs(reply).msg[0], 1);
    reply.send_with_mrs(info, [3]);
    check_eq!(client.join(kit)?, 3);
    Ok(())
}

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Calls many times; returns how many answers were right. Words: endpoint, number, times.
fn call_many(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let mut right = 0;
    for i in 0..env.args[2] {
        let word = env.args[1] << 32 | i;
        let got = endpoint.call_with_mrs(MessageInfo::new(i, 0, 0, 2), [word, i]);
        if got.msg[..2] == [word + env.args[1], i] && got.info.label() == i + 1 {
            right += 1;
        }
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    right
}

fn many_clients(kit: &mut Kit) -> Outcome {
    CALLS.store(0, Ordering::Relaxed);
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .priority(90)
        .start_passive(kit)?;
    let mut clients = [None; 8];
    for (i, client) in clients.iter_mut().enumerate() {
        let badge = i as u64 + 1;
        let badged = kit.mint(endpoint, CapRights::all(), badge)?;
        // Short slices, so that they are preempted inside calls.
        *client = Some(
            Helper::new(call_many)
                .args([badged.bits(), badge, 500])
                .priority(50 + i as u64 / 2)
                .budget(200, 200)
                .start(kit)?,
        );
    }
    for client in clients.iter().flatten() {
        check_eq!(client.join(kit)?, 500);
    }
    check_eq!(CALLS.load(Ordering::Relaxed), 4000);
    Ok(())
}

fn priorities(kit: &mut Kit) -> Outcome {
    for server in [60, 80, 120] {
        for client in [60, 70, 80, 130] {
            for passive in [true, false] {
                let endpoint = kit.endpoint()?;
                let reply = kit.reply()?;
                let helper = Helper::new(echo)
                    .args([endpoint.bits(), reply.bits()])
                    .priority(server);
                if passive {
                    helper.start_passive(kit)?;
                } else {
                    helper.start(kit)?;
                }
                let badged = kit.mint(endpoint, CapRights::all(), 7)?;
                let thread = Helper::new(call_many)
                    .args([badged.bits(), 7, 20])
                    .priority(client)
                    .start(kit)?;
                check_eq!(thread.join(kit)?, 20);
                kit.clean_up()?;
            }
        }
    }
    Ok(())
}

fn endpoint_deleted(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let faults = kit.endpoint()?;
    let gate = kit.notification()?;
    let server = Helper::new(wait_inside)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .fault(faults)
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 14])
        .start(kit)?;
    kit.settle()?;
    kit.delete(endpoint)?;
    gate.signal();
    // The answer arrives; the server's next receive faults, though it has no time of its own.
    check_eq!(client.join(kit)?, 14);
    let got = faults.nb_recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (endpoint.bits(), 1));
    check!(!server.finished());
    Ok(())
}
