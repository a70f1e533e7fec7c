// SPDX-License-Identifier: BSD-2-Clause
//! Two guests on one core, and on several: nothing of one's registers and memory is ever seen by the other, and nothing
//! is lost.

use crate::guest::{Guest, Setup};
use crate::payload::{self, patterns};
use partita_abi::{syscall, vcpu_register as register};
use sel4::{arch, cap};
use testkit::kit::microseconds;
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, fail, println, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "VCPU0201 the registers of two guests while they move about",
        body: two_guests,
    },
    Case {
        name: "VCPU0202 what one guest has freed is blank in the next one",
        body: freed,
    },
];

/// How often the guests are moved; a soak says more.
fn moves() -> u64 {
    option_env!("GUEST_MOVES")
        .and_then(|n| n.parse().ok())
        .unwrap_or(100)
}

/// How long that takes at most, microseconds.
pub fn moves_us() -> u64 {
    5 * STAY_US * moves()
}

/// How long they stay, microseconds.
const STAY_US: u64 = 10_000;
/// log2 of the bytes that a guest is made of: its memory, aligned, and all else.
const MEMORY_BITS: usize = 23;
/// What the values of the guests' registers begin with.
pub const SEEDS: [u64; 2] = [0x1111_1111_0051_0000, 0x2222_2222_00a2_0000];
/// How long anything may take, microseconds.
const PATIENCE_US: u64 = 30_000_000;

/// Answers hypercalls: 0, and the guest goes on. Words: endpoint, reply object.
pub fn answer_for_ever(env: &Env) -> u64 {
    arch::recv(syscall::RECV, env.args[0], env.args[1]);
    loop {
        arch::reply_recv(env.args[0], 0, arch::message([]), env.args[1]);
    }
}

/// Somebody on the callers' time who answers hypercalls.
pub fn server(kit: &mut Kit) -> Outcome<cap::Endpoint> {
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    Helper::new(answer_for_ever)
        .args([endpoint.bits(), reply.bits()])
        .priority(120)
        .start_passive(kit)?;
    Ok(endpoint)
}

/// A guest with patterns in its registers; it is stopped.
pub fn patterned(
    kit: &mut Kit,
    window: usize,
    memory: Option<cap::Untyped>,
    server: cap::Endpoint,
) -> Outcome<Guest> {
    let mut setup = Setup::new(payload::patterns());
    setup.window = window;
    setup.memory = memory;
    setup.server = Some(server);
    setup.turn_us = 1000;
    let guest = Guest::make(kit, &setup)?;
    guest
        .vcpu
        .vcpu_write_regs(register::R1, &[SEEDS[window % SEEDS.len()]])?;
    Ok(guest)
}

/// That it found nothing at its start and has lost nothing since; the rounds.
pub fn healthy(guest: &Guest) -> Outcome<u64> {
    let lost = guest.word(patterns::LOST);
    if lost != 0 {
        fail!("it lost a {}", patterns::WHAT[(lost - 1) as usize & 3]);
    }
    if guest.word(patterns::STARTED) != 0 {
        check_eq!(guest.word(patterns::BLANK), 0);
    }
    Ok(guest.word(patterns::ROUNDS))
}

/// Sleeps until a guest has made so many rounds.
#[track_caller]
pub fn rounds(kit: &Kit, guest: &Guest, count: u64) -> Outcome {
    let late = testkit::Failure::new(format_args!("the guest does not go on"));
    let end = timebase() + microseconds(PATIENCE_US);
    while healthy(guest)? < count {
        if timebase() > end {
            return Err(late);
        }
        kit.sleep(500)?;
    }
    Ok(())
}

fn two_guests(kit: &mut Kit) -> Outcome {
    let servers = [server(kit)?, server(kit)?];
    let guests = [
        patterned(kit, 0, None, servers[0])?,
        patterned(kit, 1, None, servers[1])?,
    ];
    for guest in &guests {
        guest.vcpu.vcpu_resume()?;
    }
    let moves = moves();
    let mut last = [0; 2];
    for turn in 0..moves {
        kit.sleep(STAY_US)?;
        if turn % 1000 == 999 {
            println!("{} moves", turn + 1);
        }
        for (guest, last) in guests.iter().zip(&mut last) {
            let now = healthy(guest)?;
            // Somebody who has come so far must go on, at the latest after four moves.
            if turn % 4 == 0 {
                if now == *last {
                    rounds(kit, guest, now + 1)?;
                }
                *last = now;
            }
        }
        // Together and apart: 00, 01, 11, 10.
        if kit.cores() > 1 {
            guests[0].run_on(kit, turn as usize >> 1 & 1)?;
            guests[1].run_on(kit, (turn as usize + 1) >> 1 & 1)?;
        }
    }
    for guest in &guests {
        check!(healthy(guest)? > moves / 2);
        check_eq!(guest.vcpu.vcpu_get_times()?.dispatches > 1, true);
    }
    Ok(())
}

fn freed(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(MEMORY_BITS)?;
    // One that serves a guest which ends is without time then.
    let servers = [server(kit)?, server(kit)?, server(kit)?];
    let others_server = server(kit)?;
    // What other guests leave in the core.
    let other = patterned(kit, 1, None, others_server)?;
    other.vcpu.vcpu_resume()?;
    for (round, server) in servers.into_iter().enumerate() {
        // That its memory is blank is checked when it is made, its registers when it starts.
        let guest = patterned(kit, 0, Some(memory), server)?;
        let mut registers = [0; register::COUNT];
        for (n, part) in registers.chunks_mut(64).enumerate() {
            guest.vcpu.vcpu_read_regs(64 * n, part)?;
        }
        registers[register::R1] = 0;
        registers[register::PC] = 0;
        registers[register::MSR] = 0;
        registers[register::HFSCR] = 0;
        check!(registers.iter().all(|r| *r == 0));
        guest.run_on(kit, round % kit.cores())?;
        guest.vcpu.vcpu_resume()?;
        rounds(kit, &guest, 20)?;
        check_eq!(guest.word(patterns::STARTED), 1);
        // It runs, or its registers are in the core.
        kit.revoke(memory)?;
        let rest: cap::UnspecifiedFrame =
            kit.retype(memory, sel4::FrameObjectType::_2m.blueprint())?;
        kit.delete(rest)?;
        let before = healthy(&other)?;
        rounds(kit, &other, before + 5)?;
    }
    Ok(())
}
