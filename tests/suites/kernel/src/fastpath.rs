// SPDX-License-Identifier: BSD-2-Clause
//! FASTPATH: every condition under which a call, a reply or a signal must leave the kernel's fast
//! path, one case each. What is checked is that the meaning is right when the condition fails.

use crate::support::{
    FAST, call_once, compose, difference, echo, receive_once, refused, root_buffer, wait_once,
};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::{ErrorCode, FaultLabel, InvocationLabel, syscall};
use sel4::{CapRights, MessageInfo, arch, cap};
use testkit::{Case, Env, Helper, Kit, Outcome, Space, Thread, check, check_eq, invoke};

pub const CASES: &[Case] = &[
    Case {
        name: "FASTPATH0001 call: a long message",
        body: call_long,
    },
    Case {
        name: "FASTPATH0002 call: capabilities in the message",
        body: call_caps,
    },
    Case {
        name: "FASTPATH0003 call: the capability is no endpoint",
        body: call_not_endpoint,
    },
    Case {
        name: "FASTPATH0004 call: no right to send",
        body: call_no_write,
    },
    Case {
        name: "FASTPATH0005 call: nobody waits",
        body: call_nobody,
    },
    Case {
        name: "FASTPATH0006 call: senders wait already",
        body: call_queue,
    },
    Case {
        name: "FASTPATH0007 call: somebody more important is ready",
        body: call_low_server,
    },
    Case {
        name: "FASTPATH0008 call: no right to be answered",
        body: call_no_grant_reply,
    },
    Case {
        name: "FASTPATH0009 call: the server has time of its own",
        body: call_active,
    },
    Case {
        name: "FASTPATH0010 call: the server has no reply object",
        body: call_no_reply_object,
    },
    Case {
        name: "FASTPATH0011 call: the server's address space is gone",
        body: call_no_vspace,
    },
    Case {
        name: "FASTPATH0012 call: a pointer of more than one level",
        body: call_deep,
    },
    Case {
        name: "FASTPATH0013 call: two servers wait",
        body: call_two_servers,
    },
    Case {
        name: "FASTPATH0021 reply: a long message",
        body: reply_long,
    },
    Case {
        name: "FASTPATH0022 reply: capabilities in the message",
        body: reply_caps,
    },
    Case {
        name: "FASTPATH0023 reply: then wait for a notification",
        body: reply_then_notification,
    },
    Case {
        name: "FASTPATH0024 reply: no right to receive",
        body: reply_no_read,
    },
    Case {
        name: "FASTPATH0025 reply: the reply capability is none",
        body: reply_no_cap,
    },
    Case {
        name: "FASTPATH0026 reply: nobody called",
        body: reply_nobody,
    },
    Case {
        name: "FASTPATH0027 reply: not the youngest call",
        body: reply_not_top,
    },
    Case {
        name: "FASTPATH0028 reply: the server was given time meanwhile",
        body: reply_own_time,
    },
    Case {
        name: "FASTPATH0029 reply: a signal is pending",
        body: reply_signal_pending,
    },
    Case {
        name: "FASTPATH0030 reply: a sender waits",
        body: reply_sender_waits,
    },
    Case {
        name: "FASTPATH0031 reply: to a fault",
        body: reply_to_fault,
    },
    Case {
        name: "FASTPATH0032 reply: the caller's address space is gone",
        body: reply_no_vspace,
    },
    Case {
        name: "FASTPATH0033 reply: somebody more important is ready",
        body: reply_low_caller,
    },
    Case {
        name: "FASTPATH0034 reply: the caller was given time meanwhile",
        body: reply_caller_has_time,
    },
    Case {
        name: "FASTPATH0041 signal: no right to",
        body: signal_no_write,
    },
    Case {
        name: "FASTPATH0042 signal: somebody more important waits",
        body: signal_high,
    },
    Case {
        name: "FASTPATH0043 signal: the waiting thread has no time",
        body: signal_no_time,
    },
    Case {
        name: "FASTPATH0051 fault: nobody waits at the handler's endpoint",
        body: fault_nobody,
    },
    Case {
        name: "FASTPATH0052 fault: the handler's endpoint is gone",
        body: fault_no_endpoint,
    },
];

