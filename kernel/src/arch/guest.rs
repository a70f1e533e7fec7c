// SPDX-License-Identifier: BSD-2-Clause
//! Into a guest and out of it (POWER9, hash translation).
//!
//! An exit saves the thread's registers into its TCB and, into the VCPU, the special registers that a
//! PD could read or that interrupts of a PD destroy; those that user mode can read become 0. FP, VEC, VSX,
//! the SLB and the other registers stay in the core ([`switch_resident`]): a PD runs with MSR[FP,VEC,VSX] = 0,
//! FSCR = 0 and radix translation, which does not consult the SLB. So VTB, PURR, SPURR and IC count as long as the vCPU
//! is resident.
//!
//! What a vCPU has only inside, in ways of its own ([`Vcpu::own_ways`]), the slow ways in and out change: a timebase that is
//! not the machine's, a breakpoint, and a performance monitor that may run.

use super::spr::{self, PPR, VRSAVE};
use crate::board;
use crate::percore::{self, arch_word};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use partita_abi::vcpu_register as register;
use partita_kernel_core::object::{Context, Core, Ref, Tcb};
use partita_kernel_core::vcpu::{FACILITY_PM, MMCR0_FREEZE, Vcpu, lpcr, segment};

/// Authority mask of storage keys.
const AMR: u32 = 29;
/// Control flow address.
const CFAR: u32 = 28;
/// Authority mask of instruction fetches.
const IAMR: u32 = 61;
/// What user mode may change of AMR.
const UAMOR: u32 = 157;
/// SPRG3, which user mode can read.
const SPRG3: u32 = 275;
/// Program priority of a thread that has not set one: medium.
const PPR_MEDIUM: u64 = 4 << 50;

/// LPCR of a guest before its own choices and its fault mode.
pub const LPCR_BASE: u64 = board::LPCR_GUEST & !(lpcr::CHOICE | lpcr::VPM1);

/// Entries of the segment look-aside buffer.
const SLB_ENTRIES: u64 = 32;
/// LPCR: segments come from a table, and a thread has but four entries of its own.
const LPCR_UPRT: u64 = 0x40_0000;
/// LPCR: the host translates by radix trees, which takes UPRT.
const LPCR_HR: u64 = 0x10_0000;
/// LPCR while the kernel reads and writes segments.
const LPCR_SEGMENTS: u64 = board::LPCR_HOST & !(LPCR_UPRT | LPCR_HR);

/// MSR bits that make FP, VEC and VSX available.
const MSR_VECTOR: u64 = 1 << 13 | 1 << 25 | 1 << 23;

/// Offset of a register (`vcpu_register`) in a VCPU.
pub(super) const fn vcpu_spr(index: usize) -> usize {
    offset_of!(Vcpu, spr) + 8 * (index - register::SRR0)
}

