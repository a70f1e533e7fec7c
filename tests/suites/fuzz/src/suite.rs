// SPDX-License-Identifier: BSD-2-Clause
//! The cases: the calls, and what must be true after them.

use crate::shared::{Bystander, Counts, FUZZERS, bystander, counts};
use crate::threads;
use crate::world::World;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};
use partita_abi::{ErrorCode, InvocationLabel as L, syscall};
use sel4::{CapRights, ObjectBlueprintArch, cap};
use testkit::kit::microseconds;
use testkit::{Case, Helper, Kit, Outcome, Random, check, check_eq, fail, println, timebase};

sel4::root_task!(main = main, panic = testkit::panicked);

const CASES: &[Case] = &[
    Case {
        name: "FUZZ0001 random calls",
        body: random_calls,
    },
    Case {
        name: "FUZZ0002 nobody else was touched",
        body: untouched,
    },
    Case {
        name: "FUZZ0003 every system call was made",
        body: system_calls,
    },
    Case {
        name: "FUZZ0004 every invocation was reached",
        body: labels,
    },
    Case {
        name: "FUZZ0005 every error was reached",
        body: errors,
    },
];

/// Calls made if `FUZZ_CALLS` does not say how many.
const DEFAULT_CALLS: u64 = 1_200_000;
const DEFAULT_SEED: u64 = 0x5eed_0001;
/// Calls between two worlds.
const ROUND: u64 = 30_000;
/// How often the supervisor looks, microseconds.
const LOOK_US: u64 = 1500;
/// How long the bystander may wait on several cores for what it overran, microseconds.
const PAYBACK_US: u64 = 30_000_000;
/// So often the supervisor looks and sets the threads right without a call having been made; then it
/// gives the world up. The fuzz thread may have made a vCPU of a partner, for example, whose exits the
/// other answers, for ever and at a better priority.
const PATIENCE: u64 = 20;
/// Badges of the supervisor's notification.
const IDLE: u64 = 1;
const TIME: u64 = 2;

const fn number(text: Option<&str>, default: u64) -> u64 {
    let Some(text) = text else { return default };
    match u64::from_str_radix(text, 10) {
        Ok(n) => n,
        Err(_) => panic!("FUZZ_CALLS and FUZZ_SEED are decimal numbers"),
    }
}

const CALLS: u64 = number(option_env!("FUZZ_CALLS"), DEFAULT_CALLS);
const SEED: u64 = number(option_env!("FUZZ_SEED"), DEFAULT_SEED);
/// A case may take a second for each 2000 calls, and a minute; with several cores, time is that of the machine
/// outside.
const TIMEOUT_US: u64 = CALLS * 500 + 60_000_000;
const TIMES_FOR_CORES: u64 = 4;

/// Sums over all rounds.
static TOTAL: Counts = Counts {
    random: [const { AtomicU64::new(0) }; FUZZERS],
    calls: [const { AtomicU64::new(0) }; FUZZERS],
    returned: AtomicU64::new(0),
    numbers: [const { AtomicU64::new(0) }; 12],
    sent: [const { AtomicU32::new(0) }; L::COUNT],
    answers: [const { [const { AtomicU32::new(0) }; ErrorCode::COUNT] }; L::COUNT],
};
static WATCHED: Bystander = Bystander {
    rounds: AtomicU64::new(0),
    wrong: AtomicU64::new(0),
};
/// Rounds in which the supervisor's memory or capabilities were not what they should be.
static TOUCHED: AtomicU64 = AtomicU64::new(0);
/// Rounds in which the bystander did not get on.
static STARVED: AtomicU64 = AtomicU64::new(0);

fn main(boot: &'static sel4::BootInfo) -> ! {
    let several = boot.num_nodes > 1;
    let timeout = TIMEOUT_US * if several { TIMES_FOR_CORES } else { 1 };
    testkit::run("fuzz", boot, timeout, &[CASES])
}

