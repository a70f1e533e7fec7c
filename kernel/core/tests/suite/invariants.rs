// SPDX-License-Identifier: BSD-2-Clause
//! What holds between kernel entries, checked from the bytes of the objects.

use crate::rig::Rig;
use partita_abi::{CapRights, ObjectType, address_space, limits};
use partita_kernel_core::cap::{Cap, Frame, Mapping, View, Zombie};
use partita_kernel_core::gspace::{GPageTable, GSpace, TAKEN_AWAY};
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{
    Endpoint, EndpointState, Link, Notification, NotificationState, Ref, Reply, SchedContext, Slot,
    TCB_SLOTS, Tcb, ThreadState, Timer, tcb_slot, thread_kind,
};
use partita_kernel_core::queue::{Queue, Queued};
use partita_kernel_core::vcpu::{Vcpu, rest};
use std::collections::{BTreeMap, BTreeSet};

const FLAGS: u64 = 31;
const REVOCABLE: u64 = 1;
const FIRST_BADGED: u64 = 2;
const IN_TCB: u64 = 4;
/// In an entry of a guest's table: another table.
const GUEST_TABLE: u64 = 2;

/// Everything that capabilities name.
#[derive(Default)]
pub struct World {
    /// All slots that were found, with their capabilities.
    pub slots: BTreeMap<u64, Cap>,
    pub threads: BTreeSet<u64>,
    pub dead_threads: BTreeSet<u64>,
    pub endpoints: BTreeSet<u64>,
    pub notifications: BTreeSet<u64>,
    pub replies: BTreeSet<u64>,
    pub contexts: BTreeSet<u64>,
    pub timers: BTreeSet<u64>,
    pub vspaces: BTreeSet<u64>,
    pub vcpus: BTreeSet<u64>,
    pub gspaces: BTreeSet<u64>,
}

fn slot(rig: &Rig, addr: u64) -> &Slot {
    rig.m.object(addr)
}

fn thread(rig: &Rig, addr: u64) -> &Tcb {
    rig.m.object(addr)
}

fn next(rig: &Rig, addr: u64) -> Option<u64> {
    slot(rig, addr).next().map(Ref::addr)
}

pub fn prev(rig: &Rig, addr: u64) -> Option<u64> {
    slot(rig, addr).prev.get().map(Ref::addr)
}

fn flag(rig: &Rig, addr: u64, f: u64) -> bool {
    slot(rig, addr).next.get() & f != 0
}

fn addr_of<T>(link: &Link<T>) -> Option<u64> {
    link.get().map(Ref::addr)
}

/// Finds all slots: those of containers that capabilities name, and their neighbours in the
/// derivation list.
pub fn explore(rig: &Rig) -> World {
    let mut w = World::default();
    let mut todo = Vec::new();
    let root = rig.root_cnode_addr();
    todo.extend((0..rig.used_slots()).map(|i| root + 32 * i));
    for irq in &rig.m.global().irqs {
        todo.push(std::ptr::from_ref(&irq.notification) as u64);
    }
    let tcb_slots = core::mem::offset_of!(Tcb, slots) as u64;
    while let Some(at) = todo.pop() {
        if w.slots.contains_key(&at) {
            continue;
        }
        let cap = slot(rig, at).cap();
        w.slots.insert(at, cap);
        todo.extend(prev(rig, at));
        todo.extend(next(rig, at));
        let mut tcb = |t: u64| todo.extend((0..TCB_SLOTS as u64).map(|i| t + tcb_slots + 32 * i));
        match cap {
            Cap::Thread(t) => {
                w.threads.insert(t.addr());
                tcb(t.addr());
            }
            Cap::Zombie(z) if z.kind == Zombie::TCB => {
                w.dead_threads.insert(z.addr);
                tcb(z.addr);
            }
            Cap::CNode { addr, radix, .. } => {
                todo.extend((0..1u64 << radix).map(|i| addr + 32 * i));
            }
            Cap::Zombie(z) => todo.extend((0..1u64 << z.kind).map(|i| z.addr + 32 * i)),
            Cap::Endpoint { ep, .. } => {
                w.endpoints.insert(ep.addr());
            }
            Cap::Notification { ntfn, .. } => {
                w.notifications.insert(ntfn.addr());
            }
            Cap::Reply { reply, .. } => {
                w.replies.insert(reply.addr());
            }
            Cap::SchedContext(sc) => {
                w.contexts.insert(sc.addr());
            }
            Cap::Timer(t) => {
                w.timers.insert(t.addr());
                let timer: &Timer = rig.m.object(t.addr());
                todo.push(std::ptr::from_ref(&timer.notification) as u64);
            }
            Cap::VCpu { vcpu: v, .. } => {
                w.vcpus.insert(v.addr());
                // The one that it sleeps by.
                let vcpu: &Vcpu = rig.m.object(v.addr());
                w.timers.insert(std::ptr::from_ref(&vcpu.timer) as u64);
            }
            Cap::VSpace { addr } => {
                w.vspaces.insert(addr);
            }
            Cap::GSpace(g) | Cap::View(View { gspace: g, .. }) => {
                w.gspaces.insert(g.addr());
            }
            _ => {}
        }
    }
    w
}

