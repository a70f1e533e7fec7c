// SPDX-License-Identifier: BSD-2-Clause
//! Calls of one vCPU, then of both at the same time. The figure is throughput of two beside that of one, in percent: the
//! median of [`RUNS`] runs, each of which measures both.

use crate::interrupts::sleep;
use crate::program::begin;
use crate::second::{both, meet};
use core::cell::Cell;
use guest_support::hypercall::hypercall;
use guest_support::machine::timebase;
use guest_support::memory::write;
use guest_support::papr::PageSize;
use guest_support::papr::hcall::number::{H_ENTER, H_READ, H_REMOVE};
use guest_support::papr::hcall::status::H_SUCCESS;
use guest_support::papr::hpte::{C, M, R, VALID};
use guest_support::{Guest, Outcome, check_eq, println};

const RUNS: usize = 5;
/// Groups of each vCPU, each of which gets one entry; pages of each; turns of a run.
const GROUPS: u64 = 4096;
const PAGES: u64 = 1024;
const TURNS: u64 = 4;
/// H_READs of a run.
const READS: u64 = TURNS * GROUPS;
/// Pause before and behind what is watched from outside, ticks: 50 ms.
const PAUSE: u64 = 25_600_000;

/// First index of one of the groups that a vCPU uses, in a quarter of the table of its own: no entry of the virtual
/// real mode area is in these.
fn index(guest: &Guest, vcpu: usize, number: u64) -> u64 {
    guest.hpt.entries() / 4 * (1 + vcpu as u64) + 8 * number
}

fn page(guest: &Guest, vcpu: usize, number: u64) -> u64 {
    guest.free[0] + ((vcpu as u64 * PAGES + number % PAGES) << 12)
}

#[inline(always)]
fn enter(guest: &Guest, vcpu: usize, number: u64) -> Outcome {
    let v = number << 12 | VALID;
    let r = page(guest, vcpu, number) | PageSize::Size4K.lp() | M | R | C | 2;
    let answer = hypercall(H_ENTER, [0, index(guest, vcpu, number), v, r]);
    check_eq!(answer.status, H_SUCCESS);
    Ok(())
}

#[inline(always)]
fn remove(guest: &Guest, vcpu: usize, number: u64) -> Outcome {
    let answer = hypercall(H_REMOVE, [0, index(guest, vcpu, number), 0]);
    check_eq!(answer.status, H_SUCCESS);
    Ok(())
}

/// What is measured: calls in turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Enter,
    Remove,
}

/// How two vCPUs keep together around what is measured; one alone just goes on.
struct Pace {
    vcpu: usize,
    /// The row, if there are two.
    watched: Option<&'static str>,
    met: Cell<u64>,
}

impl Pace {
    fn meet(&self) {
        if self.watched.is_some() {
            self.met.set(self.met.get() + 1);
            meet(self.met.get());
        }
    }

    /// The first vCPU says something, and pauses so that it can be acted upon. Neither measures meanwhile.
    fn say(&self, what: impl FnOnce(&str)) {
        self.meet();
        if let (Some(name), 0) = (self.watched, self.vcpu) {
            what(name);
            sleep(PAUSE);
        }
        self.meet();
    }

    /// Ticks that something takes.
    fn measure(&self, f: impl FnOnce() -> Outcome) -> Outcome<u64> {
        self.say(|name| println!("watch {name}: begins"));
        let start = timebase();
        f()?;
        let ticks = timebase() - start;
        self.say(|name| println!("watch {name}: ended: {ticks} ticks of 2"));
        Ok(ticks)
    }
}

/// Ticks that the calls take.
fn work(guest: &Guest, vcpu: usize, call: Call, watched: Option<&'static str>) -> Outcome<u64> {
    let pace = Pace {
        vcpu,
        watched,
        met: Cell::new(0),
    };
    if call == Call::Read {
        let index = index(guest, vcpu, 0);
        return pace.measure(|| {
            for _ in 0..READS {
                check_eq!(hypercall(H_READ, [0, index]).status, H_SUCCESS);
            }
            Ok(())
        });
    }
    let enters = || (0..GROUPS).try_for_each(|number| enter(guest, vcpu, number));
    let removes = || (0..GROUPS).try_for_each(|number| remove(guest, vcpu, number));
    let mut ticks = 0;
    for _ in 0..TURNS {
        if call == Call::Enter {
            ticks += pace.measure(enters)?;
            removes()?;
        } else {
            enters()?;
            ticks += pace.measure(removes)?;
        }
    }
    Ok(ticks)
}

fn alone(guest: &'static Guest, call: Call) -> Outcome<u64> {
    work(guest, 0, call, None)
}

fn reads(guest: &'static Guest, vcpu: usize) -> Outcome<u64> {
    work(guest, vcpu, Call::Read, Some("h-read-2"))
}

fn enters(guest: &'static Guest, vcpu: usize) -> Outcome<u64> {
    work(guest, vcpu, Call::Enter, Some("h-enter-2"))
}

fn removes(guest: &'static Guest, vcpu: usize) -> Outcome<u64> {
    work(guest, vcpu, Call::Remove, Some("h-remove-2"))
}

pub fn all(guest: &'static Guest) -> Outcome {
    for vcpu in 0..2 {
        for number in 0..PAGES {
            write(page(guest, vcpu, number), number);
        }
    }
    row(guest, "h-read-2", Call::Read, reads)?;
    row(guest, "h-enter-2", Call::Enter, enters)?;
    row(guest, "h-remove-2", Call::Remove, removes)
}

fn row(guest: &'static Guest, name: &str, call: Call, two: crate::second::Work) -> Outcome {
    begin(name);
    let mut ratios = [0; RUNS];
    for ratio in &mut ratios {
        println!("measuring {name}: one");
        let one = alone(guest, call)?;
        println!("measuring {name}: two");
        let two = both(guest, two)?;
        println!("measuring {name}: done: {one} ticks, then {two:?}");
        // As many calls by each vCPU: the slower one says when all are made.
        *ratio = 2 * 100 * one / two[0].max(two[1]).max(1);
    }
    ratios.sort_unstable();
    println!("bench {name} {} {RUNS}", ratios[RUNS / 2]);
    Ok(())
}
