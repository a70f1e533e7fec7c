// SPDX-License-Identifier: BSD-2-Clause
//! FASTSIGNAL: every condition under which a signal, a receive, both in one, or the answer to a VM fault must leave
//! the fast path (kernel/src/arch/signals.rs), and the fast path itself: the meaning is the same.

use crate::support::{call_once, measured, wait_once};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::{FaultLabel, syscall};
use sel4::{CapRights, Error, MessageInfo, arch, cap};
use testkit::{Case, Env, Helper, Kit, Outcome, Thread, check, check_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "FASTSIGNAL0001 signal: the bound thread receives at an endpoint",
        body: bound_receives,
    },
    Case {
        name: "FASTSIGNAL0002 signal: the bound thread does something else",
        body: bound_is_busy,
    },
    Case {
        name: "FASTSIGNAL0003 signal: two threads wait",
        body: two_wait,
    },
    Case {
        name: "FASTSIGNAL0004 signal: the bound thread is not alone at its endpoint",
        body: bound_in_a_queue,
    },
    Case {
        name: "FASTSIGNAL0005 signal: nobody is bound and nobody waits",
        body: nobody,
    },
    Case {
        name: "FASTSIGNAL0006 signal: the woken thread is no better than the running one",
        body: |kit| measured(kit, not_better),
    },
    Case {
        name: "FASTSIGNAL0007 signal: an empty slot, blocking or not",
        body: empty_slot,
    },
    Case {
        name: "FASTSIGNAL0011 receive: a sender waits, then a signal, then nothing",
        body: receive_in_order,
    },
    Case {
        name: "FASTSIGNAL0012 receive: the threads of all priorities get their turn",
        body: every_priority,
    },
    Case {
        name: "FASTSIGNAL0013 receive: the notification is another thread's",
        body: not_mine,
    },
    Case {
        name: "FASTSIGNAL0021 both: to and fro between two priorities",
        body: to_and_fro,
    },
    Case {
        name: "FASTSIGNAL0022 both: a signal has come already",
        body: both_pending,
    },
    Case {
        name: "FASTSIGNAL0023 both: somebody in between is ready",
        body: both_in_between,
    },
    Case {
        name: "FASTSIGNAL0031 answer to a VM fault: the thread goes on at once, or after somebody better",
        body: fault_answer,
    },
    Case {
        name: "FASTSIGNAL0032 who answers a fault on a notification's time gives it back",
        body: fault_answer_on_lent_time,
    },
];

static TRACE: AtomicU64 = AtomicU64::new(0);

fn trace(n: u64) {
    TRACE.store(TRACE.load(Ordering::Relaxed) * 16 + n, Ordering::Relaxed);
}

/// Receives once, with a reply object. Words: endpoint, reply object, mark.
fn receive_badge(env: &Env) -> u64 {
    let got = arch::recv(syscall::RECV, env.args[0], env.args[1]);
    trace(env.args[2]);
    got.badge
}

/// A thread that receives at an endpoint and has a notification bound.
fn bound(kit: &mut Kit, priority: u64) -> Outcome<(Thread, cap::Endpoint, cap::Notification)> {
    let (endpoint, reply, ntfn) = (kit.endpoint()?, kit.reply()?, kit.notification()?);
    let thread = Helper::new(receive_badge)
        .args([endpoint.bits(), reply.bits(), 1])
        .priority(priority)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    kit.settle()?;
    Ok((thread, endpoint, ntfn))
}

fn bell(kit: &mut Kit, ntfn: cap::Notification, badge: u64) -> Outcome<cap::Notification> {
    Ok(kit.mint(ntfn, CapRights::all(), badge)?)
}

fn bound_receives(kit: &mut Kit) -> Outcome {
    for badge in 1..4 {
        let (thread, _, ntfn) = bound(kit, 120)?;
        bell(kit, ntfn, badge)?.signal();
        check_eq!(thread.result(), Some(badge));
    }
    Ok(())
}

/// Waits for a notification of its own first. Words: endpoint, reply object, notification to wait for.
fn wait_then_receive(env: &Env) -> u64 {
    arch::recv(syscall::WAIT, env.args[2], 0);
    let first = arch::recv(syscall::RECV, env.args[0], env.args[1]).badge;
    let second = arch::recv(syscall::NB_RECV, env.args[0], env.args[1]).badge;
    first | second << 32
}