/// Whether the capability in `a` is the parent of the one in `b`, by seL4's definition.
pub fn is_parent(rig: &Rig, a: u64, b: u64) -> bool {
    let (ca, cb) = (slot(rig, a).cap(), slot(rig, b).cap());
    if !flag(rig, a, REVOCABLE) || !ca.same_region(&cb) {
        return false;
    }
    match ca.badge() {
        None | Some(0) => true,
        badge => badge == cb.badge() && !flag(rig, b, FIRST_BADGED),
    }
}

/// Checks everything.
///
/// # Panics
/// If anything is wrong.
pub fn check(rig: &Rig) {
    let w = explore(rig);
    derivation(rig, &w);
    memory(rig, &w);
    threads(rig, &w);
    queues(rig, &w);
    replies(rig, &w);
    contexts(rig, &w);
    address_spaces(rig, &w);
    guest_memory(rig, &w);
    processors(rig, &w);
}

fn derivation(rig: &Rig, w: &World) {
    let tcb_bits = ObjectType::Tcb.bits();
    for (&at, cap) in &w.slots {
        let raw = slot(rig, at).next.get();
        let base = at >> tcb_bits << tcb_bits;
        let in_tcb = w.threads.contains(&base) || w.dead_threads.contains(&base);
        assert_eq!(raw & IN_TCB != 0, in_tcb, "IN_TCB of {at:#x}");
        if cap.is_null() {
            assert_eq!(slot(rig, at).w0.get(), 0, "empty slot {at:#x}");
            assert_eq!(raw & !IN_TCB, 0, "links of empty slot {at:#x}");
            assert!(slot(rig, at).prev.is_none(), "links of empty slot {at:#x}");
            continue;
        }
        assert_eq!(raw & FLAGS & !7, 0, "flags of {at:#x}");
        if let Some(n) = next(rig, at) {
            assert_eq!(prev(rig, n), Some(at), "list at {at:#x}");
            assert!(!w.slots[&n].is_null(), "empty slot {n:#x} in the list");
        }
        if let Some(p) = prev(rig, at) {
            assert_eq!(next(rig, p), Some(at), "list at {at:#x}");
        }
        let (pack0, pack1) = cap.pack();
        assert_eq!(Cap::unpack(pack0, pack1), *cap);
    }
    // Every list ends, and each slot is in one.
    let mut seen = BTreeSet::new();
    for (&at, cap) in &w.slots {
        if cap.is_null() || prev(rig, at).is_some() {
            continue;
        }
        let mut last = Some(at);
        let mut order = Vec::new();
        while let Some(here) = last {
            assert!(seen.insert(here), "slot {here:#x} is in the list twice");
            order.push((here, w.slots[&here]));
            last = next(rig, here);
        }
        contiguous(&order);
        covered(rig, &order);
    }
    let used = w.slots.values().filter(|c| !c.is_null()).count();
    assert_eq!(seen.len(), used, "the list has a loop");
}

/// Capabilities to one object are neighbours, else "the last one" would be told wrongly.
fn contiguous(order: &[(u64, Cap)]) {
    for (i, (at, cap)) in order.iter().enumerate() {
        let rest = &order[i + 1..];
        let run = rest.iter().take_while(|(_, c)| c.same_object(cap)).count();
        let apart = rest[run..].iter().find(|(_, c)| c.same_object(cap));
        assert!(apart.is_none(), "copies {at:#x} and {apart:x?} are apart");
    }
}

/// What lies in memory has an untyped above it that gave that memory away; only boot objects have
/// none.
fn covered(rig: &Rig, order: &[(u64, Cap)]) {
    for (i, (_, cap)) in order.iter().enumerate().skip(1) {
        let Some((addr, size)) = cap.region() else {
            continue;
        };
        let mut covering = 0;
        for (above, parent) in &order[..i] {
            if let Cap::Untyped(u) = parent
                && parent.same_region(cap)
            {
                covering += 1;
                assert!(
                    flag(rig, *above, REVOCABLE),
                    "untyped {above:#x} cannot be revoked"
                );
                assert!(
                    addr + size <= u.addr + u.free,
                    "{cap:?} lies in the free part of {u:?}"
                );
            }
        }
        assert!(
            rig.is_boot_object(addr) || covering > 0,
            "{cap:?} has no untyped above"
        );
    }
}

