// SPDX-License-Identifier: BSD-2-Clause
//! Scheduling calls by what they answer (SPEC 2.4); their timing is `guest-time`'s.

use core::sync::atomic::Ordering;
use guest_support::hypercall::hypercall;
use guest_support::machine::{mtspr, spr, with_interrupts};
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::trap::RESETS;
use guest_support::{Case, Guest, Outcome, check, check_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "2.4 H_PROD, H_CONFER: unknown vCPUs are H_PARAMETER",
        body: unknown,
    },
    Case {
        name: "2.4 H_CONFER: to all, to oneself, to a vCPU that runs or not",
        body: confer,
    },
    Case {
        name: "2.4 H_PROD of oneself ends the next H_CEDE at once, once",
        body: prod_self,
    },
    Case {
        name: "2.4 H_JOIN: H_BAD_MODE with MSR[EE], H_CONTINUE for the last one",
        body: join,
    },
    Case {
        name: "2.4 H_SIGNAL_SYS_RESET: targets, and the interrupt at 0x100",
        body: reset,
    },
];

fn status(number: u64, args: [u64; 2]) -> i64 {
    hypercall(number, args).status
}

fn unknown(guest: &'static Guest) -> Outcome {
    for vcpu in [guest.vcpus as u64, 64, 1 << 32, u64::MAX - 1] {
        check_eq!(status(H_PROD, [vcpu, 0]), H_PARAMETER);
        check_eq!(status(H_CONFER, [vcpu, 1]), H_PARAMETER);
    }
    check_eq!(status(H_PROD, [u64::MAX, 0]), H_PARAMETER);
    Ok(())
}

fn confer(_: &'static Guest) -> Outcome {
    check_eq!(status(H_CONFER, [u64::MAX, 0]), H_SUCCESS);
    check_eq!(status(H_CONFER, [0, 1]), H_SUCCESS);
    for count in [0, 1, 2, 3, u64::MAX] {
        check_eq!(status(H_CONFER, [1, count]), H_SUCCESS);
    }
    Ok(())
}

fn prod_self(_: &'static Guest) -> Outcome {
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
    check_eq!(status(H_PROD, [0, 0]), H_SUCCESS);
    check_eq!(status(H_PROD, [0, 0]), H_SUCCESS);
    // No decrementer in sight: without the prod it would not come back.
    check_eq!(with_interrupts(|| status(H_CEDE, [0, 0])), H_SUCCESS);
    Ok(())
}

fn join(_: &'static Guest) -> Outcome {
    check_eq!(with_interrupts(|| status(H_JOIN, [0, 0])), H_BAD_MODE);
    // The other vCPU is stopped, so this is the last that has not joined.
    check_eq!(status(H_JOIN, [0, 0]), H_CONTINUE);
    Ok(())
}

fn reset(guest: &'static Guest) -> Outcome {
    let before = RESETS.load(Ordering::SeqCst);
    for target in [guest.vcpus as u64, 64, -3i64 as u64, i64::MIN as u64] {
        check_eq!(status(H_SIGNAL_SYS_RESET, [target, 0]), H_PARAMETER);
    }
    check_eq!(status(H_SIGNAL_SYS_RESET, [-2i64 as u64, 0]), H_SUCCESS);
    check_eq!(status(H_SIGNAL_SYS_RESET, [1, 0]), H_SUCCESS);
    check_eq!(RESETS.load(Ordering::SeqCst), before);
    check_eq!(status(H_SIGNAL_SYS_RESET, [0, 0]), H_SUCCESS);
    check_eq!(RESETS.load(Ordering::SeqCst), before + 1);
    check_eq!(status(H_SIGNAL_SYS_RESET, [-1i64 as u64, 0]), H_SUCCESS);
    check_eq!(RESETS.load(Ordering::SeqCst), before + 2);
    check!(guest.vcpus > 1);
    Ok(())
}
