// SPDX-License-Identifier: BSD-2-Clause
//! To whom time belongs: loans and their end, overruns, parameters that change meanwhile, YieldTo, and that
//! nobody is left without the time that should be his.

use crate::invariants::check;
use crate::mock::TICKS_PER_US;
use crate::rig::{EMPTY, Rig, Thread, cases};
use partita_abi::{FaultLabel, InvocationLabel as L, ObjectType, init_cnode, limits, syscall};
use partita_kernel_core::object::ThreadState as S;
use proptest::prelude::*;

const ROOT: u64 = init_cnode::CNODE as u64;
const GRACE: u64 = limits::DONATION_GRACE_US as u64;

fn has(rig: &Rig, th: &Thread, whose: &Thread) -> bool {
    rig.tcb(th.t).sched_context.get().map(|sc| sc.addr()) == Some(rig.addr(whose.sc))
}

fn passive(rig: &Rig, th: &Thread) -> bool {
    rig.tcb(th.t).sched_context.is_none()
}

/// A thread as Microkit makes a passive domain: active so far, with a notification bound to it that will get
/// its scheduling context.
struct Domain {
    th: Thread,
    ep: u64,
    ntfn: u64,
}

impl Domain {
    fn new(rig: &Rig, priority: u64) -> Domain {
        let th = rig.thread(priority);
        let (ep, ntfn) = (
            rig.make(ObjectType::Endpoint),
            rig.make(ObjectType::Notification),
        );
        rig.ok(th.tcb, L::TCBBindNotification, &[], &[ntfn]);
        Domain { th, ep, ntfn }
    }

    /// What the monitor does when the domain has asked for it.
    fn make_passive(&self, rig: &Rig) {
        rig.ok(self.th.sc, L::SchedContextUnbind, &[], &[]);
        rig.ok(self.th.sc, L::SchedContextBind, &[], &[self.ntfn]);
        check(rig);
    }

    /// One that is passive and waits.
    fn waiting(rig: &Rig, priority: u64) -> Domain {
        let d = Domain::new(rig, priority);
        d.receive(rig);
        d.make_passive(rig);
        assert!(passive(rig, &d.th));
        d
    }

    fn receive(&self, rig: &Rig) {
        rig.recv(self.th.t, self.ep, self.th.reply);
    }

    fn answer(&self, rig: &Rig, word: u64) {
        rig.reply_recv(self.th.t, self.ep, self.th.reply, &[word]);
        check(rig);
    }

    /// It serves a new client on that one's time, and a signal on its own.
    fn works(&self, rig: &Rig) {
        let client = rig.thread(20);
        rig.call_ep(client.t, self.ep, &[7]);
        assert!(has(rig, &self.th, &client));
        self.answer(rig, 8);
        assert!(has(rig, &client, &client) && passive(rig, &self.th));
        assert_eq!(rig.mr(client.t, 0), 8);
        rig.ok(client.tcb, L::TCBSuspend, &[], &[]);
        rig.nb_send(rig.root, self.ntfn, &[]);
        assert!(has(rig, &self.th, &self.th) && rig.can_run(self.th.t));
        self.receive(rig);
        assert!(passive(rig, &self.th));
        check(rig);
    }
}

#[test]
fn passive_hand_over_with_a_call_in_hand() {
    let rig = Rig::new();
    let d = Domain::new(&rig, 200);
    let client = rig.thread(100);
    // The call is queued before the domain has finished its init, and taken with its first receive.
    rig.call_ep(client.t, d.ep, &[5]);
    d.receive(&rig);
    assert_eq!(rig.mr(d.th.t, 0), 5);
    // The monitor takes its time away in the middle of its work: it goes on with that of the notification.
    d.make_passive(&rig);
    assert!(has(&rig, &d.th, &d.th) && rig.can_run(d.th.t));
    d.answer(&rig, 6);
    assert_eq!(rig.mr(client.t, 0), 6);
    assert!(passive(&rig, &d.th));
    d.works(&rig);
}

#[test]
fn passive_hand_over_with_a_signal_pending() {
    let rig = Rig::new();
    let d = Domain::new(&rig, 200);
    rig.nb_send(rig.root, d.ntfn, &[]);
    d.receive(&rig);
    assert_eq!(rig.tcb(d.th.t).blocked_on.get(), 0);
    d.make_passive(&rig);
    assert!(rig.can_run(d.th.t));
    d.receive(&rig);
    assert!(passive(&rig, &d.th));
    d.works(&rig);
}

