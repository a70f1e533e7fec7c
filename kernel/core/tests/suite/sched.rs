// SPDX-License-Identifier: BSD-2-Clause
//! Scheduling, budgets, timeouts, timers.

use crate::invariants::check;
use crate::mock::{Event, TICKS_PER_US};
use crate::rig::{Rig, Thread};
use partita_abi::{
    ErrorCode as E, FaultLabel, InvocationLabel as L, ObjectType, init_cnode, limits, syscall,
};
use partita_kernel_core::kernel::Kernel;
use partita_kernel_core::object::ThreadState as S;

const ROOT: u64 = init_cnode::CNODE as u64;
const TCB: u64 = init_cnode::TCB as u64;

/// Lets the root task wait for ever, so that others run.
fn step_aside(rig: &Rig) {
    let n = rig.make(ObjectType::Notification);
    rig.wait(rig.root, n);
}

fn runs(rig: &Rig, th: &Thread) -> bool {
    rig.current() == Some(th.t)
}

#[test]
fn sched0000_the_highest_priority_runs_and_equals_take_turns() {
    let rig = Rig::new();
    let low = rig.thread(10);
    let (a, b) = (rig.thread(20), rig.thread(20));
    step_aside(&rig);
    assert!(runs(&rig, &a));
    rig.syscall(a.t, syscall::YIELD, 0);
    assert!(runs(&rig, &b));
    rig.syscall(b.t, syscall::YIELD, 0);
    assert!(runs(&rig, &a));
    // Round robin when the budget is the period.
    rig.advance_us(10_001);
    assert!(runs(&rig, &b));
    rig.advance_us(10_000);
    assert!(runs(&rig, &a));
    check(&rig);
    // The lower one when both are gone.
    for t in [&a, &b] {
        rig.run_as(t.t);
        rig.message(t.t, L::TCBSuspend as u64, &[], &[]);
        rig.syscall(t.t, syscall::CALL, t.tcb);
    }
    assert!(runs(&rig, &low));
    check(&rig);
}

#[test]
fn sched0001_priorities_change_who_runs() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(20), rig.thread(30));
    let set = |th: &Thread, p: u64| {
        rig.ok(th.tcb, L::TCBSetPriority, &[p], &[TCB]);
        check(&rig);
    };
    set(&a, 40);
    set(&b, 5);
    assert_eq!(rig.core().ready_top.get(), 41);
    // The caller lowers itself below others.
    rig.message(rig.root, L::TCBSetPriority as u64, &[10], &[TCB]);
    rig.syscall(rig.root, syscall::CALL, TCB);
    assert!(runs(&rig, &a));
    check(&rig);
    // `a` faults, as slot 1 is no notification, and has no handler.
    rig.wait(a.t, TCB);
    assert_eq!(rig.current(), Some(rig.root));
    check(&rig);
}

#[test]
fn sched0002_a_budget_ends_and_comes_back() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(30), rig.thread(20));
    rig.configure_sc(a.sc, 2_000, 10_000);
    step_aside(&rig);
    assert!(runs(&rig, &a));
    rig.advance_us(1_999);
    assert!(runs(&rig, &a));
    rig.advance_us(2);
    assert!(runs(&rig, &b), "the budget is used up");
    check(&rig);
    let mut share = 0;
    for _ in 0..1000 {
        rig.advance_us(100);
        share += u64::from(runs(&rig, &a));
    }
    // A fifth of the time.
    assert!((190..=210).contains(&share), "{share} of 1000");
    check(&rig);
    // What was used is counted.
    rig.run_as(b.t);
    let consumed = rig
        .invoke_as(b.t, a.sc, L::SchedContextConsumed, &[], &[])
        .expect("consumed");
    assert!((19_000..=22_500).contains(&consumed[0]), "{consumed:?}");
    let again = rig.invoke_as(b.t, a.sc, L::SchedContextConsumed, &[], &[]);
    assert_eq!(again, Ok(vec![0]));
}