/// Objects do not overlap.
fn memory(rig: &Rig, w: &World) {
    let mut regions = BTreeMap::new();
    for cap in w.slots.values() {
        if let Some((addr, size)) = cap.region()
            && !matches!(cap, Cap::Untyped(_))
        {
            let kind = match cap {
                // A zombie is still the object that it was.
                Cap::Zombie(z) if z.kind == Zombie::TCB => cap_kind(&Cap::Thread(rig.root)),
                Cap::Zombie(_) => 10,
                // A view is a weaker capability to its GSpace.
                Cap::View(view) => cap_kind(&Cap::GSpace(view.gspace)),
                other => cap_kind(other),
            };
            let old = regions.insert(addr, (size, kind));
            assert!(
                old.is_none() || old == Some((size, kind)),
                "two objects at {addr:#x}"
            );
        }
    }
    let mut end = 0;
    for (addr, (size, _)) in regions {
        assert!(addr >= end, "objects overlap at {addr:#x}");
        end = addr + size;
    }
}

fn cap_kind(cap: &Cap) -> u64 {
    cap.pack().0 >> 56
}

fn cached_cnode(rig: &Rig, t: &Tcb) -> Option<(u64, u64)> {
    let mut cap = t.slots[tcb_slot::CSPACE].cap();
    let mut bits = 64;
    for _ in 0..4 {
        let Cap::CNode {
            addr,
            radix,
            guard,
            guard_bits,
        } = cap
        else {
            return None;
        };
        if guard != 0 || radix + guard_bits > bits {
            return None;
        }
        bits -= radix + guard_bits;
        if bits == 0 {
            return Some((addr, 1 << radix));
        }
        cap = slot(rig, addr).cap();
    }
    None
}

fn threads(rig: &Rig, w: &World) {
    for &addr in &w.dead_threads {
        let t = thread(rig, addr);
        assert_eq!(
            t.state.get(),
            ThreadState::Inactive as u64,
            "dead thread {addr:#x}"
        );
        assert_eq!(t.queued.get(), 0, "dead thread {addr:#x}");
        assert!(
            t.sched_context.is_none() && t.reply.is_none(),
            "dead thread {addr:#x}"
        );
        assert!(t.bound_notification.is_none(), "dead thread {addr:#x}");
        assert!(
            t.own_context.is_none() && t.yield_to.is_none(),
            "dead thread {addr:#x}"
        );
    }
    for &addr in &w.threads {
        let t = thread(rig, addr);
        let state = ThreadState::from_number(t.state.get());
        assert!(t.state.get() <= 6);
        // What the slots say in decoded form.
        match t.slots[tcb_slot::VSPACE].cap() {
            Cap::VSpace { addr: root } => {
                let stored = rig.m.read_pte(root + 8191 * 8);
                // Its PID may have died with its pool, but is nobody else's.
                let owner = rig.root_of(t.pid.get());
                let own = owner.is_none() || owner == Some(root) && stored == t.pid.get();
                assert!(
                    t.pid.get() == 0 || own,
                    "thread {addr:#x} runs in PID {} which is not its own",
                    t.pid.get()
                );
            }
            _ => assert_eq!(
                t.pid.get(),
                0,
                "thread {addr:#x} has a PID without a VSpace"
            ),
        }
        match t.slots[tcb_slot::BUFFER].cap() {
            Cap::Frame(f) => {
                let b = t.ipc_buffer.get();
                let end = f.addr + (1 << f.bits);
                assert!(b >= f.addr && b + address_space::IPC_BUFFER_BYTES as u64 <= end);
                assert!(!f.device && f.rights.contains(CapRights(3)));
            }
            _ => assert_eq!(
                t.ipc_buffer.get(),
                0,
                "thread {addr:#x} has a buffer without a frame"
            ),
        }
        if t.fast_cnode_slots.get() != 0 && t.cspace_epoch.get() == rig.core().cspace_epoch.get() {
            assert_eq!(
                cached_cnode(rig, t),
                Some((t.fast_cnode.get(), t.fast_cnode_slots.get())),
                "thread {addr:#x} looks up in a stale CNode"
            );
        }
        if t.near_cnode.get() != 0 && t.cspace_epoch.get() == rig.core().cspace_epoch.get() {
            let mut caps = w.slots.values();
            let live =
                caps.any(|c| matches!(c, Cap::CNode { addr, .. } if *addr == t.near_cnode.get()));
            assert!(live, "thread {addr:#x} remembers a CNode that is gone");
        }
        // Faults are pending only while their handler has not answered, or for ever if it received
        // the fault without a reply object.
        if t.fault_label.get() != 0 {
            use ThreadState::{BlockedOnReply, BlockedOnSend, Inactive};
            assert!(
                matches!(state, BlockedOnSend | BlockedOnReply | Inactive),
                "thread {addr:#x} is {state:?} with a fault"
            );
        }
        if let Some(n) = addr_of(&t.bound_notification) {
            assert!(
                w.notifications.contains(&n),
                "thread {addr:#x} is bound to nothing"
            );
            let n: &Notification = rig.m.object(n);
            assert_eq!(addr_of(&n.bound_tcb), Some(addr));
        }
        if let Some(sc) = addr_of(&t.own_context) {
            assert!(w.contexts.contains(&sc), "thread {addr:#x} owns nothing");
            let sc: &SchedContext = rig.m.object(sc);
            assert_eq!(addr_of(&sc.owner), Some(addr));
        }
        let yielded = t.kind.get() == thread_kind::YIELDED;
        assert_eq!(yielded, !t.yield_to.is_none(), "thread {addr:#x}");
        if let Some(sc) = addr_of(&t.yield_to) {
            let sc: &SchedContext = rig.m.object(sc);
            assert_eq!(addr_of(&sc.yield_from), Some(addr));
        }
        if let Some(sc) = addr_of(&t.sched_context) {
            let context: &SchedContext = rig.m.object(sc);
            time_of(rig, addr, t, context);
        } else if let Some(n) = addr_of(&t.bound_notification) {
            // What can run and could have time has it.
            let n: &Notification = rig.m.object(n);
            let free = addr_of(&n.sched_context).is_some_and(|sc| {
                let sc: &SchedContext = rig.m.object(sc);
                sc.tcb.is_none()
            });
            let runnable = matches!(state, ThreadState::Running | ThreadState::Restart);
            assert!(!(free && runnable), "thread {addr:#x} is stranded");
        }
        if let Some(sc) = addr_of(&t.sched_context) {
            assert!(w.contexts.contains(&sc), "thread {addr:#x} runs on nothing");
            let sc: &SchedContext = rig.m.object(sc);
            assert_eq!(addr_of(&sc.tcb), Some(addr));
        }
        match (state, addr_of(&t.reply)) {
            (ThreadState::BlockedOnReply, None) => panic!("{addr:#x} waits for no reply"),
            (ThreadState::BlockedOnReply | ThreadState::BlockedOnReceive, Some(r)) => {
                assert!(w.replies.contains(&r));
                let r: &Reply = rig.m.object(r);
                assert_eq!(addr_of(&r.tcb), Some(addr));
            }
            (_, None) => {}
            (other, Some(_)) => panic!("{addr:#x} has a reply object while {other:?}"),
        }
        let waits = matches!(
            state,
            ThreadState::BlockedOnReceive
                | ThreadState::BlockedOnSend
                | ThreadState::BlockedOnNotification
        );
        assert_eq!(
            t.blocked_on.get() != 0,
            waits,
            "thread {addr:#x} is {state:?}"
        );
    }
}