#[test]
fn a_restarted_passive_domain_is_handed_over_again() {
    let rig = Rig::new();
    let d = Domain::waiting(&rig, 200);
    rig.ok(d.th.tcb, L::TCBWriteRegisters, &[1, 1, 0x20_0000], &[]);
    check(&rig);
    assert!(has(&rig, &d.th, &d.th) && rig.can_run(d.th.t));
    d.make_passive(&rig);
    assert!(rig.can_run(d.th.t));
    d.receive(&rig);
    assert!(passive(&rig, &d.th));
    d.works(&rig);
}

#[test]
fn a_message_without_time_is_served_on_the_notifications() {
    let rig = Rig::new();
    let d = Domain::waiting(&rig, 200);
    let client = rig.thread(100);
    // Waiting already, and finding it in the queue.
    for queued in [false, true] {
        if queued {
            rig.nb_send(rig.root, d.ntfn, &[]);
        }
        rig.send(client.t, d.ep, &[3]);
        if queued {
            assert_eq!(rig.state(client.t), S::BlockedOnSend);
            d.receive(&rig);
        }
        assert_eq!(rig.mr(d.th.t, 0), 3);
        assert!(has(&rig, &d.th, &d.th) && rig.can_run(d.th.t));
        check(&rig);
        d.receive(&rig);
        assert!(passive(&rig, &d.th));
    }
    d.works(&rig);
}

#[test]
fn a_passive_domain_can_be_stopped_and_started() {
    let rig = Rig::new();
    let d = Domain::waiting(&rig, 200);
    for with_client in [false, true] {
        let client = rig.thread(100);
        if with_client {
            rig.call_ep(client.t, d.ep, &[1]);
        }
        rig.ok(d.th.tcb, L::TCBSuspend, &[], &[]);
        check(&rig);
        rig.ok(d.th.tcb, L::TCBResume, &[], &[]);
        check(&rig);
        assert!(rig.can_run(d.th.t));
        if with_client {
            d.answer(&rig, 2);
            assert_eq!(rig.mr(client.t, 0), 2);
        } else {
            d.receive(&rig);
        }
        d.works(&rig);
        rig.ok(client.tcb, L::TCBSuspend, &[], &[]);
    }
}

#[test]
fn time_given_with_a_plain_message_stays() {
    let rig = Rig::new();
    let [ep, back] = [(); 2].map(|()| rig.make(ObjectType::Endpoint));
    let server = rig.passive_server(150, ep);
    let a = rig.thread(100);
    rig.message(a.t, 0, &[1], &[]);
    rig.set_gpr(a.t, 15, ep);
    rig.set_gpr(a.t, 14, a.reply);
    rig.syscall(a.t, syscall::NB_SEND_RECV, back);
    assert!(has(&rig, &server, &a));
    rig.recv(server.t, ep, server.reply);
    assert!(has(&rig, &server, &a), "as in seL4");
    check(&rig);
    // A server that passes on what a client lent it does not make it the other's.
    let client = rig.thread(90);
    let front = rig.make(ObjectType::Endpoint);
    let middle = rig.passive_server(120, front);
    let last = rig.passive_server(130, back);
    rig.call_ep(client.t, front, &[]);
    rig.message(middle.t, 0, &[1], &[]);
    rig.set_gpr(middle.t, 15, back);
    let other = rig.make(ObjectType::Reply);
    rig.set_gpr(middle.t, 14, other);
    rig.syscall(middle.t, syscall::NB_SEND_RECV, front);
    assert!(has(&rig, &last, &client));
    check(&rig);
    rig.ok(client.tcb, L::TCBSuspend, &[], &[]);
    check(&rig);
    rig.recv(last.t, back, last.reply);
    assert!(has(&rig, &client, &client));
    check(&rig);
}

/// What is done to a member of a chain of calls.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Suspend,
    DeleteThread,
    DeleteReply,
    RevokeReply,
    DeleteTime,
    UnbindTime,
}

