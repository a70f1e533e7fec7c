// SPDX-License-Identifier: BSD-2-Clause
//! Special-purpose registers: numbers (ISA 3.0B, Book III 5.4.4) and access.

use partita_kernel_core::vcpu::MMCR0_FREEZE;

/// Data storage interrupt status.
pub const DSISR: u32 = 18;
/// Data address.
pub const DAR: u32 = 19;
/// Decrementer.
pub const DEC: u32 = 22;
/// Saved pc of an interrupt.
pub const SRR0: u32 = 26;
/// Saved MSR of an interrupt.
pub const SRR1: u32 = 27;
/// Process identifier.
pub const PIDR: u32 = 48;
/// Facility status and control.
pub const FSCR: u32 = 153;
/// Hypervisor facility status and control.
pub const HFSCR: u32 = 190;
/// Vector registers in use; user mode reads and writes it.
pub const VRSAVE: u32 = 256;
/// Timebase.
pub const TB: u32 = 268;
/// Upper 40 bits of the timebase, for writing; the others stay.
pub const TBU40: u32 = 286;
/// Hypervisor scratch 0: this core's `Core`.
pub const HSPRG0: u32 = 304;
/// Hypervisor scratch 1: r13 while a vector runs.
pub const HSPRG1: u32 = 305;
/// Hypervisor data storage interrupt status.
pub const HDSISR: u32 = 306;
/// Hypervisor data address.
pub const HDAR: u32 = 307;
/// Hypervisor decrementer.
pub const HDEC: u32 = 310;
/// Saved pc of a hypervisor interrupt.
pub const HSRR0: u32 = 314;
/// Saved MSR of a hypervisor interrupt.
pub const HSRR1: u32 = 315;
/// Logical partitioning control.
pub const LPCR: u32 = 318;
/// Logical partition identifier.
pub const LPIDR: u32 = 319;
/// Hypervisor emulation instruction.
pub const HEIR: u32 = 339;
/// Partition table control.
pub const PTCR: u32 = 464;
/// Segment of the access that a hypervisor storage interrupt is about.
pub const ASDR: u32 = 816;
/// Instruction address breakpoint of a guest; in hypervisor state it must be 0.
pub const CIABR: u32 = 187;
/// Monitor mode control 0.
pub const MMCR0: u32 = 795;
/// Processor stop status and control.
pub const PSSCR: u32 = 855;
/// Program priority; user mode reads and writes it.
pub const PPR: u32 = 896;
/// Processor number.
pub const PIR: u32 = 1023;

/// MSR: 64-bit mode.
const MSR_SF: u64 = 1 << 63;
/// MSR: hypervisor.
const MSR_HV: u64 = 1 << 60;
/// MSR: external interrupts enabled.
pub const MSR_EE: u64 = 1 << 15;
/// MSR: problem state.
pub const MSR_PR: u64 = 1 << 14;
/// MSR: machine checks enabled.
const MSR_ME: u64 = 1 << 12;
/// MSR: instructions and data are translated.
const MSR_IR_DR: u64 = 3 << 4;
/// MSR: interrupts are recoverable.
const MSR_RI: u64 = 1 << 1;
/// MSR: little-endian.
const MSR_LE: u64 = 1;
/// MSR of the kernel: real mode, interrupts off.
pub const MSR_KERNEL: u64 = MSR_SF | MSR_HV | MSR_ME | MSR_RI | MSR_LE;
/// MSR of every PD: no FP, VEC or VSX.
pub const MSR_PD: u64 = MSR_KERNEL | MSR_EE | MSR_PR | MSR_IR_DR;
const _: () = assert!(MSR_PD == 0x9000_0000_0000_d033);
/// The farthest deadline of the 56-bit decrementers.
pub const DECREMENTER_MAX: u64 = (1 << 55) - 1;

