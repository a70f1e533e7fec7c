// SPDX-License-Identifier: BSD-2-Clause
//! The decrementer, H_CEDE and the clock of one vCPU.

use core::sync::atomic::Ordering::SeqCst;
use guest_support::hypercall::hypercall;
use guest_support::machine::{
    mfmsr, mfspr, msr, mtmsrd, mtspr, sleep, spr, timebase, with_interrupts,
};
use guest_support::papr::hcall::number::{H_CEDE, H_IPI, H_PROD};
use guest_support::papr::hcall::status::H_SUCCESS;
use guest_support::trap::{DECREMENTERS, EXTERNALS};
use guest_support::{Case, Guest, Outcome, check, check_eq, fail, rtas};

pub const CASES: &[Case] = &[
    Case {
        name: "2.4 H_CEDE with an expired decrementer returns at once and the interrupt is taken",
        body: expired,
    },
    Case {
        name: "2.4 5.5 H_CEDE sleeps until the decrementer expires, and not much longer",
        body: sleeps,
    },
    Case {
        name: "5.5 a running vCPU gets its decrementer interrupt in time",
        body: running,
    },
    Case {
        name: "5.5 the decrementer goes on while hypercalls are made",
        body: decrementer_counts,
    },
    Case {
        name: "2.4 H_PROD before H_CEDE: latched, a single bit",
        body: latched,
    },
    Case {
        name: "2.4 5.6 H_CEDE with a pending interrupt returns at once",
        body: pending,
    },
    Case {
        name: "4.4 get-time-of-day goes as the timebase does",
        body: clock,
    },
];

/// Ticks of the timebase.
const MICROSECOND: u64 = 512;
const MILLISECOND: u64 = 1000 * MICROSECOND;

/// H_CEDE with interrupts off before and after; the ticks that it took.
fn cede() -> u64 {
    let before = mfmsr();
    let from = timebase();
    let status = hypercall(H_CEDE, []).status;
    let ticks = timebase() - from;
    let after = mfmsr();
    // SAFETY: translation does not change.
    unsafe { mtmsrd(before) };
    if status != H_SUCCESS || after & msr::EE == 0 {
        guest_support::runner::abort(format_args!("H_CEDE: {status}, MSR {after:#x}"));
    }
    ticks
}

fn expired(_: &'static Guest) -> Outcome {
    for _ in 0..10 {
        let before = DECREMENTERS.load(SeqCst);
        mtspr::<{ spr::DEC }>(0);
        while mfspr::<{ spr::DEC }>() as i32 >= 0 {}
        let ticks = cede();
        check_eq!(DECREMENTERS.load(SeqCst), before + 1);
        if ticks > 50 * MICROSECOND {
            fail!("{ticks} ticks");
        }
    }
    Ok(())
}

fn sleeps(_: &'static Guest) -> Outcome {
    for wanted in [100, 1_000, 10_000, 100_000].map(|us| us * MICROSECOND) {
        let before = DECREMENTERS.load(SeqCst);
        mtspr::<{ spr::DEC }>(wanted);
        let ticks = cede();
        check_eq!(DECREMENTERS.load(SeqCst), before + 1);
        if ticks + 10 < wanted || ticks > wanted + 100 * MICROSECOND {
            fail!("{ticks} ticks, not {wanted}");
        }
    }
    Ok(())
}

fn running(_: &'static Guest) -> Outcome {
    for wanted in [50, 5_000, 50_000].map(|us| us * MICROSECOND) {
        let before = DECREMENTERS.load(SeqCst);
        let ticks = with_interrupts(|| {
            let from = timebase();
            mtspr::<{ spr::DEC }>(wanted);
            while DECREMENTERS.load(SeqCst) == before {
                core::hint::spin_loop();
            }
            timebase() - from
        });
        if ticks < wanted || ticks > wanted + 50 * MICROSECOND {
            fail!("{ticks} ticks, not {wanted}");
        }
    }
    Ok(())
}

fn decrementer_counts(_: &'static Guest) -> Outcome {
    mtspr::<{ spr::DEC }>(100 * MILLISECOND);
    let from = timebase();
    for _ in 0..200 {
        hypercall(H_PROD, [u64::MAX]);
        let left = mfspr::<{ spr::DEC }>();
        let gone = timebase() - from;
        // The two registers are read one after the other; what is lost must not add up.
        let sum = left + gone;
        if !(100 * MILLISECOND..100 * MILLISECOND + 2 * MICROSECOND).contains(&sum) {
            fail!("{left} are left after {gone} ticks");
        }
    }
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
    Ok(())
}

fn latched(_: &'static Guest) -> Outcome {
    hypercall(H_PROD, [0]);
    hypercall(H_PROD, [0]);
    mtspr::<{ spr::DEC }>(50 * MILLISECOND);
    check!(cede() < MILLISECOND);
    // The second prod was the same one.
    check!(cede() > 40 * MILLISECOND);
    Ok(())
}

fn pending(_: &'static Guest) -> Outcome {
    let before = EXTERNALS.load(SeqCst);
    mtspr::<{ spr::DEC }>(50 * MILLISECOND);
    check_eq!(hypercall(H_IPI, [0, 5]).status, H_SUCCESS);
    check!(cede() < MILLISECOND);
    check_eq!(EXTERNALS.load(SeqCst), before + 1);
    check!(cede() > 40 * MILLISECOND);
    Ok(())
}

fn clock(guest: &'static Guest) -> Outcome {
    let token = guest.token("get-time-of-day").unwrap_or(0);
    let now = || {
        let (_, words): (i64, [u32; 8]) = rtas::service(token, &[]);
        let [_, _, _, _, hour, minute, second, nanoseconds] = words.map(u64::from);
        ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanoseconds
    };
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    for wanted in [5 * MILLISECOND, 700 * MILLISECOND, 900 * MILLISECOND] {
        let (from, ticks) = (now(), timebase());
        sleep(wanted as u32);
        let (to, ticks) = (now(), timebase() - ticks);
        let went = (to + DAY - from) % DAY;
        let expected = ticks * 1_000_000_000 / 512_000_000;
        if went.abs_diff(expected) > 200_000 {
            fail!("{went} ns, {expected} by the timebase");
        }
    }
    Ok(())
}