#[test]
fn sched0003_idle_until_the_budget_comes_back() {
    let rig = Rig::new();
    let a = rig.thread(30);
    rig.configure_sc(a.sc, 1_000, 10_000);
    step_aside(&rig);
    rig.advance_us(1_001);
    assert_eq!(rig.current(), None);
    check(&rig);
    assert!(rig.m.deadline.get() > rig.m.now.get(), "the timer is set");
    rig.advance_us(10_000);
    check(&rig);
    rig.advance_us(8_500);
    check(&rig);
    assert!(rig.sc(a.sc).consumed.get() >= 1_500 * TICKS_PER_US);
}

#[test]
fn sched0004_yield_gives_the_rest_of_the_budget_up() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(30), rig.thread(20));
    rig.configure_sc(a.sc, 5_000, 10_000);
    step_aside(&rig);
    rig.syscall(a.t, syscall::YIELD, 0);
    assert!(runs(&rig, &b));
    check(&rig);
    rig.advance_us(10_001);
    assert!(runs(&rig, &a));
}

#[test]
fn sched0005_timeout_faults() {
    let rig = Rig::new();
    let handler = rig.thread(40);
    let ep = rig.make(ObjectType::Endpoint);
    let a = rig.thread(30);
    rig.ok(
        rig.sched_control,
        L::SchedControlConfigureFlags,
        &[1_000, 10_000, 0, 0xbadbed, 0],
        &[a.sc],
    );
    rig.ok(a.tcb, L::TCBSetTimeoutEndpoint, &[], &[ep]);
    rig.recv(handler.t, ep, handler.reply);
    step_aside(&rig);
    assert!(runs(&rig, &a));
    rig.advance_us(1_001);
    assert!(runs(&rig, &handler));
    assert_eq!(rig.info(handler.t).label(), FaultLabel::Timeout as u64);
    assert_eq!(rig.mr(handler.t, 0), 0xbadbed);
    assert!((1_000..=1_002).contains(&rig.mr(handler.t, 1)));
    assert_eq!(rig.state(a.t), S::BlockedOnReply);
    // A timeout does not donate what is used up.
    assert!(rig.tcb(a.t).sched_context.get().is_some());
    check(&rig);
    rig.reply_recv(handler.t, ep, handler.reply, &[]);
    assert_eq!(rig.current(), None, "no budget yet");
    check(&rig);
    rig.advance_us(9_000);
    assert!(runs(&rig, &a));
    check(&rig);
}

#[test]
fn sched0006_a_server_overruns_by_the_grace_only() {
    let grace = limits::DONATION_GRACE_US as u64;
    for with_handler in [false, true] {
        let rig = Rig::new();
        let ep = rig.make(ObjectType::Endpoint);
        let server = rig.passive_server(200, ep);
        let client = rig.thread(100);
        rig.configure_sc(client.sc, 1_000, 100_000);
        if with_handler {
            let timeout = rig.make(ObjectType::Endpoint);
            rig.ok(server.tcb, L::TCBSetTimeoutEndpoint, &[], &[timeout]);
        }
        rig.call_ep(client.t, ep, &[]);
        step_aside(&rig);
        assert!(runs(&rig, &server));
        rig.advance_us(1_100);
        if with_handler {
            assert_eq!(rig.state(server.t), S::BlockedOnSend, "it faults at once");
            check(&rig);
            continue;
        }
        assert!(runs(&rig, &server), "the grace");
        rig.advance_us(grace - 500);
        assert!(runs(&rig, &server));
        check(&rig);
        rig.advance_us(1_000);
        assert_eq!(rig.current(), None, "the grace is over");
        check(&rig);
        // The overrun is charged: the server goes on when enough periods have passed.
        rig.advance_us(12 * 100_000);
        assert!(rig.sc(client.sc).remaining.get() > -(grace as i64) * TICKS_PER_US as i64);
        check(&rig);
    }
}