proptest! {
    #![proptest_config(cases(60))]

    /// client -> d0 -> d1 -> ..., all on the client's time. A member is stopped, deleted or cut off; those that
    /// still run finish, in any order. Afterwards all that are left serve others, and the client has its time.
    #[test]
    fn a_chain_of_calls_cut_anywhere(
        length in 1usize..5,
        at in 0usize..6,
        blow in prop_oneof![
            Just(Blow::Suspend), Just(Blow::DeleteThread), Just(Blow::DeleteReply),
            Just(Blow::RevokeReply), Just(Blow::DeleteTime), Just(Blow::UnbindTime),
        ],
        resume in any::<bool>(),
        order in proptest::collection::vec(0usize..5, 12),
    ) {
        let rig = Rig::new();
        let domains: Vec<Domain> = (0..length).map(|i| Domain::waiting(&rig, 150 + i as u64)).collect();
        let client = rig.thread(100);
        rig.call_ep(client.t, domains[0].ep, &[]);
        for i in 1..length {
            rig.call_ep(domains[i - 1].th.t, domains[i].ep, &[]);
        }
        prop_assert!(has(&rig, &domains[length - 1].th, &client));
        check(&rig);
        // Member 0 is the client.
        let at = at % (length + 1);
        let victim = if at == 0 { client } else { domains[at - 1].th };
        let mut gone = Vec::new();
        let mut time_gone = false;
        match blow {
            Blow::Suspend => drop(rig.ok(victim.tcb, L::TCBSuspend, &[], &[])),
            Blow::DeleteThread => {
                rig.delete(victim.tcb);
                gone.push(at);
            }
            Blow::DeleteReply => {
                rig.delete(victim.reply);
                gone.push(at);
            }
            Blow::RevokeReply => rig.revoke(victim.reply),
            Blow::DeleteTime => {
                rig.delete(client.sc);
                time_gone = true;
            }
            Blow::UnbindTime => {
                rig.ok(client.sc, L::SchedContextUnbind, &[], &[]);
                time_gone = true;
            }
        }
        check(&rig);
        if resume && matches!(blow, Blow::Suspend) {
            rig.ok(victim.tcb, L::TCBResume, &[], &[]);
            check(&rig);
        }
        // Those that can go on do, in some order; in the end all that were called have answered.
        for i in order.into_iter().chain((0..length).rev()) {
            let Some(d) = domains.get(i % length) else { continue };
            if !rig.can_run(d.th.t) || matches!(blow, Blow::DeleteThread) && i % length + 1 == at {
                continue;
            }
            if gone.contains(&(i % length + 1)) {
                // It has nothing to answer with.
                rig.recv(d.th.t, d.ep, EMPTY);
                check(&rig);
            } else {
                d.answer(&rig, 1);
            }
        }
        // Who was stopped in a call or for want of an answer makes it again: here, receives.
        for (i, d) in domains.iter().enumerate() {
            if gone.contains(&(i + 1)) {
                continue;
            }
            rig.ok(d.th.tcb, L::TCBSuspend, &[], &[]);
            check(&rig);
            rig.ok(d.th.tcb, L::TCBResume, &[], &[]);
            check(&rig);
            prop_assert!(rig.can_run(d.th.t), "domain {} has no time", i);
            d.receive(&rig);
            check(&rig);
            prop_assert!(passive(&rig, &d.th));
        }
        for (i, d) in domains.iter().enumerate() {
            if !gone.contains(&(i + 1)) {
                d.works(&rig);
            }
        }
        let client_left = !(at == 0 && matches!(blow, Blow::DeleteThread));
        if client_left && !time_gone {
            rig.ok(client.tcb, L::TCBSuspend, &[], &[]);
            rig.ok(client.tcb, L::TCBResume, &[], &[]);
            prop_assert!(has(&rig, &client, &client) && rig.can_run(client.t));
        }
        rig.revoke(rig.untyped);
        check(&rig);
    }

    /// Threads of a better priority with budgets leave the rest of the time to others, whatever they do, and
    /// those of one priority share it.
    #[test]
    fn nobody_starves_by_others_budgets(
        budgets in proptest::collection::vec((1u64..6, 20u64..40), 1..4),
        yields in any::<bool>(),
    ) {
        let rig = Rig::new();
        let mut share = 1.0;
        for (budget, period) in &budgets {
            let th = rig.thread(100);
            rig.configure_sc(th.sc, budget * 1_000, period * 1_000);
            share -= *budget as f64 / *period as f64;
        }
        let equals = [rig.thread(50), rig.thread(50)];
        let n = rig.make(ObjectType::Notification);
        rig.wait(rig.root, n);
        let total = 600_000;
        for _ in 0..total / 100 {
            rig.advance_us(100);
            if yields && rig.current() == Some(equals[0].t) && rig.m.now.get().is_multiple_of(7) {
                rig.syscall(equals[0].t, syscall::YIELD, 0);
            }
        }
        check(&rig);
        let used = |th: &Thread| rig.sc(th.sc).consumed.get() as f64 / TICKS_PER_US as f64;
        let (a, b) = (used(&equals[0]), used(&equals[1]));
        let rest = share * total as f64;
        prop_assert!(a + b > 0.85 * rest, "{a} and {b} of {rest}");
        if !yields {
            prop_assert!(a < 1.5 * b && b < 1.5 * a, "{a} and {b}");
        }
    }

    /// Used is never more than the budget in each period, but for what was overrun on lent time; and that is
    /// paid back.
    #[test]
    fn overruns_are_paid_for(
        budget in 1u64..20,
        rest in 0u64..20,
        work in proptest::collection::vec(1u64..30, 3..20),
    ) {
        let rig = Rig::new();
        let d = Domain::waiting(&rig, 200);
        let client = rig.thread(100);
        rig.configure_sc(client.sc, budget * 1_000, (budget + rest) * 1_000);
        let idle = rig.thread(1);
        let n = rig.make(ObjectType::Notification);
        rig.wait(rig.root, n);
        let start = rig.m.now.get();
        for ms in work {
            // The client calls as soon as it can; the server works for so long.
            let mut patience = 0;
            while rig.current() != Some(client.t) {
                rig.advance_us(100);
                patience += 1;
                prop_assert!(patience < 20_000, "the client never runs again");
            }
            rig.call_ep(client.t, d.ep, &[]);
            let mut left = ms * 1_000;
            patience = 0;
            while left > 0 {
                let runs = rig.current() == Some(d.th.t);
                rig.advance_us(100);
                if runs {
                    left -= 100;
                }
                patience += 1;
                prop_assert!(patience < 40_000, "the server never runs again");
            }
            if rig.current() == Some(d.th.t) {
                d.answer(&rig, 0);
            } else {
                while rig.current() != Some(d.th.t) {
                    rig.advance_us(100);
                }
                d.answer(&rig, 0);
            }
        }
        let elapsed = (rig.m.now.get() - start) / TICKS_PER_US;
        let used = rig.sc(client.sc).consumed.get() / TICKS_PER_US;
        let allowed = (elapsed / ((budget + rest) * 1_000) + 2) * budget * 1_000 + GRACE + 1_000;
        prop_assert!(used <= allowed, "used {used} of {allowed} in {elapsed}");
        prop_assert!(rig.sc(idle.sc).period.get() != 0);
        check(&rig);
    }
}

