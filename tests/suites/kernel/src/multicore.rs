// SPDX-License-Identifier: BSD-2-Clause
//! MULTICORE: what one core does to threads and objects that another one uses. The root thread runs on
//! core 0; it spins where it waits, so that what goes on meanwhile goes on on core 1.

use crate::support::{call_once, echo, measured, wait_once};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::FaultLabel;
use partita_abi::fault::vm_fault;
use sel4::init_thread::slot;
use sel4::{
    CapRights, Error, MessageInfo, ObjectBlueprint, ObjectBlueprintArch, VmAttributes, cap,
};
use testkit::kit::{ROOT_PRIORITY, WINDOW, microseconds};
use testkit::{Case, Env, Helper, Kit, Outcome, Space, Thread, check, check_eq, fail, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "MULTICORE0001 every core runs threads at the same time",
        body: every_core,
    },
    Case {
        name: "MULTICORE0002 call and reply across cores, messages of every length",
        body: calls,
    },
    Case {
        name: "MULTICORE0003 a passive server is called from two cores",
        body: passive_server,
    },
    Case {
        name: "MULTICORE0004 signals across cores, there and back",
        body: ping_pong,
    },
    Case {
        name: "MULTICORE0005 a thread that runs on another core is suspended and resumed",
        body: suspend,
    },
    Case {
        name: "MULTICORE0006 a suspended thread repeats its call once",
        body: suspend_in_calls,
    },
    Case {
        name: "MULTICORE0007 registers of a thread that runs on another core",
        body: registers,
    },
    Case {
        name: "MULTICORE0008 deleting a thread that runs on another core",
        body: delete_running,
    },
    Case {
        name: "MULTICORE0009 revoking the memory of threads that call each other on another core",
        body: revoke_running,
    },
    Case {
        name: "MULTICORE0010 affinity of a running thread",
        body: move_running,
    },
    Case {
        name: "MULTICORE0011 affinity of a ready thread",
        body: move_ready,
    },
    Case {
        name: "MULTICORE0012 affinity of a blocked thread",
        body: move_blocked,
    },
    Case {
        name: "MULTICORE0013 a thread moves itself",
        body: move_self,
    },
    Case {
        name: "MULTICORE0014 priorities on another core",
        body: priorities,
    },
    Case {
        name: "MULTICORE0015 faults are handled on another core",
        body: fault_handler,
    },
    Case {
        name: "MULTICORE0016 a page is unmapped under a thread on another core",
        body: unmap_running,
    },
    Case {
        name: "MULTICORE0017 an address space ends under a thread on another core",
        body: vspace_ends,
    },
    Case {
        name: "MULTICORE0018 timers of both cores",
        body: timers,
    },
    Case {
        name: "MULTICORE0019 budgets on another core",
        body: |kit| measured(kit, budgets),
    },
    Case {
        name: "MULTICORE0020 a scheduling context is taken from a running thread",
        body: take_time,
    },
    Case {
        name: "MULTICORE0021 the reply object of a call that another core serves is deleted",
        body: reply_deleted,
    },
    Case {
        name: "MULTICORE0022 both cores make and destroy objects",
        body: construction,
    },
    Case {
        name: "MULTICORE0023 an endpoint ends under senders and receivers of both cores",
        body: endpoint_ends,
    },
    Case {
        name: "MULTICORE0024 a thread keeps its registers while others are stopped",
        body: integrity,
    },
];

/// How long anything may take, microseconds.
pub(crate) const PATIENCE_US: u64 = 30_000_000;
/// Below the root thread's: on core 0 such a thread does not run while the root thread spins.
pub(crate) const LOW: u64 = ROOT_PRIORITY - 50;

pub(crate) static WORDS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

pub(crate) fn word(i: usize) -> u64 {
    WORDS[i].load(Ordering::Acquire)
}

pub(crate) fn set_word(i: usize, value: u64) {
    WORDS[i].store(value, Ordering::Release);
}

pub(crate) fn reset() {
    for i in 0..WORDS.len() {
        set_word(i, 0);
    }
}