/// Time that is charged after a round-robin context has begun to wait (the machine was held up on its way to
/// another thread) may be more than a turn: it waits for that, too, and then goes on.
#[test]
fn sched0006_a_debt_of_more_than_a_turn_is_paid() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let server = rig.passive_server(200, ep);
    let client = rig.thread(100);
    rig.configure_sc(client.sc, 10_000, 10_000);
    rig.call_ep(client.t, ep, &[]);
    step_aside(&rig);
    assert!(runs(&rig, &server));
    rig.advance_us(10_000 + limits::DONATION_GRACE_US as u64 + 1_000);
    assert_eq!(rig.current(), None, "the grace is over");
    let sc = rig.sc(client.sc);
    assert_eq!(sc.in_release_queue.get(), 1);
    sc.remaining.set(-19_000 * TICKS_PER_US as i64);
    rig.advance_us(12_000);
    assert_eq!(rig.current(), None, "it still owes most of a turn");
    check(&rig);
    rig.advance_us(10_000);
    assert!(runs(&rig, &server), "it does not wait for ever");
    check(&rig);
    // As much as it owes has to pass, not more, however many turns that is.
    rig.advance_us(10_000 + limits::DONATION_GRACE_US as u64 + 1_000);
    assert_eq!(rig.current(), None);
    sc.remaining.set(-300_000 * TICKS_PER_US as i64);
    rig.advance_us(290_000);
    assert_eq!(rig.current(), None);
    rig.advance_us(15_000);
    assert!(runs(&rig, &server), "it waits for what it owes once");
    check(&rig);
}

#[test]
fn sched0007_an_answer_within_the_grace_leaves_the_client_in_debt() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let server = rig.passive_server(200, ep);
    let client = rig.thread(100);
    rig.configure_sc(client.sc, 1_000, 10_000);
    rig.call_ep(client.t, ep, &[]);
    step_aside(&rig);
    rig.advance_us(3_000);
    assert!(runs(&rig, &server));
    rig.reply_recv(server.t, ep, server.reply, &[]);
    check(&rig);
    rig.advance_us(1);
    // Its own budget is used up: no grace for a thread on its own time.
    rig.advance_us(500);
    assert_eq!(rig.current(), None);
    check(&rig);
    // Three periods' worth was used.
    rig.advance_us(15_000);
    assert_eq!(rig.current(), None);
    rig.advance_us(20_000);
    check(&rig);
    assert!(rig.sc(client.sc).consumed.get() > 3_000 * TICKS_PER_US);
}

#[test]
fn schedcontext0001_control_misuse() {
    let rig = Rig::new();
    let sc = rig.make(ObjectType::SchedContext);
    let good = [1_000, 10_000, 0, 0, 0];
    let refused = |args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(
            rig.sched_control,
            L::SchedControlConfigureFlags,
            args,
            caps,
            e,
            d,
        );
    };
    let with = |i: usize, v: u64| {
        let mut a = good;
        a[i] = v;
        a
    };
    for n in 0..5 {
        refused(&good[..n], &[sc], E::TruncatedMessage, &[]);
    }
    refused(&good, &[], E::TruncatedMessage, &[]);
    refused(&good, &[ROOT], E::InvalidCapability, &[1]);
    let (least, most) = (limits::MIN_BUDGET_US as u64, 3_600_000_000);
    refused(&with(0, least - 1), &[sc], E::RangeError, &[least, most]);
    refused(&with(0, u64::MAX), &[sc], E::RangeError, &[least, most]);
    refused(&with(1, 999), &[sc], E::RangeError, &[1_000, most]);
    refused(&with(1, most + 1), &[sc], E::RangeError, &[1_000, most]);
    refused(&with(2, 255), &[sc], E::RangeError, &[0, 254]);
    check(&rig);
}

