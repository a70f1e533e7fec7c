// SPDX-License-Identifier: BSD-2-Clause
//! What core 0 does to threads that core 1 runs. The mock notes when a core is stopped or kicked; core 1
//! makes its kernel entries when a test says so.

use crate::invariants::check;
use crate::mock::Event;
use crate::rig::{Rig, Thread};
use partita_abi::{InvocationLabel as L, ObjectType, init_cnode, syscall, user_context};
use partita_kernel_core::Kernel;
use partita_kernel_core::object::{
    Core, Endpoint, Notification, Reply, ThreadState, entry, reschedule,
};

const AUTHORITY: u64 = init_cnode::TCB as u64;

fn other(rig: &Rig) -> &Core {
    &rig.m.global().cores[1]
}

/// A kernel entry of core 1 that does nothing but choose.
fn choose(rig: &Rig) {
    Kernel::new(&*rig.m, rig.m.global(), other(rig)).finish();
    check(rig);
}

/// Moves a thread's scheduling context.
fn configure(rig: &Rig, core: u64, thread: &Thread) {
    let words = [10_000, 10_000, 0, 0, 0];
    let control = rig.sched_control + core;
    rig.ok(control, L::SchedControlConfigureFlags, &words, &[thread.sc]);
}

/// A thread that core 1 runs.
fn running(rig: &Rig, priority: u64) -> Thread {
    let thread = rig.thread(priority);
    configure(rig, 1, &thread);
    choose(rig);
    assert!(other(rig).current.is(thread.t));
    rig.m.log.borrow_mut().clear();
    thread
}

fn stops(rig: &Rig) -> usize {
    let log = rig.m.log.borrow();
    log.iter().filter(|e| **e == Event::StopCore(1)).count()
}

fn kicks(rig: &Rig) -> usize {
    let log = rig.m.log.borrow();
    log.iter().filter(|e| **e == Event::Kick(1)).count()
}

#[test]
fn multicore0005_suspending_a_running_thread_stops_its_core() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    let pc = rig.tcb(thread.t).context.pc.get();
    rig.ok(thread.tcb, L::TCBSuspend, &[], &[]);
    assert_eq!(stops(&rig), 1);
    assert!(other(&rig).current.is_none() && other(&rig).current_sc.is_none());
    assert_eq!(rig.state(thread.t), ThreadState::Inactive);
    assert_eq!(rig.tcb(thread.t).context.pc.get(), pc);
    check(&rig);
    choose(&rig);
    assert!(other(&rig).current.is_none());
    // One that does not run anywhere is nobody's to stop.
    rig.ok(thread.tcb, L::TCBSuspend, &[], &[]);
    assert_eq!(stops(&rig), 1);
    rig.ok(thread.tcb, L::TCBResume, &[], &[]);
    assert_eq!(kicks(&rig), 1);
    choose(&rig);
    assert!(other(&rig).current.is(thread.t));
}

#[test]
fn multicore0006_what_it_came_for_is_done_again() {
    let rig = Rig::new();
    for (what, back) in [(entry::CALL, 4), (entry::FAULT, 0), (entry::NONE, 0)] {
        let thread = running(&rig, 60);
        let pc = rig.tcb(thread.t).context.pc.get();
        other(&rig).entry.set(what);
        rig.ok(thread.tcb, L::TCBSuspend, &[], &[]);
        assert_eq!(rig.tcb(thread.t).context.pc.get(), pc - back);
        assert_eq!(other(&rig).entry.get(), entry::NONE);
        choose(&rig);
    }
}

#[test]
fn multicore0007_registers_of_a_running_thread() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    rig.tcb(thread.t).context.gpr[5].set(77);
    let words = rig.ok(
        thread.tcb,
        L::TCBReadRegisters,
        &[0, user_context::COUNT as u64],
        &[],
    );
    assert!(words.contains(&77));
    assert_eq!(stops(&rig), 1);
    // It is ready, and first.
    assert_eq!(rig.tcb(thread.t).queued.get(), 1);
    check(&rig);
    choose(&rig);
    assert!(other(&rig).current.is(thread.t));
    for label in [L::TCBWriteRegisters, L::TCBSetTLSBase] {
        rig.ok(thread.tcb, label, &[0, 1, 0x20_0000], &[]);
        choose(&rig);
    }
    assert_eq!(stops(&rig), 3);
}

#[test]
fn multicore0008_deleting_a_running_thread() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    rig.delete(thread.tcb);
    assert!(stops(&rig) >= 1);
    assert!(other(&rig).current.is_none() && other(&rig).current_sc.is_none());
    choose(&rig);
}

#[test]
fn multicore0010_affinity_of_a_running_thread() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    configure(&rig, 0, &thread);
    assert_eq!(stops(&rig), 1);
    assert!(other(&rig).current.is_none());
    assert_eq!(rig.tcb(thread.t).core.get(), 0);
    check(&rig);
    choose(&rig);
    configure(&rig, 1, &thread);
    choose(&rig);
    assert!(other(&rig).current.is(thread.t));
    // New parameters for the core where it is: it goes on, and its core sets its timer.
    rig.m.log.borrow_mut().clear();
    configure(&rig, 1, &thread);
    assert!(other(&rig).current.is(thread.t));
    assert_eq!((stops(&rig), kicks(&rig)), (0, 1));
    assert_eq!(other(&rig).deadline.get(), 0);
}