/// A passive echo server above the root thread: thread, endpoint, reply object.
fn server(kit: &mut Kit) -> Outcome<(Thread, cap::Endpoint, cap::Reply)> {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let thread = Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .priority(120)
        .start_passive(kit)?;
    Ok((thread, endpoint, reply))
}

/// That the server still answers short calls: whatever happened before left it whole.
fn alive(endpoint: cap::Endpoint) -> Outcome {
    for n in 0..3 {
        let got = endpoint.call_with_mrs(MessageInfo::new(n, 0, 0, 2), [n, 77]);
        check_eq!((got.info.label(), got.info.length()), (n + 1, 2));
        check_eq!(got.msg, [n, 77, 0, 0, 0, 0, 0, 0]);
    }
    Ok(())
}

fn call_long(kit: &mut Kit) -> Outcome {
    let (_, endpoint, _) = server(kit)?;
    for length in [FAST, FAST + 1, 50, 120, 8, 9] {
        let words = compose(root_buffer(kit), 3, length);
        let info = MessageInfo::new(0, 0, 0, length).into_word();
        let got = arch::call(endpoint.bits(), info, words);
        check_eq!(difference(root_buffer(kit), &got, 3, length), None);
    }
    alive(endpoint)
}

fn call_caps(kit: &mut Kit) -> Outcome {
    // The server sees the badge of its own endpoint's capability unwrapped; nothing is stored.
    let (_, endpoint, _) = server(kit)?;
    sel4::with_ipc_buffer_mut(|b| b.caps_or_badges_mut()[0] = endpoint.bits());
    let got = endpoint.call_with_mrs(MessageInfo::new(4, 0, 1, 1), [6]);
    check_eq!(
        (got.info.label(), got.info.extra_caps(), got.msg[0]),
        (5, 0, 6)
    );
    // A pointer to nothing is a fault of the sender, before anything is sent.
    let faults = kit.endpoint()?;
    Helper::new(call_with_bad_cap)
        .args([endpoint.bits()])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (1 << 40, 0));
    alive(endpoint)
}

/// Calls with a capability that leads nowhere. Words: endpoint.
fn call_with_bad_cap(env: &Env) -> u64 {
    env.with_buffer(|b| b.caps_or_badges_mut()[0] = 1 << 40);
    let info = MessageInfo::new(0, 0, 1, 0).into_word();
    arch::call(env.args[0], info, arch::NO_WORDS).badge
}

fn call_not_endpoint(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 4)?;
    let answer = invoke(
        bell.bits(),
        InvocationLabel::InvalidInvocation,
        &[1, 2],
        &[],
    );
    check_eq!((answer.label, answer.length), (0, 0));
    check_eq!(ntfn.poll().1, 4);
    let answer = invoke(0, InvocationLabel::InvalidInvocation, &[], &[]);
    refused(answer, ErrorCode::InvalidCapability)?;
    let reply = kit.reply()?;
    let answer = invoke(reply.bits(), InvocationLabel::InvalidInvocation, &[], &[]);
    check_eq!(answer.label, 0);
    Ok(())
}

fn call_no_write(kit: &mut Kit) -> Outcome {
    let (_, endpoint, _) = server(kit)?;
    let mute = kit.mint(endpoint, CapRights::new(true, true, true, false), 0)?;
    let answer = invoke(mute.bits(), InvocationLabel::InvalidInvocation, &[1], &[]);
    refused(answer, ErrorCode::InvalidCapability)?;
    alive(endpoint)
}

fn call_nobody(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 6, 5])
        .start(kit)?;
    kit.settle()?;
    check!(!client.finished());
    let got = endpoint.recv_with_mrs(reply);
    check_eq!((got.info.label(), got.info.length(), got.msg[0]), (6, 1, 5));
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [15]);
    check_eq!(client.join(kit)?, 15);
    Ok(())
}