#[test]
fn schedcontext0002_binding_misuse() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(50), rig.passive_thread(50));
    let (n, m) = (
        rig.make(ObjectType::Notification),
        rig.make(ObjectType::Notification),
    );
    let illegal = E::IllegalOperation;
    let refused = |sc: u64, label: L, caps: &[u64], e: E, d: &[u64]| {
        rig.refused(sc, label, &[], caps, e, d);
    };
    for label in [L::SchedContextBind, L::SchedContextUnbindObject] {
        refused(b.sc, label, &[], E::TruncatedMessage, &[]);
        refused(b.sc, label, &[ROOT], E::InvalidCapability, &[1]);
    }
    refused(a.sc, L::SchedContextBind, &[b.tcb], illegal, &[]);
    refused(b.sc, L::SchedContextBind, &[a.tcb], illegal, &[]);
    rig.ok(b.sc, L::SchedContextBind, &[], &[n]);
    refused(b.sc, L::SchedContextBind, &[m], illegal, &[]);
    refused(b.sc, L::SchedContextBind, &[b.tcb], illegal, &[]);
    let other = rig.make(ObjectType::SchedContext);
    refused(other, L::SchedContextBind, &[n], illegal, &[]);
    refused(b.sc, L::SchedContextUnbindObject, &[m], illegal, &[]);
    refused(a.sc, L::SchedContextUnbindObject, &[b.tcb], illegal, &[]);
    rig.ok(b.sc, L::SchedContextUnbindObject, &[], &[n]);
    rig.ok(a.sc, L::SchedContextUnbindObject, &[], &[a.tcb]);
    assert!(!rig.can_run(a.t));
    check(&rig);
    // The running thread keeps its own.
    let mine = init_cnode::SCHED_CONTEXT as u64;
    refused(mine, L::SchedContextUnbind, &[], illegal, &[]);
    refused(mine, L::SchedContextUnbindObject, &[TCB], illegal, &[]);
    // Yield to nobody, to itself, to a thread above the own maximum.
    refused(other, L::SchedContextYieldTo, &[], illegal, &[]);
    refused(mine, L::SchedContextYieldTo, &[], illegal, &[]);
    let c = rig.thread(200);
    rig.ok(TCB, L::TCBSetMCPriority, &[100], &[TCB]);
    refused(c.sc, L::SchedContextYieldTo, &[], illegal, &[]);
    check(&rig);
}

#[test]
fn schedcontext0003_yield_to_lets_an_equal_run_first() {
    let rig = Rig::new();
    let threads = [rig.thread(50), rig.thread(50), rig.thread(50)];
    step_aside(&rig);
    assert!(runs(&rig, &threads[0]));
    let t = threads[0].t;
    rig.message(t, L::SchedContextYieldTo as u64, &[], &[]);
    rig.syscall(t, syscall::CALL, threads[2].sc);
    assert!(runs(&rig, &threads[2]));
    check(&rig);
    rig.advance_us(70);
    rig.syscall(threads[2].t, syscall::YIELD, 0);
    // Right behind the target comes the caller, and learns what the target used.
    assert!(runs(&rig, &threads[0]));
    assert_eq!(rig.answer(t), Ok(vec![70]));
    check(&rig);
    rig.syscall(t, syscall::YIELD, 0);
    assert!(runs(&rig, &threads[1]));
    check(&rig);
}

#[test]
fn schedcontext0004_deleted_and_moved_under_its_thread() {
    let rig = Rig::new();
    let a = rig.thread(50);
    step_aside(&rig);
    assert!(runs(&rig, &a));
    // It deletes its own scheduling context.
    rig.message(a.t, L::CNodeDelete as u64, &[a.sc, 64], &[]);
    rig.syscall(a.t, syscall::CALL, ROOT);
    assert_eq!(rig.current(), None);
    check(&rig);
}

#[test]
fn schedcontext0005_another_core_takes_the_thread() {
    let rig = Rig::new();
    let a = rig.thread(50);
    rig.ok(
        rig.sched_control + 1,
        L::SchedControlConfigureFlags,
        &[1_000, 1_000, 0, 0, 0],
        &[a.sc],
    );
    assert_eq!(rig.tcb(a.t).core.get(), 1);
    assert!(rig.m.log.borrow().contains(&Event::Kick(1)));
    assert!(!rig.m.global().cores[1].ready_head[50].is_none());
    check(&rig);
    rig.ok(a.tcb, L::TCBSuspend, &[], &[]);
    assert!(rig.m.global().cores[1].ready_head[50].is_none());
    check(&rig);
}