/// Reads the special register `N`.
#[inline(always)]
pub fn read<const N: u32>() -> u64 {
    let value;
    // SAFETY: reading a special register changes nothing; the kernel may read all of them.
    unsafe {
        core::arch::asm!("mfspr {}, {}", out(reg) value, const N, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes the special register `N`.
///
/// # Safety
/// The value must not take away what the kernel runs on: see each caller.
#[inline(always)]
pub unsafe fn write<const N: u32>(value: u64) {
    // SAFETY: the caller's promise. Not `nomem`: stores must not move across.
    unsafe {
        core::arch::asm!("mtspr {1}, {0}", in(reg) value, const N, options(nostack, preserves_flags));
    }
}

/// The timebase, in ticks.
#[inline(always)]
pub fn timebase() -> u64 {
    read::<TB>()
}

/// `isync`: earlier changes of the context are seen by later instructions.
#[inline(always)]
pub fn isync() {
    // SAFETY: only orders.
    unsafe { core::arch::asm!("isync", options(nostack, preserves_flags)) }
}

/// Sets the hypervisor decrementer to `ticks` from now, at most [`DECREMENTER_MAX`].
#[inline(always)]
pub fn set_hdec(ticks: u64) {
    // SAFETY: an HDEC interrupt arrives only while a PD runs, where the kernel expects it.
    unsafe { write::<HDEC>(ticks.min(DECREMENTER_MAX)) }
}

/// Sets the hypervisor decrementer to `ticks` from now if it would take longer.
pub fn limit_hdec(ticks: u64) {
    if !hdec_expired() && read::<HDEC>() > ticks {
        set_hdec(ticks);
    }
}

/// Whether the hypervisor decrementer has passed zero.
#[inline(always)]
pub fn hdec_expired() -> bool {
    read::<HDEC>() as i64 >> 55 != 0
}

/// Sets the decrementer, which the host does not use, as far away as it goes.
#[inline(always)]
pub fn park_dec() {
    // SAFETY: as for `set_hdec`.
    unsafe { write::<DEC>(DECREMENTER_MAX) }
}

/// Stops the performance monitor.
pub fn freeze_pmu() {
    // SAFETY: the kernel doesn't use the PMU.
    unsafe { write::<MMCR0>(MMCR0_FREEZE) }
}

/// Puts all registers that a PD could read, write or be steered by into the state that the host wants
/// (DESIGN 3): facilities closed, PMU frozen and empty, no breakpoints, no key masks.
pub fn close_facilities() {
    // SAFETY: none of these registers governs the kernel's own instructions or accesses: it runs in
    // real mode without facilities. Numbers: ISA 3.0B Book III 5.4.4.
    unsafe {
        write::<FSCR>(0); // no EBB, TAR, DSCR, scv
        write::<HFSCR>(0);
        write::<MMCR0>(MMCR0_FREEZE);
        write::<798>(0); // MMCR1
        write::<785>(0); // MMCR2
        write::<786>(0); // MMCRA
        write::<787>(0); // PMC1
        write::<788>(0); // PMC2
        write::<789>(0); // PMC3
        write::<790>(0); // PMC4
        write::<791>(0); // PMC5
        write::<792>(0); // PMC6
        write::<780>(0); // SIAR
        write::<781>(0); // SDAR
        write::<784>(0); // SIER
        write::<806>(0); // BESCR
        write::<804>(0); // EBBHR
        write::<805>(0); // EBBRR
        write::<157>(0); // UAMOR
        write::<29>(0); // AMR
        write::<61>(0); // IAMR
        write::<349>(u64::MAX); // AMOR: guests may write AMR, IAMR and UAMOR
        write::<17>(0); // DSCR
        write::<815>(0); // TAR
        write::<256>(0); // VRSAVE
        write::<275>(0); // SPRG3, readable by user mode
        write::<CIABR>(0);
        write::<188>(0); // DAWRX0
        write::<180>(0); // DAWR0
        write::<338>(0); // PCR
        write::<PSSCR>(0);
    }
    isync();
}
