// SPDX-License-Identifier: BSD-2-Clause
//! An interrupt from one vCPU to the other, which sleeps, and back: from before H_IPI to the handler of the interrupt
//! that the other's handler sends first of all. What ends an interrupt comes behind that.

use crate::program::begin;
use crate::second::cede;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guest_support::hypercall::hypercall;
use guest_support::machine::{mtspr, spr, timebase};
use guest_support::papr::hcall::number::{H_CPPR, H_IPI};
use guest_support::trap::EXTERNALS;
use guest_support::{Outcome, println, trap};

/// Round trips, of which the shortest counts; so many are made before.
const ROUNDS: u64 = 256;
const WARM: u64 = 16;
const PRIORITY: u64 = 5;

/// Whether the second vCPU's handler answers; when the first one's handler ran.
static ANSWERS: AtomicBool = AtomicBool::new(false);
static BACK: AtomicU64 = AtomicU64::new(0);

fn handler(vcpu: usize) {
    if vcpu == 0 {
        BACK.store(timebase(), SeqCst);
    } else if ANSWERS.load(SeqCst) {
        hypercall(H_IPI, [0, PRIORITY]);
    }
}

pub fn round_trip(name: &str) -> Outcome {
    trap::on_external(handler);
    hypercall(H_CPPR, [0xff]);
    ANSWERS.store(true, SeqCst);
    let mut best = u64::MAX;
    let before = EXTERNALS.load(SeqCst);
    for round in 0..WARM + ROUNDS {
        if round == WARM {
            begin(name);
        }
        // Both interrupts of the round before have ended: what ends one would take the next away. And the other
        // vCPU is asleep again.
        loop {
            pause();
            if EXTERNALS.load(SeqCst) >= before + 2 * round {
                break;
            }
        }
        BACK.store(0, SeqCst);
        let start = timebase();
        hypercall(H_IPI, [1, PRIORITY]);
        while BACK.load(SeqCst) == 0 {
            cede();
        }
        if round >= WARM {
            best = best.min(BACK.load(SeqCst) - start);
        }
    }
    ANSWERS.store(false, SeqCst);
    // 512 ticks in 1000 nanoseconds.
    println!("bench {name} {} {ROUNDS}", best * 1000 / 512);
    Ok(())
}

/// Sleeps for 0.2 ms.
fn pause() {
    sleep(102_400);
}

/// Sleeps for so many ticks.
pub fn sleep(ticks: u64) {
    let until = timebase() + ticks;
    while timebase() < until {
        mtspr::<{ spr::DEC }>(until.saturating_sub(timebase()));
        cede();
    }
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
}
