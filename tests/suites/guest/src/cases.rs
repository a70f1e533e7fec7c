// SPDX-License-Identifier: BSD-2-Clause
//! The cases.

use crate::guest::{DATA, ENTRY, Guest, ID, LPCR_ILE, MSR_REAL};
use crate::payload::{self, spinner};
use crate::{isolation, multicore};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::{GuestExit, ReplyAction, badge, syscall, vcpu_register as register};
use sel4::{arch, cap};
use testkit::runner::CASE_TIMEOUT_US;
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq};

sel4::root_task!(main = main, panic = testkit::panicked);

const CASES: &[Case] = &[
    Case {
        name: "VCPU0001 a hypercall reaches its route and its answer the guest",
        body: hypercall,
    },
    Case {
        name: "VCPU0002 a hypercall without a route goes to the parent",
        body: unrouted,
    },
    Case {
        name: "VCPU0003 an illegal instruction goes to the parent",
        body: illegal,
    },
    Case {
        name: "VCPU0004 access beyond the table is a storage exit",
        body: storage,
    },
    Case {
        name: "VCPU0005 a breakpoint is the guest's, and nobody else's",
        body: breakpoint,
    },
    Case {
        name: "VCPU0006 a dispatch is told, also one on the fast path of a signal",
        body: dispatches,
    },
    Case {
        name: "VCPU0007 a performance monitor that a guest was given stands still outside",
        body: monitor,
    },
];

fn main(boot: &'static sel4::BootInfo) -> ! {
    let several = boot.sched_control[1] - boot.sched_control[0] > 1;
    // With several cores time is that of the machine outside, which may have other things to do.
    let timeout = CASE_TIMEOUT_US * if several { 6 } else { 1 } + isolation::moves_us();
    let areas = [CASES, isolation::CASES, multicore::CASES];
    // The last area is about more than one core.
    testkit::run(
        "guest",
        boot,
        timeout,
        &areas[..areas.len() - usize::from(!several)],
    )
}

/// li rt, value
const fn li(rt: u32, value: u16) -> u32 {
    14 << 26 | rt << 21 | value as u32
}
/// sc 1
const HYPERCALL: u32 = 0x4400_0022;
/// b .
const SPIN: u32 = 0x4800_0000;

fn action(a: ReplyAction) -> u64 {
    (a as u64) << 48
}

fn hypercall(kit: &mut Kit) -> Outcome {
    let g = Guest::new(
        kit,
        &[
            li(3, 0x58),
            li(4, 1),
            li(5, 2),
            li(11, 8),
            li(31, 31),
            HYPERCALL,
            HYPERCALL,
            SPIN,
        ],
    )?;
    g.vcpu.vcpu_resume()?;
    let got = g.exit();
    check_eq!(got.badge, badge::PPC | ID << 32 | 7);
    check_eq!(got.info.label(), 0x58);
    check_eq!(got.msg[0], 1);
    check_eq!(got.msg[1], 2);
    check_eq!(got.msg[7], 8);
    g.answer((-7i64 as u64) & ((1 << 48) - 1), [0x1234_5678_9abc_def0, 5]);
    // The second call has r3 = -7: no route.
    let got = g.exit();
    check_eq!(got.badge, badge::FAULT | ID);
    check_eq!(got.info.label(), GuestExit::Hypercall as u64);
    check_eq!(got.msg[0], -7i64 as u64);
    check_eq!(got.msg[1], 0x1234_5678_9abc_def0);
    check_eq!(got.msg[2], 5);
    let mut regs = [0; register::VS0_0];
    g.vcpu.vcpu_read_regs(0, &mut regs)?;
    check_eq!(regs[31], 31);
    check_eq!(regs[11], 8);
    check_eq!(regs[register::PC], ENTRY + 28);
    check_eq!(regs[register::MSR] & !0x2, MSR_REAL);
    Ok(())
}