fn call_queue(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let mut clients = [None; 3];
    for (i, client) in clients.iter_mut().enumerate() {
        let args = [endpoint.bits(), 0, i as u64];
        *client = Some(Helper::new(call_once).args(args).start(kit)?);
    }
    kit.settle()?;
    let thread = Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .priority(120)
        .start(kit)?;
    kit.settle()?;
    for (i, client) in clients.iter().flatten().enumerate() {
        check_eq!(client.result(), Some(i as u64));
    }
    thread.sc.sched_context_unbind()?;
    alive(endpoint)
}

static TRACE: AtomicU64 = AtomicU64::new(0);

fn trace(n: u64) {
    let old = TRACE.load(Ordering::Relaxed);
    TRACE.store(old << 4 | n, Ordering::Relaxed);
}

/// An echo server that leaves a trace of each call. Words: endpoint, reply object, mark.
fn traced_echo(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        trace(env.args[2]);
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = arch::reply_recv(endpoint, info, arch::message([got.words[0]]), reply);
    }
}

/// Waits for a notification and leaves a trace. Words: notification, mark.
fn traced_wait(env: &Env) -> u64 {
    cap::Notification::from_bits(env.args[0]).wait();
    trace(env.args[1]);
    0
}

/// Signals, then calls, and leaves a trace. Words: endpoint, notification, mark.
fn signal_and_call(env: &Env) -> u64 {
    cap::Notification::from_bits(env.args[1]).signal();
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let got = endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    trace(env.args[2]);
    got.msg[0]
}

fn call_low_server(kit: &mut Kit) -> Outcome {
    // A client of high priority calls a server of low priority while one in between is ready: that one
    // runs first.
    TRACE.store(0, Ordering::Relaxed);
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let ntfn = kit.notification()?;
    Helper::new(traced_echo)
        .args([endpoint.bits(), reply.bits(), 3])
        .priority(110)
        .start_passive(kit)?;
    Helper::new(traced_wait)
        .args([ntfn.bits(), 2])
        .priority(115)
        .start(kit)?;
    let client = Helper::new(signal_and_call)
        .args([endpoint.bits(), ntfn.bits(), 4])
        .priority(120)
        .start(kit)?;
    check_eq!(client.join(kit)?, 1);
    check_eq!(TRACE.load(Ordering::Relaxed), 0x234);
    Ok(())
}

fn call_no_grant_reply(kit: &mut Kit) -> Outcome {
    let (_, endpoint, _) = server(kit)?;
    let weak = kit.mint(endpoint, CapRights::write_only(), 1)?;
    let client = Helper::new(call_once)
        .args([weak.bits(), 0, 1])
        .start(kit)?;
    kit.settle()?;
    check!(!client.finished());
    // The server got the message but no time: it needs some to take the next call.
    let sc = kit.sched_context(10_000, 10_000)?;
    let (thread, other, _) = server(kit)?;
    alive(other)?;
    sc.sched_context_bind(thread.tcb)?;
    alive(other)
}

fn call_active(kit: &mut Kit) -> Outcome {
    for priority in [90, 120] {
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        let thread = Helper::new(echo)
            .args([endpoint.bits(), reply.bits()])
            .priority(priority)
            .start(kit)?;
        kit.settle()?;
        alive(endpoint)?;
        // Its time stayed its own, ours ours.
        thread.sc.sched_context_unbind_object(thread.tcb)?;
    }
    Ok(())
}

fn call_no_reply_object(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let thread = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .start(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 3])
        .start(kit)?;
    check_eq!(thread.join(kit)?, 3);
    kit.settle()?;
    check!(!client.finished());
    // Resumed, it calls again.
    client.tcb.tcb_resume()?;
    let reply = kit.reply()?;
    endpoint.recv_with_mrs(reply);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [8]);
    check_eq!(client.join(kit)?, 8);
    Ok(())
}

