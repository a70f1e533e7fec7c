// SPDX-License-Identifier: BSD-2-Clause
//! SCHED: priorities, time, scheduling contexts, timers.

use crate::support::{measured, nothing, refused, spin, wait_once};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::{ErrorCode, FaultLabel, InvocationLabel};
use sel4::init_thread::slot;
use sel4::{CapRights, Error, MessageInfo, ObjectBlueprintArch, arch, cap};
use testkit::kit::{ROOT_PRIORITY, microseconds};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, fail, invoke, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "SCHED0001 the highest priority runs",
        body: highest,
    },
    Case {
        name: "SCHED0002 changing the priority of a ready thread",
        body: change_ready,
    },
    Case {
        name: "SCHED0003 changing the priority of a waiting thread",
        body: change_waiting,
    },
    Case {
        name: "SCHED0004 priorities are bounded by the authority",
        body: bounded,
    },
    Case {
        name: "SCHED0005 equal priorities share the processor",
        body: |kit| measured(kit, round_robin),
    },
    Case {
        name: "SCHED0006 a budget bounds a thread",
        body: |kit| measured(kit, budget),
    },
    Case {
        name: "SCHED0007 a thread out of budget waits for its period",
        body: |kit| measured(kit, period),
    },
    Case {
        name: "SCHED0008 yield",
        body: |kit| measured(kit, yields),
    },
    Case {
        name: "SCHED0009 yield gives up the budget of the period",
        body: |kit| measured(kit, yield_budget),
    },
    Case {
        name: "SCHED0010 suspend and resume",
        body: |kit| measured(kit, suspend_resume),
    },
    Case {
        name: "SCHED0011 a thread needs a scheduling context",
        body: bind,
    },
    Case {
        name: "SCHED0012 one scheduling context, one thread",
        body: one_to_one,
    },
    Case {
        name: "SCHED0013 consumed time",
        body: |kit| measured(kit, consumed),
    },
    Case {
        name: "SCHED0014 YieldTo",
        body: |kit| measured(kit, yield_to),
    },
    Case {
        name: "SCHED0015 a timeout fault",
        body: |kit| measured(kit, timeout),
    },
    Case {
        name: "SCHED0016 a donated budget has a grace",
        body: |kit| measured(kit, grace),
    },
    Case {
        name: "SCHED0017 preemption keeps every register",
        body: registers,
    },
    Case {
        name: "SCHED0018 a system call keeps what it must",
        body: call_registers,
    },
    Case {
        name: "SCHED0019 timers",
        body: |kit| measured(kit, timers),
    },
    Case {
        name: "SCHED0020 a timer wakes the idle processor",
        body: idle,
    },
    Case {
        name: "SCHED0021 budget and period have limits",
        body: limits,
    },
    Case {
        name: "SCHED0022 a thread changes its own priority",
        body: own_priority,
    },
    Case {
        name: "SCHED0023 reading and writing registers",
        body: read_write,
    },
    Case {
        name: "SCHED0024 copying registers",
        body: copy,
    },
];

static TRACE: AtomicU64 = AtomicU64::new(0);

/// Leaves a trace. Words: mark.
fn mark(env: &Env) -> u64 {
    let old = TRACE.load(Ordering::Relaxed);
    TRACE.store(old << 4 | env.args[0], Ordering::Relaxed);
    0
}

fn highest(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    for (n, priority) in [(1, 30), (2, 60), (3, 40), (4, 60), (5, 90)] {
        Helper::new(mark).args([n]).priority(priority).start(kit)?;
    }
    check_eq!(TRACE.load(Ordering::Relaxed), 0);
    kit.settle()?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x52431);
    // A higher one than this thread runs in the middle of the call that starts it.
    Helper::new(mark).args([6]).priority(101).start(kit)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x524316);
    Ok(())
}

fn change_ready(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    let root = slot::TCB.cap();
    let mut threads = [None; 3];
    for (i, thread) in threads.iter_mut().enumerate() {
        *thread = Some(
            Helper::new(mark)
                .args([i as u64 + 1])
                .priority(50)
                .start(kit)?,
        );
    }
    if let [_, Some(second), Some(third)] = threads {
        second.tcb.tcb_set_priority(root, 40)?;
        third.tcb.tcb_set_priority(root, 60)?;
        kit.settle()?;
        check_eq!(TRACE.load(Ordering::Relaxed), 0x312);
    }
    // Up over this thread: at once.
    let thread = Helper::new(mark).args([7]).priority(50).start(kit)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x312);
    thread.tcb.tcb_set_priority(root, ROOT_PRIORITY + 1)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x3127);
    Ok(())
}

