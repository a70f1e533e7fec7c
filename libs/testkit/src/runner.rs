// SPDX-License-Identifier: BSD-2-Clause
//! Runs the cases of a suite and ends it.

use crate::guard::Guard;
use crate::kit::{Kit, ROOT_PRIORITY, microseconds};
use crate::{Failure, println, timebase};
use checks::Outcome;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use sel4::init_thread::slot;
use sel4::{BootInfo, cap};

/// One test.
pub struct Case {
    /// Identifier and text: `IPC0001 a message arrives`.
    pub name: &'static str,
    /// The test itself.
    pub body: fn(&mut Kit) -> Outcome,
}

/// Only cases whose names contain this are run, if it is set when the suite is built.
const FILTER: Option<&str> = option_env!("SUITE_FILTER");

/// The longest that a case may take, microseconds, unless the suite says otherwise.
pub const CASE_TIMEOUT_US: u64 = 20_000_000;

static PASSED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Name of the suite.
static NAME: Text = Text::new();
/// Name of the case that runs.
static CASE: Text = Text::new();

/// A `&'static str` that the guard can read.
struct Text {
    start: AtomicPtr<u8>,
    length: AtomicUsize,
}

impl Text {
    const fn new() -> Self {
        Text {
            start: AtomicPtr::new(core::ptr::null_mut()),
            length: AtomicUsize::new(0),
        }
    }

    fn set(&self, text: &'static str) {
        // In between, the text is empty, not half old and half new.
        self.length.store(0, Ordering::Relaxed);
        self.start
            .store(text.as_ptr().cast_mut(), Ordering::Release);
        self.length.store(text.len(), Ordering::Release);
    }

    fn get(&self) -> &'static str {
        let length = self.length.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Acquire);
        if length == 0 {
            return "";
        }
        // SAFETY: `set` stored pointer and length of a `&'static str`; one core runs the suite, and a
        // change of the pointer is seen with length 0.
        unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(start, length)) }
    }
}

/// Prints the last line and turns the machine off.
fn end() -> ! {
    let (passed, failed) = (
        PASSED.load(Ordering::Relaxed),
        FAILED.load(Ordering::Relaxed),
    );
    println!("suite {}: {passed} passed, {failed} failed", NAME.get());
    loop {
        // Firmware takes its time; if it refuses, the watchdog outside ends QEMU.
        let _ = slot::PLATFORM_CONTROL.cap().platform_power_off();
        let again = timebase() + microseconds(1_000_000);
        while timebase() < again {}
    }
}

/// Ends the case that runs, and with it the suite, as failed.
pub(crate) fn abort(why: fmt::Arguments<'_>) -> ! {
    println!("test {} ... FAILED: {why}", CASE.get());
    FAILED.fetch_add(1, Ordering::Relaxed);
    end()
}

/// What a suite does in a panic: it ends as failed.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => abort(format_args!("panic at {}:{}", at.file(), at.line())),
        None => abort(format_args!("panic")),
    }
}

/// Runs all cases, prints a line for each and the summary, and turns the machine off. A case that
/// takes longer than `timeout_us` microseconds ends the suite.
pub fn run(suite: &'static str, boot: &'static BootInfo, timeout_us: u64, areas: &[&[Case]]) -> ! {
    NAME.set(suite);
    CASE.set("set-up");
    let (mut kit, guard) = match prepare(boot) {
        Ok(ready) => ready,
        // If the console is not there yet, nothing shows, which also fails the suite.
        Err(why) => abort(format_args!("{why}")),
    };
    for case in areas.iter().copied().flatten() {
        if FILTER.is_some_and(|filter| !case.name.contains(filter)) {
            continue;
        }
        CASE.set(case.name);
        let mut outcome = guard.feed(timeout_us).and_then(|()| (case.body)(&mut kit));
        if let Err(left) = kit.clean_up() {
            outcome = outcome.and(Err(Failure::new(format_args!("clean-up: {left}"))));
        }
        match outcome {
            Ok(()) => {
                PASSED.fetch_add(1, Ordering::Relaxed);
                println!("test {} ... ok", case.name);
            }
            Err(why) => {
                FAILED.fetch_add(1, Ordering::Relaxed);
                println!("test {} ... FAILED: {why}", case.name);
            }
        }
    }
    end()
}

fn prepare(boot: &'static BootInfo) -> Outcome<(Kit, Guard)> {
    let mut kit = Kit::new(boot)?;
    let root: cap::Tcb = slot::TCB.cap();
    root.tcb_set_priority(root, ROOT_PRIORITY)?;
    let guard = Guard::start(&mut kit)?;
    Ok((kit, guard))
}
