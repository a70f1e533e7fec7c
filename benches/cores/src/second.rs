// SPDX-License-Identifier: BSD-2-Clause
//! The second vCPU: it sleeps, or does what the first one does.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_support::hypercall::hypercall;
use guest_support::machine::{mfmsr, msr, mtmsrd, mtspr, spr};
use guest_support::papr::hcall::number::{H_CEDE, H_CPPR, H_PROD};
use guest_support::{Guest, Outcome, check_eq, trap};

/// What is done, with the number of the vCPU; it answers ticks.
pub type Work = fn(&'static Guest, usize) -> Outcome<u64>;

struct Order {
    work: UnsafeCell<Option<(&'static Guest, Work)>>,
    result: UnsafeCell<Outcome<u64>>,
    given: AtomicU64,
    done: AtomicU64,
    ready: AtomicU64,
}

// SAFETY: the first vCPU writes an order before it counts `given`, the second a result before it counts
// `done`; each reads what the other has written behind that.
unsafe impl Sync for Order {}

static ORDER: Order = Order {
    work: UnsafeCell::new(None),
    result: UnsafeCell::new(Ok(0)),
    given: AtomicU64::new(0),
    done: AtomicU64::new(0),
    ready: AtomicU64::new(0),
};

pub fn start(guest: &'static Guest) -> Outcome {
    check_eq!(guest.vcpus, 2);
    check_eq!(guest.start_vcpu(1, second, 0), 0);
    Ok(())
}

/// Cedes with interrupts that come at once; they are off again afterwards.
pub fn cede() {
    hypercall(H_CEDE, []);
    // SAFETY: translation does not change.
    unsafe { mtmsrd(mfmsr() & !msr::EE) };
}

extern "C" fn second(_: u64) -> ! {
    trap::use_area(1);
    hypercall(H_CPPR, [0xff]);
    let mut done = 0;
    loop {
        // As long as it takes: only a prod or an interrupt wakes it.
        while ORDER.given.load(SeqCst) == done {
            mtspr::<{ spr::DEC }>(i32::MAX as u64);
            cede();
        }
        mtspr::<{ spr::DEC }>(i32::MAX as u64);
        // SAFETY: see `Order`.
        if let Some((guest, work)) = unsafe { *ORDER.work.get() } {
            let result = work(guest, 1);
            // SAFETY: see `Order`.
            unsafe { *ORDER.result.get() = result };
        }
        done += 1;
        ORDER.done.store(done, SeqCst);
    }
}

/// Both vCPUs do it; ticks of each.
pub fn both(guest: &'static Guest, work: Work) -> Outcome<[u64; 2]> {
    ORDER.ready.store(0, SeqCst);
    // SAFETY: see `Order`: the second vCPU waits.
    unsafe { *ORDER.work.get() = Some((guest, work)) };
    let given = ORDER.given.fetch_add(1, SeqCst) + 1;
    hypercall(H_PROD, [1]);
    let mine = work(guest, 0);
    while ORDER.done.load(SeqCst) != given {
        core::hint::spin_loop();
    }
    // SAFETY: see `Order`.
    let theirs = unsafe { core::mem::replace(&mut *ORDER.result.get(), Ok(0)) };
    Ok([mine?, theirs?])
}

/// Waits until both vCPUs have called this `times` times in an order.
pub fn meet(times: u64) {
    ORDER.ready.fetch_add(1, SeqCst);
    while ORDER.ready.load(SeqCst) < 2 * times {
        core::hint::spin_loop();
    }
}