/// Time that is not a thread's own and lent to it through no call: it may only finish on it, by the slow path.
fn time_of(rig: &Rig, addr: u64, t: &Tcb, sc: &SchedContext) {
    let elsewhere = match addr_of(&sc.notification) {
        Some(n) => {
            let n: &Notification = rig.m.object(n);
            addr_of(&n.bound_tcb).is_some_and(|b| b != addr)
        }
        None => addr_of(&sc.owner) != Some(addr),
    };
    if !sc.reply.is_none() || !elsewhere {
        return;
    }
    let state = ThreadState::from_number(t.state.get());
    assert!(
        !matches!(state, ThreadState::Inactive | ThreadState::BlockedOnReceive),
        "thread {addr:#x} is {state:?} and keeps another's time"
    );
    let fast =
        t.cspace_epoch.get() == rig.core().cspace_epoch.get() && t.fast_cnode_slots.get() != 0;
    assert!(!fast, "thread {addr:#x} could block on the fast path");
}

/// A doubly linked queue of threads.
fn queue(rig: &Rig, head: &Link<Tcb>, tail: &Link<Tcb>) -> Vec<u64> {
    let mut all = Vec::new();
    let mut at = addr_of(head);
    let mut before = None;
    while let Some(addr) = at {
        assert!(!all.contains(&addr), "a queue has a loop");
        let t = thread(rig, addr);
        assert_eq!(addr_of(&t.queue_prev), before);
        all.push(addr);
        before = Some(addr);
        at = addr_of(&t.queue_next);
    }
    assert_eq!(addr_of(tail), before);
    all
}

/// Threads that wait are in order of priority, and know what they should of each other.
pub fn by_priority(rig: &Rig, queue: &[u64]) {
    let p: Vec<u64> = queue
        .iter()
        .map(|&t| thread(rig, t).priority.get())
        .collect();
    assert!(
        p.is_sorted_by(|a, b| a >= b),
        "a queue is not in order of priority: {p:?}"
    );
    // The last of each priority but the highest knows that of the next higher one.
    let groups: Vec<_> = queue
        .chunk_by(|&a, &b| thread(rig, a).priority.get() == thread(rig, b).priority.get())
        .collect();
    for pair in groups.windows(2) {
        let last = |group: &[u64]| group[group.len() - 1];
        let known = addr_of(&thread(rig, last(pair[1])).queue_higher);
        assert_eq!(known, Some(last(pair[0])), "priorities {p:?}");
    }
}

