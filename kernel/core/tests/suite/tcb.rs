// SPDX-License-Identifier: BSD-2-Clause
//! TCB invocations and misuse of whatever can be invoked.

use crate::invariants::check;
use crate::rig::{ALL, EMPTY, Rig};
use partita_abi::{
    ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode, syscall, user_context as reg,
};
use partita_kernel_core::object::ThreadState as S;

const ROOT: u64 = init_cnode::CNODE as u64;
const TCB: u64 = init_cnode::TCB as u64;
const VSPACE: u64 = init_cnode::VSPACE as u64;

#[test]
fn threads0001_registers_are_written_read_and_copied() {
    let rig = Rig::new();
    let (a, b) = (rig.thread(100), rig.thread(100));
    let count = reg::COUNT as u64;
    let values: Vec<u64> = (0..count).map(|i| 0x5000 + i).collect();
    let mut write = vec![0, count];
    write.extend(&values);
    rig.ok(a.tcb, L::TCBWriteRegisters, &write, &[]);
    let mut expected = values.clone();
    // The machine state is not the user's.
    expected[reg::MSR] = 0;
    assert_eq!(
        rig.ok(a.tcb, L::TCBReadRegisters, &[0, count], &[]),
        expected
    );
    assert_eq!(
        rig.ok(a.tcb, L::TCBReadRegisters, &[0, 2], &[]),
        expected[..2]
    );
    assert_eq!(rig.state(a.t), S::Restart);
    // Copy: 4 is pc, r1 and cr, 8 the rest, 1 suspends the source, 2 resumes the destination.
    rig.ok(b.tcb, L::TCBSuspend, &[], &[]);
    let before = rig.ok(b.tcb, L::TCBReadRegisters, &[0, count], &[]);
    rig.ok(b.tcb, L::TCBCopyRegisters, &[4], &[a.tcb]);
    let after = rig.ok(b.tcb, L::TCBReadRegisters, &[0, count], &[]);
    for i in 0..reg::COUNT {
        let frame = [reg::PC, reg::R1, reg::CR].contains(&i);
        assert_eq!(
            after[i],
            if frame { expected[i] } else { before[i] },
            "register {i}"
        );
    }
    rig.ok(b.tcb, L::TCBCopyRegisters, &[1 | 2 | 4 | 8], &[a.tcb]);
    assert_eq!(
        rig.ok(b.tcb, L::TCBReadRegisters, &[0, count], &[]),
        expected
    );
    assert_eq!((rig.state(a.t), rig.state(b.t)), (S::Inactive, S::Restart));
    check(&rig);
    // ReadRegisters may stop the thread.
    rig.ok(b.tcb, L::TCBReadRegisters, &[1, 1], &[]);
    assert_eq!(rig.state(b.t), S::Inactive);
    check(&rig);
}

#[test]
fn threads0002_misuse_of_registers() {
    let rig = Rig::new();
    let a = rig.thread(100);
    let most = reg::COUNT as u64;
    let (read, write) = (L::TCBReadRegisters, L::TCBWriteRegisters);
    rig.refused(a.tcb, read, &[0], &[], E::TruncatedMessage, &[]);
    for count in [0, most + 1, u64::MAX] {
        rig.refused(a.tcb, read, &[1, count], &[], E::RangeError, &[1, most]);
    }
    rig.refused(TCB, read, &[0, 1], &[], E::IllegalOperation, &[]);
    rig.refused(TCB, write, &[0, 1, 5], &[], E::IllegalOperation, &[]);
    rig.refused(a.tcb, write, &[0], &[], E::TruncatedMessage, &[]);
    // Fewer words than announced.
    rig.refused(a.tcb, write, &[1, 3, 7, 7], &[], E::TruncatedMessage, &[]);
    rig.refused(
        a.tcb,
        write,
        &[1, u64::MAX, 7, 7],
        &[],
        E::TruncatedMessage,
        &[],
    );
    rig.refused(
        a.tcb,
        L::TCBCopyRegisters,
        &[],
        &[a.tcb],
        E::TruncatedMessage,
        &[],
    );
    rig.refused(
        a.tcb,
        L::TCBCopyRegisters,
        &[15],
        &[],
        E::TruncatedMessage,
        &[],
    );
    rig.refused(
        a.tcb,
        L::TCBCopyRegisters,
        &[15],
        &[ROOT],
        E::InvalidCapability,
        &[1],
    );
    check(&rig);
}

