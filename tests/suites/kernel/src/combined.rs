// SPDX-License-Identifier: BSD-2-Clause
//! MULTICORE: combinations of what goes well alone: signals of both cores, bound notifications, donated time,
//! affinity, stopping and resuming, one reply object for two servers, interrupts.

use crate::interrupt::{ENABLE_TRANSMITTER, Uart, handler};
use crate::multicore::{
    LOW, PATIENCE_US, WORDS, call_often, configure_on, expected_sum, goes_on, reset, set_word, word,
};
use crate::support::{echo, measured};
use core::sync::atomic::Ordering;
use partita_abi::fault::user_exception;
use partita_abi::syscall;
use sel4::init_thread::slot;
use sel4::{CapRights, MessageInfo, arch, cap};
use testkit::kit::{ROOT_PRIORITY, microseconds};
use testkit::thread::SLICE_US;
use testkit::{Case, Env, Helper, Kit, Outcome, Thread, check, check_eq, fail, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "MULTICORE0025 both cores signal their own threads and each other's",
        body: signals,
    },
    Case {
        name: "MULTICORE0026 a bound thread moves while both cores signal it",
        body: moving_receiver,
    },
    Case {
        name: "MULTICORE0027 servers of two cores receive with one reply object",
        body: one_reply_object,
    },
    Case {
        name: "MULTICORE0028 a passive server is stopped and resumed while both cores call it",
        body: stopped_server,
    },
    Case {
        name: "MULTICORE0029 a passive server gets signals and calls of both cores",
        body: signalled_server,
    },
    Case {
        name: "MULTICORE0030 a fault handler without time serves both cores",
        body: passive_handler,
    },
    Case {
        name: "MULTICORE0031 a passive server ends while both cores call it",
        body: server_ends,
    },
    Case {
        name: "MULTICORE0032 an interrupt comes to the core that acknowledges it",
        body: |kit| measured(kit, interrupts),
    },
];

/// Receives signals for ever; for each bit of a badge one word grows. Words: endpoint, reply object, number of the word
/// of bit 0.
fn receive_signals(env: &Env) -> u64 {
    let [endpoint, reply, first, ..] = env.args;
    loop {
        note(arch::recv(syscall::RECV, endpoint, reply).badge, first);
    }
}