fn queues(rig: &Rig, w: &World) {
    // Where each thread is queued.
    let mut place: BTreeMap<u64, u64> = BTreeMap::new();
    let mut note = |t: u64, at: u64| {
        assert!(
            w.threads.contains(&t),
            "dead thread {t:#x} in the queue at {at:#x}"
        );
        assert!(
            place.insert(t, at).is_none(),
            "thread {t:#x} is in two queues"
        );
    };
    for &addr in &w.endpoints {
        let ep: &Endpoint = rig.m.object(addr);
        let q = queue(rig, &ep.head, &ep.tail);
        by_priority(rig, &q);
        let state = match ep.state.get() & 0xff {
            s if s == EndpointState::Send as u64 => Some(ThreadState::BlockedOnSend),
            s if s == EndpointState::Receive as u64 => Some(ThreadState::BlockedOnReceive),
            s => {
                assert_eq!(s, EndpointState::Idle as u64);
                None
            }
        };
        assert_eq!(state.is_none(), q.is_empty(), "endpoint {addr:#x}");
        if let Some(stop) = addr_of(&ep.cancel_next) {
            let at = q.iter().position(|&t| t == stop);
            let done = &q[..at.expect("a cancellation stopped in the queue")];
            let badge = ep.cancel_badge.get();
            assert!(
                done.iter()
                    .all(|&t| thread(rig, t).send_badge.get() != badge),
                "a sender with the badge was left out"
            );
        }
        for t in q {
            assert_eq!(
                Some(ThreadState::from_number(thread(rig, t).state.get())),
                state
            );
            assert_eq!(thread(rig, t).blocked_on.get(), addr);
            note(t, addr);
        }
    }
    for &addr in &w.notifications {
        let n: &Notification = rig.m.object(addr);
        let q = queue(rig, &n.head, &n.tail);
        by_priority(rig, &q);
        let waiting = n.state.get() == NotificationState::Waiting as u64;
        assert_eq!(waiting, !q.is_empty(), "notification {addr:#x}");
        if n.state.get() != NotificationState::Active as u64 {
            assert_eq!(n.badge.get(), 0, "notification {addr:#x}");
        }
        for t in q {
            assert_eq!(
                thread(rig, t).state.get(),
                ThreadState::BlockedOnNotification as u64
            );
            assert_eq!(thread(rig, t).blocked_on.get(), addr);
            note(t, addr);
        }
        if let Some(t) = addr_of(&n.bound_tcb) {
            assert!(w.threads.contains(&t));
            assert_eq!(addr_of(&thread(rig, t).bound_notification), Some(addr));
        }
        if let Some(sc) = addr_of(&n.sched_context) {
            assert!(w.contexts.contains(&sc));
            let sc: &SchedContext = rig.m.object(sc);
            assert_eq!(addr_of(&sc.notification), Some(addr));
        }
    }
    for (id, core) in rig.m.global().cores.iter().enumerate() {
        let mut top = 0;
        for p in 0..256 {
            let q = queue(rig, &core.ready_head[p], &core.ready_tail[p]);
            let bit = core.ready_bits[p / 64].get() >> (p % 64) & 1;
            assert_eq!(bit == 1, !q.is_empty(), "ready bit {p}");
            if !q.is_empty() {
                top = p as u64 + 1;
            }
            for t in q {
                let tcb = thread(rig, t);
                assert_eq!(tcb.priority.get(), p as u64);
                assert_eq!(tcb.core.get(), id as u64);
                assert_eq!(tcb.queued.get(), 1);
                assert!(
                    schedulable(rig, tcb),
                    "thread {t:#x} is ready but cannot run"
                );
                note(t, 1);
            }
        }
        assert_eq!(core.ready_top.get(), top);
    }
    for (id, core) in rig.m.global().cores.iter().enumerate() {
        assert!(core.candidate.is_none(), "a candidate is left");
        // Core 0 has just left the kernel; another may be about to enter it.
        let chosen = core.reschedule.get() == 0;
        assert!(chosen || id != 0);
        if let Some(t) = addr_of(&core.current) {
            assert!(w.threads.contains(&t), "a dead thread runs");
            let tcb = thread(rig, t);
            assert_eq!(tcb.core.get(), id as u64);
            assert!(schedulable(rig, tcb), "the running thread cannot run");
            assert_eq!(addr_of(&core.current_sc), addr_of(&tcb.sched_context));
            note(t, 2);
        } else {
            assert!(!chosen || core.ready_top.get() == 0, "idle with work to do");
            assert!(core.current_sc.is_none());
        }
    }
    for &t in &w.threads {
        let tcb = thread(rig, t);
        let at = place.get(&t).copied().unwrap_or(0);
        assert_eq!(tcb.queued.get() == 1, at == 1, "thread {t:#x} queued");
        assert_eq!(
            at == 1 || at == 2,
            schedulable(rig, tcb),
            "thread {t:#x} is forgotten"
        );
        if tcb.blocked_on.get() != 0 {
            assert_eq!(at, tcb.blocked_on.get(), "thread {t:#x} waits in no queue");
        }
    }
}

