// SPDX-License-Identifier: BSD-2-Clause
//! Interrupts and the platform.

use crate::invariants::check;
use crate::mock::{Event, LAST_IRQ};
use crate::rig::{EMPTY, Rig};
use partita_abi::{ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode, limits, syscall};
use partita_kernel_core::Kernel;
use partita_kernel_core::cap::Cap;
use partita_kernel_core::object::Core;

const ROOT: u64 = init_cnode::CNODE as u64;
const CONTROL: u64 = init_cnode::IRQ_CONTROL as u64;

fn handler(rig: &Rig, irq: u64) -> u64 {
    let slot = rig.fresh();
    rig.ok(CONTROL, L::IRQIssueIRQHandler, &[irq, slot, 64], &[ROOT]);
    slot
}

fn poll(rig: &Rig, ntfn: u64) -> u64 {
    rig.syscall(rig.root, syscall::NB_WAIT, ntfn);
    rig.badge(rig.root)
}

fn interrupt(rig: &Rig, irq: u64) {
    let k = rig.k();
    k.external_interrupt(irq);
    k.finish();
    check(rig);
}

#[test]
fn interrupt0002_an_interrupt_signals_and_is_acknowledged() {
    let rig = Rig::new();
    let ntfn = rig.make(ObjectType::Notification);
    let badged = rig.mint(ntfn, 1, 4);
    let h = handler(&rig, 7);
    // Without a notification it is masked and forgotten.
    interrupt(&rig, 7);
    assert_eq!(rig.m.log.borrow().last(), Some(&Event::IrqMask(7)));
    rig.ok(h, L::IRQSetIRQHandler, &[], &[badged]);
    assert_eq!(poll(&rig, ntfn), 0);
    rig.ok(h, L::IRQAckIRQ, &[], &[]);
    assert_eq!(rig.m.log.borrow().last(), Some(&Event::IrqAck(7)));
    interrupt(&rig, 7);
    assert_eq!(rig.m.log.borrow().last(), Some(&Event::IrqMask(7)));
    assert_eq!(poll(&rig, ntfn), 4);
    // Others are nobody's.
    interrupt(&rig, 8);
    assert_eq!(poll(&rig, ntfn), 0);
    rig.ok(h, L::IRQClearIRQHandler, &[], &[]);
    interrupt(&rig, 7);
    assert_eq!(poll(&rig, ntfn), 0);
    check(&rig);
}

#[test]
fn interrupt0009_it_follows_the_core_that_acknowledges() {
    let rig = Rig::new();
    let h = handler(&rig, 7);
    let thread = rig.thread(60);
    let words = [10_000, 10_000, 0, 0, 0];
    let configure = L::SchedControlConfigureFlags;
    rig.ok(rig.sched_control + 1, configure, &words, &[thread.sc]);
    let other = &rig.m.global().cores[1];
    let acknowledge = |core: &Core| {
        rig.m.log.borrow_mut().clear();
        if core.id.get() == 0 {
            rig.ok(h, L::IRQAckIRQ, &[], &[]);
        } else {
            let k = Kernel::new(&*rig.m, rig.m.global(), core);
            k.finish();
            assert!(core.current.is(thread.t));
            rig.message(thread.t, L::IRQAckIRQ as u64, &[], &[]);
            rig.set_gpr(thread.t, 0, syscall::CALL as u64);
            rig.set_gpr(thread.t, 3, h);
            k.syscall();
            k.finish();
        }
        rig.m.log.borrow().clone()
    };
    let moved = [Event::IrqRoute(7), Event::IrqAck(7)];
    assert_eq!(acknowledge(rig.core()), [Event::IrqAck(7)]);
    for _ in 0..2 {
        assert_eq!(acknowledge(other), moved);
        assert_eq!(acknowledge(other), [Event::IrqAck(7)]);
        assert_eq!(acknowledge(rig.core()), moved);
    }
    check(&rig);
}

#[test]
fn interrupt0003_misuse() {
    let rig = Rig::new();
    let h = handler(&rig, 7);
    let refused = |args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(CONTROL, L::IRQIssueIRQHandler, args, caps, e, d);
    };
    for n in 0..3 {
        refused(&[8, EMPTY, 64][..n], &[ROOT], E::TruncatedMessage, &[]);
    }
    refused(&[8, EMPTY, 64], &[], E::TruncatedMessage, &[]);
    refused(&[7, EMPTY, 64], &[ROOT], E::RevokeFirst, &[]);
    refused(&[8, h, 64], &[ROOT], E::DeleteFirst, &[]);
    refused(&[8, EMPTY, 65], &[ROOT], E::RangeError, &[1, 64]);
    refused(&[8, EMPTY, 64], &[h], E::FailedLookup, &[0, 1, 0, 0, 0]);
    refused(
        &[LAST_IRQ + 1, EMPTY, 64],
        &[ROOT],
        E::InvalidArgument,
        &[0],
    );
    let trigger = L::IRQIssueIRQHandlerTrigger;
    for n in 0..4 {
        let args = &[8, 1, EMPTY, 64][..n];
        rig.refused(CONTROL, trigger, args, &[ROOT], E::TruncatedMessage, &[]);
    }
    let ep = rig.make(ObjectType::Endpoint);
    let n = rig.make(ObjectType::Notification);
    let weak = rig.mint(n, 2, 1);
    rig.refused(h, L::IRQSetIRQHandler, &[], &[], E::TruncatedMessage, &[]);
    for bad in [ep, weak] {
        rig.refused(
            h,
            L::IRQSetIRQHandler,
            &[],
            &[bad],
            E::InvalidCapability,
            &[1],
        );
    }
    rig.refused(h, L::TimerSet, &[], &[], E::IllegalOperation, &[]);
    check(&rig);
}

