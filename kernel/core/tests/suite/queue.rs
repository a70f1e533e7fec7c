// SPDX-License-Identifier: BSD-2-Clause
//! Queues by time: random orders against a sorted map, and a great many at one time.

use crate::invariants::{by_priority, check, times};
use crate::mock::TICKS_PER_US;
use crate::rig::{Rig, cases};
use partita_abi::{InvocationLabel as L, ObjectType, init_cnode, syscall};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Notification, NotificationState, ThreadState};
use partita_kernel_core::queue::AT_ONCE;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Timers from the first slot on, and their addresses.
fn timers(rig: &Rig, count: u64) -> (u64, Vec<u64>) {
    let first = rig.make_many(ObjectType::Timer, 0, count);
    let addresses = (first..first + count).map(|slot| match rig.cap(slot) {
        Cap::Timer(t) => t.addr(),
        other => panic!("no timer: {other:?}"),
    });
    (first, addresses.collect())
}

proptest! {
    #![proptest_config(cases(64))]

    /// Set and cancelled in any order, with deadlines close together, equal and far apart: the queue holds just what is
    /// set, and knows the first.
    #[test]
    fn a_queue_is_a_sorted_set(
        steps in prop::collection::vec(
            (0usize..40, prop::option::weighted(0.7, prop_oneof![
                2_000_000_000u64..2_000_000_016,
                Just(u64::MAX),
                2_000_000_000u64..u64::MAX,
            ])),
            1..200,
        )
    ) {
        let rig = Rig::new();
        let (first, addresses) = timers(&rig, 40);
        let mut model = BTreeSet::new();
        for (i, deadline) in steps {
            let addr = addresses[i];
            model.retain(|&(_, a)| a != addr);
            match deadline {
                Some(deadline) => {
                    rig.ok(first + i as u64, L::TimerSet, &[deadline], &[]);
                    model.insert((deadline, addr));
                }
                None => {
                    rig.ok(first + i as u64, L::TimerCancel, &[], &[]);
                }
            }
            let queue = &rig.core().timers;
            let mut found = times(&rig, queue);
            found.sort_unstable_by_key(|&(addr, time)| (time, addr));
            let expected: Vec<_> = model.iter().map(|&(time, addr)| (addr, time)).collect();
            prop_assert_eq!(found, expected);
        }
        check(&rig);
    }
}

#[test]
fn one_interrupt_does_not_expire_them_all() {
    let rig = Rig::new();
    let steps = AT_ONCE;
    let count = 3 * steps;
    let (first, _) = timers(&rig, count);
    let ntfn = rig.make(ObjectType::Notification);
    let badged = rig.mint(ntfn, 3, 1);
    let deadline = rig.m.now.get() + 100 * TICKS_PER_US;
    for slot in first..first + count {
        rig.ok(slot, L::TimerSetNotification, &[], &[badged]);
        rig.ok(slot, L::TimerSet, &[deadline], &[]);
    }
    rig.m.now.set(deadline);
    for left in (0..3).rev() {
        let k = rig.k();
        k.timer_interrupt();
        k.finish();
        let queue = &rig.core().timers;
        assert_eq!(times(&rig, queue).len() as u64, left * steps);
        // The next interrupt comes at once.
        assert_eq!(rig.m.deadline.get() <= deadline, left > 0);
    }
    rig.syscall(rig.root, syscall::NB_WAIT, ntfn);
    assert_eq!(rig.badge(rig.root), 1);
    check(&rig);
}

/// What is done with a thread.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Waits,
    Stops,
    Gets(u64),
    /// The first of those who wait is taken as the fast path does it.
    Taken,
}

proptest! {
    #![proptest_config(cases(64))]

    /// Whoever waits at an endpoint is in order of priority and, for equal ones, of arrival there.
    #[test]
    fn waiting_threads_are_in_order(
        steps in prop::collection::vec(
            (0usize..12, prop_oneof![
                4 => Just(Turn::Waits),
                1 => Just(Turn::Stops),
                2 => (20u64..26).prop_map(Turn::Gets),
                1 => Just(Turn::Taken),
            ]),
            1..80,
        )
    ) {
        let rig = Rig::new();
        let at = rig.make(ObjectType::Notification);
        let Cap::Notification { ntfn, .. } = rig.cap(at) else { panic!("a notification") };
        let queue: &Notification = rig.m.object(ntfn.addr());
        let threads: Vec<_> = (0..12).map(|i| rig.thread(20 + i % 6)).collect();
        let priority = |i: usize| rig.tcb(threads[i].t).priority.get();
        let mut model: Vec<usize> = Vec::new();
        let arrive = |model: &mut Vec<usize>, i: usize| {
            let place = model.partition_point(|&other| priority(other) >= priority(i));
            model.insert(place, i);
        };
        for (i, turn) in steps {
            let th = &threads[i];
            let waited = model.iter().position(|&other| other == i);
            match turn {
                Turn::Waits if waited.is_none() => {
                    rig.ok(th.tcb, L::TCBResume, &[], &[]);
                    rig.wait(th.t, at);
                    arrive(&mut model, i);
                }
                Turn::Stops => {
                    rig.ok(th.tcb, L::TCBSuspend, &[], &[]);
                    model.retain(|&other| other != i);
                }
                Turn::Gets(priority) => {
                    let authority = init_cnode::TCB as u64;
                    rig.ok(th.tcb, L::TCBSetPriority, &[priority], &[authority]);
                    if let Some(place) = waited {
                        model.remove(place);
                        arrive(&mut model, i);
                    }
                }
                Turn::Taken if !model.is_empty() => {
                    let th = &threads[model.remove(0)];
                    let first = rig.tcb(th.t);
                    queue.head.set(first.queue_next.take());
                    match queue.head.get() {
                        Some(next) => rig.tcb(next).queue_prev.set(None),
                        None => {
                            queue.tail.set(None);
                            queue.state.set(NotificationState::Idle as u64);
                        }
                    }
                    first.blocked_on.set(0);
                    first.state.set(ThreadState::Inactive as u64);
                }
                _ => continue,
            }
            let mut found = Vec::new();
            let mut next = queue.head.get();
            while let Some(t) = next {
                found.push(t.addr());
                next = rig.tcb(t).queue_next.get();
            }
            let expected: Vec<_> = model.iter().map(|&i| threads[i].t.addr()).collect();
            prop_assert_eq!(&found, &expected, "{:?}", turn);
            by_priority(&rig, &found);
        }
        check(&rig);
    }
}

/// How many threads wait makes no difference to one that comes: it looks at one of each priority.
#[test]
fn a_queue_is_entered_in_as_many_steps_as_there_are_priorities() {
    let rig = Rig::with_memory(16 << 20);
    let at = rig.make(ObjectType::Notification);
    let steps = |count: u64| {
        for _ in 0..count {
            let th = rig.thread(10);
            rig.wait(th.t, at);
        }
        let best = rig.thread(20);
        let before = rig.m.looked.get();
        rig.wait(best.t, at);
        let steps = rig.m.looked.get() - before;
        rig.ok(best.tcb, L::TCBSuspend, &[], &[]);
        check(&rig);
        steps
    };
    let few = steps(3);
    assert_eq!(steps(60), few);
}