fn schedulable(rig: &Rig, t: &Tcb) -> bool {
    let runnable = matches!(
        ThreadState::from_number(t.state.get()),
        ThreadState::Running | ThreadState::Restart
    );
    runnable
        && addr_of(&t.sched_context).is_some_and(|sc| {
            let sc: &SchedContext = rig.m.object(sc);
            sc.in_release_queue.get() == 0 && sc.period.get() != 0
        })
}

fn replies(rig: &Rig, w: &World) {
    for &addr in &w.replies {
        let r: &Reply = rig.m.object(addr);
        let Some(t) = addr_of(&r.tcb) else {
            assert!(r.prev.is_none() && r.next.is_none() && r.sched_context.is_none());
            continue;
        };
        assert!(
            w.threads.contains(&t),
            "reply {addr:#x} waits for a dead thread"
        );
        let tcb = thread(rig, t);
        assert_eq!(addr_of(&tcb.reply), Some(addr));
        if tcb.state.get() != ThreadState::BlockedOnReply as u64 {
            assert!(r.prev.is_none() && r.next.is_none() && r.sched_context.is_none());
        }
        if let Some(next) = addr_of(&r.next) {
            assert!(w.replies.contains(&next));
            let next: &Reply = rig.m.object(next);
            assert_eq!(addr_of(&next.prev), Some(addr));
            assert!(r.sched_context.is_none(), "reply {addr:#x} is not on top");
        }
        if let Some(prev) = addr_of(&r.prev) {
            assert!(w.replies.contains(&prev));
            let prev: &Reply = rig.m.object(prev);
            assert_eq!(addr_of(&prev.next), Some(addr));
        }
        if let Some(sc) = addr_of(&r.sched_context) {
            assert!(w.contexts.contains(&sc));
            let sc: &SchedContext = rig.m.object(sc);
            assert_eq!(addr_of(&sc.reply), Some(addr));
        }
    }
}

fn contexts(rig: &Rig, w: &World) {
    for &addr in &w.contexts {
        let sc: &SchedContext = rig.m.object(addr);
        if let Some(t) = addr_of(&sc.owner) {
            assert!(w.threads.contains(&t), "context {addr:#x} has a dead owner");
            assert_eq!(addr_of(&thread(rig, t).own_context), Some(addr));
            assert!(
                sc.notification.is_none(),
                "context {addr:#x} has two owners"
            );
        }
        // The dispatches of a vCPU are those of its thread's own time.
        let owner = addr_of(&sc.owner).map(|t| thread(rig, t));
        let vcpu = owner.filter(|t| t.kind.get() == thread_kind::VCPU);
        assert_eq!(
            addr_of(&sc.vcpu),
            vcpu.map(|t| t.vcpu.get()),
            "context {addr:#x} counts for another"
        );
        if let Some(t) = addr_of(&sc.yield_from) {
            assert!(w.threads.contains(&t));
            assert_eq!(addr_of(&thread(rig, t).yield_to), Some(addr));
        }
        let lent = !sc.reply.is_none() || addr_of(&sc.tcb) != addr_of(&sc.owner);
        assert!(
            lent || sc.pending.valid.get() == 0,
            "context {addr:#x} has parameters that wait for nothing"
        );
        if let Some(t) = addr_of(&sc.tcb) {
            assert!(
                w.threads.contains(&t),
                "context {addr:#x} has a dead thread"
            );
            assert_eq!(addr_of(&thread(rig, t).sched_context), Some(addr));
        }
        if let Some(r) = addr_of(&sc.reply) {
            assert!(
                w.replies.contains(&r),
                "context {addr:#x} was lent through a dead reply"
            );
            let r: &Reply = rig.m.object(r);
            assert_eq!(addr_of(&r.sched_context), Some(addr));
        }
        if let Some(n) = addr_of(&sc.notification) {
            assert!(w.notifications.contains(&n));
            let n: &Notification = rig.m.object(n);
            assert_eq!(addr_of(&n.sched_context), Some(addr));
        }
    }
    let (mut waiting, mut armed) = (BTreeSet::new(), BTreeSet::new());
    for core in &rig.m.global().cores {
        let release = times(rig, &core.release);
        for (addr, time) in release {
            assert!(
                w.contexts.contains(&addr),
                "dead context {addr:#x} waits for its release"
            );
            assert!(waiting.insert(addr), "context {addr:#x} waits twice");
            let sc: &SchedContext = rig.m.object(addr);
            assert_eq!(sc.in_release_queue.get(), 1);
            assert_eq!(sc.replenish_at.get(), time);
            assert_eq!(sc.core.get(), core.id.get());
        }
        for (addr, _) in times(rig, &core.timers) {
            assert!(w.timers.contains(&addr), "dead timer {addr:#x}");
            assert!(armed.insert(addr), "timer {addr:#x} is in two queues");
            let timer: &Timer = rig.m.object(addr);
            assert_eq!(timer.armed.get(), core.id.get() + 1);
        }
    }
    for &addr in &w.timers {
        let timer: &Timer = rig.m.object(addr);
        assert_eq!(timer.armed.get() != 0, armed.contains(&addr));
    }
    for &addr in &w.contexts {
        let sc: &SchedContext = rig.m.object(addr);
        assert_eq!(sc.in_release_queue.get() == 1, waiting.contains(&addr));
    }
}

