// SPDX-License-Identifier: BSD-2-Clause
//! SCHEDCONTEXT: to whom time belongs. Loans through calls, passive threads, what happens to both when somebody
//! is stopped or deleted, YieldTo and Consumed.

use crate::support::{call_once, measured, send_once, serve, spin, wait_once};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::FaultLabel;
use sel4::init_thread::slot;
use sel4::{Error, MessageInfo, cap};
use testkit::kit::{ROOT_PRIORITY, microseconds};
use testkit::{Case, Env, Helper, Kit, Outcome, Thread, check, check_eq, fail, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "SCHEDCONTEXT0001 a thread runs as long as it has one",
        body: bind_and_unbind,
    },
    Case {
        name: "SCHEDCONTEXT0002 a passive thread is signalled",
        body: signalled,
    },
    Case {
        name: "SCHEDCONTEXT0003 taken away with a call in hand",
        body: hand_over_with_call,
    },
    Case {
        name: "SCHEDCONTEXT0004 taken away with a signal pending",
        body: hand_over_with_signal,
    },
    Case {
        name: "SCHEDCONTEXT0005 a message without time",
        body: plain_message,
    },
    Case {
        name: "SCHEDCONTEXT0006 a passive thread is stopped and started",
        body: stop_and_start,
    },
    Case {
        name: "SCHEDCONTEXT0007 a client suspended in a call",
        body: client_suspended,
    },
    Case {
        name: "SCHEDCONTEXT0008 a client deleted in a call",
        body: client_deleted,
    },
    Case {
        name: "SCHEDCONTEXT0009 a chain of calls cut anywhere",
        body: chain_cut,
    },
    Case {
        name: "SCHEDCONTEXT0010 new parameters of lent time",
        body: parameters_while_lent,
    },
    Case {
        name: "SCHEDCONTEXT0011 YieldTo: the caller comes next",
        body: yield_to_order,
    },
    Case {
        name: "SCHEDCONTEXT0012 YieldTo: what the target consumed",
        body: |kit| measured(kit, yield_to_consumed),
    },
    Case {
        name: "SCHEDCONTEXT0013 YieldTo ends with its target",
        body: yield_to_ends,
    },
    Case {
        name: "SCHEDCONTEXT0014 YieldTo is bounded by the maximum priority",
        body: yield_to_bounded,
    },
    Case {
        name: "SCHEDCONTEXT0015 consumed on lent time",
        body: |kit| measured(kit, consumed_lent),
    },
    Case {
        name: "SCHEDCONTEXT0016 a budget leaves the rest to others",
        body: |kit| measured(kit, rest_for_others),
    },
    Case {
        name: "SCHEDCONTEXT0017 deleted under its thread",
        body: |kit| measured(kit, deleted),
    },
];

/// A server as Microkit makes a passive domain.
struct Domain {
    thread: Thread,
    endpoint: cap::Endpoint,
    ntfn: cap::Notification,
    gate: cap::Notification,
}

impl Domain {
    /// Active, with a notification bound to it; it waits for a signal of its gate in the middle of each call.
    fn active(kit: &mut Kit, priority: u64, gate: bool) -> Outcome<Domain> {
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        let ntfn = kit.notification()?;
        let bell = kit.notification()?;
        let word = if gate { bell.bits() } else { 0 };
        let thread = Helper::new(serve)
            .args([endpoint.bits(), reply.bits(), word])
            .priority(priority)
            .make(kit)?;
        thread.tcb.tcb_bind_notification(ntfn)?;
        Ok(Domain {
            thread,
            endpoint,
            ntfn,
            gate: bell,
        })
    }

    /// What the monitor does.
    fn make_passive(&self) -> Outcome {
        self.thread
            .sc
            .sched_context_unbind_object(self.thread.tcb)?;
        self.thread.sc.sched_context_bind(self.ntfn)?;
        Ok(())
    }

    /// Passive and waiting.
    fn waiting(kit: &mut Kit, priority: u64, gate: bool) -> Outcome<Domain> {
        let domain = Domain::active(kit, priority, gate)?;
        domain.thread.tcb.tcb_resume()?;
        kit.settle()?;
        domain.make_passive()?;
        Ok(domain)
    }

    fn client(&self, kit: &mut Kit, word: u64) -> Outcome<Thread> {
        Helper::new(call_once)
            .args([self.endpoint.bits(), 0, word])
            .start(kit)
    }