#[test]
fn tcb_priorities_are_bounded_by_the_authority() {
    let rig = Rig::new();
    let (a, weak) = (rig.thread(100), rig.thread(100));
    rig.ok(weak.tcb, L::TCBSetMCPriority, &[50], &[TCB]);
    for label in [L::TCBSetPriority, L::TCBSetMCPriority] {
        rig.refused(a.tcb, label, &[], &[TCB], E::TruncatedMessage, &[]);
        rig.refused(a.tcb, label, &[1], &[], E::TruncatedMessage, &[]);
        rig.refused(a.tcb, label, &[1], &[ROOT], E::InvalidCapability, &[1]);
        rig.refused(a.tcb, label, &[51], &[weak.tcb], E::RangeError, &[0, 50]);
        rig.refused(a.tcb, label, &[256], &[TCB], E::RangeError, &[0, 255]);
        rig.refused(a.tcb, label, &[u64::MAX], &[TCB], E::RangeError, &[0, 255]);
        rig.ok(a.tcb, label, &[50], &[weak.tcb]);
    }
    assert_eq!(
        (rig.tcb(a.t).priority.get(), rig.tcb(a.t).mcp.get()),
        (50, 50)
    );
    check(&rig);
}

#[test]
fn tcb_sched_params_misuse() {
    let rig = Rig::new();
    let (a, b) = (rig.passive_thread(100), rig.thread(100));
    let ep = rig.make(ObjectType::Endpoint);
    let set = L::TCBSetSchedParams;
    let good = [TCB, a.sc, ep];
    let refused = |args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(a.tcb, set, args, caps, e, d);
    };
    refused(&[1], &good, E::TruncatedMessage, &[]);
    for n in 0..3 {
        refused(&[1, 1], &good[..n], E::TruncatedMessage, &[]);
    }
    refused(&[1, 1], &[ROOT, a.sc, ep], E::InvalidCapability, &[1]);
    refused(&[256, 1], &good, E::RangeError, &[0, 255]);
    refused(&[1, 256], &good, E::RangeError, &[0, 255]);
    refused(&[1, 1], &[TCB, ROOT, ep], E::InvalidCapability, &[2]);
    refused(&[1, 1], &[TCB, a.sc, ROOT], E::InvalidCapability, &[3]);
    // A handler needs Write and Grant or GrantReply.
    for rights in [1, 2, 3, 12, 14] {
        let weak = rig.mint(ep, rights, 0);
        refused(&[1, 1], &[TCB, a.sc, weak], E::InvalidCapability, &[3]);
        rig.refused(
            a.tcb,
            L::TCBSetTimeoutEndpoint,
            &[],
            &[weak],
            E::InvalidCapability,
            &[1],
        );
        rig.refused(
            a.tcb,
            L::TCBSetSpace,
            &[0, 0],
            &[weak, ROOT, VSPACE],
            E::InvalidCapability,
            &[1],
        );
    }
    // Another's scheduling context; a second one.
    refused(&[1, 1], &[TCB, b.sc, ep], E::IllegalOperation, &[]);
    rig.refused(
        b.tcb,
        set,
        &[1, 1],
        &[TCB, a.sc, ep],
        E::IllegalOperation,
        &[],
    );
    // A thread does not take its own away.
    rig.refused(
        TCB,
        set,
        &[1, 1],
        &[TCB, EMPTY, ep],
        E::IllegalOperation,
        &[],
    );
    rig.ok(a.tcb, set, &[7, 6], &good);
    assert!(rig.can_run(a.t));
    check(&rig);
    rig.ok(a.tcb, set, &[7, 6], &[TCB, EMPTY, EMPTY]);
    assert!(!rig.can_run(a.t));
    check(&rig);
}