fn bound_is_busy(kit: &mut Kit) -> Outcome {
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let (ntfn, gate) = (kit.notification()?, kit.notification()?);
    let thread = Helper::new(wait_then_receive)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .priority(120)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    kit.settle()?;
    bell(kit, ntfn, 4)?.signal();
    bell(kit, ntfn, 1)?.signal();
    check!(!thread.finished());
    gate.signal();
    // Both at once, and nothing after them.
    check_eq!(thread.result(), Some(5));
    Ok(())
}

fn two_wait(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let mut threads = [None, None];
    for (i, thread) in threads.iter_mut().enumerate() {
        let helper = Helper::new(wait_once).args([ntfn.bits()]);
        *thread = Some(helper.priority(120 + i as u64).start(kit)?);
        kit.settle()?;
    }
    let [Some(first), Some(second)] = threads else {
        return Ok(());
    };
    // The better one is served first.
    bell(kit, ntfn, 7)?.signal();
    check_eq!((first.result(), second.result()), (None, Some(7)));
    bell(kit, ntfn, 8)?.signal();
    check_eq!(first.result(), Some(8));
    Ok(())
}

fn bound_in_a_queue(kit: &mut Kit) -> Outcome {
    let (thread, endpoint, ntfn) = bound(kit, 120)?;
    let reply = kit.reply()?;
    let other = Helper::new(receive_badge)
        .args([endpoint.bits(), reply.bits(), 2])
        .priority(119)
        .start(kit)?;
    kit.settle()?;
    bell(kit, ntfn, 3)?.signal();
    check_eq!((thread.result(), other.result()), (Some(3), None));
    // The other one still waits at the endpoint.
    let caller = kit.mint(endpoint, CapRights::all(), 9)?;
    caller.nb_send(MessageInfo::new(0, 0, 0, 0));
    check_eq!(other.join(kit)?, 9);
    Ok(())
}

fn nobody(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    bell(kit, ntfn, 1)?.signal();
    bell(kit, ntfn, 6)?.signal();
    check_eq!(ntfn.poll().1, 7);
    check_eq!(ntfn.poll().1, 0);
    Ok(())
}

fn not_better(kit: &mut Kit) -> Outcome {
    // This thread has priority 100. One of the same priority has its turn when this one's time slice ends.
    for priority in [100, 60] {
        let (thread, _, ntfn) = bound(kit, priority)?;
        bell(kit, ntfn, 2)?.signal();
        check!(!thread.finished());
        check_eq!(thread.join(kit)?, 2);
    }
    Ok(())
}

/// A blocking send to nothing.
fn send_to_nothing(env: &Env) -> u64 {
    arch::send(syscall::SEND, env.args[0], 0, arch::message([]));
    1
}

fn empty_slot(kit: &mut Kit) -> Outcome {
    let empty = kit.slot().bits();
    for number in [syscall::NB_SEND, syscall::SEND] {
        arch::send(number, empty, 0, arch::message([]));
    }
    // Nor does a blocking one, as in seL4: a fault is for a pointer that leads nowhere.
    let thread = Helper::new(send_to_nothing).args([empty]).start(kit)?;
    check_eq!(thread.join(kit)?, 1);
    let faults = kit.endpoint()?;
    let thread = Helper::new(send_to_nothing)
        .args([u64::MAX])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check!(!thread.finished());
    Ok(())
}

/// Receives three times and gathers the badges. Words: endpoint, reply object, gate.
fn receive_thrice(env: &Env) -> u64 {
    arch::recv(syscall::WAIT, env.args[2], 0);
    let mut badges = 0;
    for _ in 0..3 {
        badges = badges << 8 | arch::recv(syscall::RECV, env.args[0], env.args[1]).badge;
    }
    badges
}

fn receive_in_order(kit: &mut Kit) -> Outcome {
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let (ntfn, gate) = (kit.notification()?, kit.notification()?);
    let thread = Helper::new(receive_thrice)
        .args([endpoint.bits(), reply.bits(), gate.bits()])
        .priority(120)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    kit.settle()?;
    let badged = kit.mint(endpoint, CapRights::all(), 0x51)?;
    let caller = Helper::new(call_once)
        .args([badged.bits(), 0, 0])
        .priority(110)
        .start(kit)?;
    kit.settle()?;
    bell(kit, ntfn, 2)?.signal();
    gate.signal();
    // A signal comes before a sender; then there is nothing until the next signal.
    check!(!thread.finished());
    bell(kit, ntfn, 3)?.signal();
    check_eq!(thread.result(), Some(0x0002_5103));
    check!(!caller.finished());
    Ok(())
}

/// Waits and leaves a trace. Words: notification, mark, notification of the next one.
fn wait_and_pass(env: &Env) -> u64 {
    for _ in 0..2 {
        arch::recv(syscall::RECV, env.args[0], 0);
        trace(env.args[1]);
        cap::Notification::from_bits(env.args[2]).signal();
    }
    0
}

