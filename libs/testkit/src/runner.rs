// SPDX-License-Identifier: BSD-2-Clause
//! Runs the cases of a suite and ends it.

use crate::check::Outcome;
use crate::guard::Guard;
use crate::kit::{Kit, ROOT_PRIORITY};
use crate::{Failure, print, println};
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

/// The longest that a case may take, microseconds, unless the suite says otherwise.
pub const CASE_TIMEOUT_US: u64 = 20_000_000;

static PASSED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Name of the suite: pointer and length.
static NAME: (AtomicPtr<u8>, AtomicUsize) =
    (AtomicPtr::new(core::ptr::null_mut()), AtomicUsize::new(0));

fn name() -> &'static str {
    let (start, length) = (
        NAME.0.load(Ordering::Acquire),
        NAME.1.load(Ordering::Relaxed),
    );
    if start.is_null() {
        return "unnamed";
    }
    // SAFETY: `run` stored a `&'static str` there, length first.
    unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(start, length)) }
}

/// Prints the last line and turns the machine off.
fn end() -> ! {
    let (passed, failed) = (
        PASSED.load(Ordering::Relaxed),
        FAILED.load(Ordering::Relaxed),
    );
    println!("suite {}: {passed} passed, {failed} failed", name());
    loop {
        // Comes back only if firmware refuses; the watchdog outside ends QEMU then.
        let _ = slot::PLATFORM_CONTROL.cap().platform_power_off();
    }
}

/// Ends the case that runs, and with it the suite, as failed.
pub(crate) fn abort(why: fmt::Arguments<'_>) -> ! {
    println!("FAILED: {why}");
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
    NAME.1.store(suite.len(), Ordering::Relaxed);
    NAME.0.store(suite.as_ptr().cast_mut(), Ordering::Release);
    let (mut kit, guard) = match prepare(boot) {
        Ok(ready) => ready,
        // If the console is not there yet, nothing shows, which also fails the suite.
        Err(why) => abort(format_args!("test {suite} set-up ... FAILED: {why}")),
    };
    for case in areas.iter().copied().flatten() {
        print!("test {} ... ", case.name);
        let mut outcome = guard.feed(timeout_us).and_then(|()| (case.body)(&mut kit));
        if let Err(left) = kit.clean_up() {
            outcome = outcome.and(Err(Failure::new(format_args!("clean-up: {left}"))));
        }
        match outcome {
            Ok(()) => {
                PASSED.fetch_add(1, Ordering::Relaxed);
                println!("ok");
            }
            Err(why) => {
                FAILED.fetch_add(1, Ordering::Relaxed);
                println!("FAILED: {why}");
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