    /// It serves a client, on the client's time, and is passive afterwards.
    fn works(&self, kit: &mut Kit) -> Outcome {
        let client = self.client(kit, 20)?;
        self.gate.signal();
        check_eq!(client.join(kit)?, 21);
        client.discard(kit)?;
        // What is its notification's is free again, so that nobody else can have it.
        let tcb = kit.tcb()?;
        let attempt = self.thread.sc.sched_context_bind(tcb);
        check_eq!(attempt, Err(Error::IllegalOperation));
        let sc = kit.sched_context(1000, 1000)?;
        sc.sched_context_bind(self.thread.tcb)?;
        sc.sched_context_unbind()?;
        Ok(())
    }
}

static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn bind_and_unbind(kit: &mut Kit) -> Outcome {
    COUNT.store(0, Ordering::Relaxed);
    let thread = Helper::new(spin)
        .args([&raw const COUNT as u64])
        .priority(50)
        .start(kit)?;
    for _ in 0..3 {
        let before = count();
        kit.sleep(15_000)?;
        check!(count() > before);
        thread.sc.sched_context_unbind_object(thread.tcb)?;
        let before = count();
        kit.sleep(15_000)?;
        check_eq!(count(), before);
        thread.sc.sched_context_bind(thread.tcb)?;
    }
    let attempt = slot::SC.cap().sched_context_unbind();
    check_eq!(attempt, Err(Error::IllegalOperation));
    Ok(())
}

fn signalled(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let thread = Helper::new(wait_once).args([ntfn.bits()]).make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    thread.sc.sched_context_unbind()?;
    thread.sc.sched_context_bind(ntfn)?;
    kit.settle()?;
    check!(!thread.finished());
    kit.mint(ntfn, sel4::CapRights::all(), 5)?.signal();
    check_eq!(thread.join(kit)?, 5);
    Ok(())
}

fn hand_over_with_call(kit: &mut Kit) -> Outcome {
    // In the middle of its work, blocked or preempted.
    for gate in [true, false] {
        let domain = Domain::active(kit, if gate { 110 } else { 50 }, gate)?;
        let word = if gate { 0 } else { microseconds(10_000) };
        let client = domain.client(kit, word)?;
        domain.thread.tcb.tcb_resume()?;
        kit.sleep(2_000)?;
        domain.make_passive()?;
        domain.gate.signal();
        check_eq!(client.join(kit)?, word + 1);
        client.discard(kit)?;
        domain.works(kit)?;
        domain.thread.discard(kit)?;
    }
    Ok(())
}

fn hand_over_with_signal(kit: &mut Kit) -> Outcome {
    let domain = Domain::active(kit, 50, false)?;
    domain.ntfn.signal();
    domain.thread.tcb.tcb_resume()?;
    domain.make_passive()?;
    kit.settle()?;
    domain.works(kit)
}

fn plain_message(kit: &mut Kit) -> Outcome {
    let domain = Domain::waiting(kit, 110, false)?;
    for _ in 0..3 {
        let sender = Helper::new(send_once)
            .args([domain.endpoint.bits(), 0, 0])
            .start(kit)?;
        check_eq!(sender.join(kit)?, 1);
        sender.discard(kit)?;
    }
    domain.works(kit)
}

fn stop_and_start(kit: &mut Kit) -> Outcome {
    let domain = Domain::waiting(kit, 110, true)?;
    for in_call in [false, true] {
        let client = if in_call {
            Some(domain.client(kit, 0)?)
        } else {
            None
        };
        domain.thread.tcb.tcb_suspend()?;
        domain.thread.tcb.tcb_resume()?;
        kit.settle()?;
        if let Some(client) = client {
            domain.gate.signal();
            check_eq!(client.join(kit)?, 1);
            client.discard(kit)?;
        }
        domain.works(kit)?;
    }
    Ok(())
}

fn client_suspended(kit: &mut Kit) -> Outcome {
    let domain = Domain::waiting(kit, 110, true)?;
    let client = domain.client(kit, 5)?;
    client.tcb.tcb_suspend()?;
    // The server finishes with the client's time, and gives it back.
    domain.gate.signal();
    kit.settle()?;
    domain.works(kit)?;
    // The client makes its call again.
    client.tcb.tcb_resume()?;
    domain.gate.signal();
    check_eq!(client.join(kit)?, 6);
    domain.works(kit)
}

fn client_deleted(kit: &mut Kit) -> Outcome {
    let domain = Domain::waiting(kit, 110, true)?;
    for time_first in [true, false] {
        let client = domain.client(kit, 5)?;
        if time_first {
            kit.delete(client.sc)?;
            kit.delete(client.tcb)?;
        } else {
            kit.delete(client.tcb)?;
        }
        domain.gate.signal();
        kit.settle()?;
        domain.works(kit)?;
    }
    Ok(())
}