#[test]
fn an_overrun_of_round_robin_time_is_waited_for() {
    let rig = Rig::new();
    let d = Domain::waiting(&rig, 200);
    let client = rig.thread(100);
    rig.configure_sc(client.sc, 50_000, 50_000);
    let low = rig.thread(50);
    let configure = |us: u64| {
        let label = L::SchedControlConfigureFlags;
        let words = [us, us, 0, 0, 0];
        let answer = rig.invoke_as(client.t, rig.sched_control, label, &words, &[client.sc]);
        assert_eq!(answer, Ok(vec![]));
    };
    let n = rig.make(ObjectType::Notification);
    rig.wait(rig.root, n);
    // The server works beyond the client's turn, and answers within the grace.
    rig.call_ep(client.t, d.ep, &[]);
    rig.advance_us(50_000 + 4_000);
    assert_eq!(rig.current(), Some(d.th.t));
    d.answer(&rig, 0);
    rig.advance_us(1);
    assert_eq!(rig.current(), Some(client.t), "it keeps its place");
    let left = rig.sc(client.sc).remaining.get() / TICKS_PER_US as i64;
    assert!(
        (45_900..=46_000).contains(&left),
        "its next turn is shorter: {left}"
    );
    // Overrun by more than a turn: as much has to pass.
    configure(2_000);
    rig.call_ep(client.t, d.ep, &[]);
    rig.advance_us(2_000 + 4_000);
    d.answer(&rig, 0);
    rig.advance_us(1);
    assert_eq!(rig.current(), Some(low.t), "its time is overrun");
    rig.advance_us(3_900);
    assert_eq!(rig.current(), Some(low.t));
    rig.advance_us(200);
    assert_eq!(rig.current(), Some(client.t));
    check(&rig);
    configure(50_000);
    // Beyond the grace: the server waits as long as it overran, then goes on.
    rig.call_ep(client.t, d.ep, &[]);
    rig.advance_us(50_000 + GRACE + 100);
    assert_eq!(rig.current(), Some(low.t));
    assert_eq!(rig.state(d.th.t), S::Running);
    rig.advance_us(GRACE - 1_000);
    assert_eq!(rig.current(), Some(low.t));
    rig.advance_us(1_000);
    assert_eq!(rig.current(), Some(d.th.t));
    check(&rig);
    // An own turn that took too long is just over.
    d.answer(&rig, 0);
    rig.advance_us(200_000);
    assert_eq!(rig.current(), Some(client.t));
    check(&rig);
}

