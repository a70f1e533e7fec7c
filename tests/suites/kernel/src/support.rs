// SPDX-License-Identifier: BSD-2-Clause
//! What several areas share.

use core::mem::MaybeUninit;
use partita_abi::{IpcBufferLayout, syscall};
use sel4::arch::{self, MessageIn, Received};
use sel4::{IpcBuffer, MessageInfo, cap};
use testkit::{Answer, Env, Kit, Outcome, fail};

/// Message registers that travel in machine registers.
pub const FAST: usize = partita_abi::address_space::FAST_MESSAGE_REGISTERS;
/// Longest message.
pub const LONGEST: usize = partita_abi::address_space::MAX_MESSAGE_REGISTERS;

/// Fails unless the answer is this error.
#[track_caller]
pub fn refused(answer: Answer, error: partita_abi::ErrorCode) -> Outcome {
    if !answer.is(error) {
        fail!(
            "answer is {:?}, not {}",
            answer.error().map(|e| e.name()),
            error.name()
        );
    }
    Ok(())
}

/// Word `i` of a message made from `seed`.
pub fn word(seed: u64, i: usize) -> u64 {
    seed.wrapping_mul(0x9e37_79b9) ^ ((i as u64) << 56 | i as u64)
}

/// Lays down a message of `length` words in registers and IPC buffer.
pub fn compose(buffer: *mut IpcBuffer, seed: u64, length: usize) -> MessageIn {
    let mut fast = arch::NO_WORDS;
    for (i, register) in fast.iter_mut().enumerate().take(length) {
        *register = MaybeUninit::new(word(seed, i));
    }
    for i in FAST..length {
        let words = buffer.cast::<u64>();
        // SAFETY: the calling thread's own IPC buffer; `i` is below LONGEST.
        unsafe {
            words
                .add(IpcBufferLayout::MSG + i)
                .write_volatile(word(seed, i));
        }
    }
    fast
}

/// First message register in which a received message differs from what `compose` laid down, or in
/// which a register beyond the length is not 0.
pub fn difference(
    buffer: *mut IpcBuffer,
    received: &Received,
    seed: u64,
    length: usize,
) -> Option<usize> {
    if MessageInfo::from_word(received.info).length() != length {
        return Some(LONGEST);
    }
    let fast = (0..FAST).find(|&i| {
        let expected = if i < length { word(seed, i) } else { 0 };
        received.words[i] != expected
    });
    fast.or_else(|| {
        (FAST..length).find(|&i| {
            let words = buffer.cast::<u64>();
            // SAFETY: as in `compose`.
            let got = unsafe { words.add(IpcBufferLayout::MSG + i).read_volatile() };
            got != word(seed, i)
        })
    })
}

/// Runs a case that measures time. With several cores, time is not counted in instructions and the machine outside
/// takes processors away, so that a measurement may be repeated there.
pub fn measured(kit: &mut Kit, body: fn(&mut Kit) -> Outcome) -> Outcome {
    let mut repetitions = if kit.cores() > 1 { 5 } else { 0 };
    loop {
        match body(kit) {
            Err(_) if repetitions > 0 => kit.clean_up()?,
            outcome => return outcome,
        }
        repetitions -= 1;
    }
}

/// The root task's IPC buffer.
pub fn root_buffer(kit: &Kit) -> *mut IpcBuffer {
    core::ptr::with_exposed_provenance_mut(kit.boot().ipc_buffer as usize)
}

/// A server: answers each call with the label plus one and the same message, to whose first word the
/// badge is added. Words: endpoint, reply object.
pub fn echo(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        let info = MessageInfo::from_word(got.info);
        let mut words = got.words.map(MaybeUninit::new);
        words[0] = MaybeUninit::new(got.words[0].wrapping_add(got.badge));
        let answer = MessageInfo::new(info.label() + 1, 0, 0, info.length());
        got = arch::reply_recv(endpoint, answer.into_word(), words, reply);
    }
}

/// A server that takes its time: it waits for a signal first if there is a gate, then works for as many ticks as
/// the first word says, and answers that word plus one. Words: endpoint, reply object, gate or 0.
pub fn serve(env: &Env) -> u64 {
    let [endpoint, reply, gate, ..] = env.args;
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        // A signal of its own notification has no words.
        if MessageInfo::from_word(got.info).length() != 0 && gate != 0 {
            cap::Notification::from_bits(gate).wait();
        }
        let until = testkit::timebase() + got.words[0];
        while testkit::timebase() < until {}
        let words = arch::message([got.words[0] + 1]);
        let info = MessageInfo::new(0, 0, 0, 1);
        got = arch::reply_recv(endpoint, info.into_word(), words, reply);
    }
}

/// A client: calls once with one word and returns the first word of the answer. Words: endpoint,
/// label, word.
pub fn call_once(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let info = MessageInfo::new(env.args[1], 0, 0, 1);
    endpoint.call_with_mrs(info, [env.args[2]]).msg[0]
}

/// A sender: sends one word once. Words: endpoint, label, word.
pub fn send_once(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    endpoint.send_with_mrs(MessageInfo::new(env.args[1], 0, 0, 1), [env.args[2]]);
    1
}

/// A receiver: receives once and returns badge << 32 | first word. Words: endpoint, reply object.
pub fn receive_once(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(env.args[1]));
    got.badge << 32 | (got.msg[0] & 0xffff_ffff)
}

/// Waits once and returns the word. Words: notification.
pub fn wait_once(env: &Env) -> u64 {
    cap::Notification::from_bits(env.args[0]).wait().1
}

/// Returns at once.
pub fn nothing(_: &Env) -> u64 {
    0x600d
}

/// Does nothing for ever.
pub fn spin(env: &Env) -> u64 {
    let counter = env.args[0] as *const core::sync::atomic::AtomicU64;
    loop {
        if !counter.is_null() {
            // SAFETY: the case passed the address of a static.
            unsafe { &*counter }.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        }
    }
}
