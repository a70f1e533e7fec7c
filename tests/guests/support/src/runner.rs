// SPDX-License-Identifier: BSD-2-Clause
//! Runs cases, prints a line for each, a summary, and turns the guest off.

use crate::platform::Guest;
use crate::{Outcome, println, rtas};
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One test.
pub struct Case {
    /// Identifiers of SPEC and what is true.
    pub name: &'static str,
    /// The test.
    pub body: fn(&'static Guest) -> Outcome,
}

static PASSED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Token of power-off; 0: not known yet.
pub(crate) static POWER_OFF: AtomicU32 = AtomicU32::new(0);

/// Names of the suite and of the case that runs. One vCPU writes them.
struct Names(core::cell::UnsafeCell<[&'static str; 2]>);
// SAFETY: written by vCPU 0 only; others read them when they end the program.
unsafe impl Sync for Names {}
static NAMES: Names = Names(core::cell::UnsafeCell::new(["guest", "start"]));

fn names() -> [&'static str; 2] {
    // SAFETY: plain data that is written in between cases only.
    unsafe { *NAMES.0.get() }
}

fn set_name(index: usize, name: &'static str) {
    // SAFETY: see `Names`.
    unsafe { (*NAMES.0.get())[index] = name };
}

/// Prints the summary and turns the guest off.
pub fn end() -> ! {
    let (passed, failed) = (
        PASSED.load(Ordering::Relaxed),
        FAILED.load(Ordering::Relaxed),
    );
    println!("suite {}: {passed} passed, {failed} failed", names()[0]);
    loop {
        let token = POWER_OFF.load(Ordering::Relaxed);
        let _ = rtas::call(token, &[u32::MAX, u32::MAX], 1);
    }
}

/// Ends the case that runs, and with it the program, as failed.
pub fn abort(why: fmt::Arguments<'_>) -> ! {
    println!("test {} ... FAILED: {why}", names()[1]);
    FAILED.fetch_add(1, Ordering::Relaxed);
    end()
}

/// Names the suite, for what is printed if the program ends early.
pub fn begin(suite: &'static str) {
    set_name(0, suite);
}

/// Runs one case.
pub fn run_case(guest: &'static Guest, case: &Case) {
    if guest
        .argument("filter")
        .is_some_and(|filter| !case.name.contains(filter))
    {
        return;
    }
    set_name(1, case.name);
    report(case.name, (case.body)(guest));
}

/// Counts and prints the result of a case.
pub fn report(name: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => {
            PASSED.fetch_add(1, Ordering::Relaxed);
            println!("test {name} ... ok");
        }
        Err(why) => {
            FAILED.fetch_add(1, Ordering::Relaxed);
            println!("test {name} ... FAILED: {why}");
        }
    }
}

/// Runs all cases and ends the program. `filter=TEXT` on the command line chooses those with TEXT in
/// their names.
pub fn run(suite: &'static str, guest: &'static Guest, areas: &[&[Case]]) -> ! {
    begin(suite);
    for case in areas.iter().copied().flatten() {
        run_case(guest, case);
    }
    end()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => abort(format_args!("panic at {}:{}", at.file(), at.line())),
        None => abort(format_args!("panic")),
    }
}