/// Else a server that yields now and then would have as much time of others as its grace is longer than a turn.
#[test]
fn a_yield_forgives_no_overrun() {
    let rig = Rig::new();
    let d = Domain::waiting(&rig, 200);
    let client = rig.thread(100);
    rig.configure_sc(client.sc, 2_000, 2_000);
    let low = rig.thread(50);
    let n = rig.make(ObjectType::Notification);
    rig.wait(rig.root, n);
    rig.call_ep(client.t, d.ep, &[]);
    rig.advance_us(2_000 + 4_000);
    assert_eq!(rig.current(), Some(d.th.t));
    rig.syscall(d.th.t, syscall::YIELD, 0);
    assert_eq!(rig.current(), Some(low.t), "its time is overrun");
    rig.advance_us(3_900);
    assert_eq!(rig.current(), Some(low.t));
    check(&rig);
    rig.advance_us(200);
    assert_eq!(rig.current(), Some(d.th.t));
    // Without a debt it is but the end of the turn.
    rig.advance_us(500);
    rig.syscall(d.th.t, syscall::YIELD, 0);
    assert_eq!(rig.current(), Some(d.th.t), "nobody of its priority waits");
    assert_eq!(
        rig.sc(client.sc).remaining.get(),
        2_000 * TICKS_PER_US as i64
    );
    check(&rig);
}

/// A server whose caller gave up finishes on the caller's time; if it faults and its handler goes, it has nothing to do.
#[test]
fn a_fault_without_a_handler_any_more_gives_time_back() {
    let rig = Rig::new();
    let [ep, handler] = [(); 2].map(|()| rig.make(ObjectType::Endpoint));
    let server = rig.passive_server(200, ep);
    let caps = [handler, ROOT, init_cnode::VSPACE as u64];
    rig.ok(server.tcb, L::TCBSetSpace, &[0, 0], &caps);
    let client = rig.thread(100);
    rig.call_ep(client.t, ep, &[]);
    rig.ok(client.tcb, L::TCBSuspend, &[], &[]);
    assert!(has(&rig, &server, &client));
    rig.run_as(server.t);
    let k = rig.k();
    k.fault(FaultLabel::VMFault, &[0, 0, 0, 0]);
    k.finish();
    assert_eq!(rig.state(server.t), S::BlockedOnSend);
    rig.revoke(handler);
    rig.delete(handler);
    assert_eq!(rig.state(server.t), S::Inactive);
    check(&rig);
    assert!(has(&rig, &client, &client));
}

#[test]
fn the_grace_survives_a_preemption() {
    let rig = Rig::new();
    let d = Domain::waiting(&rig, 200);
    let client = rig.thread(100);
    rig.configure_sc(client.sc, 1_000, 100_000);
    let high = rig.thread(220);
    let n = rig.make(ObjectType::Notification);
    rig.wait(high.t, n);
    rig.wait(rig.root, rig.make(ObjectType::Notification));
    rig.call_ep(client.t, d.ep, &[]);
    rig.advance_us(3_000);
    assert_eq!(rig.current(), Some(d.th.t));
    rig.nb_send(d.th.t, n, &[]);
    assert_eq!(rig.current(), Some(high.t));
    rig.wait(high.t, n);
    assert_eq!(rig.current(), Some(d.th.t), "it has grace left");
    rig.advance_us(GRACE);
    assert_eq!(rig.current(), None);
    check(&rig);
}