global_asm!(
    super::low::low_macros!(),
    r#"
    .section .low.guest, "ax", @progbits

// From a guest with PC and MSR in SRR0/1 (system reset, machine check) ...
    .globl guest_exit_srr
guest_exit_srr:
    ld 11, {CURRENT}(13)
    SAVE {SRR0}, {SRR1}
    ld 14, {VCPU}(11)
    b 1f
// ... or in HSRR0/1: SRR0/1 are the guest's own.
    .globl guest_exit_hsrr
guest_exit_hsrr:
    ld 11, {CURRENT}(13)
    SAVE {HSRR0}, {HSRR1}
    ld 14, {VCPU}(11)
    mfspr 15, {SRR0}
    mfspr 16, {SRR1}
    std 15, {V_SRR0}(14)
    std 16, {V_SRR1}(14)
1:  std 5, {MSR}(11)
// Leaves the partition. r3 = Core, r4 = vector, r5 = [H]SRR1, r14 = VCPU; r15, r16, r0 are scratch.
.macro LEAVE_PARTITION
    mfspr 15, {DEC}
    mfspr 16, {TB}
    extsw 15, 15
    add 15, 15, 16
    std 15, {V_DEC}(14)
    mfspr 15, {DAR}
    mfspr 16, {DSISR}
    std 15, {V_DAR}(14)
    std 16, {V_DSISR}(14)
    mfspr 15, {AMR}
    mfspr 16, {IAMR}
    std 15, {V_AMR}(14)
    std 16, {V_IAMR}(14)
    mfspr 15, {UAMOR}
    mfspr 16, {FSCR}
    std 15, {V_UAMOR}(14)
    std 16, {V_FSCR}(14)
    mfspr 15, {VRSAVE}
    mfspr 16, {SPRG3}
    std 15, {V_VRSAVE}(14)
    std 16, {V_SPRG3}(14)
    mfspr 15, {PPR}
    mfspr 16, {PIDR}
    std 15, {V_PPR}(14)
    std 16, {V_PIDR}(14)
    li 0, 0
    mtspr {AMR}, 0
    mtspr {IAMR}, 0
    mtspr {UAMOR}, 0
    mtspr {FSCR}, 0
    mtspr {SPRG3}, 0
    mtspr {DAR}, 0
    mtspr {DSISR}, 0
    ld 15, {LPCR_HOST}(13)
    // Stores of the guest are performed before its LPID goes: a racing tlbie would overlook them.
    ptesync
    mtspr {LPIDR}, 0
    mtspr {LPCR}, 15
    ld 15, {DEC_FAR}(13)
    mtspr {DEC}, 15
    isync
.endm
    LEAVE_PARTITION
    cmpdi 4, 0xe00
    beq fast_exit
    cmpdi 4, 0xe20
    beq fast_exit
    JUMP guest_left

// Hypercall, or system call with LEV=1 of the guest's user mode. r13 = Core, HSPRG1 = r13, scratch 0 =
// r12, scratch 2 = CR.
    .globl guest_system_call
guest_system_call:
    std 11, {S1}(13)
    ld 11, {CURRENT}(13)
    SAVE {SRR0}, {SRR1}
    std 5, {MSR}(11)
    ld 14, {VCPU}(11)
    // sc destroyed SRR0/1; what it left there is what the guest finds.
    ld 15, {PC}(11)
    std 15, {V_SRR0}(14)
    std 5, {V_SRR1}(14)
    li 4, 0xc00
    LEAVE_PARTITION
    b fast_exit
    .globl guest_exit_slow
guest_exit_slow:
    JUMP guest_left

// Enters the guest of the current thread. r11 = VCPU, r12 = TCB, r13 = Core. The VCPU is resident.
    .globl enter_guest
enter_guest:
    addi 9, 13, {S7}
    stdcx. 9, 0, 9                // a reservation of the last thread must not serve this one
    ld 3, {V_LPID}(11)
    ld 4, {V_LPCR}(11)
    ld 5, {LPCR_GUEST}(13)
    ld 6, {V_PIDR}(11)
    or 4, 4, 5
    ptesync
    mtspr {LPIDR}, 3
    mtspr {LPCR}, 4
    mtspr {PIDR}, 6
    isync
    .long 0x7c00068c              // cp_abort
    li 0, -1
    std 0, {ACTIVE_PID}(13)
    ld 3, {V_SRR0}(11)
    ld 4, {V_SRR1}(11)
    mtspr {SRR0}, 3
    mtspr {SRR1}, 4
    ld 3, {V_DAR}(11)
    ld 4, {V_DSISR}(11)
    mtspr {DAR}, 3
    mtspr {DSISR}, 4
    ld 3, {V_AMR}(11)
    ld 4, {V_IAMR}(11)
    mtspr {AMR}, 3
    mtspr {IAMR}, 4
    ld 3, {V_UAMOR}(11)
    ld 4, {V_FSCR}(11)
    mtspr {UAMOR}, 3
    mtspr {FSCR}, 4
    ld 3, {V_VRSAVE}(11)
    ld 4, {V_SPRG3}(11)
    mtspr {VRSAVE}, 3
    mtspr {SPRG3}, 4
    ld 3, {V_PPR}(11)
    mtspr {PPR}, 3
    ld 3, {PC}(12)
    ld 4, {MSR}(12)
    mtspr {HSRR0}, 3
    mtspr {HSRR1}, 4
// The decrementer has 32 bits: at most 2^31-1 ticks from now, at least -2^31.
    ld 3, {V_DEC}(11)
    mfspr 4, {TB}
    subf 3, 4, 3
    extsw 4, 3
    cmpd 3, 4
    bne- 3f
2:  mtspr {DEC}, 3
    ld 3, {CR}(12)
    ld 4, {LR}(12)
    ld 5, {CTR}(12)
    ld 6, {XER}(12)
    mtcr 3
    mtlr 4
    mtctr 5
    mtxer 6
    li 3, 0
    mtspr {CFAR}, 3               // the way here is the kernel's own business
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, {GPR} + 8*\n(12)
    .endr
    ld 12, {GPR} + 8*12(12)
    hrfid
// The nearest that the decrementer can hold.
3:  sradi 3, 3, 63
    xoris 3, 3, 0x7fff
    xori 3, 3, 0xffff
    b 2b

    .section .text.guest, "ax", @progbits
    .p2align 2
// Sets the upper 40 bits of the timebase to those of \new, whose others are those of the timebase when \old was read, and goes
// on at \done. The lower 24 bits may begin anew meanwhile.
.macro SET_TIMEBASE new, old, scratch, done
    mtspr {TBU40}, \new
    mfspr \scratch, {TB}
    clrldi \scratch, \scratch, 40
    clrldi \old, \old, 40
    cmpld \scratch, \old
    bge+ \done
    addis \new, \new, 0x100
    mtspr {TBU40}, \new
    b \done
.endm

// Out of a guest, with everything saved. r3 = Core, r4 = vector, r5 = [H]SRR1, r14 = VCPU. If it has ways of its
// own, it loses its breakpoint, its counters stop, the machine's timebase comes back, and the decrementer's deadline is in
// that.
guest_left:
    ld 15, {V_OWN_WAYS}(14)
    cmpdi 15, 0
    bne- 1f
    .globl exception_from_vcpu
exception_from_vcpu:
    bl {kernel_guest_exception}
    b return_to_current
1:  li 15, 0
    mtspr {CIABR}, 15
    ld 15, {V_HFSCR}(14)
    andi. 15, 15, {PM}
    beq 2f
    mfspr 15, {MMCR0}
    std 15, {V_MMCR0}(14)
    li 15, 1
    sldi 15, 15, {FREEZE}
    mtspr {MMCR0}, 15
2:  ld 15, {V_TB_OFFSET}(14)
    cmpdi 15, 0
    beq exception_from_vcpu
    ld 16, {V_DEC}(14)
    subf 16, 15, 16
    std 16, {V_DEC}(14)
    mfspr 16, {TB}
    subf 17, 15, 16
    SET_TIMEBASE 17, 16, 15, exception_from_vcpu

// The other way. r11 = VCPU, r12 = TCB, r13 = Core.
    .globl guest_own_way
guest_own_way:
    ld 3, {V_CIABR}(11)
    mtspr {CIABR}, 3
    ld 3, {V_HFSCR}(11)
    andi. 3, 3, {PM}
    beq 1f
    ld 3, {V_MMCR0}(11)
    mtspr {MMCR0}, 3
1:  ld 10, {V_TB_OFFSET}(11)
    cmpdi 10, 0
    beq guest_enters
    ld 3, {V_DEC}(11)
    add 3, 3, 10
    std 3, {V_DEC}(11)
    mfspr 4, {TB}
    add 5, 4, 10
    SET_TIMEBASE 5, 4, 3, guest_enters

// r3 = 64 VSRs (16 bytes each), FPSCR, VSCR. FP, VEC and VSX are available.
    .globl guest_vsx_save
guest_vsx_save:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    stxv \n, 16*\n(3)
    .endr
    .irp n, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    stxv \n, 16*\n(3)
    .endr
    mffs 0
    addi 5, 3, {FPSCR} - {VSR}
    stfd 0, 0(5)
    mfvscr 0
    addi 6, 3, {SCRATCH} - {VSR}
    stvx 0, 0, 6
    lwz 7, 0(6)
    std 7, {VSCR} - {VSR}(3)
    blr

    .globl guest_vsx_restore
guest_vsx_restore:
    ld 7, {VSCR} - {VSR}(3)
    addi 6, 3, {SCRATCH} - {VSR}
    li 8, 0
    std 8, 8(6)
    std 7, 0(6)
    lvx 0, 0, 6
    mtvscr 0
    lfd 0, {FPSCR} - {VSR}(3)
    mtfsf 0xff, 0, 1, 0
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    lxv \n, 16*\n(3)
    .endr
    .irp n, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    lxv \n, 16*\n(3)
    .endr
    blr
"#,
    CURRENT = const offset_of!(Core, current),
    HSPRG1 = const spr::HSPRG1,
    STACK = const offset_of!(Core, stack_top),
    TOC = const offset_of!(Core, toc),
    S0 = const offset_of!(Core, scratch),
    S1 = const offset_of!(Core, scratch) + 8,
    S2 = const offset_of!(Core, scratch) + 16,
    S7 = const offset_of!(Core, scratch) + 56,
    ACTIVE_PID = const offset_of!(Core, active_pid),
    LPCR_HOST = const offset_of!(Core, arch) + 8 * arch_word::LPCR_HOST,
    LPCR_GUEST = const offset_of!(Core, arch) + 8 * arch_word::LPCR_GUEST,
    DEC_FAR = const offset_of!(Core, arch) + 8 * arch_word::DEC_FAR,
    VCPU = const offset_of!(Tcb, vcpu),
    GPR = const offset_of!(Context, gpr),
    PC = const offset_of!(Context, pc),
    MSR = const offset_of!(Context, msr),
    CR = const offset_of!(Context, cr),
    LR = const offset_of!(Context, lr),
    CTR = const offset_of!(Context, ctr),
    XER = const offset_of!(Context, xer),
    V_LPID = const offset_of!(Vcpu, lpid),
    V_LPCR = const offset_of!(Vcpu, lpcr),
    V_SRR0 = const vcpu_spr(register::SRR0),
    V_SRR1 = const vcpu_spr(register::SRR1),
    V_SPRG3 = const vcpu_spr(register::SPRG3),
    V_DAR = const vcpu_spr(register::DAR),
    V_DSISR = const vcpu_spr(register::DSISR),
    V_DEC = const vcpu_spr(register::DEC_EXPIRES),
    V_AMR = const vcpu_spr(register::AMR),
    V_IAMR = const vcpu_spr(register::IAMR),
    V_UAMOR = const vcpu_spr(register::UAMOR),
    V_FSCR = const vcpu_spr(register::FSCR),
    V_VRSAVE = const vcpu_spr(register::VRSAVE),
    V_PPR = const vcpu_spr(register::PPR),
    V_PIDR = const vcpu_spr(register::PIDR),
    V_TB_OFFSET = const vcpu_spr(register::TB_OFFSET),
    V_CIABR = const vcpu_spr(register::CIABR),
    V_HFSCR = const vcpu_spr(register::HFSCR),
    V_MMCR0 = const vcpu_spr(register::MMCR0),
    V_OWN_WAYS = const offset_of!(Vcpu, own_ways),
    VSR = const offset_of!(Vcpu, vsr),
    FPSCR = const offset_of!(Vcpu, fpscr),
    VSCR = const offset_of!(Vcpu, vscr),
    SCRATCH = const offset_of!(Vcpu, vector_scratch),
    SRR0 = const spr::SRR0,
    SRR1 = const spr::SRR1,
    HSRR0 = const spr::HSRR0,
    HSRR1 = const spr::HSRR1,
    DEC = const spr::DEC,
    TB = const spr::TB,
    TBU40 = const spr::TBU40,
    CIABR = const spr::CIABR,
    MMCR0 = const spr::MMCR0,
    PM = const FACILITY_PM,
    FREEZE = const MMCR0_FREEZE.ilog2(),
    DAR = const spr::DAR,
    DSISR = const spr::DSISR,
    PIDR = const spr::PIDR,
    LPIDR = const spr::LPIDR,
    LPCR = const spr::LPCR,
    FSCR = const spr::FSCR,
    AMR = const AMR,
    IAMR = const IAMR,
    UAMOR = const UAMOR,
    VRSAVE = const VRSAVE,
    SPRG3 = const SPRG3,
    PPR = const PPR,
    CFAR = const CFAR,
    kernel_guest_exception = sym crate::entry::kernel_guest_exception,
);

