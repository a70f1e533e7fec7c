// SPDX-License-Identifier: BSD-2-Clause
//! From interrupts to the object model. When one of these returns, the assembly runs what
//! `core.current` names.

use crate::arch::machine::{Power, clear_doorbell};
use crate::arch::{opal, spr, xive};
use crate::percore;
use partita_abi::FaultLabel;
use partita_kernel_core::Kernel;
use partita_kernel_core::object::{Context, Core, Ref, Tcb};

/// Bits of SRR1 that tell the cause of an instruction storage interrupt (ISA 3.0B Book III 6.5.5).
const SRR1_STORAGE_CAUSE: u64 = 0x783c_0000;
/// The interruption cause of FSCR and HFSCR stands in their top byte.
const FACILITY_CAUSE_SHIFT: u32 = 56;

fn kernel(core: &Core) -> Kernel<'_, Power> {
    Kernel::new(&Power, percore::global(), core)
}

/// A system call of the current thread, whose registers are in its TCB.
pub extern "C" fn kernel_syscall(core: &Core) {
    #[cfg(debug_syscalls)]
    if crate::debug::system_call(core) {
        return;
    }
    let k = kernel(core);
    k.syscall();
    k.finish();
}

/// An interrupt out of a PD. `vector` is its real address, `srr1` SRR1 or HSRR1. The thread's registers
/// are in its TCB.
pub extern "C" fn kernel_exception(core: &Core, vector: u64, srr1: u64) {
    let k = kernel(core);
    if !asynchronous(&k, core, vector)
        && let Some(thread) = core.current.get()
    {
        fault(&k, thread, vector, srr1);
    }
    k.finish();
}

/// An interrupt while the core was idle.
pub extern "C" fn kernel_idle_exception(core: &Core, vector: u64, srr1: u64) {
    let k = kernel(core);
    if !asynchronous(&k, core, vector) {
        crate::panic::kernel_crash(core, vector, srr1);
    }
    k.finish();
}

/// Handles an interrupt that has nothing to do with the running thread; false if it does have.
fn asynchronous(k: &Kernel<'_, Power>, core: &Core, vector: u64) -> bool {
    match vector {
        // System reset: the operator's; there is nothing to do in a PD.
        0x100 => {}
        // The host doesn't use the decrementer.
        0x900 => spr::park_dec(),
        0x980 => {
            // Silent until the object model has set the next deadline.
            spr::set_hdec(spr::DECREMENTER_MAX);
            k.timer_interrupt();
        }
        0x500 | 0xea0 => xive::take(core, |irq| k.external_interrupt(irq)),
        // Another core has changed this core's run queue: `finish` looks.
        0xa00 | 0xe80 => clear_doorbell(),
        0xe60 => opal::handle_hmi(),
        0xf00 => spr::freeze_pmu(),
        _ => return false,
    }
    true
}

/// Sends the fault of the running thread.
fn fault(k: &Kernel<'_, Power>, thread: Ref<Tcb>, vector: u64, srr1: u64) {
    let context: &Context = &Power::at::<Tcb>(thread.addr()).context;
    let pc = context.pc.get();
    let data = |address, status| (FaultLabel::VMFault, [pc, address, 0, status, 0], 4);
    let instruction = |address| {
        (
            FaultLabel::VMFault,
            [pc, address, 1, srr1 & SRR1_STORAGE_CAUSE, 0],
            4,
        )
    };
    let exception = |code| {
        (
            FaultLabel::UserException,
            [pc, context.gpr[1].get(), srr1, vector, code],
            5,
        )
    };
    let (label, words, count) = match vector {
        0x300 | 0x380 => data(spr::read::<{ spr::DAR }>(), spr::read::<{ spr::DSISR }>()),
        0x400 | 0x480 => instruction(pc),
        0xe00 => data(spr::read::<{ spr::HDAR }>(), spr::read::<{ spr::HDSISR }>()),
        0xe20 => instruction(pc),
        // Machine check, alignment: the address.
        0x200 | 0x600 => exception(spr::read::<{ spr::DAR }>()),
        // Illegal instruction: the instruction.
        0xe40 => exception(spr::read::<{ spr::HEIR }>()),
        // Facility unavailable: which.
        0xf60 => exception(spr::read::<{ spr::FSCR }>() >> FACILITY_CAUSE_SHIFT),
        0xf80 => exception(spr::read::<{ spr::HFSCR }>() >> FACILITY_CAUSE_SHIFT),
        _ => exception(0),
    };
    k.fault(label, &words[..count]);
    #[cfg(debug_syscalls)]
    crate::debug::unhandled_fault(thread, label, &words[..count]);
}