#[test]
fn parameters_of_lent_time_count_when_it_is_back() {
    let rig = Rig::new();
    let (first, second) = (Domain::waiting(&rig, 200), Domain::waiting(&rig, 210));
    let client = rig.thread(100);
    rig.call_ep(client.t, first.ep, &[]);
    rig.call_ep(first.th.t, second.ep, &[]);
    let sc = rig.sc(client.sc);
    let old = sc.budget.get();
    let words = [1_000, 8_000, 0, 0xabc, 0];
    let configure = L::SchedControlConfigureFlags;
    // To another core even: the servers stay where they are.
    rig.ok(rig.sched_control + 1, configure, &words, &[client.sc]);
    assert_eq!((sc.budget.get(), sc.core.get()), (old, 0));
    check(&rig);
    second.answer(&rig, 1);
    assert_eq!(rig.tcb(second.th.t).core.get(), 0);
    assert_eq!(sc.budget.get(), old);
    assert!(has(&rig, &first.th, &client));
    first.answer(&rig, 2);
    assert_eq!(rig.tcb(first.th.t).core.get(), 0);
    assert_eq!(sc.budget.get(), 1_000 * TICKS_PER_US);
    assert_eq!(sc.period.get(), 8_000 * TICKS_PER_US);
    assert_eq!((sc.badge.get(), sc.core.get()), (0xabc, 1));
    assert_eq!(rig.tcb(client.t).core.get(), 1);
    assert_eq!(rig.mr(client.t, 0), 2);
    check(&rig);
    // Not lent: at once.
    rig.configure_sc(client.sc, 2_000, 2_000);
    assert_eq!(sc.budget.get(), 2_000 * TICKS_PER_US);
    assert_eq!(rig.tcb(client.t).core.get(), 0);
    check(&rig);
    // The loan ends otherwise.
    rig.call_ep(client.t, first.ep, &[]);
    rig.configure_sc(client.sc, 3_000, 3_000);
    assert_eq!(sc.budget.get(), 2_000 * TICKS_PER_US);
    rig.ok(client.sc, L::SchedContextUnbind, &[], &[]);
    assert_eq!(sc.budget.get(), 3_000 * TICKS_PER_US);
    check(&rig);
}

/// A passive server whose client's millisecond, of a period in microseconds, has just ended in the call; the timeout handler
/// with its endpoint, and the client.
fn timed_out(rig: &Rig, period: u64) -> (Domain, Thread, u64, Thread) {
    let d = Domain::waiting(rig, 200);
    let handler = rig.thread(220);
    let timeouts = rig.make(ObjectType::Endpoint);
    rig.ok(d.th.tcb, L::TCBSetTimeoutEndpoint, &[], &[timeouts]);
    rig.recv(handler.t, timeouts, handler.reply);
    let client = rig.thread(100);
    rig.configure_sc(client.sc, 1_000, period);
    rig.wait(rig.root, rig.make(ObjectType::Notification));
    rig.call_ep(client.t, d.ep, &[]);
    rig.advance_us(1_001);
    (d, handler, timeouts, client)
}

#[test]
fn a_timeout_handler_extends_lent_time_at_once() {
    let rig = Rig::new();
    let (d, handler, timeouts, client) = timed_out(&rig, 100_000);
    assert_eq!(rig.current(), Some(handler.t), "no grace with a handler");
    rig.message(
        handler.t,
        L::SchedControlConfigureFlags as u64,
        &[5_000, 100_000, 0, 0, 0],
        &[client.sc],
    );
    rig.syscall(handler.t, syscall::CALL, rig.sched_control);
    assert_eq!(rig.answer(handler.t), Ok(vec![]));
    rig.reply_recv(handler.t, timeouts, handler.reply, &[]);
    assert_eq!(rig.current(), Some(d.th.t), "it has budget again");
    check(&rig);
    rig.advance_us(4_000);
    d.answer(&rig, 9);
    assert_eq!(rig.mr(client.t, 0), 9);
    check(&rig);
}

#[test]
fn a_timeout_handler_answers_for_the_server() {
    // seL4's pattern: the client gets an error and its time, the server starts anew.
    let rig = Rig::new();
    let (d, handler, timeouts, client) = timed_out(&rig, 10_000);
    assert_eq!(rig.current(), Some(handler.t));
    rig.send(handler.t, d.th.reply, &[0xdead]);
    assert_eq!(rig.mr(client.t, 0), 0xdead);
    assert!(has(&rig, &client, &client) && passive(&rig, &d.th));
    check(&rig);
    // The server goes on, on its notification's time, and receives.
    rig.reply_recv(handler.t, timeouts, handler.reply, &[]);
    assert!(rig.can_run(d.th.t));
    d.receive(&rig);
    assert!(passive(&rig, &d.th));
    assert_eq!(rig.current(), None);
    rig.advance_us(9_500);
    assert_eq!(rig.current(), Some(client.t), "its next period");
    check(&rig);
}