#[test]
fn schedcontext0006_a_running_thread_moves_itself_to_another_core() {
    let rig = Rig::new();
    let a = rig.thread(50);
    step_aside(&rig);
    let words = [1_000, 1_000, 0, 0, 0];
    rig.message(a.t, L::SchedControlConfigureFlags as u64, &words, &[a.sc]);
    rig.syscall(a.t, syscall::CALL, rig.sched_control + 1);
    assert_eq!(rig.current(), None);
    assert_eq!(rig.answer(a.t), Ok(vec![]));
    check(&rig);
    // Core 1 takes it at its doorbell.
    assert!(rig.m.log.borrow().contains(&Event::Kick(1)));
    let g = rig.m.global();
    Kernel::new(&*rig.m, g, &g.cores[1]).finish();
    assert!(g.cores[1].current.is(a.t));
    assert_eq!(rig.tcb(a.t).queued.get(), 0);
}

#[test]
fn timers_fire_in_order_and_end() {
    let rig = Rig::new();
    let n = rig.make(ObjectType::Notification);
    let timers = [rig.make(ObjectType::Timer), rig.make(ObjectType::Timer)];
    for (i, timer) in timers.iter().enumerate() {
        let signal = rig.mint(n, 1, 1 << i);
        rig.ok(*timer, L::TimerSetNotification, &[], &[signal]);
        // The kernel's copy is the timer's own.
        rig.delete(signal);
    }
    let poll = || {
        rig.syscall(rig.root, syscall::NB_WAIT, n);
        rig.badge(rig.root)
    };
    let at = |us: u64| rig.m.now.get() + us * TICKS_PER_US;
    rig.ok(timers[0], L::TimerSet, &[at(500)], &[]);
    rig.ok(timers[1], L::TimerSet, &[at(200)], &[]);
    check(&rig);
    assert_eq!(poll(), 0);
    rig.advance_us(300);
    assert_eq!(poll(), 2);
    rig.advance_us(300);
    assert_eq!(poll(), 1);
    // Set again before it fires: the later deadline counts. Cancelled: none does.
    rig.ok(timers[0], L::TimerSet, &[at(100)], &[]);
    rig.ok(timers[0], L::TimerSet, &[at(900)], &[]);
    rig.ok(timers[1], L::TimerSet, &[at(100)], &[]);
    rig.ok(timers[1], L::TimerCancel, &[], &[]);
    rig.advance_us(200);
    assert_eq!(poll(), 0);
    // A deadline that has passed fires at once.
    rig.ok(timers[1], L::TimerSet, &[0], &[]);
    rig.advance_us(1);
    assert_eq!(poll(), 2);
    rig.delete(timers[0]);
    rig.advance_us(1_000);
    assert_eq!(poll(), 0);
    check(&rig);
    rig.ok(timers[1], L::TimerSet, &[at(100)], &[]);
    rig.revoke(n);
    rig.advance_us(1_000);
    assert_eq!(poll(), 0, "its capability was revoked");
    check(&rig);
    let truncated = E::TruncatedMessage;
    rig.refused(timers[1], L::TimerSet, &[], &[], truncated, &[]);
    rig.refused(timers[1], L::TimerSetNotification, &[], &[], truncated, &[]);
    rig.refused(
        timers[1],
        L::TimerSetNotification,
        &[],
        &[ROOT],
        E::InvalidCapability,
        &[1],
    );
    let weak = rig.mint(n, 2, 0);
    rig.refused(
        timers[1],
        L::TimerSetNotification,
        &[],
        &[weak],
        E::InvalidCapability,
        &[1],
    );
}
