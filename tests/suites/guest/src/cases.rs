// SPDX-License-Identifier: BSD-2-Clause
//! The cases.

use crate::guest::{ENTRY, Guest, ID, MSR_REAL};
use crate::{isolation, multicore};
use partita_abi::{GuestExit, ReplyAction, badge, vcpu_register as register};
use testkit::runner::CASE_TIMEOUT_US;
use testkit::{Case, Kit, Outcome, check, check_eq};

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