fn call_no_vspace(kit: &mut Kit) -> Outcome {
    // The server runs in a copy of the program whose address space is deleted while it waits: it
    // cannot run any more, and nobody else is harmed.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let faults = kit.endpoint()?;
    let space = Space::new(kit)?;
    let made = Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .vspace(space.root)
        .fault(faults)
        .without_buffer()
        .priority(120)
        .make(kit)?;
    space.clone_image(kit)?;
    made.tcb.tcb_resume()?;
    kit.settle()?;
    made.sc.sched_context_unbind()?;
    alive(endpoint)?;
    space.destroy(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .start(kit)?;
    kit.settle()?;
    check!(!client.finished());
    // The server's next instruction faulted, on the client's time; the handler can end the call.
    let got = faults.nb_recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::VMFault as u64);
    check_eq!(got.msg[2], 1);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [2]);
    check_eq!(client.join(kit)?, 2);
    Ok(())
}

fn call_deep(kit: &mut Kit) -> Outcome {
    // The client's CSpace is a root CNode without guard over another CNode: every bit is resolved.
    let (_, endpoint, _) = server(kit)?;
    let low = kit.new_cnode(4)?;
    let plain: cap::CNode = kit.object(sel4::ObjectBlueprint::CNode { size_bits: 6 })?;
    let top = kit.mint(
        plain,
        CapRights::all(),
        sel4::CNodeCapData::new(0x15, 10).into_word(),
    )?;
    // Guard 10 bits, index 6 bits: 48 bits are left for the CNode in slot 33.
    let inner = kit.mint(
        low,
        CapRights::all(),
        sel4::CNodeCapData::new(0x3, 44).into_word(),
    )?;
    plain
        .absolute_cptr_from_bits_with_depth(33, 6)
        .copy(&kit.absolute(inner), CapRights::all())?;
    low.absolute_cptr(sel4::CPtr::from_bits(9))
        .copy(&kit.absolute(endpoint), CapRights::all())?;
    let cptr = 0x15 << 54 | 33 << 48 | 0x3 << 4 | 9;
    let client = Helper::new(call_once)
        .args([cptr, 0, 12])
        .cspace(top)
        .start(kit)?;
    kit.settle()?;
    check_eq!(client.result(), Some(12));
    alive(endpoint)
}

fn call_two_servers(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    let endpoint = kit.endpoint()?;
    for mark in [1, 2] {
        let reply = kit.reply()?;
        Helper::new(traced_echo)
            .args([endpoint.bits(), reply.bits(), mark])
            .priority(110 + mark)
            .start_passive(kit)?;
    }
    for _ in 0..3 {
        endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    }
    check_eq!(TRACE.load(Ordering::Relaxed), 0x222);
    Ok(())
}

/// A server whose answer is as long as it is told. Words: endpoint, reply object, length.
fn long_answer(env: &Env) -> u64 {
    let (endpoint, reply, length) = (env.args[0], env.args[1], env.args[2] as usize);
    arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let words = compose(env.buffer(), 9, length);
        let info = MessageInfo::new(1, 0, 0, length).into_word();
        arch::reply_recv(endpoint, info, words, reply);
    }
}

fn reply_long(kit: &mut Kit) -> Outcome {
    for length in [7, 8, 9, 10, 64, 120] {
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        Helper::new(long_answer)
            .args([endpoint.bits(), reply.bits(), length as u64])
            .start_passive(kit)?;
        for _ in 0..2 {
            let info = MessageInfo::new(0, 0, 0, 8).into_word();
            let got = arch::call(endpoint.bits(), info, arch::message([1; 8]));
            check_eq!(difference(root_buffer(kit), &got, 9, length), None);
        }
    }
    Ok(())
}

/// A server that answers with a capability. Words: endpoint, reply object, capability.
fn cap_answer(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    arch::recv(syscall::RECV, endpoint, reply);
    loop {
        env.with_buffer(|b| b.caps_or_badges_mut()[0] = env.args[2]);
        let info = MessageInfo::new(1, 0, 1, 0).into_word();
        arch::reply_recv(endpoint, info, arch::NO_WORDS, reply);
    }
}