fn change_waiting(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let a = Helper::new(wait_once)
        .args([ntfn.bits()])
        .priority(110)
        .start(kit)?;
    let b = Helper::new(wait_once)
        .args([ntfn.bits()])
        .priority(120)
        .start(kit)?;
    let root = slot::TCB.cap();
    a.tcb.tcb_set_priority(root, 130)?;
    for badge in [1, 2] {
        kit.mint(ntfn, CapRights::all(), badge)?.signal();
    }
    kit.settle()?;
    check_eq!((a.result(), b.result()), (Some(1), Some(2)));
    Ok(())
}

fn bounded(kit: &mut Kit) -> Outcome {
    let root = slot::TCB.cap();
    let target = kit.tcb()?;
    let weak = kit.tcb()?;
    weak.tcb_set_mc_priority(root, 40)?;
    target.tcb_set_priority(weak, 40)?;
    check_eq!(target.tcb_set_priority(weak, 41), Err(Error::RangeError));
    check_eq!(target.tcb_set_mc_priority(weak, 41), Err(Error::RangeError));
    check_eq!(target.tcb_set_priority(root, 256), Err(Error::RangeError));
    check_eq!(
        target.tcb_set_priority(root, u64::MAX),
        Err(Error::RangeError)
    );
    target.tcb_set_priority(root, 255)?;
    let sc = kit.sched_context(1000, 1000)?;
    let none = cap::Endpoint::from_bits(0);
    for (mcp, priority) in [(41, 0), (0, 41), (300, 300)] {
        let attempt = target.tcb_set_sched_params(weak, mcp, priority, sc, none);
        check_eq!(attempt, Err(Error::RangeError));
    }
    // Refused as a whole: the scheduling context is not bound.
    sc.sched_context_bind(target)?;
    let wrong: cap::Tcb = none.cast();
    check_eq!(
        target.tcb_set_priority(wrong, 1),
        Err(Error::InvalidCapability)
    );
    Ok(())
}

static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

fn counter(i: usize) -> u64 {
    &raw const COUNTS[i] as u64
}

fn counts() -> [u64; 3] {
    core::array::from_fn(|i| COUNTS[i].load(Ordering::Relaxed))
}

fn round_robin(kit: &mut Kit) -> Outcome {
    COUNTS.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    for i in 0..3 {
        Helper::new(spin)
            .args([counter(i)])
            .priority(50)
            .budget(1000, 1000)
            .start(kit)?;
    }
    kit.sleep(120_000)?;
    let counts = counts();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    match (least, most) {
        (Some(&least), Some(&most)) if least > 0 && most < least * 3 => Ok(()),
        _ => fail!("shares are {counts:?}"),
    }
}

fn budget(kit: &mut Kit) -> Outcome {
    // 2 ms of every 20 ms, alone on the processor but for this thread, which sleeps.
    COUNTS[0].store(0, Ordering::Relaxed);
    let thread = Helper::new(spin)
        .args([counter(0)])
        .priority(50)
        .budget(2000, 20_000)
        .start(kit)?;
    thread.sc.sched_context_consumed()?;
    let start = timebase();
    kit.sleep(200_000)?;
    let used = thread.sc.sched_context_consumed()?;
    let elapsed = (timebase() - start) / microseconds(1);
    // A tenth; in an emulator interrupts may come late, and an overrun is charged to later periods.
    if used < 4000 || used * 3 > elapsed {
        fail!("used {used} us of {elapsed}");
    }
    Ok(())
}

/// Times of the first and second run of a thread that spins through its budget. Words: threshold.
fn gap(env: &Env) -> u64 {
    let mut last = timebase();
    loop {
        let now = timebase();
        if now - last > env.args[0] {
            return now - last;
        }
        last = now;
    }
}

fn period(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(gap)
        .args([microseconds(10_000)])
        .priority(110)
        .budget(5000, 40_000)
        .start(kit)?;
    let us = thread.join(kit)? / microseconds(1);
    if !(20_000..400_000).contains(&us) {
        fail!("it was away for {us} us");
    }
    Ok(())
}

