// SPDX-License-Identifier: BSD-2-Clause
//! Queues of threads that wait at an endpoint or a notification: highest priority first, equal ones in order of arrival.
//!
//! The last thread of each priority knows the last of the next higher one that waits there, so that no walk is longer than
//! there are priorities, however many threads wait. The fast paths know nothing of that: they take the first thread, or
//! enter an empty queue. So what the last of the highest priority knows means nothing.

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Link, Ref, Tcb};
use crate::sched::unlink;

/// Adds a thread that waits nowhere.
pub(crate) fn link_by_priority<M: Machine>(
    k: &Kernel<'_, M>,
    t: Ref<Tcb>,
    head: &Link<Tcb>,
    tail: &Link<Tcb>,
) {
    let tcb = k.at(t);
    let Some(first) = head.get() else {
        // The fast path leaves the tail of an empty queue as it was.
        tcb.queue_prev.set(None);
        tcb.queue_next.set(None);
        head.set(Some(t));
        tail.set(Some(t));
        return;
    };
    let priority = |t: Ref<Tcb>| k.at(t).priority.get();
    // Whom it comes behind, and the last of those with the next lower priority.
    let (mut before, mut lower) = (tail.get(), None);
    while let Some(b) = before.filter(|&b| priority(b) < priority(t)) {
        lower = before;
        before = match priority(b) == priority(first) {
            true => None,
            false => k.at(b).queue_higher.get(),
        };
    }
    tcb.queue_higher.set(match before {
        Some(b) if priority(b) == priority(t) => k.at(b).queue_higher.get(),
        _ => before,
    });
    if let Some(l) = lower {
        k.at(l).queue_higher.set(Some(t));
    }
    let link = match before {
        Some(b) => &k.at(b).queue_next,
        None => head,
    };
    let after = link.get();
    link.set(Some(t));
    tcb.queue_prev.set(before);
    tcb.queue_next.set(after);
    match after {
        Some(a) => k.at(a).queue_prev.set(Some(t)),
        None => tail.set(Some(t)),
    }
}

/// Takes out a thread that waits there, with the priority that it had when it came.
#[inline]
pub(crate) fn unlink_by_priority<M: Machine>(
    k: &Kernel<'_, M>,
    t: Ref<Tcb>,
    head: &Link<Tcb>,
    tail: &Link<Tcb>,
) {
    if !head.is(t) {
        forget(k, t, tail);
    }
    unlink(k, t, head, tail);
}

/// Nobody knows a thread, which is not the first, as the last of its priority any more.
#[inline(never)]
fn forget<M: Machine>(k: &Kernel<'_, M>, t: Ref<Tcb>, tail: &Link<Tcb>) {
    let tcb = k.at(t);
    let equal = |other: &Ref<Tcb>| k.at(*other).priority.get() == tcb.priority.get();
    let higher = tcb.queue_higher.get();
    match tcb.queue_next.get() {
        Some(next) if equal(&next) => return,
        _ => {}
    }
    let instead = match tcb.queue_prev.get().filter(equal) {
        Some(last) => {
            k.at(last).queue_higher.set(higher);
            Some(last)
        }
        None => higher,
    };
    // All below it are lower than the first: what they know is right.
    let mut below = tail.get();
    while let Some(b) = below.filter(|&b| b != t) {
        below = k.at(b).queue_higher.get();
        if below == Some(t) {
            k.at(b).queue_higher.set(instead);
        }
    }
}