fn reply_caps(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x31)?;
    Helper::new(cap_answer)
        .args([endpoint.bits(), reply.bits(), bell.bits()])
        .start_passive(kit)?;
    for _ in 0..2 {
        let place = kit.slot();
        let slot = kit.absolute(place);
        sel4::with_ipc_buffer_mut(|b| b.set_recv_slot(&slot));
        let got = endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
        check_eq!((got.info.label(), got.info.extra_caps()), (1, 1));
        place.cast::<sel4::cap_type::Notification>().signal();
        check_eq!(ntfn.poll().1, 0x31);
    }
    Ok(())
}

/// Answers, and waits for a notification in the same system call; returns its word. Words: endpoint,
/// reply object, what to receive on after the answer, the reply object to name then.
fn answer_then(env: &Env) -> u64 {
    let got = arch::recv(syscall::RECV, env.args[0], env.args[1]);
    let info = MessageInfo::new(7, 0, 0, 1).into_word();
    let words = arch::message([got.words[0] + 1]);
    arch::reply_recv(env.args[2], info, words, env.args[3]).badge
}

fn reply_then_notification(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x51)?;
    let thread = Helper::new(answer_then)
        .args([endpoint.bits(), reply.bits(), ntfn.bits(), reply.bits()])
        .start_passive(kit)?;
    let got = endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    check_eq!((got.info.label(), got.msg[0]), (7, 2));
    bell.signal();
    kit.settle()?;
    check!(!thread.finished());
    thread.sc.sched_context_bind(thread.tcb)?;
    check_eq!(thread.join(kit)?, 0x51);
    Ok(())
}

fn reply_no_read(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let faults = kit.endpoint()?;
    let blind = kit.mint(endpoint, CapRights::write_only(), 0)?;
    Helper::new(answer_then)
        .args([endpoint.bits(), reply.bits(), blind.bits(), reply.bits()])
        .fault(faults)
        .start_passive(kit)?;
    // The answer arrives all the same.
    let got = endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    check_eq!((got.info.label(), got.msg[0]), (7, 2));
    let got = faults.nb_recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (blind.bits(), 1));
    Ok(())
}

fn reply_no_cap(kit: &mut Kit) -> Outcome {
    let other = kit.notification()?;
    let faults = kit.endpoint()?;
    for wrong in [other.bits(), 1 << 60] {
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        let client = Helper::new(call_once)
            .args([endpoint.bits(), 0, 1])
            .priority(50)
            .start(kit)?;
        let thread = Helper::new(answer_then)
            .args([endpoint.bits(), reply.bits(), endpoint.bits(), wrong])
            .fault(faults)
            .start(kit)?;
        // The server faults in the receive half, and the caller has no answer.
        let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
        check_eq!(got.info.label(), FaultLabel::CapFault as u64);
        check_eq!((got.msg[1], got.msg[2]), (wrong, 1));
        check!(!thread.finished() && !client.finished());
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [9]);
        check_eq!(client.join(kit)?, 9);
    }
    Ok(())
}

fn reply_nobody(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let (reply, fresh) = (kit.reply()?, kit.reply()?);
    let thread = Helper::new(answer_then)
        .args([endpoint.bits(), reply.bits(), endpoint.bits(), fresh.bits()])
        .start(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .start(kit)?;
    // It answered through a reply object that nobody waits with, and receives on.
    kit.settle()?;
    check!(!client.finished() && !thread.finished());
    let badged = kit.mint(endpoint, CapRights::all(), 0x61)?;
    badged.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    check_eq!(thread.join(kit)?, 0x61);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [5]);
    check_eq!(client.join(kit)?, 5);
    Ok(())
}