unsafe extern "C" {
    fn guest_vsx_save(vsr: *const core::cell::Cell<u64>);
    fn guest_vsx_restore(vsr: *const core::cell::Cell<u64>);
}

/// Fills in what the entry and exit code finds in the core.
pub fn init_core(core: &Core) {
    percore::set(core, arch_word::LPCR_HOST, board::LPCR_HOST);
    percore::set(core, arch_word::LPCR_GUEST, LPCR_BASE);
    percore::set(core, arch_word::PPR_HOST, PPR_MEDIUM);
    percore::set(core, arch_word::DEC_FAR, spr::DECREMENTER_MAX);
    // What firmware left there is nobody's to see.
    percore::set(core, arch_word::SLB_USED, SLB_ENTRIES);
}

/// Runs `f` with FP, VEC and VSX available.
fn with_vectors(f: impl FnOnce()) {
    let msr: u64;
    // SAFETY: the kernel itself uses no floating point or vector register; the bits are put back.
    unsafe {
        asm!("mfmsr {}", out(reg) msr, options(nomem, nostack, preserves_flags));
        asm!("mtmsrd {}", "isync", in(reg) msr | MSR_VECTOR, options(nostack, preserves_flags));
    }
    f();
    // SAFETY: as above.
    unsafe { asm!("mtmsrd {}", "isync", in(reg) msr, options(nostack, preserves_flags)) };
}