/// What is in a queue by time, with its time. Checks the tree.
pub fn times<T: Queued>(rig: &Rig, queue: &Queue<T>) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    // Address, depth, and the bits that it must begin with.
    let mut left: Vec<_> = queue.root.get().map(|r| (r, 0, 0)).into_iter().collect();
    while let Some((r, depth, bits)) = left.pop() {
        let node = rig.m.object::<T>(r.addr()).node();
        let key = u128::from(node.time.get()) << 64 | u128::from(r.addr());
        assert!(depth == 0 || key >> (128 - depth) == bits, "the wrong side");
        assert!(!all.contains(&(r.addr(), node.time.get())), "a loop");
        all.push((r.addr(), node.time.get()));
        for (side, child) in (0..).zip(&node.child) {
            left.extend(child.get().map(|c| (c, depth + 1, bits << 1 | side)));
        }
    }
    let least = all.iter().map(|(addr, time)| (*time, *addr)).min();
    assert_eq!(
        queue.first.get().map(|r| r.addr()),
        least.map(|(_, addr)| addr)
    );
    all
}

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const ADDR: u64 = 0x01ff_ffff_ffff_f000;

/// Hardware reaches, through every tree that has a PID or may get one, only tables and frames whose
/// capabilities say that they are mapped there, with no more rights.
fn address_spaces(rig: &Rig, w: &World) {
    for &root in &w.vspaces {
        let pid = rig.m.read_pte(root + 8191 * 8);
        if rig.addr(partita_abi::init_cnode::VSPACE as u64) == root {
            // Its boot mappings have no capabilities.
            continue;
        }
        // A space that lost its PID for ever may have any entries: nothing walks it again.
        if pid != 0 && rig.root_of(pid) == Some(root) {
            walk(rig, w, root, pid, 0, 39);
        } else if pid == 0 {
            assert!(
                (0..8192).all(|i| rig.m.read_pte(root + 8 * i) == 0),
                "used before its PID"
            );
        }
    }
    for pool in 0..limits::MAX_ASID_POOLS as u64 {
        for i in 0..limits::ASIDS_PER_POOL as u64 {
            if let Some(root) = rig.root_of(pool * limits::ASIDS_PER_POOL as u64 + i) {
                assert!(w.vspaces.contains(&root), "a PID of a dead address space");
            }
        }
    }
}

/// What a GSpace leads to is there: tables and pages whose capabilities say that they stand at that place.
fn guest_memory(rig: &Rig, w: &World) {
    for (lpid, cell) in rig.m.global().gspaces.iter().enumerate() {
        let addr = cell.get();
        if addr == 0 {
            continue;
        }
        assert!(w.gspaces.contains(&addr), "an LPID of a dead GSpace");
        let g: &GSpace = rig.m.object(addr);
        assert_eq!(g.lpid.get(), lpid as u64, "LPID of {addr:#x}");
        let stands = |cap: &Cap, gpa: u64| match cap {
            Cap::GPageTable { mapping, .. } | Cap::Frame(Frame { mapping, .. }) => {
                *mapping
                    == Some(Mapping {
                        pid: lpid as u64 | Mapping::GUEST,
                        vaddr: gpa,
                    })
            }
            _ => false,
        };
        let table_at = |at: u64, gpa: u64| -> &GPageTable {
            let there = |cap: &Cap| matches!(cap, Cap::GPageTable { addr, .. } if *addr == at);
            let good = w.slots.values().any(|cap| there(cap) && stands(cap, gpa));
            assert!(
                good,
                "LPID {lpid}: {gpa:#x} has table {at:#x} of no capability"
            );
            rig.m.object(at)
        };
        let page_at = |at: u64, gpa: u64| {
            let good = w.slots.values().any(|cap| match cap {
                Cap::Frame(f) => {
                    let base = gpa >> f.bits << f.bits;
                    stands(cap, base) && at == f.addr + (gpa - base)
                }
                _ => false,
            });
            assert!(good, "LPID {lpid}: {gpa:#x} leads to {at:#x} for no frame");
        };
        for (i, table) in g.tables.iter().enumerate() {
            let Some(table) = table.get() else { continue };
            let base = (i as u64) << 30;
            for (i, leaf) in table_at(table.addr(), base).leaves.iter().enumerate() {
                let gpa = base + ((i as u64) << 21);
                match leaf.get() {
                    0 => {}
                    word if word & GUEST_TABLE != 0 => {
                        let inner = table_at(word & ADDR & !0xfff, gpa);
                        for (i, leaf) in inner.leaves.iter().enumerate() {
                            if leaf.get() != 0 {
                                page_at(leaf.get() & ADDR & !0xfff, gpa + ((i as u64) << 12));
                            }
                        }
                    }
                    word => page_at(word & ADDR & !0xfff, gpa),
                }
            }
        }
    }
}