/// Takes a call, then calls, and answers the *first* call only. Words: endpoint, reply object of the
/// first call, second endpoint, its reply object (which another thread uses).
fn answer_older(env: &Env) -> u64 {
    arch::recv(syscall::RECV, env.args[0], env.args[1]);
    let second = cap::Endpoint::from_bits(env.args[2]);
    second.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]).msg[0]
}

/// Answers a call of somebody else's, then waits. Words: endpoint, reply object, older reply object.
fn steal_answer(env: &Env) -> u64 {
    arch::recv(syscall::RECV, env.args[0], env.args[1]);
    let info = MessageInfo::new(0, 0, 0, 1).into_word();
    // Not the youngest call of the scheduling context that it runs on.
    arch::reply_recv(env.args[0], info, arch::message([71]), env.args[2]).words[0]
}

fn reply_not_top(kit: &mut Kit) -> Outcome {
    // client -> first -> second; second answers the client, past first.
    let (one, two) = (kit.endpoint()?, kit.endpoint()?);
    let (older, younger) = (kit.reply()?, kit.reply()?);
    let second = Helper::new(steal_answer)
        .args([two.bits(), younger.bits(), older.bits()])
        .priority(130)
        .start_passive(kit)?;
    let first = Helper::new(answer_older)
        .args([one.bits(), older.bits(), two.bits()])
        .priority(120)
        .start_passive(kit)?;
    let client = Helper::new(call_once).args([one.bits(), 0, 1]).start(kit)?;
    kit.settle()?;
    // The client has its answer but not its time, which is still below the younger call.
    check!(!first.finished() && !second.finished());
    younger.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [72]);
    kit.settle()?;
    if !client.finished() {
        client.sc.sched_context_unbind()?;
        client.sc.sched_context_bind(client.tcb)?;
    }
    check_eq!(client.join(kit)?, 71);
    if !first.finished() {
        first.sc.sched_context_bind(first.tcb)?;
    }
    check_eq!(first.join(kit)?, 72);
    Ok(())
}

fn reply_own_time(kit: &mut Kit) -> Outcome {
    // The server is given a scheduling context of its own while it serves a call on that of the client.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let gate = kit.notification()?;
    let thread = Helper::new(wait_then_echo)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .priority(120)
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 4])
        .start(kit)?;
    kit.settle()?;
    client.sc.sched_context_unbind_object(thread.tcb)?;
    thread.sc.sched_context_bind(thread.tcb)?;
    gate.signal();
    kit.settle()?;
    if !client.finished() {
        client.sc.sched_context_bind(client.tcb)?;
    }
    check_eq!(client.join(kit)?, 4);
    gate.signal();
    alive_with_gate(kit, endpoint, gate)
}

/// An echo server that waits before each answer. Words: endpoint, reply object, notification.
fn wait_then_echo(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        cap::Notification::from_bits(env.args[2]).wait();
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = arch::reply_recv(endpoint, info, arch::message([got.words[0]]), reply);
    }
}

fn alive_with_gate(kit: &mut Kit, endpoint: cap::Endpoint, gate: cap::Notification) -> Outcome {
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 21])
        .start(kit)?;
    gate.signal();
    check_eq!(client.join(kit)?, 21);
    Ok(())
}

/// A server that signals its own bound notification before it answers, and returns the badge of the
/// second thing that it receives after that. Words: endpoint, reply object, notification.
fn signal_then_answer(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let got = arch::recv(syscall::RECV, endpoint, reply);
    cap::Notification::from_bits(env.args[2]).signal();
    let info = MessageInfo::new(0, 0, 0, 1).into_word();
    let words = arch::message([got.words[0]]);
    let next = arch::reply_recv(endpoint, info, words, reply);
    next.badge << 8 | MessageInfo::from_word(next.info).length() as u64
}

fn reply_signal_pending(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x81)?;
    let thread = Helper::new(signal_then_answer)
        .args([endpoint.bits(), reply.bits(), bell.bits()])
        .start_passive(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    let got = endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [6]);
    check_eq!(got.msg[0], 6);
    // It took the signal in the receive half, and goes on when it has time.
    check!(!thread.finished());
    thread.sc.sched_context_bind(thread.tcb)?;
    check_eq!(thread.join(kit)?, 0x8100);
    Ok(())
}