/// Runs `f` with all entries of the segment look-aside buffer within reach. With LPCR[UPRT] = 1, as PDs have it, hardware
/// has only the first four (ISA 3.0B Book III, slbmte); QEMU has all.
fn with_segments(f: impl FnOnce()) {
    // SAFETY: the kernel runs untranslated and takes no interrupts here, so that nothing depends on how addresses are
    // translated; the value is put back.
    unsafe { spr::write::<{ spr::LPCR }>(LPCR_SEGMENTS) };
    spr::isync();
    f();
    // SAFETY: as above.
    unsafe { spr::write::<{ spr::LPCR }>(board::LPCR_HOST) };
    spr::isync();
}

/// Registers that stay in the core, and how they are saved and loaded.
macro_rules! resident_registers {
    ($save:ident, $load:ident: $($name:ident = $number:literal,)*) => {
        fn $save(v: &Vcpu) {
            $(spr_cell(v, register::$name).set(spr::read::<$number>());)*
        }

        /// # Safety
        /// The core is about to enter this guest.
        unsafe fn $load(v: &Vcpu) {
            // SAFETY: the caller's promise; none of them governs the kernel's own instructions or accesses.
            unsafe { $(spr::write::<$number>(spr_cell(v, register::$name).get());)* }
        }
    };
}