#[test]
fn tcb_spaces_misuse() {
    let rig = Rig::new();
    let a = rig.thread(100);
    let frame = rig.make(ObjectType::Frame4K);
    let unassigned = rig.make(ObjectType::VSpace);
    let refused = |label: L, args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(a.tcb, label, args, caps, e, d);
    };
    let illegal = E::IllegalOperation;
    for (label, args, caps) in [
        (
            L::TCBConfigure,
            vec![0, 0, 0x1000],
            vec![ROOT, VSPACE, frame],
        ),
        (L::TCBSetSpace, vec![0, 0], vec![EMPTY, ROOT, VSPACE]),
    ] {
        for n in 0..args.len() {
            refused(label, &args[..n], &caps, E::TruncatedMessage, &[]);
        }
        for n in 0..3 {
            refused(label, &args, &caps[..n], E::TruncatedMessage, &[]);
        }
        let first = caps.iter().position(|&c| c == ROOT).expect("the CSpace");
        for (i, bad) in [
            (first, VSPACE),
            (first, EMPTY),
            (first + 1, ROOT),
            (first + 1, unassigned),
        ] {
            let mut caps = caps.clone();
            caps[i] = bad;
            refused(label, &args, &caps, illegal, &[]);
        }
        // A guard that does not fit in the word.
        let mut wide = args.clone();
        wide[0] = 63;
        refused(label, &wide, &caps, illegal, &[]);
    }
    refused(
        L::TCBConfigure,
        &[0, 0, 0x1008],
        &[ROOT, VSPACE, frame],
        E::AlignmentError,
        &[],
    );
    refused(
        L::TCBConfigure,
        &[0, 0, 0x1000],
        &[ROOT, VSPACE, ROOT],
        illegal,
        &[],
    );
    refused(L::TCBSetTimeoutEndpoint, &[], &[], E::TruncatedMessage, &[]);
    refused(L::TCBSetTLSBase, &[], &[], E::TruncatedMessage, &[]);
    refused(L::TCBSetFlags, &[0], &[], E::TruncatedMessage, &[]);
    refused(L::CNodeCopy, &[], &[], illegal, &[]);
    check(&rig);
    rig.ok(a.tcb, L::TCBSetTLSBase, &[0x7000], &[]);
    assert_eq!(rig.gpr(a.t, 13), 0x7000);
    // No PD has floating point: bit 0 stays.
    assert_eq!(rig.ok(a.tcb, L::TCBSetFlags, &[1, 0], &[]), [1]);
}

/// The CNode that holds the new VSpace capability goes with the old CSpace: the thread must not keep
/// the PID of a space that it has no capability to.
#[test]
fn tcb_set_space_that_takes_its_own_source_away() {
    let rig = Rig::new();
    let a = rig.thread(100);
    let other = rig.make(ObjectType::VSpace);
    rig.ok(
        init_cnode::ASID_POOL as u64,
        L::ASIDPoolAssign,
        &[],
        &[other],
    );
    let cnode = rig.make_many(ObjectType::CNode, 3, 1);
    // Of the CNode: 1 itself, 2 the thread, 3 the new VSpace, 4 the root CNode.
    let root_without_guard = rig.mint(ROOT, ALL, 0);
    rig.ok(cnode, L::CNodeCopy, &[2, 3, a.tcb, 64, ALL], &[ROOT]);
    rig.ok(cnode, L::CNodeCopy, &[3, 3, other, 64, ALL], &[ROOT]);
    rig.ok(
        cnode,
        L::CNodeCopy,
        &[4, 3, root_without_guard, 64, ALL],
        &[ROOT],
    );
    rig.ok(a.tcb, L::TCBSetSpace, &[61, 0], &[EMPTY, cnode, VSPACE]);
    rig.delete(cnode);
    rig.message(a.t, L::TCBSetSpace as u64, &[54, 0], &[0, 4, 3]);
    rig.syscall(a.t, syscall::CALL, 2);
    check(&rig);
}

/// The only capability to the frame goes with the old CSpace: the kernel must not write messages to memory that may be
/// anything by then.
#[test]
fn tcb_configure_that_takes_its_own_buffer_away() {
    let rig = Rig::new();
    let a = rig.thread(100);
    let cnode = rig.make_many(ObjectType::CNode, 3, 1);
    let frame = rig.make(ObjectType::Frame4K);
    // Of the CNode: 2 the thread, 3 the new CSpace, 4 the VSpace, 5 the frame.
    let root_without_guard = rig.mint(ROOT, ALL, 0);
    for (to, from) in [(2, a.tcb), (3, root_without_guard), (4, VSPACE)] {
        rig.ok(cnode, L::CNodeCopy, &[to, 3, from, 64, ALL], &[ROOT]);
    }
    rig.ok(cnode, L::CNodeMove, &[5, 3, frame, 64], &[ROOT]);
    rig.ok(a.tcb, L::TCBSetSpace, &[61, 0], &[EMPTY, cnode, VSPACE]);
    rig.delete(cnode);
    rig.message(a.t, L::TCBConfigure as u64, &[54, 0, 0x7000], &[3, 4, 5]);
    rig.syscall(a.t, syscall::CALL, 2);
    assert_eq!(rig.tcb(a.t).ipc_buffer.get(), 0);
    check(&rig);
}