fn unrouted(kit: &mut Kit) -> Outcome {
    let g = Guest::new(kit, &[li(3, 0x60), li(4, 4), HYPERCALL, HYPERCALL])?;
    g.vcpu.vcpu_resume()?;
    let got = g.exit();
    check_eq!(got.info.label(), GuestExit::Hypercall as u64);
    check_eq!(got.msg[0], 0x60);
    check_eq!(got.msg[1], 4);
    g.answer(action(ReplyAction::Resume) | 9, []);
    check_eq!(g.exit().msg[0], 9);
    Ok(())
}

fn illegal(kit: &mut Kit) -> Outcome {
    let g = Guest::new(kit, &[0])?;
    g.vcpu.vcpu_resume()?;
    let got = g.exit();
    check_eq!(got.info.label(), GuestExit::EmulationAssist as u64);
    check_eq!(got.msg[0], ENTRY);
    Ok(())
}

/// Vector of a trace interrupt.
const TRACE: u64 = 0xd00;

/// What the root thread runs with a breakpoint of the guest's at its beginning.
#[inline(never)]
fn touched(value: u64) -> u64 {
    core::hint::black_box(value) + 1
}

fn breakpoint(kit: &mut Kit) -> Outcome {
    const PROBLEM: u64 = 1;
    const PRIVILEGED: u64 = 2;
    const NOP: u32 = 0x6000_0000;
    // lis r9, 2; ld r6, 0(r9); addi r6, r6, 1; two that may be skipped; std r6, 0(r9); b .-20
    let round = [0xe8c9_0000, 0x38c6_0001, NOP, NOP, 0xf8c9_0000, 0x4bff_ffec];
    let guest = Guest::new(kit, &[0x3d20_0002])?;
    guest.place(ENTRY + 4, &round);
    guest.vcpu.vcpu_set_mode(LPCR_ILE, 0)?;
    // The handler counts, and goes on behind: QEMU interrupts before the instruction, hardware after it.
    guest.place(TRACE, payload::handlers()[1]);
    let at = ENTRY + 12;
    guest
        .vcpu
        .vcpu_write_regs(register::CIABR, &[at | PRIVILEGED])?;
    guest.vcpu.vcpu_resume()?;
    kit.sleep(20_000)?;
    let (rounds, breaks) = (guest.word(spinner::ROUNDS), guest.word(spinner::MISSES));
    check!(rounds > 2);
    check!(breaks.abs_diff(rounds) <= 1);
    if !guest.vcpu.vcpu_pause()? {
        check_eq!(guest.exit().info.label(), GuestExit::Paused as u64);
    }
    // An address of ours.
    let ours = touched as fn(u64) -> u64 as usize as u64;
    guest
        .vcpu
        .vcpu_write_regs(register::CIABR, &[ours | PROBLEM])?;
    guest.vcpu.vcpu_resume()?;
    for i in 0..20 {
        let before = guest.word(spinner::ROUNDS);
        kit.sleep(1000)?;
        check_eq!(touched(i), i + 1);
        check!(guest.word(spinner::ROUNDS) > before);
    }
    Ok(())
}

fn storage(kit: &mut Kit) -> Outcome {
    // lis r9, 0x8 ; ld r10, 0(r9): beyond the 256 KiB of VRMA entries.
    let g = Guest::new(
        kit,
        &[
            15 << 26 | 9 << 21 | 0x8,
            58 << 26 | 10 << 21 | 9 << 16,
            SPIN,
        ],
    )?;
    g.hpt.hpt_set_fault_mode(true)?;
    g.vcpu.vcpu_resume()?;
    let got = g.exit();
    check_eq!(got.info.label(), GuestExit::DataStorage as u64);
    check_eq!(got.msg[0], ENTRY + 4);
    check_eq!(got.msg[2], 0x8_0000);
    check!(got.msg[3] & 0x4000_0000 != 0);
    Ok(())
}

