// SPDX-License-Identifier: BSD-2-Clause
//! Two vCPUs at once. A call of one may reset the other at any time, which begins its loop anew: what it
//! has to remember is in [`STATES`].

use crate::generator::{Call, Generator};
use crate::program::{CALLS, ROUND, SEED, is_known};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_support::hypercall::hypercall;
use guest_support::low::TrapArea;
use guest_support::machine::{mtspr, sleep, spr, timebase};
use guest_support::memory::{fill, is_filled, read, write};
use guest_support::papr::hash;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::H_SUCCESS;
use guest_support::{Case, Guest, Outcome, check, check_eq, println, rtas, runner, trap};

const SUITE: &str = "guest-random";

const AFTERWARDS: Case = Case {
    name: "5 issue c: two vCPUs: afterwards everything works",
    body: crate::after::everything,
};
const AGAIN: [Case; 2] = [
    Case {
        name: "5 issue c: two vCPUs: after a fresh boot everything works",
        body: crate::after::everything,
    },
    Case {
        name: "5 issue c: two vCPUs: after a fresh boot the second one starts",
        body: starts,
    },
];

/// Says that this is the boot after the calls.
const MAGIC: u64 = 0x6166_7465_7277_6172;
/// Ticks that a vCPU which is done lets the other go on before it prods it, and those for a last answer: 0.1
/// ms, and 60 s.
const PROD: u64 = 51_200;
const PATIENCE: u64 = 60 * 512_000_000;
/// Seconds at the end for a second guest to say how it is.
const LAST_WORD: u32 = 5;

/// vCPUs.
const BOTH: usize = 2;

/// What a vCPU does and has done.
struct State {
    generator: UnsafeCell<Option<Generator>>,
    made: AtomicU64,
    succeeded: AtomicU64,
    resets: AtomicU64,
    /// The call that names memory: its number, and where; the other changes it.
    number: AtomicU64,
    memory: AtomicU64,
}

// SAFETY: the generator is used by its own vCPU only.
unsafe impl Sync for State {}

static STATES: [State; BOTH] = [const {
    State {
        generator: UnsafeCell::new(None),
        made: AtomicU64::new(0),
        succeeded: AtomicU64::new(0),
        resets: AtomicU64::new(0),
        number: AtomicU64::new(0),
        memory: AtomicU64::new(0),
    }
}; BOTH];

/// What all need of the guest.
struct Common {
    guest: UnsafeCell<Option<&'static Guest>>,
    count: AtomicU64,
    seed: AtomicU64,
}

// SAFETY: written before the second vCPU starts.
unsafe impl Sync for Common {}

static COMMON: Common = Common {
    guest: UnsafeCell::new(None),
    count: AtomicU64::new(0),
    seed: AtomicU64::new(0),
};

pub fn run(guest: &'static Guest) -> ! {
    runner::begin(SUITE);
    if guest.vcpus != BOTH {
        runner::abort(format_args!("{} vCPUs", guest.vcpus));
    }
    let magic = guest.free[0];
    if read(magic) == MAGIC {
        write(magic, 0);
        guest_support::run(SUITE, guest, &[&AGAIN]);
    }
    let count = guest.number("calls").unwrap_or(CALLS);
    let seed = guest.number("seed").unwrap_or(SEED);
    println!("random: seed={seed} calls={count} of each vCPU");
    COMMON.count.store(count, SeqCst);
    COMMON.seed.store(seed, SeqCst);
    // SAFETY: no other vCPU runs.
    unsafe { *COMMON.guest.get() = Some(guest) };
    for (number, state) in STATES.iter().enumerate() {
        let generator = Generator::new(guest, seed + number as u64);
        let [start, end] = generator.canary();
        fill(start, end - start, seed);
        // SAFETY: as above.
        unsafe { *state.generator.get() = Some(generator) };
    }
    trap::restart_on_reset(restart);
    if guest.start_vcpu(1, second, 0) != 0 {
        runner::abort(format_args!("the second vCPU does not start"));
    }
    // A reset finds it ready.
    while READY.load(SeqCst) == 0 {
        core::hint::spin_loop();
    }
    work(0)
}

/// 1 when the second vCPU has an area for its traps.
static READY: AtomicU64 = AtomicU64::new(0);

extern "C" fn second(_: u64) -> ! {
    trap::use_area(1);
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
    hypercall(H_CPPR, [0xff]);
    READY.store(1, SeqCst);
    work(1)
}

extern "C" fn restart(area: &TrapArea) -> ! {
    let number = trap::vcpu_of(area);
    STATES[number].resets.fetch_add(1, SeqCst);
    work(number)
}

fn is_done(vcpu: usize) -> bool {
    STATES[vcpu].made.load(SeqCst) >= COMMON.count.load(SeqCst)
}