/// The last capability to the thread goes with its old CSpace: nothing is put into a TCB that its memory's owner thinks
/// is gone.
#[test]
fn tcb_set_space_that_takes_the_thread_away() {
    for preempt in [0, 1] {
        let rig = Rig::new();
        let a = rig.thread(100);
        let (old, kept) = (
            rig.make_many(ObjectType::CNode, 3, 1),
            rig.make_many(ObjectType::CNode, 4, 1),
        );
        // Of the old CNode: 2 the thread, 6 the other one, which has 1 the new CSpace and 2 the VSpace.
        let root_without_guard = rig.mint(ROOT, ALL, 0);
        rig.ok(old, L::CNodeCopy, &[2, 3, a.tcb, 64, ALL], &[ROOT]);
        rig.ok(old, L::CNodeCopy, &[6, 3, kept, 64, ALL], &[ROOT]);
        for (to, from) in [(1, root_without_guard), (2, VSPACE)] {
            rig.ok(kept, L::CNodeCopy, &[to, 4, from, 64, ALL], &[ROOT]);
        }
        rig.ok(a.tcb, L::TCBSetSpace, &[57, 0], &[EMPTY, old, VSPACE]);
        rig.delete(a.tcb);
        rig.delete(old);
        rig.m.preempt_every.set(preempt);
        let caps = [6 << 4 | 3, 6 << 4 | 1, 6 << 4 | 2];
        rig.message(a.t, L::TCBSetSpace as u64, &[54, 0], &caps);
        rig.syscall(a.t, syscall::CALL, 2 << 4);
        rig.m.preempt_every.set(0);
        check(&rig);
        rig.revoke(rig.untyped);
        check(&rig);
    }
}

#[test]
fn labels_that_do_not_fit_are_illegal_everywhere() {
    let rig = Rig::new();
    let th = rig.thread(100);
    let timer = rig.make(ObjectType::Timer);
    let frame = rig.make(ObjectType::Frame4K);
    let table = rig.make(ObjectType::PageTable);
    let objects = [
        (th.tcb, L::TCBReadRegisters as u64..=L::TCBSetFlags as u64),
        (ROOT, L::CNodeRevoke as u64..=L::CNodeRotate as u64),
        (
            rig.untyped,
            L::UntypedRetype as u64..=L::UntypedRetype as u64,
        ),
        (
            th.sc,
            L::SchedContextConsumed as u64..=L::SchedContextYieldTo as u64,
        ),
        (
            rig.sched_control,
            L::SchedControlConfigureFlags as u64..=L::SchedControlConfigureFlags as u64,
        ),
        (frame, L::PageMap as u64..=L::PageGetAddress as u64),
        (table, L::PageTableMap as u64..=L::PageTableUnmap as u64),
        (timer, L::TimerSet as u64..=L::TimerSetNotification as u64),
        (
            init_cnode::PLATFORM_CONTROL as u64,
            L::PlatformPowerOff as u64..=L::PlatformSetTime as u64,
        ),
        (
            init_cnode::IRQ_CONTROL as u64,
            L::IRQIssueIRQHandler as u64..=L::IRQIssueIRQHandlerTrigger as u64,
        ),
        (
            init_cnode::ASID_CONTROL as u64,
            L::ASIDControlMakePool as u64..=L::ASIDControlMakePool as u64,
        ),
        (
            init_cnode::ASID_POOL as u64,
            L::ASIDPoolAssign as u64..=L::ASIDPoolAssign as u64,
        ),
    ];
    let labels = (0..L::COUNT as u64).chain([L::COUNT as u64, 0xffff, (1 << 52) - 1]);
    let labels: Vec<u64> = labels.collect();
    let t = rig.root;
    for (slot, own) in objects {
        rig.nb_send(t, EMPTY, &[]);
        let before = rig.note(t);
        for &label in labels.iter().filter(|l| !own.contains(l)) {
            rig.message(t, label, &[], &[]);
            rig.syscall(t, syscall::CALL, slot);
            assert_eq!(
                rig.answer(t),
                Err((E::IllegalOperation, vec![])),
                "{slot} {label}"
            );
        }
        rig.assert_unchanged(&before, t);
    }
    // What is nothing cannot be invoked.
    rig.refused_raw(EMPTY, 1, &[], &[], E::InvalidCapability, &[0]);
    rig.refused_raw(VSPACE, 1, &[], &[], E::IllegalOperation, &[]);
    check(&rig);
}

