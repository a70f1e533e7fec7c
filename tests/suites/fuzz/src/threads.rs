// SPDX-License-Identifier: BSD-2-Clause
//! The bodies of the threads.

use crate::generator::{self, Call};
use crate::layout::{self, Kind};
use crate::shared::{FUZZERS, bystander, counts};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::Relaxed;
use partita_abi::{InvocationLabel as L, MessageInfo, syscall};
use sel4::arch;
use testkit::{Env, Random, checksum};

/// Label of answers that are no kernel's: larger than any error number.
pub const NOT_AN_ERROR: u64 = 0x777;

/// Makes one system call; the label of its answer if it was an invocation.
fn perform(env: &Env, call: &Call) -> u64 {
    let mut fast = arch::NO_WORDS;
    for (to, from) in fast.iter_mut().zip(call.words) {
        *to = MaybeUninit::new(from);
    }
    env.with_buffer(|b| {
        for (to, from) in b.msg_regs_mut().iter_mut().zip(call.words).skip(fast.len()) {
            *to = from;
        }
        b.caps_or_badges_mut().copy_from_slice(&call.caps);
    });
    let info = MessageInfo::new(call.label, 0, call.extra, call.length).0;
    match call.number {
        syscall::CALL => MessageInfo(arch::call(call.cptr, info, fast).info).label(),
        syscall::SEND | syscall::NB_SEND => {
            arch::send(call.number, call.cptr, info, fast);
            NOT_AN_ERROR
        }
        syscall::REPLY_RECV => {
            arch::reply_recv(call.cptr, info, fast, call.reply);
            NOT_AN_ERROR
        }
        syscall::NB_SEND_RECV | syscall::NB_SEND_WAIT => {
            arch::nb_send_recv(call.number, call.dest, info, fast, call.cptr, call.reply);
            NOT_AN_ERROR
        }
        number => {
            arch::recv(number, call.cptr, call.reply);
            NOT_AN_ERROR
        }
    }
}

/// Makes random system calls for ever. It can be started again at any time. Words: number of the fuzz thread.
pub fn fuzz(env: &Env) -> u64 {
    let counts = counts();
    let number = env.args[0] as usize % FUZZERS;
    let (state, calls) = (&counts.random[number], &counts.calls[number]);
    loop {
        let mut random = Random::new(state.load(Relaxed));
        let call = generator::next(&mut random);
        // Before the call: it may not come back.
        state.store(random.word(), Relaxed);
        calls.fetch_add(1, Relaxed);
        let number = call.number.wrapping_neg() as usize;
        let place = counts.numbers.get(number).unwrap_or(&counts.numbers[0]);
        place.fetch_add(1, Relaxed);
        let label = L::from_number(call.label);
        // What IPC through an endpoint or notification answers is no error of the kernel's.
        let invoked = !matches!(
            layout::kind_of(call.cptr),
            Some(Kind::Endpoint | Kind::Notification)
        );
        if let Some(label) = label
            && call.number == syscall::CALL
            && invoked
        {
            counts.sent[label as usize].fetch_add(1, Relaxed);
        }
        let answer = perform(env, &call);
        counts.returned.fetch_add(1, Relaxed);
        if let Some(label) = label
            && call.number == syscall::CALL
            && invoked
            && let Some(count) = counts.answers[label as usize].get(answer as usize)
        {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// A server in the fuzz thread's CSpace, so that some of its messages are received and some of its
/// calls answered. Words: endpoint, reply object.
pub fn partner(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let info = MessageInfo::new(NOT_AN_ERROR, 0, 0, 1).0;
        arch::reply_recv(endpoint, info, arch::message([0]), reply);
    }
}

/// Words that the bystander sums.
const MEMORY: usize = 512;

/// Computes the checksum of its own memory for ever.
pub fn watch(_: &Env) -> u64 {
    let report = bystander();
    let mut memory = [0u64; MEMORY];
    let mut random = Random::new(42);
    memory.iter_mut().for_each(|word| *word = random.word());
    let expected = checksum(memory.iter().copied());
    loop {
        let sum = checksum(core::hint::black_box(&memory).iter().copied());
        if sum != expected {
            report.wrong.fetch_add(1, Relaxed);
        }
        report.rounds.fetch_add(1, Relaxed);
    }
}

/// Signals whenever nothing else can run: at the lowest priority. Words: notification.
pub fn idle(env: &Env) -> u64 {
    loop {
        sel4::cap::Notification::from_bits(env.args[0]).signal();
    }
}
