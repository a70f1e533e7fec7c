// SPDX-License-Identifier: BSD-2-Clause
//! What core 0 does to a guest's processor that core 1 runs. The root thread spins where it waits, so that what goes on
//! meanwhile goes on on core 1.

use crate::guest::{DATA, Guest, LPCR_ILE, MSR_REAL, ORDER, Setup};
use crate::isolation::{SEEDS, healthy, patterned, rounds, server};
use crate::payload::{self, patterns, spinner};
use partita_abi::{GuestExit, ReplyAction, badge, vcpu_register as register};
use partita_papr::{HptOrder, PageSize, Ptex, hash};
use testkit::kit::microseconds;
use testkit::{Case, Kit, Outcome, check, check_eq, fail, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "VCPU0301 a kick reaches a vCPU that another core runs",
        body: |kit| measured(kit, kick),
    },
    Case {
        name: "VCPU0302 interrupts reach it: injected, and by the line",
        body: interrupts,
    },
    Case {
        name: "VCPU0303 a pause reaches it",
        body: pause,
    },
    Case {
        name: "VCPU0304 a new mode and a new fault mode are complete when the call returns",
        body: modes,
    },
    Case {
        name: "VCPU0305 its table is poisoned under it",
        body: poison,
    },
    Case {
        name: "VCPU0306 its registers are read and written, and it moves",
        body: registers,
    },
    Case {
        name: "VCPU0307 it is deleted under way",
        body: delete,
    },
];

/// How long anything may take, microseconds.
const PATIENCE_US: u64 = 30_000_000;
/// So long a turn that its end comes in no test: an hour.
const TURN_US: u64 = 3_600_000_000;
/// External interrupts enabled.
const MSR_EE: u64 = 0x8000;
/// Data addresses are translated.
const MSR_DR: u64 = 0x10;

/// Runs a case that measures time: the machine outside takes processors away, so that it may be repeated.
fn measured(kit: &mut Kit, body: fn(&mut Kit) -> Outcome) -> Outcome {
    for _ in 0..5 {
        if body(kit).is_ok() {
            return Ok(());
        }
        kit.clean_up()?;
    }
    body(kit)
}

/// Spins until `f` holds.
#[track_caller]
fn until(mut f: impl FnMut() -> bool) -> Outcome {
    let late = testkit::Failure::new(format_args!("it does not happen"));
    let end = timebase() + microseconds(PATIENCE_US);
    while !f() {
        if timebase() > end {
            return Err(late);
        }
    }
    Ok(())
}

/// Spins for `us` microseconds.
fn spin(us: u64) {
    let end = timebase() + microseconds(us);
    while timebase() < end {}
}

fn goes_on(guest: &Guest) -> Outcome {
    let before = guest.word(spinner::ROUNDS);
    until(|| guest.word(spinner::ROUNDS) > before + 2)
}

fn stands(guest: &Guest) -> bool {
    let before = guest.word(spinner::ROUNDS);
    spin(2000);
    guest.word(spinner::ROUNDS) == before
}

/// That the guest is left, or was since `before`.
#[track_caller]
fn was_out(guest: &Guest, before: u64) -> Outcome {
    until(|| guest.word(spinner::OUT) > before)
}

/// A guest that spins on core 1.
fn spinning(kit: &mut Kit) -> Outcome<Guest> {
    let guest = prepared(kit)?;
    guest.vcpu.vcpu_resume()?;
    goes_on(&guest)?;
    Ok(guest)
}

/// The same, stopped.
fn prepared(kit: &mut Kit) -> Outcome<Guest> {
    let mut setup = Setup::new(payload::spinner());
    setup.core = 1;
    setup.turn_us = TURN_US;
    let guest = Guest::make(kit, &setup)?;
    for (vector, handler) in spinner::VECTORS.into_iter().zip(payload::handlers()) {
        guest.place(vector, handler);
    }
    // Its decrementer does not interrupt.
    let never = i64::MAX as u64;
    guest
        .vcpu
        .vcpu_write_regs(register::DEC_EXPIRES, &[never])?;
    Ok(guest)
}