/// Leaves a trace, yields, leaves another. Words: mark.
fn mark_yield(env: &Env) -> u64 {
    for _ in 0..3 {
        mark(env);
        sel4::yield_();
    }
    0
}

fn yields(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    for n in [1, 2] {
        Helper::new(mark_yield)
            .args([n])
            .priority(50)
            .budget(50_000, 50_000)
            .start(kit)?;
    }
    kit.settle()?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x121212);
    Ok(())
}

/// Yields once and returns how many ticks it was away.
fn yield_time(_: &Env) -> u64 {
    let start = timebase();
    sel4::yield_();
    timebase() - start
}

fn yield_budget(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(yield_time)
        .priority(110)
        .budget(5000, 50_000)
        .start(kit)?;
    let us = thread.join(kit)? / microseconds(1);
    if !(20_000..400_000).contains(&us) {
        fail!("it was away for {us} us");
    }
    Ok(())
}

fn suspend_resume(kit: &mut Kit) -> Outcome {
    COUNTS[0].store(0, Ordering::Relaxed);
    let thread = Helper::new(spin)
        .args([counter(0)])
        .priority(50)
        .start(kit)?;
    for _ in 0..3 {
        let before = counts()[0];
        kit.sleep(15_000)?;
        check!(counts()[0] > before);
        thread.tcb.tcb_suspend()?;
        // Twice is once.
        thread.tcb.tcb_suspend()?;
        let before = counts()[0];
        kit.sleep(15_000)?;
        check_eq!(counts()[0], before);
        thread.tcb.tcb_resume()?;
        thread.tcb.tcb_resume()?;
    }
    Ok(())
}

fn bind(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(nothing).priority(110).make(kit)?;
    thread.sc.sched_context_unbind()?;
    thread.tcb.tcb_resume()?;
    kit.settle()?;
    check!(!thread.finished());
    // One that was never configured gives no time.
    let raw: cap::SchedContext = kit.object(sel4::ObjectBlueprint::SchedContext)?;
    raw.sched_context_bind(thread.tcb)?;
    kit.settle()?;
    check!(!thread.finished());
    kit.configure(raw, 5000, 5000, 0)?;
    kit.settle()?;
    check!(thread.finished());
    Ok(())
}

fn one_to_one(kit: &mut Kit) -> Outcome {
    let (a, b) = (
        kit.sched_context(1000, 1000)?,
        kit.sched_context(1000, 1000)?,
    );
    let (one, two) = (kit.tcb()?, kit.tcb()?);
    let ntfn = kit.notification()?;
    a.sched_context_bind(one)?;
    check_eq!(a.sched_context_bind(two), Err(Error::IllegalOperation));
    check_eq!(a.sched_context_bind(ntfn), Err(Error::IllegalOperation));
    check_eq!(b.sched_context_bind(one), Err(Error::IllegalOperation));
    check_eq!(
        b.sched_context_unbind_object(one),
        Err(Error::IllegalOperation)
    );
    b.sched_context_bind(ntfn)?;
    check_eq!(b.sched_context_bind(two), Err(Error::IllegalOperation));
    check_eq!(
        a.sched_context_bind(kit.endpoint()?),
        Err(Error::InvalidCapability)
    );
    check_eq!(
        a.sched_context_unbind_object(cap::Endpoint::from_bits(0)),
        Err(Error::InvalidCapability)
    );
    let root = slot::TCB.cap();
    let none = cap::Endpoint::from_bits(0);
    // SetSchedParams obeys the same rules.
    let attempt = two.tcb_set_sched_params(root, 1, 1, a, none);
    check_eq!(attempt, Err(Error::IllegalOperation));
    let c = kit.sched_context(1000, 1000)?;
    let attempt = one.tcb_set_sched_params(root, 1, 1, c, none);
    check_eq!(attempt, Err(Error::IllegalOperation));
    two.tcb_set_sched_params(root, 1, 1, c, none)?;
    two.tcb_set_sched_params(root, 2, 2, c, none)?;
    // The null capability takes it away.
    two.tcb_set_sched_params(root, 2, 2, cap::SchedContext::from_bits(0), none)?;
    c.sched_context_bind(two)?;
    Ok(())
}