/// Makes the calls of a vCPU, or those that are left.
fn work(number: usize) -> ! {
    // SAFETY: written before a second vCPU ran; a generator has one user, who may have been interrupted by a
    // reset, after which it is some other good generator.
    let (guest, generator) = unsafe {
        let generator = (*STATES[number].generator.get()).as_mut();
        match (*COMMON.guest.get(), generator) {
            (Some(guest), Some(generator)) => (guest, generator),
            _ => runner::abort(format_args!("a vCPU runs that nobody has started")),
        }
    };
    let (mine, other) = (&STATES[number], &STATES[1 - number]);
    while !is_done(number) {
        generator.disturb(other.number.load(SeqCst), other.memory.load(SeqCst));
        let call = generator.next_call();
        announce(mine, &call);
        if call.number == H_PROTECT && hash::is_vrma(hypercall(H_READ, [0, call.args[1]]).words[0])
        {
            // It would take the program's own memory away.
            continue;
        }
        if call.number == H_CEDE {
            sleep(2000);
        } else {
            let status = hypercall(call.number, call.args).status;
            if !is_known(status) {
                runner::abort(format_args!(
                    "vCPU {number}: {:#x} {:x?}: status {status}",
                    call.number, call.args
                ));
            }
            mine.succeeded
                .fetch_add(u64::from(status == H_SUCCESS), SeqCst);
        }
        let made = mine.made.fetch_add(1, SeqCst) + 1;
        if number == 0 && made.is_multiple_of(ROUND) {
            println!("random: {made} and {} calls", other.made.load(SeqCst));
            check_canary(generator);
        }
    }
    // It may have joined: then nobody else wakes it.
    while !is_done(1 - number) {
        hypercall(H_PROD, [1 - number as u64]);
        let from = timebase();
        while timebase() - from < PROD {}
    }
    if number != 0 {
        loop {
            stop_self(guest);
        }
    }
    finish(guest, generator)
}

/// Says which memory the other vCPU may change from now on.
fn announce(mine: &State, call: &Call) {
    let memory = match call.number {
        H_RTAS => call.args[0] & !(1 << 60),
        H_REGISTER_VPA => call.args[2],
        _ => return,
    };
    mine.number.store(call.number, SeqCst);
    mine.memory.store(memory, SeqCst);
}

fn check_canary(generator: &Generator) {
    let [start, end] = generator.canary();
    if !is_filled(start, end - start, COMMON.seed.load(SeqCst)) {
        runner::abort(format_args!("memory that no call names has changed"));
    }
}

fn stop_self(guest: &Guest) {
    let _ = rtas::stop_self(guest.token("stop-self").unwrap_or(0));
}

/// Whether the second vCPU stops within a time.
fn has_stopped(guest: &Guest) -> bool {
    let query = guest.token("query-cpu-stopped-state").unwrap_or(0);
    let from = timebase();
    loop {
        sleep(1_000_000);
        if rtas::service(query, &[1]) == (0, [0, 0]) {
            return true;
        }
        if timebase() - from > PATIENCE {
            return false;
        }
    }
}

fn finish(guest: &'static Guest, generator: &Generator) -> ! {
    if !has_stopped(guest) {
        runner::abort(format_args!("the second vCPU does not stop"));
    }
    check_canary(generator);
    runner::report("5 issue c: two vCPUs: hypercalls by chance each", enough());
    runner::run_case(guest, &AFTERWARDS);
    write(guest.free[0], MAGIC);
    let token = guest.token("system-reboot").unwrap_or(0);
    let status = rtas::call(token, &[], 1);
    runner::abort(format_args!("system-reboot answers {status}"))
}

/// Not only refusals were tested, and each was reset by the other.
fn enough() -> Outcome {
    for (number, state) in STATES.iter().enumerate() {
        let made = state.made.load(SeqCst);
        let succeeded = state.succeeded.load(SeqCst);
        let resets = state.resets.load(SeqCst);
        println!("random: vCPU {number}: {made} calls, {succeeded} succeeded, {resets} resets");
        check!(succeeded > made / 10);
        check!(resets > made / 1000);
    }
    Ok(())
}

static STARTED: AtomicU64 = AtomicU64::new(0);

extern "C" fn started(argument: u64) -> ! {
    trap::use_area(1);
    STARTED.store(argument, SeqCst);
    loop {
        hypercall(H_CEDE, []);
    }
}

fn starts(guest: &'static Guest) -> Outcome {
    check_eq!(STARTED.load(SeqCst), 0);
    check_eq!(guest.start_vcpu(1, started, 77), 0);
    let from = timebase();
    while STARTED.load(SeqCst) != 77 {
        check!(timebase() - from < PATIENCE);
    }
    for _ in 0..LAST_WORD {
        sleep(512_000_000);
    }
    Ok(())
}