fn every_priority(kit: &mut Kit) -> Outcome {
    // Threads in several words of the ready queue's bitmap, each woken by the one before and run after it.
    TRACE.store(0, Ordering::Relaxed);
    let priorities = [200, 199, 130, 120, 101];
    let mut bells = [kit.notification()?; 6];
    for bell in &mut bells[1..] {
        *bell = kit.notification()?;
    }
    let mut last = None;
    for (i, priority) in priorities.into_iter().enumerate() {
        let thread = Helper::new(wait_and_pass)
            .args([bells[i].bits(), i as u64 + 1, bells[i + 1].bits()])
            .priority(priority)
            .make(kit)?;
        thread.tcb.tcb_bind_notification(bells[i])?;
        thread.tcb.tcb_resume()?;
        last = Some(thread);
    }
    kit.settle()?;
    bells[0].signal();
    check_eq!(TRACE.load(Ordering::Relaxed), 0x12345);
    bells[0].signal();
    check_eq!(TRACE.load(Ordering::Relaxed), 0x12_3451_2345);
    check!(last.is_some_and(|t| t.finished()));
    Ok(())
}

fn not_mine(kit: &mut Kit) -> Outcome {
    let (_, _, ntfn) = bound(kit, 120)?;
    let faults = kit.endpoint()?;
    let thief = Helper::new(wait_once)
        .args([ntfn.bits()])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check!(!thief.finished());
    Ok(())
}

/// Signals and receives in one, often. Words: notification to signal, endpoint, reply object, rounds.
fn bounce(env: &Env) -> u64 {
    let [dest, endpoint, reply, rounds, ..] = env.args;
    let mut sum = 0;
    for i in 0..rounds {
        let got = arch::nb_send_recv(
            syscall::NB_SEND_RECV,
            dest,
            0,
            arch::message([]),
            endpoint,
            reply,
        );
        sum += got.badge * (i + 1);
    }
    sum
}

fn to_and_fro(kit: &mut Kit) -> Outcome {
    const ROUNDS: u64 = 50;
    for (a_priority, b_priority) in [(120, 130), (130, 120), (120, 120)] {
        let mut ends = [None, None];
        for end in &mut ends {
            let ntfn = kit.notification()?;
            *end = Some((ntfn, kit.endpoint()?, kit.reply()?, bell(kit, ntfn, 3)?));
        }
        let [Some(a), Some(b)] = ends else {
            return Ok(());
        };
        let mut start = |me: &(cap::Notification, cap::Endpoint, cap::Reply, _),
                         other: cap::Notification,
                         priority: u64|
         -> Outcome<Thread> {
            let thread = Helper::new(bounce)
                .args([other.bits(), me.1.bits(), me.2.bits(), ROUNDS])
                .priority(priority)
                .make(kit)?;
            thread.tcb.tcb_bind_notification(me.0)?;
            Ok(thread)
        };
        let first = start(&a, b.3, a_priority)?;
        let second = start(&b, a.3, b_priority)?;
        first.tcb.tcb_resume()?;
        second.tcb.tcb_resume()?;
        // One signal more than receives: the last round of one of them needs it.
        a.3.signal();
        b.3.signal();
        let sum = 3 * ROUNDS * (ROUNDS + 1) / 2;
        check_eq!(first.join(kit)?, sum);
        check_eq!(second.join(kit)?, sum);
    }
    Ok(())
}

fn both_pending(kit: &mut Kit) -> Outcome {
    // The caller's own notification is active: it signals and goes on.
    let (ntfn, other) = (kit.notification()?, kit.notification()?);
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let thread = Helper::new(bounce)
        .args([other.bits(), endpoint.bits(), reply.bits(), 1])
        .priority(120)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    bell(kit, ntfn, 5)?.signal();
    let waiter = Helper::new(wait_once)
        .args([other.bits()])
        .priority(110)
        .start(kit)?;
    kit.settle()?;
    thread.tcb.tcb_resume()?;
    check_eq!(thread.result(), Some(5));
    check_eq!(waiter.join(kit)?, 0);
    Ok(())
}

/// Waits, leaves a trace and ends. Words: notification, mark.
fn wait_and_trace(env: &Env) -> u64 {
    arch::recv(syscall::WAIT, env.args[0], 0);
    trace(env.args[1]);
    0
}