/// Spins for a while. Words: ticks.
fn spin_for(env: &Env) -> u64 {
    let until = timebase() + env.args[0];
    while timebase() < until {}
    0
}

fn consumed(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(spin_for)
        .args([microseconds(4000)])
        .priority(110)
        .start(kit)?;
    thread.join(kit)?;
    let used = thread.sc.sched_context_consumed()?;
    if !(3900..200_000).contains(&used) {
        fail!("consumed {used} us");
    }
    // Reading it resets it.
    check!(thread.sc.sched_context_consumed()? < 100);
    // Its own, while it runs.
    let own = slot::SC.cap();
    own.sched_context_consumed()?;
    let until = timebase() + microseconds(2000);
    while timebase() < until {}
    check!(own.sched_context_consumed()? >= 1900);
    Ok(())
}

fn yield_to(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    let equal = Helper::new(mark)
        .args([1])
        .priority(ROOT_PRIORITY)
        .start(kit)?;
    let second = Helper::new(mark)
        .args([2])
        .priority(ROOT_PRIORITY)
        .start(kit)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0);
    second.sc.sched_context_yield_to()?;
    // The target comes first; whether the other or this thread is next is the queue's affair.
    check!(matches!(TRACE.load(Ordering::Relaxed), 0x2 | 0x21));
    equal.sc.sched_context_yield_to()?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x21);
    // Lower priority: nothing happens, no error.
    let low = Helper::new(mark).args([3]).priority(50).start(kit)?;
    low.sc.sched_context_yield_to()?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x21);
    // No thread, or the caller's own.
    let loose = kit.sched_context(1000, 1000)?;
    check_eq!(loose.sched_context_yield_to(), Err(Error::IllegalOperation));
    let own = slot::SC.cap();
    check_eq!(own.sched_context_yield_to(), Err(Error::IllegalOperation));
    Ok(())
}

fn timeout(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let badged = kit.mint(faults, CapRights::new(true, false, false, true), 0x71)?;
    let thread = Helper::new(spin)
        .args([0])
        .priority(50)
        .budget(2000, 1_000_000)
        .make(kit)?;
    kit.configure(thread.sc, 2000, 1_000_000, 0xda7a)?;
    thread.tcb.tcb_set_timeout_endpoint(badged)?;
    thread.tcb.tcb_resume()?;
    let got = faults.recv_with_mrs(reply);
    check_eq!(
        (got.badge, got.info.label()),
        (0x71, FaultLabel::Timeout as u64)
    );
    check_eq!((got.info.length(), got.msg[0]), (2, 0xda7a));
    if !(1900..300_000).contains(&got.msg[1]) {
        fail!("consumed {} us", got.msg[1]);
    }
    // With more budget it goes on, and runs out again.
    kit.configure(thread.sc, 3000, 1_000_000, 0xda7b)?;
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    let got = faults.recv_with_mrs(reply);
    check_eq!((got.badge, got.msg[0]), (0x71, 0xda7b));
    // An answer with another label stops it.
    kit.configure(thread.sc, 3000, 1_000_000, 0xda7c)?;
    reply.send_with_mrs(MessageInfo::new(1, 0, 0, 0), []);
    kit.sleep(30_000)?;
    check_eq!(faults.nb_recv_with_mrs(reply).badge, 0);
    // The endpoint must be one that can be answered through.
    let weak = kit.mint(faults, CapRights::write_only(), 1)?;
    let attempt = thread.tcb.tcb_set_timeout_endpoint(weak);
    check_eq!(attempt, Err(Error::InvalidCapability));
    Ok(())
}

/// A passive server that works. Words: endpoint, reply object, ticks.
fn work(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(partita_abi::syscall::RECV, endpoint, reply);
    loop {
        let start = timebase();
        while timebase() < start + env.args[2] {}
        let took = timebase() - start;
        let info = MessageInfo::new(0, 0, 0, 2).into_word();
        got = arch::reply_recv(endpoint, info, arch::message([took, got.words[0]]), reply);
    }
}

