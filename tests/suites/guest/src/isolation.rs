// SPDX-License-Identifier: BSD-2-Clause
//! Two guests on one core, and on several: nothing of one's registers and memory is ever seen by the other, and nothing
//! is lost.

use crate::guest::{ENTRY, Guest, LPCR_ILE, Setup};
use crate::payload::{self, patterns};
use partita_abi::{GuestExit, ReplyAction, syscall, vcpu_register as register};
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
    Case {
        name: "VCPU0203 5.1 every special register that a guest can write is its own",
        body: special_registers,
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
        registers[register::MMCR0] = 0;
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

/// Special-purpose registers.
const SPRS: usize = 1024;
/// Where a guest stores them, first and later: word numbers. The handlers have those before.
const FIRST: usize = 16;
const LATER: usize = FIRST + SPRS;
/// What the writer puts everywhere.
const SECRET: u64 = 0x5ec2_e75e_5ec2_e75e;
/// Time and instructions go on (DEC, the timebase and its alternates, VTB, PURR, SPURR, IC), interrupts change SRR0,
/// SRR1 and DSISR, every branch CFAR; and numbers that QEMU has for performance counters, which count.
const MOVING: [usize; 24] = [
    18, 22, 26, 27, 28, 268, 269, 284, 285, 286, 287, 526, 527, 308, 309, 848, 849, 771, 772, 773,
    774, 775, 776, 9,
];
/// PMC1 to PMC6 by their privileged numbers, which count; and what no guest can use on hardware and QEMU keeps: EAR, USIER
/// and the like, BESCRS and the like, RWMR, TACR, TCSCR, CSIGR, SPMC1, SPMC2, MMCRS.
const NOT_KEPT: [usize; 22] = [
    787, 788, 789, 790, 791, 792, 282, 768, 736, 737, 738, 800, 801, 802, 803, 885, 888, 889, 890,
    892, 893, 894,
];

/// `mtspr n, r2`; `mfspr r3, n`.
fn spr_field(n: usize) -> u32 {
    ((n & 31) << 16 | n >> 5 << 11) as u32
}

/// Code that stores all special registers from `word` of the shared memory on; one that can't be read counts as 0.
fn store_all(guest: &Guest, mut at: u64, word: usize) -> u64 {
    let put = |at: &mut u64, code: &[u32]| {
        guest.place(*at, code);
        *at += 4 * code.len() as u64;
    };
    // lis r9, 2; addi r9, r9, 8 * word
    put(&mut at, &[0x3d20_0002, 0x3929_0000 | (8 * word as u32)]);
    for n in 0..SPRS {
        // li r3, 0; mfspr r3, n; std r3, 8 * n(r9)
        put(
            &mut at,
            &[
                0x3860_0000,
                0x7c60_02a6 | spr_field(n),
                0xf869_0000 | (8 * n as u32),
            ],
        );
    }
    // li r3, 0x60; sc 1
    put(&mut at, &[0x3860_0060, 0x4400_0022]);
    at
}

/// Runs a guest until its next hypercall; what it can't execute is an illegal instruction to it.
fn until_hypercall(guest: &Guest) -> Outcome {
    loop {
        let exit = guest.exit();
        if exit.info.label() == GuestExit::Hypercall as u64 {
            return Ok(());
        }
        let illegal = [GuestExit::EmulationAssist, GuestExit::FacilityUnavailable];
        if !illegal.iter().any(|e| *e as u64 == exit.info.label()) {
            fail!("exit {} at {:#x}", exit.info.label(), exit.msg[0]);
        }
        let words = [0, 0, 0, 0, 0x700, 0x8_0000, 0, 0];
        guest.answer((ReplyAction::Inject as u64) << 48, words);
    }
}

fn special_registers(kit: &mut Kit) -> Outcome {
    let make = |kit: &mut Kit, window| {
        let mut setup = Setup::new(&[]);
        setup.window = window;
        let guest = Guest::make(kit, &setup)?;
        guest.vcpu.vcpu_set_mode(LPCR_ILE, 0)?;
        // Program interrupts, privileged and of unavailable facilities: go on behind the instruction.
        for vector in [0x700, 0xf20, 0xf40, 0xf60] {
            guest.place(vector, payload::handlers()[1]);
        }
        Outcome::Ok(guest)
    };
    let (writer, reader) = (make(kit, 0)?, make(kit, 1)?);
    let mut at = ENTRY;
    // What it reads, twice.
    for word in [FIRST, LATER] {
        at = store_all(&reader, at, word);
    }
    // What it writes, and what of that it finds at once and later.
    at = ENTRY;
    let [high, low] = [(SECRET >> 16) as u16, SECRET as u16].map(u32::from);
    // lis r2, high; ori r2, r2, low; rldimi r2, r2, 32, 0
    writer.place(at, &[0x3c40_0000 | high, 0x6042_0000 | low, 0x7842_000e]);
    at += 12;
    for n in 0..SPRS {
        writer.place(at, &[0x7c40_03a6 | spr_field(n)]);
        at += 4;
    }
    for word in [FIRST, LATER] {
        at = store_all(&writer, at, word);
    }
    reader.vcpu.vcpu_resume()?;
    until_hypercall(&reader)?;
    writer.vcpu.vcpu_resume()?;
    until_hypercall(&writer)?;
    reader.answer(0, []);
    until_hypercall(&reader)?;
    writer.answer(0, []);
    until_hypercall(&writer)?;
    let mut written = 0;
    for n in (0..SPRS).filter(|n| !MOVING.contains(n)) {
        let [before, after] = [FIRST, LATER].map(|word| reader.word(word + n));
        if before != after {
            fail!("SPR {n} of the other guest: {after:#x}, was {before:#x}");
        }
        let [first, later] = [FIRST, LATER].map(|word| writer.word(word + n));
        if first != later && !NOT_KEPT.contains(&n) {
            fail!("SPR {n}: {later:#x}, was {first:#x}");
        }
        written += usize::from(first == SECRET);
    }
    check!(written > 10);
    Ok(())
}
