// SPDX-License-Identifier: BSD-2-Clause
//! The second vCPU: it does what the first one orders, beside it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guest_support::machine::{mtspr, spr, timebase};
use guest_support::{Failure, Guest, Outcome, Random, check_eq, fail, trap};

/// Rounds of a case, if the command line names none.
const ROUNDS: u64 = 20_000;
/// Ticks for the second vCPU's answer: 120 s.
const PATIENCE: u64 = 120 * 512_000_000;

/// What the second vCPU does.
type Work = fn(&'static Guest, Random) -> Outcome;

struct Order {
    work: UnsafeCell<Option<(&'static Guest, Work, Random)>>,
    result: UnsafeCell<Option<Failure>>,
    given: AtomicU64,
    done: AtomicU64,
}

// SAFETY: the first vCPU writes an order before it counts `given`, the second a result before it counts
// `done`, and each reads what the other has written behind that.
unsafe impl Sync for Order {}

static ORDER: Order = Order {
    work: UnsafeCell::new(None),
    result: UnsafeCell::new(None),
    given: AtomicU64::new(0),
    done: AtomicU64::new(0),
};

/// Whether the vCPU that began is done, so that the other may end too.
pub static ENOUGH: AtomicBool = AtomicBool::new(false);

pub fn rounds(guest: &Guest) -> u64 {
    guest.number("rounds").unwrap_or(ROUNDS)
}

pub fn seed(guest: &Guest) -> u64 {
    guest.number("seed").unwrap_or(20_261_120)
}

/// Starts the second vCPU.
pub fn start(guest: &'static Guest) -> Outcome {
    check_eq!(guest.vcpus, 2);
    check_eq!(guest.start_vcpu(1, second, 0), 0);
    Ok(())
}

extern "C" fn second(_: u64) -> ! {
    trap::use_area(1);
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
    let mut done = 0;
    loop {
        while ORDER.given.load(SeqCst) == done {
            core::hint::spin_loop();
        }
        // SAFETY: see `Order`.
        let work = unsafe { (*ORDER.work.get()).clone() };
        let result = work.and_then(|(guest, work, random)| work(guest, random).err());
        // SAFETY: see `Order`.
        unsafe { *ORDER.result.get() = result };
        done += 1;
        ORDER.done.store(done, SeqCst);
    }
}

/// Both vCPUs work; whoever fails first decides.
pub fn both(guest: &'static Guest, first: Work, second: Work) -> Outcome {
    ENOUGH.store(false, SeqCst);
    let seed = seed(guest);
    // SAFETY: see `Order`: the second vCPU waits.
    unsafe { *ORDER.work.get() = Some((guest, second, Random::new(seed + 1))) };
    let given = ORDER.given.fetch_add(1, SeqCst) + 1;
    let result = first(guest, Random::new(seed));
    ENOUGH.store(true, SeqCst);
    let from = timebase();
    while ORDER.done.load(SeqCst) != given {
        if timebase() - from > PATIENCE {
            fail!("the second vCPU has no end");
        }
        core::hint::spin_loop();
    }
    // SAFETY: see `Order`.
    match unsafe { (*ORDER.result.get()).take() } {
        Some(why) => Err(why),
        None => result,
    }
}