fn kick(kit: &mut Kit) -> Outcome {
    const KICKS: u64 = 100;
    let guest = prepared(kit)?;
    // QEMU delivers no doorbell while these are off; then it takes up to a millisecond.
    guest
        .vcpu
        .vcpu_write_regs(register::MSR, &[MSR_REAL | MSR_EE])?;
    guest.vcpu.vcpu_resume()?;
    let mut late = 0;
    for round in 0..KICKS {
        goes_on(&guest)?;
        spin(round % 7);
        let before = guest.word(spinner::OUT);
        guest.vcpu.vcpu_kick()?;
        let kicked = guest.word(spinner::ROUNDS);
        was_out(&guest, before)?;
        let at = guest.word(spinner::OUT_AT + before as usize % spinner::OUTS);
        late += at.saturating_sub(kicked);
    }
    // Without a doorbell it leaves by itself within a millisecond, after some hundred rounds.
    if late > 30 * KICKS {
        fail!("{late} rounds after {KICKS} kicks");
    }
    // With interrupts off it leaves, too.
    check!(!guest.vcpu.vcpu_pause()?);
    guest.exit();
    guest.vcpu.vcpu_write_regs(register::MSR, &[MSR_REAL])?;
    guest.answer((ReplyAction::Resume as u64) << 48, []);
    for _ in 0..10 {
        goes_on(&guest)?;
        let before = guest.word(spinner::OUT);
        guest.vcpu.vcpu_kick()?;
        was_out(&guest, before)?;
    }
    Ok(())
}

fn interrupts(kit: &mut Kit) -> Outcome {
    let guest = prepared(kit)?;
    guest
        .vcpu
        .vcpu_write_regs(register::MSR, &[MSR_REAL | MSR_EE])?;
    // Handlers of a little-endian guest.
    guest.vcpu.vcpu_set_mode(LPCR_ILE, 0)?;
    guest.vcpu.vcpu_resume()?;
    goes_on(&guest)?;
    for round in 1..=50 {
        guest.vcpu.vcpu_inject(0x100, 0, 0, 0)?;
        until(|| guest.word(spinner::RESETS) == round)?;
        guest.vcpu.vcpu_set_interrupt_line(true)?;
        until(|| guest.word(spinner::EXTERNAL) == round)?;
        guest.vcpu.vcpu_set_interrupt_line(false)?;
        guest.set_word(spinner::ANSWERED, round);
        goes_on(&guest)?;
    }
    check_eq!(guest.word(spinner::RESETS), 50);
    check_eq!(guest.word(spinner::EXTERNAL), 50);
    Ok(())
}

fn pause(kit: &mut Kit) -> Outcome {
    let guest = spinning(kit)?;
    for round in 0..50 {
        spin(round % 7);
        check!(!guest.vcpu.vcpu_pause()?);
        let got = guest.exit();
        check_eq!(got.info.label(), GuestExit::Paused as u64);
        check_eq!(got.badge, badge::FAULT | crate::guest::ID);
        check!(guest.vcpu.vcpu_pause()?);
        if round % 16 == 0 {
            check!(stands(&guest));
        }
        guest.answer((ReplyAction::Resume as u64) << 48, []);
        goes_on(&guest)?;
    }
    Ok(())
}

/// A segment of 256 MiB with 4 KiB pages.
const SEGMENT: u64 = 0x1234_5000;
/// An address in it that nothing is mapped at.
const NOWHERE: u64 = DATA + 0x1000;

fn modes(kit: &mut Kit) -> Outcome {
    let guest = prepared(kit)?;
    // Data addresses are translated by one segment, in which there is the shared page and nothing else.
    let order = HptOrder::new(ORDER);
    let (Some(order), Some(segment)) = (order, hash::Segment::new(SEGMENT)) else {
        fail!("no segment");
    };
    let ptex = Ptex::in_group(segment.primary_group(DATA, order), 0, order);
    let entry = hash::vrma_entry(DATA, PageSize::Size4K);
    guest
        .hpt
        .hpt_insert(ptex.get(), segment.avpn(DATA) | 1, entry.r)?;
    const SLB_VALID: u64 = 0x0800_0000;
    guest
        .vcpu
        .vcpu_write_regs(register::SLB0_ESID, &[SLB_VALID, SEGMENT])?;
    guest
        .vcpu
        .vcpu_write_regs(register::MSR, &[MSR_REAL | MSR_DR])?;
    guest.vcpu.vcpu_set_mode(LPCR_ILE, 0)?;
    guest.vcpu.vcpu_resume()?;
    goes_on(&guest)?;
    let mut misses = 0;
    for round in 0..40 {
        // All guests' processors are out when a mode changes.
        let before = guest.word(spinner::OUT);
        guest.vcpu.vcpu_set_mode(0, 0)?;
        was_out(&guest, before)?;
        // Misses are the guest's own business.
        let before = guest.word(spinner::OUT);
        guest.hpt.hpt_set_fault_mode(false)?;
        was_out(&guest, before)?;
        guest.set_word(spinner::LOAD, NOWHERE);
        until(|| guest.word(spinner::MISSES) > misses)?;
        spin(round % 5);
        // From here on they are exits.
        guest.hpt.hpt_set_fault_mode(true)?;
        misses = guest.word(spinner::MISSES);
        let got = guest.exit();
        check_eq!(got.info.label(), GuestExit::DataStorage as u64);
        check_eq!(got.msg[2], NOWHERE);
        check!(guest.word(spinner::MISSES) <= misses + 1);
        misses = guest.word(spinner::MISSES);
        // Taken to the guest's handler all the same.
        guest.set_word(spinner::LOAD, 0);
        let words = [0, 0, 0, 0, 0x300, 0x4000_0000, NOWHERE, 0x4000_0000];
        guest.answer((ReplyAction::Inject as u64) << 48, words);
        until(|| guest.word(spinner::MISSES) == misses + 1)?;
        misses += 1;
        goes_on(&guest)?;
    }
    Ok(())
}