/// Signals one, then signals another and receives. Words: two notifications, endpoint, reply object.
fn wake_two(env: &Env) -> u64 {
    cap::Notification::from_bits(env.args[0]).signal();
    trace(1);
    arch::nb_send_recv(
        syscall::NB_SEND_RECV,
        env.args[1],
        0,
        arch::message([]),
        env.args[2],
        env.args[3],
    )
    .badge
}

fn both_in_between(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    let (middle_bell, low_bell) = (kit.notification()?, kit.notification()?);
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let middle = Helper::new(wait_and_trace)
        .args([middle_bell.bits(), 2])
        .priority(120)
        .start(kit)?;
    let low = Helper::new(wait_and_trace)
        .args([low_bell.bits(), 3])
        .priority(110)
        .start(kit)?;
    kit.settle()?;
    let high = Helper::new(wake_two)
        .args([
            middle_bell.bits(),
            low_bell.bits(),
            endpoint.bits(),
            reply.bits(),
        ])
        .priority(130)
        .start(kit)?;
    kit.settle()?;
    middle.join(kit)?;
    low.join(kit)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x123);
    check!(!high.finished());
    Ok(())
}

/// Answers two faults and not the third; wakes somebody before the first answer. Words: endpoint, reply object,
/// notification or 0.
fn handler(env: &Env) -> u64 {
    let [endpoint, reply, ntfn, ..] = env.args;
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    for i in 0..3 {
        let ours = got.words[1] == NOWHERE && got.badge == 0x66;
        trace(if ours { 1 } else { 15 });
        if i == 0 && ntfn != 0 {
            cap::Notification::from_bits(ntfn).signal();
        }
        if i < 2 {
            got = arch::reply_recv(endpoint, 0, arch::message([]), reply);
        }
    }
    0
}

/// An address where nothing is mapped.
const NOWHERE: u64 = 0x7000_0000_1000;

fn fault_answer(kit: &mut Kit) -> Outcome {
    for handler_priority in [130, 105] {
        for wakes in [false, true] {
            TRACE.store(0, Ordering::Relaxed);
            let (endpoint, reply, ntfn) = (kit.endpoint()?, kit.reply()?, kit.notification()?);
            let handler = Helper::new(handler)
                .args([
                    endpoint.bits(),
                    reply.bits(),
                    if wakes { ntfn.bits() } else { 0 },
                ])
                .priority(handler_priority)
                .start(kit)?;
            let badged = kit.mint(endpoint, CapRights::new(true, false, false, true), 0x66)?;
            Helper::new(wait_and_trace)
                .args([ntfn.bits(), 2])
                .priority(120)
                .start(kit)?;
            kit.settle()?;
            let thread = Helper::new(crate::code::load)
                .args([NOWHERE])
                .priority(110)
                .fault(badged)
                .start(kit)?;
            handler.join(kit)?;
            check_eq!(
                TRACE.load(Ordering::Relaxed),
                if wakes { 0x1211 } else { 0x111 }
            );
            check!(!thread.finished());
        }
    }
    Ok(())
}

/// Gets a signal, then a fault that is there already, answers it, and waits for the next one. Words: endpoint, reply object.
fn signal_then_faults(env: &Env) -> u64 {
    let [endpoint, reply, ..] = env.args;
    arch::recv(syscall::RECV, endpoint, reply);
    arch::recv(syscall::NB_RECV, endpoint, reply);
    arch::reply_recv(endpoint, 0, arch::message([]), reply).words[1]
}

fn fault_answer_on_lent_time(kit: &mut Kit) -> Outcome {
    let (endpoint, reply, ntfn) = (kit.endpoint()?, kit.reply()?, kit.notification()?);
    let handler = Helper::new(signal_then_faults)
        .args([endpoint.bits(), reply.bits()])
        .priority(130)
        .start_passive(kit)?;
    handler.tcb.tcb_bind_notification(ntfn)?;
    let sc = kit.sched_context(5000, 5000)?;
    sc.sched_context_bind(ntfn)?;
    // Better than the handler: it waits at the endpoint before the handler comes there again.
    Helper::new(signal_and_load)
        .args([NOWHERE, ntfn.bits()])
        .priority(140)
        .fault(endpoint)
        .start(kit)?;
    check_eq!(handler.join(kit)?, NOWHERE);
    // The second fault came to one without time: it runs on the faulting thread's.
    check_eq!(
        sc.sched_context_unbind_object(handler.tcb),
        Err(Error::IllegalOperation)
    );
    Ok(())
}

/// Signals, and makes a fault. Words: address, notification.
fn signal_and_load(env: &Env) -> u64 {
    cap::Notification::from_bits(env.args[1]).signal();
    crate::code::load(env)
}