#[test]
fn interrupt0004_handlers_end_with_their_last_capability() {
    let rig = Rig::new();
    let ntfn = rig.make(ObjectType::Notification);
    let h = handler(&rig, 7);
    let copy = rig.copy(h);
    rig.ok(copy, L::IRQSetIRQHandler, &[], &[ntfn]);
    rig.delete(h);
    check(&rig);
    assert_eq!(rig.m.global().irqs[0].used.get(), 1);
    rig.delete(copy);
    assert_eq!(rig.m.global().irqs[0].used.get(), 0);
    assert!(rig.m.global().irqs[0].notification.is_empty());
    check(&rig);
    let again = handler(&rig, 7);
    rig.ok(again, L::IRQSetIRQHandler, &[], &[ntfn]);
    // The notification may go first.
    rig.revoke(ntfn);
    rig.delete(ntfn);
    interrupt(&rig, 7);
    // Revoking the control capability takes all handlers.
    rig.revoke(CONTROL);
    assert_eq!(
        (rig.cap(again), rig.m.global().irqs[0].used.get()),
        (Cap::Null, 0)
    );
    check(&rig);
}

#[test]
fn interrupt0005_as_many_handlers_as_there_is_room() {
    let rig = Rig::new();
    for irq in 0..limits::MAX_IRQS as u64 {
        handler(&rig, irq);
    }
    rig.refused(
        CONTROL,
        L::IRQIssueIRQHandler,
        &[500, EMPTY, 64],
        &[ROOT],
        E::NotEnoughMemory,
        &[0],
    );
    check(&rig);
}

#[test]
fn interrupt0006_a_handler_changes_its_notification() {
    let rig = Rig::new();
    let (n, m) = (
        rig.make(ObjectType::Notification),
        rig.make(ObjectType::Notification),
    );
    let (bn, bm) = (rig.mint(n, 1, 1), rig.mint(m, 1, 2));
    let h = handler(&rig, 9);
    rig.ok(h, L::IRQSetIRQHandler, &[], &[bn]);
    rig.ok(h, L::IRQSetIRQHandler, &[], &[bm]);
    // Again the same one.
    rig.ok(h, L::IRQSetIRQHandler, &[], &[bm]);
    interrupt(&rig, 9);
    assert_eq!((poll(&rig, n), poll(&rig, m)), (0, 2));
    // The handler's copy is the last capability to `n`'s waiters' notification.
    rig.ok(h, L::IRQSetIRQHandler, &[], &[bn]);
    let th = rig.thread(100);
    rig.ok(th.tcb, L::TCBBindNotification, &[], &[n]);
    rig.delete(bn);
    rig.delete(n);
    check(&rig);
    rig.ok(h, L::IRQSetIRQHandler, &[], &[bm]);
    assert!(rig.tcb(th.t).bound_notification.is_none());
    check(&rig);
}

#[test]
fn platform_calls() {
    let rig = Rig::new();
    let platform = init_cnode::PLATFORM_CONTROL as u64;
    assert_eq!(
        rig.ok(platform, L::PlatformGetTime, &[], &[]),
        [0x2026_1120, 0x1122_3300]
    );
    rig.refused(
        platform,
        L::PlatformSetTime,
        &[1],
        &[],
        E::TruncatedMessage,
        &[],
    );
    rig.ok(platform, L::PlatformSetTime, &[1, 2], &[]);
    assert_eq!(rig.m.log.borrow().last(), Some(&Event::SetClock(1, 2)));
    // Firmware that is busy for long keeps nobody from being interrupted.
    rig.m.clock_busy.set(1000);
    rig.m.preempt_every.set(100);
    rig.ok(platform, L::PlatformSetTime, &[3, 4], &[]);
    assert!(rig.m.preemptions.get() >= 9);
    assert_eq!(rig.m.log.borrow().last(), Some(&Event::SetClock(3, 4)));
    rig.m.preempt_every.set(0);
    rig.m.clock.set(None);
    rig.m.clock_accepts.set(false);
    rig.refused(
        platform,
        L::PlatformGetTime,
        &[],
        &[],
        E::IllegalOperation,
        &[],
    );
    rig.refused(
        platform,
        L::PlatformSetTime,
        &[1, 2],
        &[],
        E::InvalidArgument,
        &[0],
    );
    rig.ok(platform, L::PlatformReboot, &[], &[]);
    rig.ok(platform, L::PlatformPowerOff, &[], &[]);
    assert!(
        rig.m
            .log
            .borrow()
            .ends_with(&[Event::Reboot, Event::PowerOff])
    );
}
