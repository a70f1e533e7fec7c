// SPDX-License-Identifier: BSD-2-Clause
//! Queues by time: random orders against a sorted map, and a great many at one time.

use crate::invariants::{check, times};
use crate::mock::TICKS_PER_US;
use crate::rig::Rig;
use partita_abi::{InvocationLabel as L, ObjectType, syscall};
use partita_kernel_core::cap::Cap;
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
    #![proptest_config(ProptestConfig::with_cases(64))]

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