// MMCR0 is not among them: see `Vcpu::own_ways`.
resident_registers!(save_registers, load_registers:
    SPRG0 = 272, SPRG1 = 273, SPRG2 = 274, TAR = 815, DSCR = 17, PSPB = 159,
    VTB = 849, IC = 848, PURR = 309, SPURR = 308, WORT = 895,
    MMCR1 = 798, MMCR2 = 785, MMCRA = 786, SIAR = 796, SDAR = 797, SIER = 784,
    PMC1 = 787, PMC2 = 788, PMC3 = 789, PMC4 = 790, PMC5 = 791, PMC6 = 792,
    EBBHR = 804, EBBRR = 805, BESCR = 806,
);
resident_registers!(save_power9, load_power9: TIDR = 144,);
resident_registers!(save_power10, load_power10:
    MMCR3 = 754, SIER2 = 752, SIER3 = 753, DEXCR = 828, HASHKEYR = 468,
);

/// What a guest cannot reach on hardware, or cannot read back, but QEMU keeps for it: nothing is left of that for the next
/// one.
///
/// # Safety
/// As for the others.
unsafe fn clear_foreign() {
    // SAFETY: the caller's promise. On hardware these numbers are unused, or writing zeros changes nothing.
    unsafe {
        spr::write::<282>(0); // EAR
        spr::write::<768>(0); // USIER
        spr::write::<800>(0); // BESCRS
        spr::write::<801>(0); // BESCRSU
        spr::write::<802>(0); // BESCRR
        spr::write::<803>(0); // BESCRRU
        spr::write::<885>(0); // RWMR
        spr::write::<888>(0); // TACR
        spr::write::<889>(0); // TCSCR
        spr::write::<890>(0); // CSIGR
        spr::write::<892>(0); // SPMC1
        spr::write::<893>(0); // SPMC2
        spr::write::<894>(0); // MMCRS
        if board::POWER10 {
            spr::write::<736>(0); // USIER2
            spr::write::<737>(0); // USIER3
            spr::write::<738>(0); // UMMCR3
        }
        spr::write::<{ spr::PSSCR }>(0); // the host's; a guest's part of it is gone with its turn
    }
}

/// Whether the guest's counters run only inside.
fn has_monitor(v: &Vcpu) -> bool {
    spr_cell(v, register::HFSCR).get() & FACILITY_PM != 0
}

fn spr_cell(v: &Vcpu, index: usize) -> &core::cell::Cell<u64> {
    &v.spr[(index - register::SRR0) % v.spr.len()]
}