#[test]
fn multicore0014_priorities_on_another_core() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    let worse = rig.thread(50);
    configure(&rig, 1, &worse);
    // A worse thread is no reason to interrupt.
    assert_eq!(kicks(&rig), 0);
    assert_eq!(other(&rig).reschedule.get(), reschedule::CHOOSE);
    let better = rig.thread(70);
    configure(&rig, 1, &better);
    assert_eq!(kicks(&rig), 1);
    choose(&rig);
    assert!(other(&rig).current.is(better.t));
    // The priority of the running one.
    rig.ok(better.tcb, L::TCBSetPriority, &[40], &[AUTHORITY]);
    assert_eq!(kicks(&rig), 2);
    assert_eq!(stops(&rig), 0);
    choose(&rig);
    assert!(other(&rig).current.is(thread.t));
    check(&rig);
}

#[test]
fn multicore0017_an_address_space_ends_under_a_running_thread() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    let space = rig.make(ObjectType::VSpace);
    rig.ok(
        init_cnode::ASID_POOL as u64,
        L::ASIDPoolAssign,
        &[],
        &[space],
    );
    let cnode = init_cnode::CNODE as u64;
    rig.ok(thread.tcb, L::TCBSetSpace, &[0, 0], &[0, cnode, space]);
    // It must not go on with the old translations.
    assert!(other(&rig).current.is_none());
    choose(&rig);
    assert!(other(&rig).current.is(thread.t));
    let before = stops(&rig);
    rig.revoke(space);
    assert_eq!(stops(&rig), before + 1);
    assert_eq!(rig.tcb(thread.t).pid.get(), 0);
    choose(&rig);
}

#[test]
fn multicore0019_time_is_charged_where_it_is_used() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    let us = |n: u64| n * crate::mock::TICKS_PER_US;
    rig.m.now.set(rig.m.now.get() + us(300));
    let words = rig.ok(thread.sc, L::SchedContextConsumed, &[], &[]);
    assert_eq!(words, [300]);
    rig.m.now.set(rig.m.now.get() + us(200));
    rig.ok(thread.tcb, L::TCBSuspend, &[], &[]);
    rig.m.now.set(rig.m.now.get() + us(100));
    choose(&rig);
    let words = rig.ok(thread.sc, L::SchedContextConsumed, &[], &[]);
    assert_eq!(words, [200]);
}

#[test]
fn multicore0020_a_scheduling_context_is_taken_from_a_running_thread() {
    let rig = Rig::new();
    let thread = running(&rig, 60);
    rig.ok(thread.sc, L::SchedContextUnbind, &[], &[]);
    assert_eq!(stops(&rig), 1);
    assert!(other(&rig).current.is_none() && other(&rig).current_sc.is_none());
    assert_eq!(rig.state(thread.t), ThreadState::Restart);
    choose(&rig);
    rig.ok(thread.sc, L::SchedContextBind, &[], &[thread.tcb]);
    choose(&rig);
    assert!(other(&rig).current.is(thread.t));
    rig.delete(thread.sc);
    assert_eq!(stops(&rig), 2);
    choose(&rig);
    assert!(other(&rig).current.is_none());
}

/// A system call of the thread that core 1 runs.
fn syscall_there(rig: &Rig, thread: &Thread, number: isize, cptr: u64) {
    assert!(other(rig).current.is(thread.t));
    rig.set_gpr(thread.t, 0, number as u64);
    rig.set_gpr(thread.t, 3, cptr);
    let k = Kernel::new(&*rig.m, rig.m.global(), other(rig));
    k.syscall();
    k.finish();
    check(rig);
}

#[test]
fn multicore0025_what_is_received_with_is_at_home_where_it_was_received() {
    use partita_kernel_core::machine::Machine;
    let rig = Rig::new();
    let (ep, ntfn) = (
        rig.make(ObjectType::Endpoint),
        rig.make(ObjectType::Notification),
    );
    let waited = rig.make(ObjectType::Notification);
    let endpoint: &Endpoint = rig.m.object(rig.addr(ep));
    let notification: &Notification = rig.m.object(rig.addr(ntfn));
    let there = running(&rig, 60);
    let reply: &Reply = rig.m.object(rig.addr(there.reply));
    rig.ok(there.tcb, L::TCBBindNotification, &[], &[ntfn]);
    let homes = || {
        (
            endpoint.state.get() >> 8,
            notification.home.get(),
            reply.home.get(),
        )
    };
    assert_eq!(homes(), (0, 0, 0));
    rig.set_gpr(there.t, 14, there.reply);
    syscall_there(&rig, &there, syscall::RECV, ep);
    assert_eq!(rig.state(there.t), ThreadState::BlockedOnReceive);
    assert_eq!(homes(), (1, 1, 1));
    // A signal from another core changes nothing of that.
    rig.nb_send(rig.root, ntfn, &[]);
    choose(&rig);
    assert_eq!(homes(), (1, 1, 1));
    // Moved, it takes them along when it receives next.
    configure(&rig, 0, &there);
    assert_eq!(homes(), (1, 1, 1));
    rig.recv(there.t, ep, there.reply);
    assert_eq!(homes(), (0, 0, 0));
    // So does a thread that waits, also if something has come already.
    let waiter = running(&rig, 50);
    let object: &Notification = rig.m.object(rig.addr(waited));
    for signalled in [true, false] {
        object.home.set(0);
        if signalled {
            rig.nb_send(rig.root, waited, &[]);
        }
        syscall_there(&rig, &waiter, syscall::WAIT, waited);
        assert_eq!(object.home.get(), 1);
    }
    assert_eq!(rig.state(waiter.t), ThreadState::BlockedOnNotification);
}