fn grace(kit: &mut Kit) -> Outcome {
    // The work is longer than the caller's budget, and shorter than budget and grace: the server
    // finishes it, and the caller pays for the overrun.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    Helper::new(work)
        .args([endpoint.bits(), reply.bits(), microseconds(4000)])
        .priority(120)
        .start_passive(kit)?;
    let client = Helper::new(crate::support::call_once)
        .args([endpoint.bits(), 0, 5])
        .priority(110)
        .budget(1000, 100_000)
        .start(kit)?;
    let took = client.join(kit)? / microseconds(1);
    if took > 90_000 {
        fail!("the work was interrupted for {took} us");
    }
    // Longer than both: it is interrupted until the budget comes back, and ends all the same.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    Helper::new(work)
        .args([endpoint.bits(), reply.bits(), microseconds(30_000)])
        .priority(120)
        .start_passive(kit)?;
    let client = Helper::new(crate::support::call_once)
        .args([endpoint.bits(), 0, 5])
        .priority(110)
        .budget(5000, 100_000)
        .start(kit)?;
    let took = client.join(kit)? / microseconds(1);
    if took < 50_000 {
        fail!("the work took only {took} us");
    }
    Ok(())
}

core::arch::global_asm!(
    // Fills all registers that belong to the thread with values of its own, r3 = seed, and compares
    // them for ever; at the first difference r3 = number of the register and a trap. r4 = address of
    // a word that counts the rounds. r13 is tested as well: nothing else uses it here.
    r#"
    .section .text.keep_registers, "ax", @progbits
    .globl keep_registers
keep_registers:
    .irp n, 0,2,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    addi \n, 3, \n + 100
    .endr
    addi 31, 3, 201
    mtlr 31
    addi 31, 3, 202
    mtctr 31
    li 31, 0
    mtxer 31
    addi 31, 3, 131
1:
    .irp n, 5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    addi 0, 3, \n + 100
    cmpd 0, \n
    li 2, \n
    bne- 2f
    .endr
    addi 0, 3, 131
    cmpd 0, 31
    li 2, 31
    bne- 2f
    addi 0, 3, 201
    mflr 2
    cmpd 0, 2
    li 2, 201
    bne- 2f
    addi 0, 3, 202
    mfctr 2
    cmpd 0, 2
    li 2, 202
    bne- 2f
    mfxer 0
    cmpdi 0, 0
    li 2, 203
    bne- 2f
    ld 2, 0(4)
    addi 2, 2, 1
    std 2, 0(4)
    b 1b
2:  mr 3, 2
    trap
"#
);

unsafe extern "C" {
    fn keep_registers() -> !;
}

fn registers(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    COUNTS.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    let mut threads = [None; 3];
    for (i, thread) in threads.iter_mut().enumerate() {
        // Short slices: they preempt each other all the time.
        let made = Helper::new(nothing)
            .priority(50)
            .budget(200, 200)
            .fault(faults)
            .make(kit)?;
        let mut context = sel4::UserContext::default();
        *context.pc_mut() = keep_registers as *const () as u64;
        *context.c_param_mut(0) = 0x1111_0000_0000 * (i as u64 + 1);
        *context.c_param_mut(1) = counter(i);
        made.tcb.tcb_write_all_registers(true, &context)?;
        *thread = Some(made);
    }
    kit.sleep(300_000)?;
    let got = faults.nb_recv_with_mrs(cap::Reply::from_bits(0));
    if got.info.length() != 0 {
        let which = threads.iter().flatten().find_map(|t| {
            let context = t.tcb.tcb_read_registers(false, 38).ok()?;
            Some(*context.c_param(0)).filter(|n| *n < 0x1000)
        });
        fail!("register {which:?} changed, fault {}", got.info.label());
    }
    let counts = counts();
    if !counts.iter().all(|c| *c > 100) {
        fail!("rounds {counts:?}");
    }
    Ok(())
}

