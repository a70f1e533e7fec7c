// SPDX-License-Identifier: BSD-2-Clause
//! Two vCPUs on one core.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use guest_support::hypercall::hypercall;
use guest_support::machine::{mfmsr, msr, mtmsrd, mtspr, spr, timebase};
use guest_support::memory::{read_be32, write_be32};
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::trap::{self, EXTERNALS, RESETS};
use guest_support::{Case, Guest, Outcome, check, check_eq, fail, rtas};

pub const CASES: &[Case] = &[
    Case {
        name: "4.4 P4.3 start-cpu: it runs where and with what it was told; states of both",
        body: start,
    },
    Case {
        name: "2.4 H_CONFER to all: the other vCPU gets the processor, and it comes back",
        body: turns,
    },
    Case {
        name: "5.3 both have the same time",
        body: same_time,
    },
    Case {
        name: "2.4 H_PROD wakes a vCPU that has ceded",
        body: prod,
    },
    Case {
        name: "2.4 H_PROD to a vCPU that runs: its next H_CEDE returns at once",
        body: prod_running,
    },
    Case {
        name: "5.6 H_IPI wakes a vCPU that has ceded, and its interrupt is taken",
        body: interrupt,
    },
    Case {
        name: "2.4 H_JOIN: one sleeps until it is prodded, the last does not",
        body: join,
    },
    Case {
        name: "2.4 H_SIGNAL_SYS_RESET reaches another vCPU",
        body: reset,
    },
    Case {
        name: "3.1 2.4 yield counts: odd while the other vCPU waits; H_CONFER with them",
        body: yield_counts,
    },
    Case {
        name: "S0.3 S0.19 areas of a vCPU that runs are its own to begin and to end",
        body: areas,
    },
    Case {
        name: "4.4 stop-self, and start again",
        body: stop,
    },
];

const MILLISECOND: u64 = 512_000;

/// What the second vCPU is to do.
mod command {
    pub const SPIN: u64 = 0;
    pub const CEDE: u64 = 1;
    pub const JOIN: u64 = 2;
    pub const STOP: u64 = 3;
}

static COMMAND: AtomicU64 = AtomicU64::new(command::SPIN);
/// Commands taken, and done; the status of the last.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static STATUS: AtomicI64 = AtomicI64::new(0);
/// r3 at its start, its turns around the loop, the time that it last read.
static ARGUMENT: AtomicU64 = AtomicU64::new(0);
static TURNS: AtomicU64 = AtomicU64::new(0);
static TIME: AtomicU64 = AtomicU64::new(0);
static STOP_SELF: AtomicU64 = AtomicU64::new(0);

extern "C" fn second(argument: u64) -> ! {
    trap::use_area(1);
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
    hypercall(H_CPPR, [0xff]);
    ARGUMENT.store(argument, SeqCst);
    loop {
        TIME.store(timebase(), SeqCst);
        TURNS.fetch_add(1, SeqCst);
        let status = match COMMAND.swap(command::SPIN, SeqCst) {
            command::CEDE => {
                TAKEN.fetch_add(1, SeqCst);
                let status = hypercall(H_CEDE, []).status;
                // SAFETY: translation does not change.
                unsafe { mtmsrd(mfmsr() & !msr::EE) };
                status
            }
            command::JOIN => {
                TAKEN.fetch_add(1, SeqCst);
                hypercall(H_JOIN, []).status
            }
            command::STOP => {
                TAKEN.fetch_add(1, SeqCst);
                loop {
                    let _ = rtas::stop_self(STOP_SELF.load(SeqCst) as u32);
                }
            }
            _ => continue,
        };
        STATUS.store(status, SeqCst);
        DONE.fetch_add(1, SeqCst);
    }
}

/// Lets the other vCPU run until the condition holds; false after half a second.
fn wait(condition: impl Fn() -> bool) -> bool {
    let from = timebase();
    while !condition() {
        if timebase() - from > 500 * MILLISECOND {
            return false;
        }
        hypercall(H_CONFER, [u64::MAX, 0]);
    }
    true
}