/// Real address of a guest's page.
fn guest_page(rig: &Rig, g: &GSpace, gpa: u64) -> Option<u64> {
    let mut table = g.tables[(gpa >> 30) as usize].get()?;
    let mut word =
        rig.m.object::<GPageTable>(table.addr()).leaves[(gpa >> 21) as usize & 511].get();
    if word & GUEST_TABLE != 0 {
        table = Ref::new(word & ADDR & !0xfff)?;
        word = rig.m.object::<GPageTable>(table.addr()).leaves[(gpa >> 12) as usize & 511].get();
    }
    (word != 0).then_some(word & ADDR & !0xfff)
}

/// A VCPU, its thread and its guest know each other; it sleeps only if its thread rests, and counts only in a page that a
/// view holds.
fn processors(rig: &Rig, w: &World) {
    for &addr in &w.vcpus {
        let v: &Vcpu = rig.m.object(addr);
        let guest = addr_of(&v.gspace);
        assert_eq!(
            v.tcb.is_none(),
            guest.is_none(),
            "VCPU {addr:#x} is half bound"
        );
        if let Some(t) = addr_of(&v.tcb) {
            assert!(w.threads.contains(&t), "VCPU {addr:#x} has a dead thread");
            let t = thread(rig, t);
            assert_eq!((t.vcpu.get(), t.kind.get()), (addr, thread_kind::VCPU));
            let inactive = t.state.get() == ThreadState::Inactive as u64;
            assert!(
                inactive || v.rest.get() == rest::NONE,
                "VCPU {addr:#x} rests"
            );
        }
        if v.timer.armed.get() != 0 {
            assert_eq!(v.rest.get(), rest::IDLE, "VCPU {addr:#x} would wake");
        }
        for slot in &v.routes {
            let cap = slot.cap();
            assert!(cap.is_null() || matches!(cap, Cap::Endpoint { .. }));
        }
        let counter = v.dispatch_counter.get();
        if counter != 0 {
            let g: &GSpace = rig.m.object(guest.expect("a counter without a guest"));
            let shown = g.views.iter().any(|view| {
                view.place.get() == v.dispatch_counter_view.get()
                    && view.gpa.get() != TAKEN_AWAY
                    && guest_page(rig, g, view.gpa.get()) == Some(counter & !0xfff)
            });
            assert!(shown, "VCPU {addr:#x} counts in a page that nothing holds");
        }
    }
    for &t in &w.threads {
        let t = thread(rig, t);
        let vcpu = t.vcpu.get();
        assert_eq!(vcpu != 0, t.kind.get() == thread_kind::VCPU);
        assert!(vcpu == 0 || w.vcpus.contains(&vcpu), "a dead VCPU");
    }
    for &addr in &w.gspaces {
        let g: &GSpace = rig.m.object(addr);
        let mut next = addr_of(&g.vcpus);
        while let Some(at) = next {
            assert!(w.vcpus.contains(&at), "GSpace {addr:#x} has a dead VCPU");
            let v: &Vcpu = rig.m.object(at);
            assert_eq!(addr_of(&v.gspace), Some(addr));
            next = addr_of(&v.next);
        }
    }
}

fn walk(rig: &Rig, w: &World, table: u64, pid: u64, base: u64, shift: u32) {
    // User addresses end at 2^46: the upper part of the root is never walked.
    let entries = if shift == 39 { 128 } else { 512 };
    for i in 0..entries {
        let pte = rig.m.read_pte(table + 8 * i);
        if pte & VALID == 0 {
            continue;
        }
        let vaddr = base + (i << shift);
        if pte & LEAF != 0 {
            let real = pte & ADDR;
            let write = pte & 2 != 0;
            let fits = w.slots.values().any(|cap| match cap {
                Cap::Frame(f) => f.mapping.is_some_and(|m| {
                    m.pid == pid
                        && vaddr >= m.vaddr
                        && vaddr + (1 << shift) <= m.vaddr + (1 << f.bits)
                        && real == f.addr + (vaddr - m.vaddr)
                        && (!write || f.rights.contains(CapRights::WRITE))
                }),
                _ => false,
            });
            assert!(fits, "PID {pid}: {vaddr:#x} maps {real:#x} for no frame");
        } else {
            let next = pte & ADDR & !0xff;
            let mapped = w.slots.values().any(|cap| match cap {
                Cap::PageTable {
                    addr,
                    mapping: Some(m),
                } => *addr == next && m.pid == pid && m.vaddr == vaddr,
                _ => false,
            });
            assert!(
                mapped,
                "PID {pid}: {vaddr:#x} has table {next:#x} of no capability"
            );
            walk(rig, w, next, pid, vaddr, shift - 9);
        }
    }
}