/// A server that calls another in the middle of each call. Words: endpoint, reply object, next endpoint.
fn relay(env: &Env) -> u64 {
    let [endpoint, reply, next, ..] = env.args;
    let mut got = sel4::arch::recv(partita_abi::syscall::RECV, endpoint, reply);
    loop {
        let info = MessageInfo::new(0, 0, 0, 1);
        let answer = if got.badge == 0 && MessageInfo::from_word(got.info).length() != 0 {
            cap::Endpoint::from_bits(next)
                .call_with_mrs(info, [got.words[0]])
                .msg[0]
        } else {
            0
        };
        let words = sel4::arch::message([answer]);
        got = sel4::arch::reply_recv(endpoint, info.into_word(), words, reply);
    }
}

fn chain_cut(kit: &mut Kit) -> Outcome {
    // client -> first -> last; one of the three is suspended and resumed, or deleted.
    for victim in 0..3 {
        for delete in [false, true] {
            let last = Domain::waiting(kit, 120, true)?;
            let (endpoint, reply, ntfn) = (kit.endpoint()?, kit.reply()?, kit.notification()?);
            let first = Helper::new(relay)
                .args([endpoint.bits(), reply.bits(), last.endpoint.bits()])
                .priority(110)
                .start(kit)?;
            first.tcb.tcb_bind_notification(ntfn)?;
            first.sc.sched_context_unbind()?;
            first.sc.sched_context_bind(ntfn)?;
            let client = Helper::new(call_once)
                .args([endpoint.bits(), 0, 30])
                .start(kit)?;
            check!(!client.finished());
            let thread = [client, first, last.thread][victim];
            if delete {
                kit.delete(thread.tcb)?;
            } else {
                thread.tcb.tcb_suspend()?;
                thread.tcb.tcb_resume()?;
            }
            last.gate.signal();
            kit.settle()?;
            if !(delete && victim == 2) {
                // Whoever was cut off may have made the call again.
                last.gate.signal();
                kit.settle()?;
                last.works(kit)?;
            }
            if !(delete && victim > 0) {
                last.gate.signal();
                kit.settle()?;
                let another = Helper::new(call_once)
                    .args([endpoint.bits(), 0, 40])
                    .start(kit)?;
                last.gate.signal();
                check_eq!(another.join(kit)?, 41);
            }
            if !delete && victim != 1 {
                check_eq!(client.join(kit)?, 31);
            }
            kit.clean_up()?;
        }
    }
    Ok(())
}

/// Calls, then spins. Words: endpoint, -, word.
fn call_and_spin(env: &Env) -> u64 {
    call_once(env);
    let mut quiet = *env;
    quiet.args = [0; 6];
    spin(&quiet)
}

fn parameters_while_lent(kit: &mut Kit) -> Outcome {
    let domain = Domain::waiting(kit, 110, true)?;
    let faults = kit.endpoint()?;
    let client = Helper::new(call_and_spin)
        .args([domain.endpoint.bits(), 0, microseconds(4_000)])
        .priority(101)
        .make(kit)?;
    client.tcb.tcb_set_timeout_endpoint(faults)?;
    client.tcb.tcb_resume()?;
    // Now the server has it, and waits. A tiny budget would not even let it finish.
    kit.configure(client.sc, 300, 1_000_000, 0x6a11)?;
    domain.gate.signal();
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::Timeout as u64);
    check_eq!(got.msg[0], 0x6a11);
    check!(got.msg[1] >= 4_000);
    client.tcb.tcb_suspend()?;
    domain.works(kit)
}

static TRACE: AtomicU64 = AtomicU64::new(0);

/// Leaves a trace. Words: mark.
fn mark(env: &Env) -> u64 {
    let old = TRACE.load(Ordering::Relaxed);
    TRACE.store(old << 4 | env.args[0], Ordering::Relaxed);
    0
}

/// Leaves a trace before and after it yields. Words: scheduling context.
fn yielder(env: &Env) -> u64 {
    let old = TRACE.load(Ordering::Relaxed);
    TRACE.store(old << 4 | 1, Ordering::Relaxed);
    let used = cap::SchedContext::from_bits(env.args[0]).sched_context_yield_to();
    let old = TRACE.load(Ordering::Relaxed);
    TRACE.store(old << 4 | 2, Ordering::Relaxed);
    used.unwrap_or(u64::MAX)
}

fn yield_to_order(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    let target = Helper::new(mark).args([0xa]).priority(50).make(kit)?;
    let one = Helper::new(yielder)
        .args([target.sc.bits()])
        .priority(50)
        .mcp(50)
        .make(kit)?;
    let other = Helper::new(mark).args([0xb]).priority(50).make(kit)?;
    for thread in [one, other, target] {
        thread.tcb.tcb_resume()?;
    }
    kit.settle()?;
    // Target, then the caller, then who was there before both.
    check_eq!(TRACE.load(Ordering::Relaxed), 0x1a2b);
    check!(one.join(kit)? != u64::MAX);
    Ok(())
}