fn yield_to(rig: &Rig, th: &Thread, sc: u64) {
    rig.message(th.t, L::SchedContextYieldTo as u64, &[], &[]);
    rig.syscall(th.t, syscall::CALL, sc);
    check(rig);
}

#[test]
fn yield_to_whoever_cannot_run_first_returns_at_once() {
    let rig = Rig::new();
    let (a, b, low) = (rig.thread(50), rig.thread(50), rig.thread(40));
    rig.ok(b.tcb, L::TCBSuspend, &[], &[]);
    rig.wait(rig.root, rig.make(ObjectType::Notification));
    for target in [&b, &low] {
        yield_to(&rig, &a, target.sc);
        assert_eq!(rig.current(), Some(a.t));
        assert_eq!(rig.answer(a.t), Ok(vec![0]));
    }
}

#[test]
fn yield_to_ends_in_any_way() {
    // Whatever happens to the target, its time, or who waits behind it.
    for what in 0..7 {
        let rig = Rig::new();
        let (a, b, c) = (rig.thread(50), rig.thread(50), rig.thread(60));
        let n = rig.make(ObjectType::Notification);
        rig.wait(c.t, n);
        rig.wait(rig.root, rig.make(ObjectType::Notification));
        yield_to(&rig, &a, b.sc);
        assert_eq!(rig.current(), Some(b.t));
        rig.advance_us(30);
        rig.nb_send(b.t, n, &[]);
        assert_eq!(rig.current(), Some(c.t), "somebody better comes between");
        let invoke = |cptr: u64, label: L, words: &[u64], caps: &[u64]| {
            rig.message(c.t, label as u64, words, caps);
            rig.syscall(c.t, syscall::CALL, cptr);
            rig.answer(c.t).expect("done");
            check(&rig);
        };
        match what {
            0 => {}
            1 => invoke(b.tcb, L::TCBSuspend, &[], &[]),
            2 => invoke(ROOT, L::CNodeDelete, &[b.tcb, 64], &[]),
            3 => invoke(ROOT, L::CNodeDelete, &[b.sc, 64], &[]),
            4 => invoke(b.sc, L::SchedContextUnbind, &[], &[]),
            5 => invoke(a.tcb, L::TCBSuspend, &[], &[]),
            _ => invoke(ROOT, L::CNodeDelete, &[a.tcb, 64], &[]),
        }
        rig.wait(c.t, n);
        check(&rig);
        match what {
            0 => {
                assert_eq!(rig.current(), Some(b.t));
                rig.wait(b.t, n);
                assert_eq!(rig.current(), Some(a.t));
            }
            1..=4 => assert_eq!(rig.current(), Some(a.t), "{what}"),
            _ => assert_eq!(rig.current(), Some(b.t), "{what}"),
        }
        if what < 5 && what != 2 {
            assert_eq!(rig.answer(a.t), Ok(vec![30]), "{what}");
        }
        check(&rig);
    }
}

#[test]
fn yield_to_a_second_time_lets_the_first_one_go() {
    let rig = Rig::new();
    let (a, b, target) = (rig.thread(50), rig.thread(60), rig.thread(50));
    let n = rig.make(ObjectType::Notification);
    rig.wait(b.t, n);
    rig.wait(rig.root, rig.make(ObjectType::Notification));
    yield_to(&rig, &a, target.sc);
    assert_eq!(rig.current(), Some(target.t));
    rig.advance_us(20);
    rig.syscall(target.t, syscall::YIELD, 0);
    assert_eq!(rig.current(), Some(a.t));
    assert_eq!(rig.answer(a.t), Ok(vec![20]));
    yield_to(&rig, &a, target.sc);
    rig.advance_us(10);
    rig.nb_send(target.t, n, &[]);
    assert_eq!(rig.current(), Some(b.t));
    yield_to(&rig, &b, target.sc);
    assert_eq!(rig.answer(b.t), Ok(vec![0]));
    assert_eq!(rig.answer(a.t), Ok(vec![10]));
    assert!(rig.tcb(a.t).yield_to.is_none());
    rig.wait(b.t, n);
    assert_eq!(rig.current(), Some(target.t));
    check(&rig);
}