fn poison(kit: &mut Kit) -> Outcome {
    for round in 0..10 {
        let guest = spinning(kit)?;
        spin(round);
        // Its pages are in the table; the root task's own mapping is a copy's.
        check_eq!(guest.memory.frame_unmap(), Err(sel4::Error::RevokeFirst));
        kit.delete(guest.memory)?;
        check!(stands(&guest));
        let got = guest.exit();
        check_eq!(got.info.label(), GuestExit::HptDead as u64);
        // It does not enter again.
        guest.answer((ReplyAction::Resume as u64) << 48, []);
        check_eq!(guest.exit().info.label(), GuestExit::HptDead as u64);
        check!(stands(&guest));
        kit.clean_up()?;
    }
    Ok(())
}

fn registers(kit: &mut Kit) -> Outcome {
    let server = server(kit)?;
    let guest = patterned(kit, 0, None, server)?;
    guest.run_on(kit, 1)?;
    guest.vcpu.vcpu_resume()?;
    let mut at = 20;
    for round in 0..40 {
        rounds(kit, &guest, at)?;
        if !guest.vcpu.vcpu_pause()? {
            let got = guest.exit();
            check_eq!(got.info.label(), GuestExit::Paused as u64);
        }
        // What is in core 1's registers comes from there. In the middle of a filling there are values of two rounds.
        let mut vs = [0; 128];
        guest.vcpu.vcpu_read_regs(register::VS0_0, &mut vs[..64])?;
        guest.vcpu.vcpu_read_regs(register::VS32_0, &mut vs[64..])?;
        let ours = |value: u64| value >> 32 == SEEDS[0] >> 32;
        check!(vs.iter().all(|v| ours(*v)));
        let mut slb = [0; 64];
        guest.vcpu.vcpu_read_regs(register::SLB0_ESID, &mut slb)?;
        check!(slb[2..].iter().all(|word| *word != 0));
        let mut sprg = [0; 4];
        guest.vcpu.vcpu_read_regs(register::SPRG0, &mut sprg)?;
        check!(sprg.iter().all(|v| ours(*v >> 2 | SEEDS[0] >> 62 << 62)));
        // Written as they were, in memory now.
        guest.vcpu.vcpu_write_regs(register::VS0_0, &vs[..64])?;
        guest.vcpu.vcpu_write_regs(register::VS32_0, &vs[64..])?;
        guest.vcpu.vcpu_write_regs(register::SLB0_ESID, &slb)?;
        // Every other time it goes on on the other core.
        guest.run_on(kit, 1 - (round >> 1 & 1))?;
        resume(&guest)?;
        at = healthy(&guest)? + 3;
        // Moved while it runs, its registers in the core that it leaves.
        guest.run_on(kit, round & 1)?;
    }
    rounds(kit, &guest, at)?;
    check_eq!(guest.word(patterns::BLANK), 0);
    Ok(())
}

/// Ends a pause: by the answer to its exit, if there was one.
fn resume(guest: &Guest) -> Outcome {
    guest.answer((ReplyAction::Resume as u64) << 48, []);
    guest.vcpu.vcpu_resume()?;
    Ok(())
}

fn delete(kit: &mut Kit) -> Outcome {
    for round in 0..12 {
        let guest = spinning(kit)?;
        spin(round);
        match round % 4 {
            0 => kit.delete(guest.vcpu)?,
            1 => kit.delete(guest.tcb)?,
            2 => guest.tcb.tcb_suspend()?,
            _ => guest.sc.sched_context_unbind()?,
        }
        check!(stands(&guest));
        match round % 4 {
            2 => {
                guest.tcb.tcb_resume()?;
                goes_on(&guest)?;
            }
            3 => {
                guest.sc.sched_context_bind(guest.tcb)?;
                goes_on(&guest)?;
            }
            _ => {}
        }
        kit.clean_up()?;
    }
    Ok(())
}