/// Spins for a while. Words: ticks.
fn spin_for(env: &Env) -> u64 {
    let until = timebase() + env.args[0];
    while timebase() < until {}
    0
}

fn yield_to_consumed(kit: &mut Kit) -> Outcome {
    let target = Helper::new(spin_for)
        .args([microseconds(3_000)])
        .priority(50)
        .make(kit)?;
    let one = Helper::new(yielder)
        .args([target.sc.bits()])
        .priority(50)
        .mcp(50)
        .make(kit)?;
    one.tcb.tcb_resume()?;
    target.tcb.tcb_resume()?;
    let used = one.join(kit)?;
    if !(2_900..2_000_000).contains(&used) {
        fail!("{used} us");
    }
    // Reading resets.
    check!(target.sc.sched_context_consumed()? < used);
    Ok(())
}

fn yield_to_ends(kit: &mut Kit) -> Outcome {
    // The target is stopped, deleted, or loses its time, before it has done anything.
    for what in 0..4 {
        // Its turn is long enough for a machine under load.
        let target = Helper::new(spin)
            .args([0])
            .priority(50)
            .budget(3_000_000, 3_000_000)
            .make(kit)?;
        let one = Helper::new(yielder)
            .args([target.sc.bits()])
            .priority(50)
            .mcp(50)
            .make(kit)?;
        one.tcb.tcb_resume()?;
        target.tcb.tcb_resume()?;
        kit.sleep(30_000)?;
        check!(!one.finished());
        match what {
            0 => target.tcb.tcb_suspend()?,
            1 => kit.delete(target.tcb)?,
            2 => target.sc.sched_context_unbind()?,
            _ => kit.delete(target.sc)?,
        }
        let used = one.join(kit)?;
        check!(used != u64::MAX && used >= 1_000 || what == 3);
    }
    Ok(())
}

fn yield_to_bounded(kit: &mut Kit) -> Outcome {
    let target = Helper::new(wait_once)
        .args([kit.notification()?.bits()])
        .priority(60)
        .start(kit)?;
    for (mcp, allowed) in [(59, false), (60, true), (255, true)] {
        let one = Helper::new(yielder)
            .args([target.sc.bits()])
            .priority(50)
            .mcp(mcp)
            .start(kit)?;
        check_eq!(one.join(kit)? != u64::MAX, allowed);
    }
    let own = slot::SC.cap().sched_context_yield_to();
    check_eq!(own, Err(Error::IllegalOperation));
    Ok(())
}

fn consumed_lent(kit: &mut Kit) -> Outcome {
    let domain = Domain::waiting(kit, 110, false)?;
    domain.thread.sc.sched_context_consumed()?;
    let client = domain.client(kit, microseconds(3_000))?;
    client.join(kit)?;
    let used = client.sc.sched_context_consumed()?;
    if !(2_900..2_000_000).contains(&used) {
        fail!("{used} us");
    }
    check!(domain.thread.sc.sched_context_consumed()? < used);
    Ok(())
}

fn rest_for_others(kit: &mut Kit) -> Outcome {
    COUNT.store(0, Ordering::Relaxed);
    let greedy = Helper::new(spin)
        .args([0])
        .priority(90)
        .budget(6_000, 20_000)
        .make(kit)?;
    let modest = Helper::new(spin)
        .args([&raw const COUNT as u64])
        .priority(20)
        .start(kit)?;
    greedy.tcb.tcb_resume()?;
    greedy.sc.sched_context_consumed()?;
    modest.sc.sched_context_consumed()?;
    let start = timebase();
    kit.sleep(200_000)?;
    let elapsed = (timebase() - start) / microseconds(1);
    let greedy = greedy.sc.sched_context_consumed()?;
    let modest = modest.sc.sched_context_consumed()?;
    if greedy * 2 > elapsed || modest * 5 < elapsed || count() == 0 {
        fail!("{greedy} and {modest} of {elapsed} us");
    }
    Ok(())
}

fn deleted(kit: &mut Kit) -> Outcome {
    COUNT.store(0, Ordering::Relaxed);
    let thread = Helper::new(spin)
        .args([&raw const COUNT as u64])
        .priority(ROOT_PRIORITY - 1)
        .start(kit)?;
    kit.sleep(5_000)?;
    kit.delete(thread.sc)?;
    let before = count();
    kit.sleep(5_000)?;
    check_eq!(count(), before);
    let sc = kit.sched_context(2_000, 2_000)?;
    sc.sched_context_bind(thread.tcb)?;
    kit.sleep(5_000)?;
    check!(count() > before);
    Ok(())
}