#[test]
fn cnode_misuse() {
    let rig = Rig::new();
    let ep = rig.make(ObjectType::Endpoint);
    let dest = rig.fresh();
    let refused = |label: L, args: &[u64], caps: &[u64], e: E, d: &[u64]| {
        rig.refused(ROOT, label, args, caps, e, d);
    };
    let truncated = E::TruncatedMessage;
    for label in [L::CNodeRevoke, L::CNodeDelete, L::CNodeCancelBadgedSends] {
        refused(label, &[], &[], truncated, &[]);
        refused(label, &[ep], &[], truncated, &[]);
        refused(label, &[ep, 0], &[], E::RangeError, &[1, 64]);
        refused(label, &[ep, 65], &[], E::RangeError, &[1, 64]);
        refused(
            label,
            &[1 << 30, 64],
            &[],
            E::FailedLookup,
            &[0, 4, 64, 0, 54],
        );
    }
    for (label, n) in [
        (L::CNodeCopy, 5),
        (L::CNodeMint, 6),
        (L::CNodeMove, 4),
        (L::CNodeMutate, 5),
    ] {
        let args = [dest, 64, ep, 64, ALL, 0];
        for short in 0..n {
            refused(label, &args[..short], &[ROOT], truncated, &[]);
        }
        refused(label, &args[..n], &[], truncated, &[]);
        // The source: nothing there, no CNode above it, the destination in use.
        let with = |i: usize, v: u64| {
            let mut a = args;
            a[i] = v;
            a
        };
        refused(
            label,
            &with(2, EMPTY)[..n],
            &[ROOT],
            E::FailedLookup,
            &[1, 2, 64, 0, 0],
        );
        refused(label, &args[..n], &[ep], E::FailedLookup, &[1, 1, 0, 0, 0]);
        refused(
            label,
            &args[..n],
            &[EMPTY],
            E::FailedLookup,
            &[1, 1, 0, 0, 0],
        );
        refused(label, &with(3, 0)[..n], &[ROOT], E::RangeError, &[1, 64]);
        refused(label, &with(0, ep)[..n], &[ROOT], E::DeleteFirst, &[]);
        refused(label, &with(1, 70)[..n], &[ROOT], E::RangeError, &[1, 64]);
        refused(
            label,
            &with(0, 1 << 20)[..n],
            &[ROOT],
            E::FailedLookup,
            &[0, 4, 64, 0, 54],
        );
    }
    let (a, b) = (rig.make(ObjectType::Tcb), rig.make(ObjectType::Tcb));
    let good = [dest, 64, 0, b, 64, 0, a, 64];
    let rotate = |i: usize, v: u64, e: E, d: &[u64]| {
        let mut args = good;
        args[i] = v;
        refused(L::CNodeRotate, &args, &[ROOT, ROOT], e, d);
    };
    for n in 0..8 {
        refused(L::CNodeRotate, &good[..n], &[ROOT, ROOT], truncated, &[]);
    }
    refused(L::CNodeRotate, &good, &[ROOT], truncated, &[]);
    rotate(0, ep, E::DeleteFirst, &[]);
    rotate(3, a, E::IllegalOperation, &[]);
    rotate(3, dest, E::IllegalOperation, &[]);
    rotate(6, EMPTY, E::FailedLookup, &[1, 2, 64, 0, 0]);
    rotate(3, EMPTY, E::FailedLookup, &[0, 2, 64, 0, 0]);
    rotate(3, ep, E::IllegalOperation, &[]);
    check(&rig);
}