/// Spins until `f` holds.
#[track_caller]
pub(crate) fn until(mut f: impl FnMut() -> bool) -> Outcome {
    let late = testkit::Failure::new(format_args!("it does not happen"));
    let end = timebase() + microseconds(PATIENCE_US);
    while !f() {
        if timebase() > end {
            return Err(late);
        }
    }
    Ok(())
}

/// Sleeps until `f` holds: threads of the root thread's core run meanwhile.
#[track_caller]
fn while_asleep(kit: &Kit, mut f: impl FnMut() -> bool) -> Outcome {
    let late = testkit::Failure::new(format_args!("it does not happen"));
    let end = timebase() + microseconds(PATIENCE_US);
    while !f() {
        if timebase() > end {
            return Err(late);
        }
        kit.sleep(200)?;
    }
    Ok(())
}

/// Spins for `us` microseconds.
pub(crate) fn spin(us: u64) {
    let end = timebase() + microseconds(us);
    while timebase() < end {}
}

/// Waits until word `i` has grown.
#[track_caller]
pub(crate) fn goes_on(i: usize) -> Outcome {
    let before = word(i);
    until(|| word(i) > before + 100)
}

/// Whether word `i` does not change for a while.
fn stands(i: usize) -> bool {
    let before = word(i);
    spin(2000);
    word(i) == before
}