/// Saves what the core holds of a vCPU. It stays there, but nobody can look at it before [`load_resident`] has
/// replaced it.
fn save_resident(v: &Vcpu) {
    save_registers(v);
    match board::POWER10 {
        true => save_power10(v),
        false => save_power9(v),
    }
    if !has_monitor(v) {
        spr_cell(v, register::MMCR0).set(spr::read::<{ spr::MMCR0 }>());
    }
    let mut used = 0;
    with_segments(|| {
        for (i, [esid_cell, vsid_cell]) in v.slb.as_chunks().0.iter().enumerate() {
            let (esid, vsid): (u64, u64);
            // SAFETY: reads segment look-aside buffer entry i.
            unsafe {
                asm!("slbmfee {0}, {2}", "slbmfev {1}, {2}", out(reg) esid, out(reg) vsid,
                    in(reg) i as u64, options(nostack, preserves_flags));
            }
            esid_cell.set(esid);
            vsid_cell.set(vsid);
            if esid | vsid != 0 {
                used = i as u64 + 1;
            }
        }
    });
    v.slb_used.set(used);
    // SAFETY: the two functions read and write the VCPU's own arrays.
    with_vectors(|| unsafe { guest_vsx_save(v.vsr.as_ptr()) });
}

/// Loads a vCPU's state into the core. From `slb_used` on the core's segment look-aside buffer reads as zeros.
fn load_resident(v: &Vcpu, slb_used: u64) {
    // Counters that stand still can be changed; before its own way in they stand still.
    spr::freeze_pmu();
    // SAFETY: registers of the guest; the kernel and PDs don't use them, and PDs have the facilities closed by MSR and FSCR.
    unsafe {
        clear_foreign();
        load_registers(v);
        match board::POWER10 {
            true => load_power10(v),
            false => load_power9(v),
        }
        spr::write::<{ spr::HFSCR }>(spr_cell(v, register::HFSCR).get());
        if !has_monitor(v) {
            spr::write::<{ spr::MMCR0 }>(spr_cell(v, register::MMCR0).get());
        }
    }
    let used = v.slb_used.get().max(slb_used) as usize;
    with_segments(|| {
        // SAFETY: the host uses no segments. Entry 0 survives slbia: make it invalid first (ISA: never two valid entries
        // for one ESID).
        unsafe {
            asm!("slbmte {0}, {0}", ".long 0x7c0003e4 | 6<<21", "isync", in(reg) 0u64, options(nostack, preserves_flags));
        }
        for (i, [esid, vsid]) in v.slb.as_chunks().0.iter().enumerate().take(used) {
            // A PD may have written anything there; hardware refuses some of it with an interrupt. One that is not valid
            // is written, too: slbia takes only the valid bit, and QEMU lets slbmfee read the rest, which was another
            // guest's.
            let (esid, vsid) = segment(esid.get(), vsid.get()).unwrap_or_default();
            // SAFETY: an entry of the guest, or none; the host uses no segments.
            unsafe {
                asm!("slbmte {1}, {0}", in(reg) esid | i as u64, in(reg) vsid, options(nostack, preserves_flags));
            }
        }
    });
    // SAFETY: as in `save_resident`.
    with_vectors(|| unsafe { guest_vsx_restore(v.vsr.as_ptr()) });
}

/// Before a vCPU enters: what the core holds becomes its own.
pub fn switch_resident(core: &Core, at: Ref<Vcpu>, vcpu: &Vcpu) {
    let here = core.id.get() + 1;
    if vcpu.resident.get() == here {
        return;
    }
    if vcpu.resident.get() != 0 {
        use partita_kernel_core::machine::Machine;
        super::machine::Power.evict_vcpu(at);
    }
    let old = percore::get(core, arch_word::RESIDENT);
    if let Some(old) = Ref::<Vcpu>::new(old) {
        evict(core, old);
    }
    load_resident(vcpu, percore::get(core, arch_word::SLB_USED));
    vcpu.resident.set(here);
    percore::set(core, arch_word::RESIDENT, at.addr());
}

/// The resident vCPU's state goes to its object.
pub fn evict(core: &Core, at: Ref<Vcpu>) {
    use partita_kernel_core::machine::Machine;
    let v: &Vcpu = super::machine::Power.object(at.addr());
    if v.resident.get() != core.id.get() + 1 {
        return;
    }
    save_resident(v);
    v.resident.set(0);
    v.attention.set(1);
    percore::set(core, arch_word::RESIDENT, 0);
    percore::set(core, arch_word::SLB_USED, v.slb_used.get());
}