/// Has the command begun; whatever it does goes on.
fn order(what: u64) -> bool {
    let before = TAKEN.load(SeqCst);
    COMMAND.store(what, SeqCst);
    if !wait(|| TAKEN.load(SeqCst) == before + 1) {
        return false;
    }
    // And some more turns, so that it is in its hypercall.
    (0..20).for_each(|_| {
        hypercall(H_CONFER, [u64::MAX, 0]);
    });
    true
}

fn state(guest: &Guest, vcpu: u32) -> [u32; 2] {
    let query = guest.token("query-cpu-stopped-state").unwrap_or(0);
    rtas::service(query, &[vcpu]).1
}

fn start(guest: &'static Guest) -> Outcome {
    STOP_SELF.store(guest.token("stop-self").unwrap_or(0).into(), SeqCst);
    check_eq!([state(guest, 0), state(guest, 1)], [[0, 2], [0, 0]]);
    check_eq!(guest.start_vcpu(1, second, 0x1234_5678_9abc_def0), 0);
    check_eq!(state(guest, 1), [0, 2]);
    check!(wait(|| ARGUMENT.load(SeqCst) != 0));
    check_eq!(ARGUMENT.load(SeqCst), 0x1234_5678_9abc_def0);
    // It runs already.
    let token = guest.token("start-cpu").unwrap_or(0);
    check_eq!(rtas::service(token, &[1, 0, 0]), (0, [-1i32 as u32]));
    Ok(())
}

fn turns(_: &'static Guest) -> Outcome {
    for _ in 0..20 {
        let before = TURNS.load(SeqCst);
        check!(wait(|| TURNS.load(SeqCst) != before));
    }
    Ok(())
}

fn same_time(_: &'static Guest) -> Outcome {
    for _ in 0..50 {
        let before = timebase();
        let turn = TURNS.load(SeqCst);
        check!(wait(|| TURNS.load(SeqCst) > turn + 1));
        let theirs = TIME.load(SeqCst);
        check!(before <= theirs && theirs <= timebase());
    }
    Ok(())
}

fn prod(_: &'static Guest) -> Outcome {
    for _ in 0..5 {
        let done = DONE.load(SeqCst);
        check!(order(command::CEDE));
        check_eq!(DONE.load(SeqCst), done);
        let turn = TURNS.load(SeqCst);
        check_eq!(hypercall(H_PROD, [1]).status, H_SUCCESS);
        check!(wait(
            || DONE.load(SeqCst) == done + 1 && TURNS.load(SeqCst) > turn
        ));
        check_eq!(STATUS.load(SeqCst), H_SUCCESS);
    }
    Ok(())
}

fn prod_running(_: &'static Guest) -> Outcome {
    let done = DONE.load(SeqCst);
    check_eq!(hypercall(H_PROD, [1]).status, H_SUCCESS);
    check!(order(command::CEDE));
    check!(wait(|| DONE.load(SeqCst) == done + 1));
    // Only once.
    check!(order(command::CEDE));
    check_eq!(DONE.load(SeqCst), done + 1);
    hypercall(H_PROD, [1]);
    check!(wait(|| DONE.load(SeqCst) == done + 2));
    Ok(())
}

fn interrupt(_: &'static Guest) -> Outcome {
    for _ in 0..5 {
        let (done, before) = (DONE.load(SeqCst), EXTERNALS.load(SeqCst));
        check!(order(command::CEDE));
        check_eq!(DONE.load(SeqCst), done);
        check_eq!(hypercall(H_IPI, [1, 5]).status, H_SUCCESS);
        check!(wait(|| DONE.load(SeqCst) == done + 1));
        check_eq!(EXTERNALS.load(SeqCst), before + 1);
    }
    Ok(())
}

fn join(_: &'static Guest) -> Outcome {
    for _ in 0..3 {
        let done = DONE.load(SeqCst);
        check!(order(command::JOIN));
        check_eq!(DONE.load(SeqCst), done);
        check_eq!(hypercall(H_JOIN, []).status, H_CONTINUE);
        check_eq!(hypercall(H_PROD, [1]).status, H_SUCCESS);
        check!(wait(|| DONE.load(SeqCst) == done + 1));
        check_eq!(STATUS.load(SeqCst), H_SUCCESS);
    }
    Ok(())
}