/// Counts the bits of a badge.
fn note(badge: u64, first: u64) {
    for bit in 0..2 {
        if badge >> bit & 1 != 0 {
            WORDS[(first + bit) as usize].fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Signals and waits until that has arrived, often. Words: notification, number of its word, rounds. The result is 1 if
/// each signal did.
fn signal_and_see(env: &Env) -> u64 {
    let bell = cap::Notification::from_bits(env.args[0]);
    let at = env.args[1] as usize;
    for _ in 0..env.args[2] {
        let (before, end) = (word(at), timebase() + microseconds(PATIENCE_US));
        bell.signal();
        while word(at) == before {
            if timebase() > end {
                return 0;
            }
        }
    }
    1
}

/// A thread on `core` that receives signals, and the bells whose bits go to the words from `first` on.
fn receiver(kit: &mut Kit, core: usize, first: u64) -> Outcome<(Thread, [cap::Notification; 2])> {
    let (endpoint, reply, ntfn) = (kit.endpoint()?, kit.reply()?, kit.notification()?);
    let thread = Helper::new(receive_signals)
        .args([endpoint.bits(), reply.bits(), first])
        .priority(LOW + 10)
        .core(core)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    Ok((thread, bells(kit, ntfn)?))
}

fn bells(kit: &mut Kit, ntfn: cap::Notification) -> Outcome<[cap::Notification; 2]> {
    Ok([
        kit.mint(ntfn, CapRights::all(), 1)?,
        kit.mint(ntfn, CapRights::all(), 2)?,
    ])
}

/// Signals another thread and receives its signal in one, often; the sum of the badges. Words: notification to signal,
/// endpoint, reply object, rounds, 1 if the other one begins.
fn bounce(env: &Env) -> u64 {
    let [dest, endpoint, reply, rounds, second, ..] = env.args;
    let mut sum = 0;
    if second != 0 {
        sum += arch::recv(syscall::RECV, endpoint, reply).badge;
    }
    for _ in second..rounds {
        let nothing = arch::message([]);
        sum += arch::nb_send_recv(syscall::NB_SEND_RECV, dest, 0, nothing, endpoint, reply).badge;
    }
    if second != 0 {
        cap::Notification::from_bits(dest).signal();
    }
    sum
}

/// Two threads of a core that signal each other.
fn bouncers(kit: &mut Kit, core: usize, rounds: u64) -> Outcome<[Thread; 2]> {
    let ntfns = [kit.notification()?, kit.notification()?];
    let bells = [
        kit.mint(ntfns[0], CapRights::all(), 3)?,
        kit.mint(ntfns[1], CapRights::all(), 3)?,
    ];
    let mut make = |me: usize| -> Outcome<Thread> {
        let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
        let (other, second) = (bells[1 - me].bits(), me as u64);
        let thread = Helper::new(bounce)
            .args([other, endpoint.bits(), reply.bits(), rounds, second])
            .priority(LOW)
            .core(core)
            .make(kit)?;
        thread.tcb.tcb_bind_notification(ntfns[me])?;
        Ok(thread)
    };
    let threads = [make(0)?, make(1)?];
    for thread in threads {
        thread.tcb.tcb_resume()?;
    }
    Ok(threads)
}

fn signals(kit: &mut Kit) -> Outcome {
    reset();
    const ROUNDS: u64 = 300;
    let mut threads = [None; 8];
    let receivers = [receiver(kit, 0, 0)?, receiver(kit, 1, 2)?];
    let mut next = threads.iter_mut();
    let mut keep = |thread: Thread, result: u64| {
        if let Some(place) = next.next() {
            *place = Some((thread, result));
        }
    };
    for core in 0..2 {
        for thread in bouncers(kit, core, ROUNDS)? {
            keep(thread, 3 * ROUNDS);
        }
        for (whose, (_, bells)) in receivers.iter().enumerate() {
            let at = (2 * whose + core) as u64;
            let thread = Helper::new(signal_and_see)
                .args([bells[core].bits(), at, ROUNDS])
                .priority(LOW)
                .core(core)
                .start(kit)?;
            keep(thread, 1);
        }
    }
    for (thread, result) in threads.iter().flatten() {
        check_eq!(thread.join(kit)?, *result);
    }
    check_eq!([word(0), word(1), word(2), word(3)], [ROUNDS; 4]);
    Ok(())
}

fn moving_receiver(kit: &mut Kit) -> Outcome {
    reset();
    // Enough for some moves, also on a machine that is busy with other things.
    const ROUNDS: u64 = 4000;
    let (receiver, bells) = receiver(kit, 0, 0)?;
    let mut threads = [None; 2];
    for (core, thread) in threads.iter_mut().enumerate() {
        *thread = Some(
            Helper::new(signal_and_see)
                .args([bells[core].bits(), core as u64, ROUNDS])
                .priority(LOW)
                .core(core)
                .start(kit)?,
        );
    }
    let mut moves = 0;
    while !threads.iter().flatten().all(Thread::finished) {
        moves += 1;
        configure_on(kit, moves & 1, receiver.sc)?;
        kit.sleep(150)?;
    }
    for thread in threads.iter().flatten() {
        check_eq!(thread.result(), Some(1));
    }
    check!(moves > 2);
    check_eq!([word(0), word(1)], [ROUNDS; 2]);
    Ok(())
}

/// Signals for ever. Words: notification.
fn ring_for_ever(env: &Env) -> u64 {
    loop {
        cap::Notification::from_bits(env.args[0]).signal();
    }
}

fn one_reply_object(kit: &mut Kit) -> Outcome {
    reset();
    let reply = kit.reply()?;
    let mut servers = [None; 2];
    for (core, server) in servers.iter_mut().enumerate() {
        let (endpoint, ntfn) = (kit.endpoint()?, kit.notification()?);
        let bell = kit.mint(ntfn, CapRights::all(), 1)?;
        let thread = Helper::new(receive_signals)
            .args([endpoint.bits(), reply.bits(), core as u64])
            .priority(LOW + 10)
            .core(core)
            .make(kit)?;
        thread.tcb.tcb_bind_notification(ntfn)?;
        Helper::new(ring_for_ever)
            .args([bell.bits()])
            .priority(LOW)
            .core(core)
            .start(kit)?;
        *server = Some(thread);
    }
    // Whoever receives with the object takes it from the other one, which stops.
    for round in 0..300 {
        for server in servers.iter().flatten() {
            server.tcb.tcb_resume()?;
        }
        if round % 4 == 0 {
            kit.sleep(200)?;
        }
    }
    check!(word(0) > 0 && word(1) > 0);
    // It still serves whoever has it for himself.
    let [Some(first), Some(second)] = servers else {
        fail!("no servers");
    };
    first.tcb.tcb_suspend()?;
    second.tcb.tcb_suspend()?;
    second.tcb.tcb_resume()?;
    goes_on(1)?;
    Ok(())
}

/// A server that runs on its callers' time, and on that of its notification for whatever comes without time.
fn passive(
    kit: &mut Kit,
    body: fn(&Env) -> u64,
    args: [u64; 2],
) -> Outcome<(Thread, cap::Notification)> {
    let ntfn = kit.notification()?;
    let thread = Helper::new(body)
        .args(args)
        .priority(ROOT_PRIORITY + 20)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    kit.settle()?;
    thread.sc.sched_context_unbind()?;
    thread.sc.sched_context_bind(ntfn)?;
    Ok((thread, ntfn))
}

/// A client on each core: [`call_often`].
fn clients(kit: &mut Kit, endpoint: cap::Endpoint, times: u64) -> Outcome<[Thread; 2]> {
    let mut make = |core: usize| {
        Helper::new(call_often)
            .args([endpoint.bits(), times, 4 + core as u64, core as u64 + 1])
            .core(core)
            .priority(ROOT_PRIORITY - 1)
            .start(kit)
    };
    Ok([make(0)?, make(1)?])
}

fn stopped_server(kit: &mut Kit) -> Outcome {
    reset();
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let (server, _) = passive(kit, echo, [endpoint.bits(), reply.bits()])?;
    let times = 1000;
    let clients = clients(kit, endpoint, times)?;
    let mut stops = 0;
    let (mut made, mut end) = (0, timebase() + microseconds(PATIENCE_US));
    while !clients.iter().all(Thread::finished) {
        server.tcb.tcb_suspend()?;
        stops += 1;
        if stops % 3 == 0 {
            kit.sleep(50)?;
        }
        server.tcb.tcb_resume()?;
        kit.sleep(150)?;
        if word(4) + word(5) > made {
            made = word(4) + word(5);
            end = timebase() + microseconds(PATIENCE_US);
        } else if timebase() > end {
            fail!("{made} calls after {stops} stops");
        }
    }
    check!(stops > 1);
    for (tag, client) in (1..).zip(&clients) {
        check_eq!(client.result(), Some(expected_sum(times, tag)));
    }
    Ok(())
}

/// As `echo`, but signals (their badges have one or two bits) are counted. Words: endpoint, reply object.
fn echo_and_note(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        if got.badge < 4 {
            note(got.badge, 0);
            got = arch::recv(syscall::RECV, endpoint, reply);
            continue;
        }
        let info = MessageInfo::from_word(got.info);
        let mut words = got.words;
        words[0] = words[0].wrapping_add(got.badge);
        let answer = MessageInfo::new(info.label() + 1, 0, 0, info.length());
        got = arch::reply_recv(endpoint, answer.into_word(), arch::message(words), reply);
    }
}

fn signalled_server(kit: &mut Kit) -> Outcome {
    reset();
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let badge = 0x100;
    let badged = kit.mint(endpoint, CapRights::all(), badge)?;
    let (_, ntfn) = passive(kit, echo_and_note, [endpoint.bits(), reply.bits()])?;
    let bells = bells(kit, ntfn)?;
    let (times, rounds) = (600, 200);
    let clients = clients(kit, badged, times)?;
    let mut signallers = [None; 2];
    for (core, thread) in signallers.iter_mut().enumerate() {
        *thread = Some(
            Helper::new(signal_and_see)
                .args([bells[core].bits(), core as u64, rounds])
                .priority(ROOT_PRIORITY - 1)
                .core(core)
                .start(kit)?,
        );
    }
    for (tag, client) in (1..).zip(&clients) {
        let sum = expected_sum(times, tag).wrapping_add(badge * times);
        check_eq!(client.join(kit)?, sum);
    }
    for thread in signallers.iter().flatten() {
        check_eq!(thread.join(kit)?, 1);
    }
    check_eq!([word(0), word(1)], [rounds; 2]);
    Ok(())
}

/// Executes no instruction, `args[0]` times; how often it went on.
fn stumble(env: &Env) -> u64 {
    let mut count = 0;
    for _ in 0..env.args[0] {
        #[cfg(target_arch = "powerpc64")]
        // SAFETY: an illegal instruction; the handler goes on behind it and changes nothing else.
        unsafe {
            core::arch::asm!(".long 0", options(nostack))
        }
        count += 1;
    }
    count
}

/// A fault handler that lets threads go on behind the instruction. Words: endpoint, reply object.
fn step_over(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let mut words = got.words;
        words[user_exception::FAULT_IP] += 4;
        let info = MessageInfo::new(0, 0, 0, 1);
        let words = arch::message(words);
        got = arch::reply_recv(endpoint, info.into_word(), words, reply);
    }
}

fn passive_handler(kit: &mut Kit) -> Outcome {
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    passive(kit, step_over, [endpoint.bits(), reply.bits()])?;
    let mut threads = [None; 4];
    for (i, thread) in threads.iter_mut().enumerate() {
        *thread = Some(
            Helper::new(stumble)
                .args([300])
                .fault(endpoint)
                .priority(LOW)
                .core(i & 1)
                .start(kit)?,
        );
    }
    for thread in threads.iter().flatten() {
        check_eq!(thread.join(kit)?, 300);
    }
    Ok(())
}

fn server_ends(kit: &mut Kit) -> Outcome {
    for round in 0..20 {
        reset();
        let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
        let (server, _) = passive(kit, echo, [endpoint.bits(), reply.bits()])?;
        let threads = clients(kit, endpoint, u64::MAX)?;
        let end = timebase() + microseconds(PATIENCE_US);
        while word(4) < 20 || word(5) < 20 {
            check!(timebase() < end);
            kit.sleep(100 + round)?;
        }
        // In the middle of a call or not: its callers' time comes back to them, and nobody answers any more.
        kit.delete(server.tcb)?;
        let last = [word(4) + 1, word(5) + 1];
        kit.sleep(500)?;
        check!(word(4) <= last[0] && word(5) <= last[1]);
        for thread in threads {
            check!(!thread.finished());
            thread.tcb.tcb_suspend()?;
        }
        kit.clean_up()?;
    }
    Ok(())
}

/// Interrupts of the UART, as many as the third word says. Words: handler, endpoint, rounds. In each round it waits for
/// word 2 and sets word 1.
fn serve_interrupts(env: &Env) -> u64 {
    let irq = cap::IrqHandler::from_bits(env.args[0]);
    let uart = core::mem::ManuallyDrop::new(Uart);
    let acknowledge = || env.with_buffer(|b| irq.with(b).irq_handler_ack()).is_ok();
    // From here on they come to this core.
    if !acknowledge() {
        return 0;
    }
    for round in 1..=env.args[2] {
        set_word(1, round - 1);
        while word(2) != round {}
        uart.enable(ENABLE_TRANSMITTER);
        let badge = arch::recv(syscall::RECV, env.args[1], 0).badge;
        uart.enable(0);
        uart.identify();
        if badge != 0x40 || !acknowledge() {
            return round;
        }
    }
    set_word(1, env.args[2]);
    u64::MAX
}

/// Sets word 2 to `round` and waits until word 1 is that; whether the thread was in user mode all the time: an interrupt
/// ends its reservation.
fn undisturbed(round: u64) -> Outcome<bool> {
    let reserved = core::cell::UnsafeCell::new(0u64);
    let (mut turns, condition): (u64, u64);
    #[cfg(target_arch = "powerpc64")]
    // SAFETY: reads and writes two of the words and a variable of its own.
    unsafe {
        core::arch::asm!(
            "ldarx {old}, 0, {reserved}",
            "std {round}, 0({go})",
            "2: ld {now}, 0({done})",
            "cmpd {now}, {round}",
            "beq 3f",
            "addic. {turns}, {turns}, -1",
            "bne 2b",
            "3: stdcx. {old}, 0, {reserved}",
            "mfcr {old}",
            old = out(reg_nonzero) condition,
            reserved = in(reg_nonzero) reserved.get(),
            round = in(reg_nonzero) round,
            now = out(reg_nonzero) _,
            go = in(reg_nonzero) WORDS[2].as_ptr(),
            done = in(reg_nonzero) WORDS[1].as_ptr(),
            turns = inout(reg_nonzero) 1u64 << 34 => turns,
            out("cr0") _, out("xer") _,
            options(nostack)
        );
    }
    #[cfg(not(target_arch = "powerpc64"))]
    {
        (turns, condition) = (round, 0);
    }
    check!(turns != 0);
    // EQ of CR0.
    Ok(condition >> 29 & 1 != 0)
}

fn interrupts(kit: &mut Kit) -> Outcome {
    // The end of a turn of its own would interrupt this core, too, if the host is slow.
    kit.configure(slot::SC.cap(), 1_000_000, 1_000_000, 0)?;
    let outcome = interrupts_of_the_other(kit);
    kit.configure(slot::SC.cap(), SLICE_US, SLICE_US, 0)?;
    outcome
}

fn interrupts_of_the_other(kit: &mut Kit) -> Outcome {
    reset();
    const ROUNDS: u64 = 100;
    let _uart = Uart::map(kit)?;
    let irq = handler(kit)?;
    let (endpoint, ntfn) = (kit.endpoint()?, kit.notification()?);
    let bell = kit.mint(ntfn, CapRights::all(), 0x40)?;
    irq.irq_handler_set_notification(bell)?;
    let thread = Helper::new(serve_interrupts)
        .args([irq.bits(), endpoint.bits(), ROUNDS])
        .core(1)
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    thread.tcb.tcb_resume()?;
    let mut quiet = 0;
    for round in 1..=ROUNDS {
        quiet += u64::from(undisturbed(round)?);
    }
    check_eq!(thread.join(kit)?, u64::MAX);
    // Now and then something else interrupts it.
    if quiet < ROUNDS / 2 {
        fail!("{quiet} of {ROUNDS} interrupts left core 0 alone");
    }
    Ok(())
}