core::arch::global_asm!(
    // r3 = notification, r4 = seed: polls with every register that a system call keeps set to values
    // of its own; returns 0 or the number of one that changed.
    r#"
    .section .text.call_keeps, "ax", @progbits
    .globl call_keeps
call_keeps:
    mflr 0
    std 0, 16(1)
    stdu 1, -288(1)
    .irp n, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, 96 + 8 * (\n - 13)(1)
    .endr
    std 2, 256(1)
    mfcr 0
    std 0, 8(1)
    mr 31, 4
    .irp n, 2,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    addi \n, 31, \n
    .endr
    // CR2, CR3 and CR4 are kept.
    lis 0, 0x0042
    ori 0, 0, 0x8000
    mtcrf 0x38, 0
    std 1, 264(1)
    li 0, {number}
    li 12, 0
    sc
    ld 0, 264(1)
    cmpd 0, 1
    li 3, 1
    bne- 9f
    .irp n, 2,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    addi 0, 31, \n
    cmpd 0, \n
    li 3, \n
    bne- 9f
    .endr
    mfcr 0
    rlwinm 0, 0, 0, 8, 19
    lis 4, 0x0042
    ori 4, 4, 0x8000
    cmpd 0, 4
    li 3, 99
    bne- 9f
    li 3, 0
9:  ld 0, 8(1)
    mtcr 0
    .irp n, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, 96 + 8 * (\n - 13)(1)
    .endr
    ld 2, 256(1)
    addi 1, 1, 288
    ld 0, 16(1)
    mtlr 0
    blr
"#,
    number = const partita_abi::syscall::NB_WAIT,
);

unsafe extern "C" {
    fn call_keeps(notification: u64, seed: u64) -> u64;
}

fn call_registers(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    for seed in [0x10_0000, 0x7654_3210_0000] {
        // SAFETY: the function above keeps to the calling convention.
        let changed = unsafe { call_keeps(ntfn.bits(), seed) };
        if changed != 0 {
            fail!("register {changed} changed");
        }
    }
    Ok(())
}

fn timers(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let mut timers = [cap::Timer::from_bits(0); 4];
    let now = timebase();
    // Set in an order that is not that of the deadlines.
    for (i, delay) in [(0, 30_000), (1, 10_000), (2, 40_000), (3, 20_000)] {
        timers[i] = kit.object(ObjectBlueprintArch::Timer.into())?;
        let bell = kit.mint(ntfn, CapRights::all(), 1 << i)?;
        timers[i].timer_set_notification(bell)?;
        timers[i].timer_set(now + microseconds(delay))?;
    }
    timers[2].timer_cancel()?;
    timers[2].timer_cancel()?;
    let mut seen = 0;
    for (bit, delay) in [(1, 10_000), (3, 20_000), (0, 30_000)] {
        let word = ntfn.wait().1;
        // Late is possible in an emulator, early never.
        check!(timebase() >= now + microseconds(delay));
        check!(word & 1 << bit != 0 || seen & 1 << bit != 0);
        seen |= word;
        if seen == 0b1011 {
            break;
        }
    }
    check_eq!(seen, 0b1011);
    kit.sleep(20_000)?;
    check_eq!(ntfn.poll().1, 0);
    // A deadline in the past is due at once; setting again replaces the deadline.
    timers[0].timer_set(now)?;
    check_eq!(ntfn.wait().1, 1);
    timers[0].timer_set(timebase() + microseconds(1_000_000))?;
    timers[0].timer_set(timebase() + microseconds(2000))?;
    check_eq!(ntfn.wait().1, 1);
    timers[0].timer_set(u64::MAX)?;
    timers[1].timer_set(timebase() + microseconds(1000))?;
    check_eq!(ntfn.wait().1, 2);
    // Without a notification nothing happens.
    let silent: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
    silent.timer_set(now)?;
    Ok(())
}

fn idle(kit: &mut Kit) -> Outcome {
    // No thread is ready while this one sleeps.
    for _ in 0..20 {
        let start = timebase();
        kit.sleep(1000)?;
        check!(timebase() >= start + microseconds(1000));
    }
    Ok(())
}

fn limits(kit: &mut Kit) -> Outcome {
    let sc = kit.sched_context(1000, 1000)?;
    let control = kit.sched_control();
    for (budget, period, refills) in [
        (0, 1000, 0),
        (99, 1000, 0),
        (2000, 1000, 0),
        (1000, u64::MAX, 0),
        (u64::MAX, u64::MAX, 0),
        (1000, 1000, 255),
    ] {
        let attempt = control.sched_control_configure_flags(sc, budget, period, refills, 0, 0);
        check_eq!(attempt, Err(Error::RangeError));
    }
    control.sched_control_configure_flags(sc, 100, 100, 0, 0, 0)?;
    let wrong: cap::SchedContext = kit.endpoint()?.cast();
    let attempt = control.sched_control_configure_flags(wrong, 1000, 1000, 0, 0, 0);
    check_eq!(attempt, Err(Error::InvalidCapability));
    Ok(())
}