/// `Entry` exits, and hypercalls.
static ENTRIES: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Answers a guest's exits and hypercalls on its time; rings a bell before it answers a hypercall. Words: endpoint, reply
/// object, bell.
fn ring_and_answer(env: &Env) -> u64 {
    let [endpoint, reply, bell] = [env.args[0], env.args[1], env.args[2]];
    let bell = cap::Notification::from_bits(bell);
    let mut got = arch::recv(syscall::RECV, endpoint, reply);
    loop {
        if got.badge & badge::PPC != 0 {
            CALLS.fetch_add(1, Ordering::Relaxed);
            bell.signal();
        } else {
            ENTRIES.fetch_add(1, Ordering::Relaxed);
        }
        got = arch::reply_recv(endpoint, 0, arch::message([]), reply);
    }
}

/// Waits for a bell, again and again, when it may. Words: the bell, and what says so.
fn hear(env: &Env) -> u64 {
    let [bell, ready] = [env.args[0], env.args[1]];
    cap::Notification::from_bits(ready).wait();
    loop {
        arch::recv(syscall::RECV, bell, 0);
    }
}

fn dispatches(kit: &mut Kit) -> Outcome {
    // li r3, 0x58; sc 1; b .-8
    let guest = Guest::new(kit, &[li(3, 0x58), HYPERCALL, 0x4bff_fff8])?;
    let view = guest.view(kit)?;
    let bell = kit.notification()?;
    // The listener is better than the server: with each ring the guest's time ends, and begins again.
    // With a bell of its own it takes the fast path.
    let ready = kit.notification()?;
    let listener = Helper::new(hear)
        .args([bell.bits(), ready.bits()])
        .priority(130)
        .start(kit)?;
    listener.tcb.tcb_bind_notification(bell)?;
    ready.signal();
    Helper::new(ring_and_answer)
        .args([guest.exits.bits(), guest.reply.bits(), bell.bits()])
        .priority(120)
        .start_passive(kit)?;
    guest.vcpu.vcpu_bind_dispatch_counter(view, DATA)?;
    guest.vcpu.vcpu_request_entry(true)?;
    guest.vcpu.vcpu_resume()?;
    kit.sleep(20_000)?;
    let (entries, calls) = (
        ENTRIES.load(Ordering::Relaxed),
        CALLS.load(Ordering::Relaxed),
    );
    check!(calls > 10);
    check!(entries + 1 >= calls);
    Ok(())
}

/// MMCR0 as user mode sees it.
fn user_mmcr0() -> u64 {
    let value;
    // SAFETY: reads a register that user mode may read.
    unsafe { asm!("mfspr {}, 779", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

fn monitor(kit: &mut Kit) -> Outcome {
    const FROZEN: u64 = 0x8000_0000;
    /// HFSCR: performance monitor.
    const PM: u64 = 1 << 3;
    // lis r9, 2; li r3, 0; mtspr MMCR0, r3; mfspr r4, MMCR0; std r4, 0(r9); addi r3, r3, 1; std r3, 8(r9); b .-16
    let guest = Guest::new(
        kit,
        &[
            0x3d20_0002,
            li(3, 0),
            0x7c7b_c3a6,
            0x7c9b_c2a6,
            0xf889_0000,
            0x3863_0001,
            0xf869_0008,
            0x4bff_fff0,
        ],
    )?;
    let mut hfscr = [0];
    guest.vcpu.vcpu_read_regs(register::HFSCR, &mut hfscr)?;
    guest
        .vcpu
        .vcpu_write_regs(register::HFSCR, &[hfscr[0] | PM])?;
    check_eq!(user_mmcr0(), FROZEN);
    guest.vcpu.vcpu_resume()?;
    for _ in 0..20 {
        guest.set_word(0, FROZEN);
        let before = guest.word(1);
        kit.sleep(1000)?;
        check!(guest.word(1) > before);
        check_eq!(guest.word(0), 0);
        check_eq!(user_mmcr0(), FROZEN);
    }
    if !guest.vcpu.vcpu_pause()? {
        guest.exit();
    }
    let mut mmcr0 = [FROZEN];
    guest.vcpu.vcpu_read_regs(register::MMCR0, &mut mmcr0)?;
    check_eq!(mmcr0[0], 0);
    Ok(())
}
