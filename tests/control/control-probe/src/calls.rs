// SPDX-License-Identifier: BSD-2-Clause
//! The calls of the operator's channel.

use core::fmt;
use partita_abi::{microkit, syscall};
use partita_guest_protocol::memslots::{self, Refusal, Step};
use partita_guest_protocol::{Words, answer, channel, hpt, symbol, vcpu, vpa};
use sel4::{TIMEBASE_HZ, cap, cap_type};
use sel4_microkit::{Channel, MessageInfo, cspace_cap};

/// What was wrong: the requirement, and the answer that was not the right one.
#[derive(Clone, Copy, Debug)]
pub struct Wrong {
    pub what: &'static str,
    pub label: u64,
    pub words: [u64; 3],
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: label {:#x}, {:x?}",
            self.what, self.label, self.words
        )
    }
}

pub type Outcome<T = ()> = Result<T, Wrong>;

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    pub label: u64,
    pub words: Words,
}

impl Got {
    /// Fails with `what` unless the condition holds for it.
    pub fn must(self, what: &'static str, condition: bool) -> Outcome<Got> {
        if condition {
            return Ok(self);
        }
        let [a, b, c, ..] = self.words;
        Err(Wrong {
            what,
            label: self.label,
            words: [a, b, c],
        })
    }

    /// Fails unless the label is [`answer::OK`].
    pub fn ok(self, what: &'static str) -> Outcome<Got> {
        self.must(what, self.label == answer::OK)
    }
}

/// Fails with `what` and two figures unless the condition holds.
pub fn check(what: &'static str, condition: bool, a: u64, b: u64) -> Outcome {
    if condition {
        return Ok(());
    }
    Err(Wrong {
        what,
        label: 0,
        words: [a, b, 0],
    })
}

fn call<const N: usize>(id: usize, label: u64, words: [u64; N]) -> Got {
    let (info, words) = Channel::new(id).pp_call_mrs(MessageInfo::new(label, N), words);
    Got {
        label: info.label(),
        words,
    }
}

const TIMER: cap::Timer = cspace_cap::<cap_type::Timer>(symbol::TIMER_SLOT);

/// Lets the others run for so many microseconds.
pub fn sleep(us: u64) {
    let deadline = sel4::arch::timebase() + us * (TIMEBASE_HZ / 1_000_000);
    while sel4::arch::timebase() < deadline {
        // Its own timer: the kernel has no reason to refuse.
        let _ = TIMER.timer_set(deadline);
        sel4::arch::recv(
            syscall::RECV,
            microkit::INPUT_SLOT as u64,
            microkit::REPLY_SLOT as u64,
        );
    }
}

// vcpu

/// Asks for a pause; whether the vCPU is paused.
pub fn pause(number: u64) -> Outcome<bool> {
    let got = call(channel::VCPU, vcpu::PAUSE, [number]).ok("pause")?;
    Ok(got.words[0] == vcpu::PAUSED)
}

/// Pauses vCPU 0, however long it takes.
pub fn pause_now() -> Outcome<u64> {
    for turns in 0..10_000 {
        if pause(0)? {
            return Ok(turns);
        }
        sleep(100);
    }
    Err(Wrong {
        what: "pause: it never comes out",
        label: 0,
        words: [0; 3],
    })
}

pub fn resume() -> Outcome {
    call(channel::VCPU, vcpu::RESUME, [0])
        .ok("resume")
        .map(drop)
}

pub fn kick() -> Outcome {
    call(channel::VCPU, vcpu::KICK, [0]).ok("kick").map(drop)
}

pub fn reset() -> Outcome<bool> {
    let got = call(channel::VCPU, vcpu::RESET, []).ok("reset")?;
    Ok(got.words[0] == vcpu::PAUSED)
}

/// Dispatches, and the bound counter.
pub fn times() -> Outcome<(u64, Option<u64>)> {
    let got = call(channel::VCPU, vcpu::TIMES, [0]).ok("times")?;
    let [_, dispatches, count, ..] = got.words;
    Ok((dispatches, Some(count).filter(|c| *c != u64::MAX)))
}

pub fn vcpu_call(label: u64, word: u64) -> Got {
    call(channel::VCPU, label, [word])
}

// vpa

pub fn get(vcpu: u64, id: u64) -> Got {
    call(channel::VPA, vpa::GET, [vcpu, id])
}

pub fn set(vcpu: u64, id: u64, value: [u64; 2]) -> Got {
    call(channel::VPA, vpa::SET, [vcpu, id, value[0], value[1]])
}