/// Calls of all fuzz threads.
fn made(counts: &Counts) -> u64 {
    counts.calls.iter().map(|n| n.load(Relaxed)).sum()
}

/// Adds a round's counts to the total.
fn collect() {
    let from = counts();
    let add = |to: &AtomicU64, from: &AtomicU64| {
        to.fetch_add(from.load(Relaxed), Relaxed);
    };
    for (to, from) in TOTAL.calls.iter().zip(&from.calls) {
        add(to, from);
    }
    add(&TOTAL.returned, &from.returned);
    for (to, from) in TOTAL.numbers.iter().zip(&from.numbers) {
        add(to, from);
    }
    for (to, from) in TOTAL.sent.iter().zip(&from.sent) {
        to.fetch_add(from.load(Relaxed), Relaxed);
    }
    let answers = TOTAL.answers.as_flattened().iter();
    for (to, from) in answers.zip(from.answers.as_flattened()) {
        to.fetch_add(from.load(Relaxed), Relaxed);
    }
    let report = bystander();
    add(&WATCHED.rounds, &report.rounds);
    add(&WATCHED.wrong, &report.wrong);
    if report.rounds.load(Relaxed) == 0 {
        STARVED.fetch_add(1, Relaxed);
    }
}

/// What a round came to.
struct Round {
    /// How often the threads had to be set right.
    stuck: u64,
    /// The calls were not all made.
    given_up: bool,
}

/// One world and `ROUND` calls in it, or fewer if it does not get on.
fn round(kit: &mut Kit, last: bool, random: &mut Random) -> Outcome<Round> {
    let world = World::new(kit, last, random)?;
    let wake = kit.notification()?;
    let idle = kit.mint(wake, CapRights::write_only(), IDLE)?;
    let time = kit.mint(wake, CapRights::write_only(), TIME)?;
    let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
    timer.timer_set_notification(time)?;
    let cores = kit.cores();
    // A fuzz thread on another core stands still when the machine outside takes that core away.
    let look_us = LOOK_US * if cores > 1 { 10 } else { 1 };
    let look = microseconds(look_us);
    timer.timer_set(timebase() + look)?;
    Helper::new(threads::idle)
        .args([idle.bits()])
        .priority(2)
        .start(kit)?;
    let states = || counts().random.each_ref().map(|state| state.load(Relaxed));
    let (mut seen, mut stuck, mut looks) = ([0; FUZZERS], 0, 0);
    world.unstick(kit, random)?;
    let patience = PATIENCE * if cores > 1 { 10 } else { 1 };
    while made(counts()) < ROUND && looks < patience {
        let word = wake.wait().1;
        // A thread with damaged registers may make one and the same call for ever.
        let now = states();
        let stands = (0..cores.min(FUZZERS)).any(|i| now[i] == seen[i]);
        let on_time = word & TIME != 0;
        if on_time {
            timer.timer_set(timebase() + look)?;
            world.calm()?;
            looks = if stands { looks + 1 } else { 0 };
        }
        if on_time && looks != 0 || !on_time && word & IDLE != 0 {
            stuck += 1;
            world.unstick(kit, random)?;
        }
        // Threads that were set right have new ones.
        seen = states();
    }
    // What the machine outside took of the bystander's small budget it pays back first, beside the fuzz threads.
    let end = timebase() + microseconds(PAYBACK_US);
    while cores > 1 && bystander().rounds.load(Relaxed) == 0 && timebase() < end {
        kit.sleep(look_us)?;
    }
    world.stop()?;
    if let Some(what) = world.touched(kit) {
        println!("fuzz: the supervisor's {what:?} is not what it was");
        TOUCHED.fetch_add(1, Relaxed);
    }
    collect();
    Ok(Round {
        stuck,
        given_up: looks == patience,
    })
}