fn own_priority(kit: &mut Kit) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    let root = slot::TCB.cap();
    Helper::new(mark).args([1]).priority(60).start(kit)?;
    Helper::new(mark).args([2]).priority(40).start(kit)?;
    root.tcb_set_priority(root, 50)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 1);
    root.tcb_set_priority(root, 30)?;
    check_eq!(TRACE.load(Ordering::Relaxed), 0x12);
    root.tcb_set_priority(root, ROOT_PRIORITY)?;
    Ok(())
}

fn read_write(kit: &mut Kit) -> Outcome {
    let tcb = kit.tcb()?;
    let mut context = sel4::UserContext::default();
    for (i, register) in context.inner_mut().iter_mut().enumerate() {
        *register = 0x1000 + i as u64;
    }
    tcb.tcb_write_all_registers(false, &context)?;
    let back = tcb.tcb_read_all_registers(false)?;
    for (i, name) in partita_abi::user_context::NAMES.iter().enumerate() {
        let (got, wrote) = (back.inner()[i], context.inner()[i]);
        // The machine state is the kernel's: what is written there counts for nothing. The registers
        // of a guest's privileged state are not a PD's.
        let expected = if i >= 38 || *name == "msr" { 0 } else { wrote };
        if got != expected {
            fail!("{name} is {got:#x}, not {expected:#x}");
        }
    }
    // Part of them.
    let mut part = sel4::UserContext::default();
    *part.pc_mut() = 0x7777;
    tcb.tcb_write_registers(false, 1, &part)?;
    let back = tcb.tcb_read_registers(false, 3)?;
    check_eq!((*back.pc(), *back.sp()), (0x7777, 0x1001));
    let none = tcb.tcb_read_registers(false, 0);
    check_eq!(none, Err(Error::RangeError));
    let count = sel4::UserContext::NUM_REGISTERS as u64 + 1;
    let answer = invoke(
        tcb.bits(),
        InvocationLabel::TCBReadRegisters,
        &[0, count],
        &[],
    );
    refused(answer, ErrorCode::RangeError)?;
    // A thread's own registers are in use.
    let own = slot::TCB.cap();
    check_eq!(
        own.tcb_read_registers(false, 1),
        Err(Error::IllegalOperation)
    );
    check_eq!(
        own.tcb_write_registers(false, 1, &part),
        Err(Error::IllegalOperation)
    );
    Ok(())
}

fn copy(kit: &mut Kit) -> Outcome {
    let (from, to) = (kit.tcb()?, kit.tcb()?);
    let mut context = sel4::UserContext::default();
    for (i, register) in context.inner_mut().iter_mut().enumerate() {
        *register = 0x2000 + i as u64;
    }
    from.tcb_write_all_registers(false, &context)?;
    to.tcb_copy_registers(from, 4)?;
    let back = to.tcb_read_all_registers(false)?;
    check_eq!(
        (*back.pc(), *back.sp(), *back.gpr(5)),
        (*context.pc(), *context.sp(), 0)
    );
    to.tcb_copy_registers(from, 8)?;
    let back = to.tcb_read_all_registers(false)?;
    check_eq!(*back.gpr(5), *context.gpr(5));
    check_eq!(*back.lr(), *context.lr());
    let wrong: cap::Tcb = kit.endpoint()?.cast();
    check_eq!(
        to.tcb_copy_registers(wrong, 4),
        Err(Error::InvalidCapability)
    );
    // With the source stopped and the target started.
    COUNTS[0].store(0, Ordering::Relaxed);
    let source = Helper::new(spin)
        .args([counter(0)])
        .priority(50)
        .start(kit)?;
    let target = Helper::new(nothing).priority(50).make(kit)?;
    kit.sleep(5000)?;
    target.tcb.tcb_copy_registers(source.tcb, 1 | 2 | 4 | 8)?;
    let before = counts()[0];
    kit.sleep(10_000)?;
    check!(counts()[0] > before);
    target.tcb.tcb_suspend()?;
    let before = counts()[0];
    kit.sleep(10_000)?;
    check_eq!(counts()[0], before);
    Ok(())
}