/// Has areas in these pages let go; how often it had to be asked.
pub fn release(first: u64, end: u64) -> Outcome<u64> {
    let mut from = 0;
    for turns in 0..10_000 {
        let words = [first, end - first, from];
        let got = call(channel::VPA, vpa::RELEASE, words).ok("S0.19 release")?;
        match got.words[0] {
            vpa::DONE => return Ok(turns),
            vpa::NOT_YET => sleep(100),
            _ => {}
        }
        from = got.words[1];
    }
    check("S0.19: areas are never let go", false, first, end).map(|()| 0)
}

// hpt

/// Makes an operation's calls until it is complete.
fn run(what: &'static str, label: u64, mut words: [u64; 5], more: usize) -> Outcome<Words> {
    loop {
        let got = call(channel::HPT, label, words).ok(what)?;
        if got.words[more] == hpt::DONE {
            return Ok(got.words);
        }
        words[0] = got.words[0];
        if label == hpt::VERIFY {
            words.copy_from_slice(&got.words[..5]);
        }
    }
}

pub fn flush(first: u64, end: u64) -> Outcome {
    run("S3.5 flush", hpt::FLUSH, [first, end, 0, 0, 0], 1).map(drop)
}

/// One step of it.
pub fn flush_once(first: u64, end: u64) -> Got {
    call(channel::HPT, hpt::FLUSH, [first, end])
}

/// Checks I1 to I7; valid entries and those that need interception.
pub fn verify() -> Outcome<(u64, u64)> {
    let words = run("I1 to I7", hpt::VERIFY, [0; 5], 5)?;
    Ok((words[1], words[2]))
}

pub fn collect_dirty(first: u64, end: u64) -> Outcome {
    run("dirty pages", hpt::COLLECT_DIRTY, [first, end, 1, 0, 0], 1).map(drop)
}

// memslots

pub fn set_region(id: u64, base: u64, size: u64, flags: u64) -> Got {
    let words = [id, base, size, flags];
    call(channel::MEMSLOTS, memslots::SET_REGION, words)
}

pub fn advance() -> Got {
    call(channel::MEMSLOTS, memslots::ADVANCE, [])
}

pub fn abort() -> Got {
    call(channel::MEMSLOTS, memslots::ABORT, [])
}

/// Writes zeros into the guest's memory.
pub fn zero(gpa: u64, bytes: u64) -> Outcome {
    let words = [memslots::Source::Zeros as u64, 0, gpa, bytes];
    let got = call(channel::MEMSLOTS, memslots::LOAD, words).ok("zeros")?;
    got.must("zeros, all of them", got.words[0] == bytes)
        .map(drop)
}

/// Takes memory away from the guest, whatever uses it.
pub fn reclaim_by_force(gfn: u64) -> Got {
    call(channel::MEMSLOTS, memslots::RECLAIM_BY_FORCE, [gfn])
}

/// Slots, pages held, foreign, mapped, busy.
pub fn stats() -> Outcome<Words> {
    let got = call(channel::MEMSLOTS, memslots::STATS, [memslots::STATS_SLOTS]);
    got.ok("stats").map(|got| got.words)
}

/// Frames of 64 KiB that are free.
pub fn free_frames() -> Outcome<u64> {
    let got = call(channel::MEMSLOTS, memslots::STATS, [2]).ok("stats")?;
    Ok(got.words[2])
}

pub fn refused(got: Got, what: &'static str, why: Refusal) -> Outcome {
    got.must(what, got.label == why.label()).map(drop)
}

/// Goes on with a change until it says something that is not "again".
pub fn settle(mut got: Got, what: &'static str) -> Outcome<Step> {
    for _ in 0..100_000 {
        got.ok(what)?;
        match Step::from_words(&got.words) {
            Some(Step::Again) => {}
            Some(Step::Reader(_)) => sleep(50),
            Some(step) => return Ok(step),
            None => break,
        }
        got = advance();
    }
    got.must(what, false).map(|_| Step::Failed)
}

/// Carries a change through to its end: what has to be let go is let go.
pub fn complete(got: Got, what: &'static str) -> Outcome {
    let mut step = settle(got, what)?;
    let mut pages = (0, 0);
    for _ in 0..1000 {
        match step {
            Step::Done => return Ok(()),
            Step::Flush { first, end } => {
                pages = (first, end);
                flush(first, end)?;
                release(first, end)?;
            }
            Step::Pinned(_) => {
                flush(pages.0, pages.1)?;
                release(pages.0, pages.1)?;
            }
            other => return check(what, false, other.to_answer().words[0], 0),
        }
        step = settle(advance(), what)?;
    }
    check(what, false, 1000, 0)
}