fn random_calls(kit: &mut Kit) -> Outcome {
    println!("fuzz: seed {SEED}, {CALLS} calls for each fuzz thread");
    let start = timebase();
    // The supervisor's choices come from the seed too.
    let mut random = Random::new(SEED ^ 0xfeed);
    let (mut rounds, mut stuck, mut given_up) = (0, 0, 0);
    let wanted = CALLS * kit.cores().min(FUZZERS) as u64;
    while made(&TOTAL) < wanted {
        let last = made(&TOTAL) + ROUND >= wanted;
        let round = round(kit, last, &mut random)?;
        kit.clean_up()?;
        rounds += 1;
        stuck += round.stuck;
        given_up += u64::from(round.given_up);
        if rounds % 5 == 0 {
            let calls = made(&TOTAL);
            println!("fuzz: {calls} calls, {stuck} times set right, {given_up} worlds given up");
        }
    }
    let seconds = (timebase() - start) / microseconds(1_000_000);
    println!(
        "fuzz: {} calls, {} came back, {rounds} rounds, {given_up} given up, {stuck} times set right, {seconds} s",
        made(&TOTAL),
        TOTAL.returned.load(Relaxed),
    );
    // Worlds that stand still are the exception.
    check!(given_up * 2 < rounds);
    // A quarter at least did something and came back.
    check!(TOTAL.returned.load(Relaxed) * 4 > made(&TOTAL));
    Ok(())
}

fn untouched(kit: &mut Kit) -> Outcome {
    check_eq!(WATCHED.wrong.load(Relaxed), 0);
    check_eq!(STARVED.load(Relaxed), 0);
    check_eq!(TOUCHED.load(Relaxed), 0);
    // The kernel still makes threads that run.
    let thread = Helper::new(|_| 7).start(kit)?;
    check_eq!(thread.join(kit)?, 7);
    Ok(())
}

fn system_calls(_: &mut Kit) -> Outcome {
    for (n, count) in TOTAL.numbers.iter().enumerate() {
        println!("fuzz: system call {n}: {}", count.load(Relaxed));
        if count.load(Relaxed) == 0 {
            let name = match n {
                0 => "unknown number",
                n => syscall::NAMES[n - 1],
            };
            fail!("{name} was never made");
        }
    }
    Ok(())
}

/// Answers to an invocation of this label with this error.
fn answers(label: L, error: ErrorCode) -> u32 {
    TOTAL.answers[label as usize][error as usize].load(Relaxed)
}

/// Whether the fuzz thread can get to this invocation: it has no capability to the platform.
fn reachable(label: L) -> bool {
    !label.name().starts_with("Platform") && label != L::InvalidInvocation
}

fn labels(_: &mut Kit) -> Outcome {
    let mut missing = None;
    for label in L::ALL {
        let sent = TOTAL.sent[label as usize].load(Relaxed);
        // Any answer but that of an object of another kind: the invocation was decoded.
        let reached: u32 = ErrorCode::ALL
            .into_iter()
            .filter(|e| {
                !matches!(
                    e,
                    ErrorCode::IllegalOperation | ErrorCode::InvalidCapability
                )
            })
            .map(|e| answers(label, e))
            .sum();
        let done = answers(label, ErrorCode::NoError);
        println!(
            "fuzz: {} sent {sent}, decoded {reached}, done {done}",
            label.name()
        );
        if sent == 0 || reachable(label) && reached == 0 {
            missing = missing.or(Some(label));
        }
    }
    if let Some(label) = missing {
        fail!("{} was not reached", label.name());
    }
    Ok(())
}

fn errors(_: &mut Kit) -> Outcome {
    let mut missing = None;
    for error in ErrorCode::ALL {
        let count: u32 = L::ALL.into_iter().map(|label| answers(label, error)).sum();
        println!("fuzz: {} {count}", error.name());
        if count == 0 {
            missing = missing.or(Some(error));
        }
    }
    if let Some(error) = missing {
        fail!("{} was not reached", error.name());
    }
    Ok(())
}