fn reset(_: &'static Guest) -> Outcome {
    let before = RESETS.load(SeqCst);
    check_eq!(hypercall(H_SIGNAL_SYS_RESET, [1]).status, H_SUCCESS);
    check!(wait(|| RESETS.load(SeqCst) == before + 1));
    check_eq!(
        hypercall(H_SIGNAL_SYS_RESET, [-2i64 as u64]).status,
        H_SUCCESS
    );
    check!(wait(|| RESETS.load(SeqCst) == before + 2));
    // It goes on as before.
    let turn = TURNS.load(SeqCst);
    check!(wait(|| TURNS.load(SeqCst) > turn));
    Ok(())
}

/// Registers a VPA for a vCPU; where it is.
fn vpa(guest: &Guest, vcpu: u64) -> Outcome<u64> {
    let vpa = guest.free[0] + 0x1000 * vcpu;
    (0..0x400).step_by(4).for_each(|at| write_be32(vpa + at, 0));
    write_be32(vpa + 4, 640 << 16);
    let status = hypercall(H_REGISTER_VPA, [1 << 45, vcpu, vpa]).status;
    check_eq!(status, H_SUCCESS);
    Ok(vpa)
}

fn off(vcpu: u64) -> Outcome {
    check_eq!(
        hypercall(H_REGISTER_VPA, [5 << 45, vcpu, 0]).status,
        H_SUCCESS
    );
    Ok(())
}

fn yield_counts(guest: &'static Guest) -> Outcome {
    let (mine, theirs) = (vpa(guest, 0)?, vpa(guest, 1)?);
    let turn = TURNS.load(SeqCst);
    check!(wait(|| TURNS.load(SeqCst) > turn));
    let count = |vpa| read_be32(vpa + 0x100);
    for _ in 0..20 {
        let turn = TURNS.load(SeqCst);
        // This one runs, so the other does not.
        let (mine_now, theirs_now) = (count(mine), count(theirs));
        check_eq!((mine_now & 1, theirs_now & 1), (0, 1));
        // A stale or even count: back at once, the other has not run.
        for stale in [theirs_now - 1, theirs_now - 2] {
            let status = hypercall(H_CONFER, [1, stale.into()]).status;
            check_eq!(status, H_SUCCESS);
        }
        if count(theirs) == theirs_now {
            check_eq!(TURNS.load(SeqCst), turn);
        }
        let now = count(theirs);
        check_eq!(hypercall(H_CONFER, [1, now.into()]).status, H_SUCCESS);
        check!(TURNS.load(SeqCst) > turn);
        check!(count(theirs) > theirs_now);
    }
    off(1)?;
    off(0)
}

fn areas(guest: &'static Guest) -> Outcome {
    let theirs = vpa(guest, 1)?;
    let turn = TURNS.load(SeqCst);
    check!(wait(|| TURNS.load(SeqCst) > turn + 1));
    check_eq!(guest_support::memory::read_byte(theirs + 9), 2);
    check!(read_be32(theirs + 0x100) & 1 == 1);
    off(1)?;
    let turn = TURNS.load(SeqCst);
    check!(wait(|| TURNS.load(SeqCst) > turn + 1));
    // Its page is nobody's any more.
    guest_support::memory::fill(theirs, 640, 5);
    let turn = TURNS.load(SeqCst);
    for i in 1..20 {
        check!(wait(|| TURNS.load(SeqCst) > turn + i));
    }
    check!(guest_support::memory::is_filled(theirs, 640, 5));
    Ok(())
}

fn stop(guest: &'static Guest) -> Outcome {
    for round in 1..4u64 {
        check!(order(command::STOP));
        check_eq!(state(guest, 1), [0, 0]);
        let turn = TURNS.load(SeqCst);
        for _ in 0..20 {
            hypercall(H_CONFER, [u64::MAX, 0]);
        }
        check_eq!(TURNS.load(SeqCst), turn);
        // A prod does not wake what is stopped.
        check_eq!(hypercall(H_PROD, [1]).status, H_SUCCESS);
        check_eq!(state(guest, 1), [0, 0]);
        if guest.start_vcpu(1, second, round) != 0 {
            fail!("round {round}: it does not start again");
        }
        check!(wait(
            || ARGUMENT.load(SeqCst) == round && TURNS.load(SeqCst) > turn
        ));
    }
    Ok(())
}