/// Counts in word `args[0]` for ever.
fn count(env: &Env) -> u64 {
    loop {
        WORDS[env.args[0] as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn counter(i: u64) -> Helper {
    Helper::new(count).args([i]).priority(LOW)
}

pub(crate) fn configure_on(kit: &Kit, core: usize, sc: cap::SchedContext) -> Result<(), Error> {
    kit.sched_control_of(core)
        .sched_control_configure_flags(sc, 10_000, 10_000, 0, 0, 0)
}

fn every_core(kit: &mut Kit) -> Outcome {
    reset();
    let cores = kit.cores();
    check!(cores > 1);
    check_eq!(kit.boot().num_nodes, cores as u64);
    for core in 1..cores.min(WORDS.len()) {
        counter(core as u64).core(core).start(kit)?;
    }
    counter(0).core(0).start(kit)?;
    for core in 1..cores.min(WORDS.len()) {
        goes_on(core)?;
    }
    // The root thread spins: nobody below it runs beside it.
    check!(stands(0));
    while_asleep(kit, || word(0) > 0)
}

fn calls(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let badged = kit.mint(endpoint, CapRights::all(), 5)?;
    let reply = kit.reply()?;
    Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .core(1)
        .start(kit)?;
    let buffer = crate::support::root_buffer(kit);
    for round in 0..300 {
        let length = [0, 1, 4, 8, 9, 20, 116][round % 7];
        let words = crate::support::compose(buffer, round as u64, length);
        let info = MessageInfo::new(7, 0, 0, length);
        let mut got = sel4::arch::call(badged.bits(), info.into_word(), words);
        if length > 0 {
            got.words[0] = got.words[0].wrapping_sub(5);
        }
        check_eq!(MessageInfo::from_word(got.info).label(), 8);
        if length <= 8 {
            check_eq!(
                crate::support::difference(buffer, &got, round as u64, length),
                None
            );
        }
    }
    Ok(())
}

/// Calls `args[1]` times with numbers of its own and checks every answer of `echo`; the sum of the
/// answers, or 0 if one was wrong. Counts its calls in word `args[2]`.
pub(crate) fn call_often(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let mut sum: u64 = 0;
    for i in 0..env.args[1] {
        let value = env.args[3] << 32 | i;
        let info = MessageInfo::new(i, 0, 0, 2);
        let got = endpoint.call_with_mrs(info, [value, !value]);
        if got.info.label() != i + 1 || got.msg[1] != !value {
            return 0;
        }
        sum = sum.wrapping_add(got.msg[0]);
        WORDS[env.args[2] as usize].fetch_add(1, Ordering::Relaxed);
    }
    sum
}

/// What [`call_often`] returns if the endpoint's badge is 0.
pub(crate) fn expected_sum(times: u64, tag: u64) -> u64 {
    (0..times).fold(0, |sum: u64, i| sum.wrapping_add(tag << 32 | i))
}

fn passive_server(kit: &mut Kit) -> Outcome {
    reset();
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .priority(ROOT_PRIORITY + 20)
        .start_passive(kit)?;
    let times = 2000;
    let mut clients = [None; 2];
    for (core, client) in clients.iter_mut().enumerate() {
        let args = [endpoint.bits(), times, core as u64, core as u64 + 1];
        *client = Some(
            Helper::new(call_often)
                .args(args)
                .core(core)
                .priority(ROOT_PRIORITY - 1)
                .start(kit)?,
        );
    }
    for (tag, client) in (1..).zip(clients.iter().flatten()) {
        check_eq!(client.join(kit)?, expected_sum(times, tag));
    }
    Ok(())
}

/// Waits for notification `args[0]` and signals `args[1]`, `args[2]` times.
fn pong(env: &Env) -> u64 {
    let (mine, theirs) = (
        cap::Notification::from_bits(env.args[0]),
        cap::Notification::from_bits(env.args[1]),
    );
    let mut badges = 0;
    for _ in 0..env.args[2] {
        badges += mine.wait().1;
        theirs.signal();
    }
    badges
}

fn ping_pong(kit: &mut Kit) -> Outcome {
    let (there, back) = (kit.notification()?, kit.notification()?);
    let bell = kit.mint(there, CapRights::all(), 3)?;
    let answer = kit.mint(back, CapRights::all(), 4)?;
    let times = 1000;
    let thread = Helper::new(pong)
        .args([there.bits(), answer.bits(), times])
        .core(1)
        .start(kit)?;
    for _ in 0..times {
        bell.signal();
        check_eq!(back.wait().1, 4);
    }
    check_eq!(thread.join(kit)?, 3 * times);
    Ok(())
}

fn suspend(kit: &mut Kit) -> Outcome {
    reset();
    let thread = counter(0).core(1).start(kit)?;
    for _ in 0..100 {
        goes_on(0)?;
        thread.tcb.tcb_suspend()?;
        let stopped = word(0);
        spin(20);
        check_eq!(word(0), stopped);
        thread.tcb.tcb_resume()?;
    }
    goes_on(0)
}

fn suspend_in_calls(kit: &mut Kit) -> Outcome {
    reset();
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .core(1)
        .start(kit)?;
    let times = 5000;
    let thread = Helper::new(call_often)
        .args([endpoint.bits(), times, 0, 9])
        .core(1)
        .priority(LOW)
        .start(kit)?;
    let mut end = timebase() + microseconds(PATIENCE_US);
    let (mut rounds, mut made) = (0, 0);
    while !thread.finished() && timebase() < end {
        if word(0) > made {
            // On a busy host it is slow, but it goes on.
            made = word(0);
            end = timebase() + microseconds(PATIENCE_US);
        }
        thread.tcb.tcb_suspend()?;
        rounds += 1;
        if thread.finished() {
            break;
        }
        // It may have been suspended with its call at the server, whose answer then goes nowhere; resumed,
        // it calls again.
        thread.tcb.tcb_resume()?;
        spin(rounds % 50);
    }
    check!(rounds > 1);
    if thread.finished() {
        check_eq!(thread.result(), Some(expected_sum(times, 9)));
    } else {
        fail!("{} of {times} calls", word(0));
    }
    Ok(())
}

/// Counts in word 1; its registers r20 and r21 hold what the root thread looks for.
fn marked(_: &Env) -> u64 {
    #[cfg(target_arch = "powerpc64")]
    // SAFETY: uses registers that it names; never ends.
    unsafe {
        core::arch::asm!(
            "1: addi 20, 20, 1",
            "std 20, 0({0})",
            "b 1b",
            in(reg_nonzero) &WORDS[1],
            in("r20") 0u64,
            in("r21") 0x1234_5678_9abc_def0u64,
            options(noreturn)
        )
    }
    #[cfg(not(target_arch = "powerpc64"))]
    0
}

fn registers(kit: &mut Kit) -> Outcome {
    reset();
    let thread = Helper::new(marked).core(1).priority(LOW).start(kit)?;
    until(|| word(1) > 0)?;
    for _ in 0..100 {
        let before = word(1);
        let mut context = thread.tcb.tcb_read_all_registers(false)?;
        let after = word(1);
        check_eq!(*context.gpr(21), 0x1234_5678_9abc_def0);
        check!((before..=after + 1).contains(context.gpr(20)));
        // It goes on.
        goes_on(1)?;
        // And is put somewhere else while it runs.
        *context.gpr_mut(20) = 1 << 40;
        thread.tcb.tcb_write_all_registers(false, &context)?;
        until(|| word(1) >= 1 << 40)?;
        *context.gpr_mut(20) = 0;
        thread.tcb.tcb_write_all_registers(true, &context)?;
        until(|| word(1) < 1 << 40)?;
    }
    thread.tcb.tcb_set_tls_base(0x77)?;
    check_eq!(*thread.tcb.tcb_read_all_registers(true)?.gpr(13), 0x77);
    check!(stands(1));
    Ok(())
}

fn delete_running(kit: &mut Kit) -> Outcome {
    reset();
    let ntfn = kit.notification()?;
    for round in 0..100 {
        let thread = if round % 2 == 0 {
            counter(0).core(1).start(kit)?
        } else {
            Helper::new(signal_for_ever)
                .args([ntfn.bits(), 0])
                .core(1)
                .priority(LOW)
                .start(kit)?
        };
        goes_on(0)?;
        spin(round % 7);
        kit.delete(thread.tcb)?;
        let stopped = word(0);
        spin(20);
        check_eq!(word(0), stopped);
        kit.delete(thread.sc)?;
        thread.discard(kit)?;
    }
    Ok(())
}

/// Signals for ever; counts in word `args[1]`.
fn signal_for_ever(env: &Env) -> u64 {
    let ntfn = cap::Notification::from_bits(env.args[0]);
    loop {
        ntfn.signal();
        WORDS[env.args[1] as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn revoke_running(kit: &mut Kit) -> Outcome {
    reset();
    for round in 0..40 {
        let memory = kit.untyped(17)?;
        let endpoint: cap::Endpoint = kit.retype(memory, ObjectBlueprint::Endpoint)?;
        let reply: cap::Reply = kit.retype(memory, ObjectBlueprint::Reply)?;
        let server = Helper::new(echo)
            .args([endpoint.bits(), reply.bits()])
            .memory(memory)
            .core(1)
            .start(kit)?;
        let client = Helper::new(call_often)
            .args([endpoint.bits(), u64::MAX, 0, 0])
            .memory(memory)
            .core(1)
            .priority(LOW)
            .start(kit)?;
        goes_on(0)?;
        spin(round);
        kit.revoke(memory)?;
        let stopped = word(0);
        spin(50);
        check_eq!(word(0), stopped);
        // What they were made of is other things now.
        let frame: cap::Granule = kit.retype(memory, sel4::FrameObjectType::GRANULE.blueprint())?;
        kit.delete(frame)?;
        client.discard(kit)?;
        server.discard(kit)?;
        kit.delete(memory)?;
    }
    Ok(())
}

fn move_running(kit: &mut Kit) -> Outcome {
    reset();
    let thread = counter(0).core(1).start(kit)?;
    for _ in 0..50 {
        goes_on(0)?;
        configure_on(kit, 0, thread.sc)?;
        let before = word(0);
        spin(100);
        check_eq!(word(0), before);
        configure_on(kit, 1, thread.sc)?;
    }
    goes_on(0)?;
    // Configured for the core where it is: nothing happens to it.
    configure_on(kit, 1, thread.sc)?;
    goes_on(0)
}

fn move_ready(kit: &mut Kit) -> Outcome {
    reset();
    let busy = counter(0).core(1).start(kit)?;
    let waits = counter(1).core(1).priority(LOW - 1).start(kit)?;
    goes_on(0)?;
    check!(stands(1));
    configure_on(kit, 0, waits.sc)?;
    check!(stands(1));
    while_asleep(kit, || word(1) > 0)?;
    configure_on(kit, 0, busy.sc)?;
    configure_on(kit, 1, waits.sc)?;
    goes_on(1)?;
    check!(stands(0));
    Ok(())
}

fn move_blocked(kit: &mut Kit) -> Outcome {
    reset();
    let ntfn = kit.notification()?;
    let waiter = Helper::new(wait_then_count)
        .args([ntfn.bits(), 0])
        .priority(LOW)
        .core(1)
        .start(kit)?;
    for _ in 0..20 {
        // On core 0 it does not run beside the root thread.
        configure_on(kit, 0, waiter.sc)?;
        let before = word(0);
        ntfn.signal();
        check!(stands(0));
        while_asleep(kit, || word(0) > before)?;
        // On core 1 it does.
        configure_on(kit, 1, waiter.sc)?;
        let before = word(0);
        ntfn.signal();
        until(|| word(0) > before)?;
    }
    // A caller that waits for its answer moves, too.
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let caller = Helper::new(call_once)
        .args([endpoint.bits(), 3, 4])
        .core(1)
        .start(kit)?;
    let got = endpoint.recv_with_mrs(reply);
    check_eq!(got.msg[0], 4);
    configure_on(kit, 0, caller.sc)?;
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [5]);
    check_eq!(caller.join(kit)?, 5);
    Ok(())
}

/// Waits for a notification and counts, for ever.
fn wait_then_count(env: &Env) -> u64 {
    loop {
        cap::Notification::from_bits(env.args[0]).wait();
        WORDS[env.args[1] as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Moves its own scheduling context between two cores. Words: scheduling context, both controls, times.
fn commute(env: &Env) -> u64 {
    let sc = cap::SchedContext::from_bits(env.args[0]);
    for i in 0..env.args[3] {
        let control = cap::SchedControl::from_bits(env.args[1 + (i as usize & 1)]);
        let moved = env.with_buffer(|b| {
            control
                .with(b)
                .sched_control_configure_flags(sc, 10_000, 10_000, 0, 0, 0)
        });
        if moved.is_err() {
            return 0;
        }
        set_word(0, i);
    }
    1
}

fn move_self(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(commute).priority(LOW).core(1).make(kit)?;
    let controls = [kit.sched_control_of(0), kit.sched_control_of(1)];
    let args = [
        thread.sc.bits(),
        controls[0].bits(),
        controls[1].bits(),
        199,
    ];
    thread.set_args(args);
    thread.tcb.tcb_resume()?;
    check_eq!(thread.join(kit)?, 1);
    check_eq!(word(0), 198);
    Ok(())
}

fn priorities(kit: &mut Kit) -> Outcome {
    reset();
    let high = counter(0).core(1).start(kit)?;
    let low = counter(1).core(1).priority(LOW - 10).start(kit)?;
    goes_on(0)?;
    check!(stands(1));
    let authority = slot::TCB.cap();
    for _ in 0..50 {
        low.tcb.tcb_set_priority(authority, LOW + 1)?;
        goes_on(1)?;
        low.tcb.tcb_set_priority(authority, LOW - 10)?;
        goes_on(0)?;
        high.tcb.tcb_set_priority(authority, LOW - 20)?;
        goes_on(1)?;
        high.tcb.tcb_set_priority(authority, LOW)?;
        goes_on(0)?;
    }
    // Equal ones take turns.
    low.tcb.tcb_set_priority(authority, LOW)?;
    goes_on(1)?;
    goes_on(0)?;
    goes_on(1)
}

/// Reads the word at `args[0]` and counts in word 0; the last value stands in word 1. Ends when it is
/// `args[1]`.
fn read_for_ever(env: &Env) -> u64 {
    loop {
        // SAFETY: mapped, or the thread faults.
        let value = unsafe { (env.args[0] as *const u64).read_volatile() };
        set_word(1, value);
        WORDS[0].fetch_add(1, Ordering::Relaxed);
        if value == env.args[1] {
            return value;
        }
    }
}

fn fault_handler(kit: &mut Kit) -> Outcome {
    reset();
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let page = kit.page_at(WINDOW)?;
    Helper::new(read_for_ever)
        .args([WINDOW as u64, u64::MAX])
        .fault(faults)
        .core(1)
        .start(kit)?;
    for _ in 0..100 {
        goes_on(0)?;
        page.frame_unmap()?;
        let got = faults.recv_with_mrs(reply);
        check_eq!(got.info.label(), FaultLabel::VMFault as u64);
        check_eq!(got.msg[vm_fault::ADDRESS], WINDOW as u64);
        map(page, WINDOW)?;
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    }
    goes_on(0)
}

fn map(page: cap::Granule, vaddr: usize) -> Outcome {
    page.frame_map(
        slot::VSPACE.cap(),
        vaddr,
        CapRights::read_write(),
        VmAttributes::EXECUTE_NEVER,
    )?;
    Ok(())
}

fn unmap_running(kit: &mut Kit) -> Outcome {
    reset();
    const SECRET: u64 = 0x5ec7_e700;
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let theirs = kit.page_at(WINDOW)?;
    let mine = kit.copy(theirs, CapRights::all())?;
    let alias = WINDOW + 0x1_0000;
    map(mine, alias)?;
    // SAFETY: mapped just now, not used otherwise.
    let write = |value: u64| unsafe { (alias as *mut u64).write_volatile(value) };
    write(1);
    let reader = Helper::new(read_for_ever)
        .args([WINDOW as u64, SECRET])
        .fault(faults)
        .core(1)
        .start(kit)?;
    for round in 0..100 {
        goes_on(0)?;
        theirs.frame_unmap()?;
        // From here on the thread cannot see the page, whatever its core has cached.
        write(SECRET);
        spin(round % 20);
        let got = faults.recv_with_mrs(reply);
        check_eq!(got.msg[vm_fault::ADDRESS], WINDOW as u64);
        check!(!reader.finished());
        check!(word(1) != SECRET);
        write(1);
        map(theirs, WINDOW)?;
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    }
    write(SECRET);
    check_eq!(reader.join(kit)?, SECRET);
    Ok(())
}

fn vspace_ends(kit: &mut Kit) -> Outcome {
    for _ in 0..3 {
        let faults = kit.endpoint()?;
        let space = Space::new(kit)?;
        let thread = counter(0)
            .core(1)
            .vspace(space.root)
            .fault(faults)
            .make(kit)?;
        space.clone_image(kit)?;
        thread.tcb.tcb_resume()?;
        // Its words are its own copies; it runs, since it uses up time.
        let end = timebase() + microseconds(PATIENCE_US);
        while thread.sc.sched_context_consumed()? == 0 && timebase() < end {}
        space.destroy(kit)?;
        let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
        check_eq!(got.info.label(), FaultLabel::VMFault as u64);
        kit.clean_up()?;
    }
    Ok(())
}

/// Sleeps `args[2]` times for `args[3]` ticks by timer `args[0]`, whose notification is `args[1]`. The
/// result is 0 if a timer came too early.
fn sleep_often(env: &Env) -> u64 {
    let timer = cap::Timer::from_bits(env.args[0]);
    let bell = cap::Notification::from_bits(env.args[1]);
    for _ in 0..env.args[2] {
        let deadline = timebase() + env.args[3];
        if timer.timer_set(deadline).is_err() {
            return 0;
        }
        WORDS[5].fetch_add(1, Ordering::Release);
        bell.wait();
        if timebase() < deadline {
            return 0;
        }
    }
    1
}

fn timers(kit: &mut Kit) -> Outcome {
    reset();
    let mut sleepers = [None; 4];
    for (i, sleeper) in sleepers.iter_mut().enumerate() {
        let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
        let bell = kit.notification()?;
        timer.timer_set_notification(bell)?;
        let pause = microseconds(300 + 100 * i as u64);
        *sleeper = Some(
            Helper::new(sleep_often)
                .args([timer.bits(), bell.bits(), 50, pause])
                .core(i & 1)
                .start(kit)?,
        );
    }
    for sleeper in sleepers.iter().flatten() {
        check_eq!(sleeper.join(kit)?, 1);
    }
    // A timer that was set on one core can be cancelled and set anew on the other.
    let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
    let bell = kit.notification()?;
    timer.timer_set_notification(bell)?;
    let pause = microseconds(1000);
    let thread = Helper::new(sleep_often)
        .args([timer.bits(), bell.bits(), 1, microseconds(PATIENCE_US)])
        .core(1)
        .start(kit)?;
    until(|| word(5) == 201)?;
    timer.timer_set(timebase() + pause)?;
    check_eq!(thread.join(kit)?, 0);
    Ok(())
}

fn budgets(kit: &mut Kit) -> Outcome {
    reset();
    // A tenth of the processor.
    let thread = counter(0).core(1).budget(1000, 10_000).start(kit)?;
    goes_on(0)?;
    let from = timebase();
    thread.sc.sched_context_consumed()?;
    // A simulated processor that its host does not run overruns its budget, which it pays back later.
    spin(400_000);
    let used = thread.sc.sched_context_consumed()?;
    let passed = (timebase() - from) / microseconds(1);
    check!(used > 0 && used * 2 < passed);
    // All of it.
    configure_on(kit, 1, thread.sc)?;
    let from = timebase();
    thread.sc.sched_context_consumed()?;
    spin(100_000);
    let used = thread.sc.sched_context_consumed()?;
    let passed = (timebase() - from) / microseconds(1);
    check!(used * 2 > passed && used <= passed + 1);
    Ok(())
}

fn take_time(kit: &mut Kit) -> Outcome {
    reset();
    let thread = counter(0).core(1).start(kit)?;
    let other = counter(1).core(1).make(kit)?;
    let spare = other.sc;
    other.sc.sched_context_unbind()?;
    other.tcb.tcb_resume()?;
    for _ in 0..50 {
        goes_on(0)?;
        thread.sc.sched_context_unbind()?;
        let stopped = word(0);
        spin(20);
        check_eq!(word(0), stopped);
        // The other one runs on it now.
        thread.sc.sched_context_bind(other.tcb)?;
        goes_on(1)?;
        check_eq!(word(0), stopped);
        thread.sc.sched_context_unbind_object(other.tcb)?;
        let stopped = word(1);
        spin(20);
        check_eq!(word(1), stopped);
        thread.sc.sched_context_bind(thread.tcb)?;
    }
    kit.delete(spare)?;
    goes_on(0)?;
    kit.delete(thread.sc)?;
    check!(stands(0));
    Ok(())
}

/// Receives one call and counts in word 0 instead of answering. Words: endpoint, reply.
fn serve_for_ever(env: &Env) -> u64 {
    cap::Endpoint::from_bits(env.args[0]).recv_with_mrs(cap::Reply::from_bits(env.args[1]));
    loop {
        WORDS[0].fetch_add(1, Ordering::Relaxed);
    }
}

fn reply_deleted(kit: &mut Kit) -> Outcome {
    for _ in 0..20 {
        reset();
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        let server = Helper::new(serve_for_ever)
            .args([endpoint.bits(), reply.bits()])
            .priority(ROOT_PRIORITY + 1)
            .start_passive(kit)?;
        let client = Helper::new(call_once)
            .args([endpoint.bits(), 1, 1])
            .priority(LOW)
            .core(1)
            .start(kit)?;
        // The passive server runs on the caller's core.
        goes_on(0)?;
        kit.delete(reply)?;
        // Its time went back to the caller, which nobody answers.
        let stopped = word(0);
        spin(20);
        check_eq!(word(0), stopped);
        check!(!client.finished());
        client.tcb.tcb_suspend()?;
        server.tcb.tcb_suspend()?;
        kit.clean_up()?;
    }
    Ok(())
}

/// Makes and deletes objects from untyped `args[0]` in slots from `args[1]` on, `args[2]` times.
fn build(env: &Env) -> u64 {
    let memory = cap::Untyped::from_bits(env.args[0]);
    let root = slot::CNODE.cap().absolute_cptr_for_self();
    let place = |i: u64| {
        let cptr = sel4::CPtr::from_bits(env.args[1] + i);
        slot::CNODE.cap().absolute_cptr(cptr)
    };
    let untyped = slot::CNODE.cap().absolute_cptr(memory);
    for round in 0..env.args[2] {
        let blueprints = [
            ObjectBlueprint::Endpoint,
            ObjectBlueprint::Notification,
            ObjectBlueprint::Tcb,
            ObjectBlueprint::CNode { size_bits: 4 },
        ];
        for (i, blueprint) in (0..).zip(&blueprints) {
            let index = (env.args[1] + i) as usize;
            let made =
                env.with_buffer(|b| memory.with(b).untyped_retype(blueprint, &root, index, 1));
            if made.is_err() {
                return round << 8 | 1;
            }
        }
        let shuffled = env.with_buffer(|b| {
            place(4)
                .with(&mut *b)
                .mint(&place(0), CapRights::all(), round + 1)?;
            place(0).revoke()?;
            place(4).with(b).copy(&place(1), CapRights::all())
        });
        if shuffled.is_err() {
            return round << 8 | 2;
        }
        if round % 2 == 0 {
            for i in 0..5 {
                if place(i).delete().is_err() {
                    return round << 8 | 3;
                }
            }
        }
        if untyped.revoke().is_err() {
            return round << 8 | 4;
        }
    }
    u64::MAX
}

fn construction(kit: &mut Kit) -> Outcome {
    let mut builders = [None; 4];
    for (i, builder) in builders.iter_mut().enumerate() {
        let memory = kit.untyped(16)?;
        let first = kit.slot();
        for _ in 1..5 {
            kit.slot();
        }
        *builder = Some(
            Helper::new(build)
                .args([memory.bits(), first.bits(), 50])
                .priority(ROOT_PRIORITY - 1)
                .core(i & 1)
                .start(kit)?,
        );
    }
    for builder in builders.iter().flatten() {
        check_eq!(builder.join(kit)?, u64::MAX);
    }
    Ok(())
}

fn endpoint_ends(kit: &mut Kit) -> Outcome {
    for round in 0..10 {
        reset();
        let memory = kit.untyped(10)?;
        let endpoint: cap::Endpoint = kit.retype(memory, ObjectBlueprint::Endpoint)?;
        let mut threads: [Option<Thread>; 4] = [None; 4];
        for (i, thread) in threads.iter_mut().enumerate() {
            let reply = kit.reply()?;
            let helper = if i < 2 {
                Helper::new(echo).args([endpoint.bits(), reply.bits()])
            } else {
                Helper::new(call_often).args([endpoint.bits(), u64::MAX, i as u64, 0])
            };
            *thread = Some(helper.core(i & 1).priority(LOW).start(kit)?);
        }
        while_asleep(kit, || word(2) > 10 && word(3) > 10)?;
        spin(round);
        kit.revoke(memory)?;
        // Senders and receivers of an empty slot fault, and stop without a handler; a call that was
        // taken before may still be answered.
        let last = [word(2) + 1, word(3) + 1];
        kit.sleep(2000)?;
        check!(word(2) <= last[0] && word(3) <= last[1]);
        kit.clean_up()?;
    }
    Ok(())
}

fn integrity(kit: &mut Kit) -> Outcome {
    reset();
    let first = Helper::new(marked).core(1).priority(LOW).start(kit)?;
    let ntfn = kit.notification()?;
    let waiter = Helper::new(wait_once)
        .args([ntfn.bits()])
        .core(1)
        .start(kit)?;
    let busy = counter(2).core(1).start(kit)?;
    goes_on(1)?;
    // Two threads take turns on core 1 while they are stopped, read and moved about.
    for round in 0..100 {
        first.tcb.tcb_suspend()?;
        let context = first.tcb.tcb_read_all_registers(false)?;
        check_eq!(*context.gpr(21), 0x1234_5678_9abc_def0);
        check_eq!(*context.gpr(20), word(1));
        first.tcb.tcb_resume()?;
        busy.tcb.tcb_read_all_registers(false)?;
        if round % 16 == 0 {
            goes_on(1)?;
            goes_on(2)?;
        }
    }
    ntfn.signal();
    waiter.join(kit)?;
    Ok(())
}