fn reply_sender_waits(kit: &mut Kit) -> Outcome {
    // Two clients queue up while the server is busy: its receive half finds the next one waiting.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let gate = kit.notification()?;
    Helper::new(wait_then_echo)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .priority(130)
        .start_passive(kit)?;
    let mut clients = [None; 3];
    for (i, client) in clients.iter_mut().enumerate() {
        let args = [endpoint.bits(), 0, i as u64 + 1];
        *client = Some(Helper::new(call_once).args(args).start(kit)?);
    }
    kit.settle()?;
    for (i, client) in clients.iter().flatten().enumerate() {
        check!(!client.finished());
        gate.signal();
        kit.settle()?;
        check_eq!(client.result(), Some(i as u64 + 1));
    }
    Ok(())
}

/// Handles faults for ever: skips the instruction. Words: endpoint, reply object.
fn skip_faults(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let (info, words) =
            if MessageInfo::from_word(got.info).label() == FaultLabel::UserException as u64 {
                (
                    MessageInfo::new(0, 0, 0, 1),
                    arch::message([got.words[0] + 4]),
                )
            } else {
                (MessageInfo::new(0, 0, 0, 1), arch::message([0x600d]))
            };
        got = arch::reply_recv(endpoint, info.into_word(), words, reply);
    }
}

fn reply_to_fault(kit: &mut Kit) -> Outcome {
    // Faults and calls of one client to one server, turn by turn: a fault's answer is no message.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let code = crate::code::place(
        kit,
        0,
        &[crate::code::TRAP, crate::code::TRAP, crate::code::RETURN],
    )?;
    for passive in [false, true] {
        let helper = Helper::new(skip_faults)
            .args([endpoint.bits(), reply.bits()])
            .priority(130);
        let thread = if passive {
            helper.start_passive(kit)?
        } else {
            helper.start(kit)?
        };
        let client = Helper::new(crate::code::run_code)
            .args([code, 0x1234])
            .fault(endpoint)
            .start(kit)?;
        check_eq!(client.join(kit)?, 0x1234);
        let got = endpoint.call_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
        check_eq!(got.msg[0], 0x600d);
        kit.delete(thread.tcb)?;
    }
    Ok(())
}

fn reply_no_vspace(kit: &mut Kit) -> Outcome {
    // The caller's address space is deleted while it waits for the answer.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let gate = kit.notification()?;
    let faults = kit.endpoint()?;
    let thread = Helper::new(wait_then_echo)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .start_passive(kit)?;
    let space = Space::new(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 1])
        .vspace(space.root)
        .fault(faults)
        .without_buffer()
        .make(kit)?;
    space.clone_image(kit)?;
    client.tcb.tcb_resume()?;
    kit.settle()?;
    space.destroy(kit)?;
    gate.signal();
    // It gets its answer and its time, and faults at its next instruction.
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::VMFault as u64);
    check!(!thread.finished());
    alive_with_gate(kit, endpoint, gate)
}

/// A server that signals somebody before it answers. Words: endpoint, reply object, notification.
fn echo_and_signal(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        cap::Notification::from_bits(env.args[2]).signal();
        trace(1);
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = arch::reply_recv(endpoint, info, arch::message([got.words[0]]), reply);
    }
}

/// Calls and leaves a trace. Words: endpoint, label, word, mark.
fn traced_call(env: &Env) -> u64 {
    let answer = call_once(env);
    trace(env.args[3]);
    answer
}

