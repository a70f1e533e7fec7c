// SPDX-License-Identifier: BSD-2-Clause
//! From interrupts to the object model. When one of these returns, the assembly runs what
//! `core.current` names.

use crate::arch::machine::{Power, clear_doorbell};
use crate::arch::{guest, opal, spr, xive};
use crate::percore;
use partita_abi::{FaultLabel, GuestExit, vcpu_register};
use partita_kernel_core::Kernel;
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Context, Core, Ref, Tcb};
use partita_kernel_core::quick::Local;

/// Bits of SRR1 that tell the cause of an instruction storage interrupt (ISA 3.0B Book III 6.5.5).
const SRR1_STORAGE_CAUSE: u64 = 0x783c_0000;
/// The interruption cause of FSCR and HFSCR stands in their top byte.
const FACILITY_CAUSE_SHIFT: u32 = 56;

fn kernel(core: &Core) -> Kernel<'_, Power> {
    Kernel::new(&Power, percore::global(), core)
}

/// A system call of the current thread, of which only the volatile registers are in its TCB yet.
pub extern "C" fn kernel_local_syscall(core: &Core) -> Local {
    kernel(core).local_syscall()
}

/// A system call of the current thread, whose registers are in its TCB.
pub extern "C" fn kernel_syscall(core: &Core) {
    #[cfg(debug_syscalls)]
    if crate::debug::system_call(core) {
        return;
    }
    let k = kernel(core);
    k.syscall();
    finish(&k);
}

/// An interrupt out of a PD. `vector` is its real address, `srr1` SRR1 or HSRR1. The thread's registers
/// are in its TCB.
pub extern "C" fn kernel_exception(core: &Core, vector: u64, srr1: u64) {
    let k = kernel(core);
    // A storage interrupt is never asynchronous.
    let storage = vector >> 8 == 3 || vector >> 8 == 4;
    if (storage || !asynchronous(&k, core, vector))
        && let Some(thread) = core.current.get()
    {
        fault(&k, thread, vector, srr1);
        if k.quick_switch() {
            return;
        }
    }
    finish(&k);
}

/// An exit of the guest whose processor the current thread is. Its registers are in the TCB and the
/// VCPU; those of the partition that interrupts set are still in the core.
pub extern "C" fn kernel_guest_exception(core: &Core, vector: u64, srr1: u64) {
    let k = kernel(core);
    if !asynchronous(&k, core, vector)
        && let Some(thread) = core.current.get()
    {
        guest_exit(&k, thread, vector, srr1);
    }
    finish(&k);
}

/// What the running thread came for is gone, with it or without: just chooses what runs next.
pub extern "C" fn go_on(core: &Core) {
    finish(&kernel(core));
}

/// Whether an interrupt has nothing to do with the running thread.
pub fn is_asynchronous(vector: u64) -> bool {
    matches!(
        vector,
        0x100 | 0x500 | 0x900 | 0x980 | 0xa00 | 0xe60 | 0xe80 | 0xea0 | 0xf00
    )
}

/// Chooses what runs next and makes the core ready for it.
#[inline(never)]
fn finish(k: &Kernel<'_, Power>) {
    k.finish();
    if let Some(at) = k.core.current.get().and_then(|t| k.vcpu_of(t)) {
        guest::switch_resident(k.core, at, Power.object(at.addr()));
    }
}

fn guest_exit(k: &Kernel<'_, Power>, thread: Ref<Tcb>, vector: u64, srr1: u64) {
    let context: &Context = &Power.object::<Tcb>(thread.addr()).context;
    let (pc, msr) = (context.pc.get(), context.msr.get());
    match vector {
        // A hypercall of user mode is none: the guest's own system call handler gets it (H2.3).
        0xc00 if srr1 & spr::MSR_PR != 0 => k.reflect_system_call(),
        0xc00 => k.guest_hypercall(),
        0xe00 => k.guest_exit(
            GuestExit::DataStorage,
            &[
                pc,
                msr,
                spr::read::<{ spr::HDAR }>(),
                spr::read::<{ spr::HDSISR }>(),
                spr::read::<{ spr::ASDR }>(),
                k.guest_register(vcpu_register::AMR),
                k.guest_register(vcpu_register::IAMR),
            ],
        ),
        0xe20 => k.guest_exit(
            GuestExit::InstructionStorage,
            &[
                pc,
                msr,
                pc,
                srr1,
                spr::read::<{ spr::ASDR }>(),
                k.guest_register(vcpu_register::AMR),
                k.guest_register(vcpu_register::IAMR),
            ],
        ),
        0xe40 => {
            let instruction = spr::read::<{ spr::HEIR }>();
            k.guest_exit(GuestExit::EmulationAssist, &[pc, msr, instruction]);
        }
        0xf80 => {
            let cause = spr::read::<{ spr::HFSCR }>() >> FACILITY_CAUSE_SHIFT;
            k.guest_exit(GuestExit::FacilityUnavailable, &[pc, msr, cause]);
        }
        0x200 => k.guest_exit(
            GuestExit::MachineCheck,
            &[
                pc,
                msr,
                srr1,
                k.guest_register(vcpu_register::DAR),
                k.guest_register(vcpu_register::DSISR),
            ],
        ),
        0x1500 => k.guest_exit(GuestExit::SoftPatch, &[pc, msr]),
        _ => k.guest_exit(GuestExit::Other, &[pc, msr, vector, srr1]),
    }
}

/// An interrupt while the core was idle.
pub extern "C" fn kernel_idle_exception(core: &Core, vector: u64, srr1: u64) {
    let k = kernel(core);
    if !asynchronous(&k, core, vector) {
        crate::panic::kernel_crash(core, vector, srr1);
    }
    finish(&k);
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
        // Another core has changed this core's run queue, or wanted it out: `finish` looks.
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
    if matches!(vector, 0x300 | 0x380) {
        // The most frequent one, without the tables below.
        let (address, status) = (spr::read::<{ spr::DAR }>(), spr::read::<{ spr::DSISR }>());
        return send_fault(k, thread, FaultLabel::VMFault, &[pc, address, 0, status]);
    }
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
    send_fault(k, thread, label, &words[..count]);
}

#[inline(always)]
fn send_fault(k: &Kernel<'_, Power>, thread: Ref<Tcb>, label: FaultLabel, words: &[u64]) {
    if !k.quick_fault(label, words) {
        k.fault(label, words);
    }
    #[cfg(debug_syscalls)]
    crate::debug::unhandled_fault(thread, label, words);
    let _ = thread;
}