fn reply_low_caller(kit: &mut Kit) -> Outcome {
    // While the server serves a client of low priority, one in between becomes ready: after the answer
    // that one runs first.
    TRACE.store(0, Ordering::Relaxed);
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let ntfn = kit.notification()?;
    Helper::new(echo_and_signal)
        .args([endpoint.bits(), reply.bits(), ntfn.bits()])
        .priority(130)
        .start_passive(kit)?;
    let middle = Helper::new(traced_wait)
        .args([ntfn.bits(), 2])
        .priority(120)
        .start(kit)?;
    let client = Helper::new(traced_call)
        .args([endpoint.bits(), 0, 8, 3])
        .priority(110)
        .start(kit)?;
    check_eq!(client.join(kit)?, 8);
    middle.join(kit)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x123);
    Ok(())
}

fn reply_caller_has_time(kit: &mut Kit) -> Outcome {
    // The caller is given another scheduling context while its own is with the server.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let gate = kit.notification()?;
    let thread = Helper::new(wait_then_echo)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .priority(120)
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 0, 4])
        .start(kit)?;
    kit.settle()?;
    let second = kit.sched_context(10_000, 10_000)?;
    second.sched_context_bind(client.tcb)?;
    gate.signal();
    check_eq!(client.join(kit)?, 4);
    // The server is passive again, and both scheduling contexts are accounted for.
    second.sched_context_unbind_object(client.tcb)?;
    client.sc.sched_context_unbind()?;
    thread.sc.sched_context_bind(thread.tcb)?;
    thread.sc.sched_context_unbind()?;
    alive_with_gate(kit, endpoint, gate)
}

fn signal_no_write(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let mute = kit.mint(ntfn, CapRights::read_only(), 0)?;
    let thread = Helper::new(wait_once).args([ntfn.bits()]).start(kit)?;
    mute.signal();
    kit.settle()?;
    check!(!thread.finished());
    ntfn.signal();
    check_eq!(thread.join(kit)?, 0);
    Ok(())
}

fn signal_high(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let high = Helper::new(wait_once)
        .args([ntfn.bits()])
        .priority(120)
        .start(kit)?;
    let bell = kit.mint(ntfn, CapRights::all(), 2)?;
    bell.signal();
    // At once, before the next instruction of this thread.
    check_eq!(high.result(), Some(2));
    let low = Helper::new(wait_once)
        .args([ntfn.bits()])
        .priority(50)
        .start(kit)?;
    kit.settle()?;
    bell.signal();
    check!(!low.finished());
    check_eq!(low.join(kit)?, 2);
    Ok(())
}

fn signal_no_time(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let thread = Helper::new(wait_once)
        .args([ntfn.bits()])
        .start_passive(kit)?;
    kit.mint(ntfn, CapRights::all(), 9)?.signal();
    kit.settle()?;
    check!(!thread.finished());
    check_eq!(ntfn.poll().1, 0);
    thread.sc.sched_context_bind(thread.tcb)?;
    check_eq!(thread.join(kit)?, 9);
    Ok(())
}

fn fault_nobody(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let badged = kit.mint(faults, CapRights::new(true, false, false, true), 0x66)?;
    let code = crate::code::place(kit, 0, &[crate::code::TRAP, crate::code::RETURN])?;
    let thread = Helper::new(crate::code::run_code)
        .args([code, 31])
        .fault(badged)
        .start(kit)?;
    kit.settle()?;
    check!(!thread.finished());
    let got = faults.recv_with_mrs(reply);
    check_eq!((got.badge, got.msg[0]), (0x66, code));
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [code + 4]);
    check_eq!(thread.join(kit)?, 31);
    Ok(())
}

fn fault_no_endpoint(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let code = crate::code::place(kit, 0, &[crate::code::TRAP, crate::code::RETURN])?;
    let thread = Helper::new(crate::code::run_code)
        .args([code, 31])
        .fault(faults)
        .make(kit)?;
    // The TCB's copy goes with the endpoint itself.
    kit.revoke(faults)?;
    kit.delete(faults)?;
    thread.tcb.tcb_resume()?;
    kit.settle()?;
    check!(!thread.finished());
    // It stopped where it was.
    check_eq!(*thread.tcb.tcb_read_registers(false, 1)?.pc(), code);
    Ok(())
}
