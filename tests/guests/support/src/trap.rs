// SPDX-License-Identifier: BSD-2-Clause
//! Interrupts of the guest.
//!
//! Every vector saves all general registers in the vCPU's [`TrapArea`]. Then, if the program expects
//! a trap ([`crate::machine::execute`]), it goes on at the place that it named; else the decrementer,
//! external interrupts and system resets are counted, and anything else ends the program as failed.

use crate::low::{TRAP, TRAP_STRIDE, TrapArea, VCPUS, VECTORS_AIL, trap_area};
use crate::machine::{mtspr, spr};
use crate::start::stack_top;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use partita_papr::hcall::number::{H_EOI, H_XIRR};

/// Interrupt vectors.
pub mod vector {
    /// System reset.
    pub const SYSTEM_RESET: u64 = 0x100;
    /// Data storage.
    pub const DATA_STORAGE: u64 = 0x300;
    /// Data segment.
    pub const DATA_SEGMENT: u64 = 0x380;
    /// Instruction storage.
    pub const INSTRUCTION_STORAGE: u64 = 0x400;
    /// Instruction segment.
    pub const INSTRUCTION_SEGMENT: u64 = 0x480;
    /// External.
    pub const EXTERNAL: u64 = 0x500;
    /// Alignment.
    pub const ALIGNMENT: u64 = 0x600;
    /// Program.
    pub const PROGRAM: u64 = 0x700;
    /// Decrementer.
    pub const DECREMENTER: u64 = 0x900;
    /// System call.
    pub const SYSTEM_CALL: u64 = 0xc00;
    /// Facility unavailable.
    pub const FACILITY: u64 = 0xf60;
}

/// SRR1 of a program interrupt: illegal instruction.
pub const ILLEGAL: u64 = 0x8_0000;
/// SRR1 of a program interrupt: privileged instruction.
pub const PRIVILEGED: u64 = 0x4_0000;

/// Decrementer interrupts, external interrupts and system resets so far, of all vCPUs.
pub static DECREMENTERS: AtomicU64 = AtomicU64::new(0);
/// External interrupts that were accepted and ended.
pub static EXTERNALS: AtomicU64 = AtomicU64::new(0);
/// Source of the last external interrupt.
pub static LAST_SOURCE: AtomicU64 = AtomicU64::new(0);
/// What is called first when an external interrupt comes; null: nothing.
static ON_EXTERNAL: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// System resets.
pub static RESETS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static guest_vectors: u8;
    static guest_vectors_end: u8;
}

core::arch::global_asm!(
    r#"
    .section .text.vectors, "ax", @progbits
    .p2align 8
    .globl guest_vectors
guest_vectors:
.macro VECTOR number
    .org guest_vectors + \number
    mtspr {SPRG2}, 9
    mfspr 9, {SPRG3}
    std 10, {GPR} + 8*10(9)
    li 10, \number
    b 9f
.endm
    .irp n, 0x100,0x200,0x300,0x380,0x400,0x480,0x500,0x600,0x700,0x800,0x900,0x980,0xa00,0xb00,0xc00,0xd00,0xe00,0xe20,0xe40,0xe60,0xe80,0xf00,0xf20,0xf40,0xf60,0xf80,0x1300,0x1500,0x1700
    VECTOR \n
    .endr
    .org guest_vectors + 0x1800
9:  std 10, {VECTOR}(9)
    .irp n, 0,1,2,3,4,5,6,7,8,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {GPR} + 8*\n(9)
    .endr
    mfspr 10, {SPRG2}
    std 10, {GPR} + 8*9(9)
    mfspr 10, {SRR0}
    mfspr 11, {SRR1}
    std 10, {T_SRR0}(9)
    std 11, {T_SRR1}(9)
    std 10, {NEXT}(9)
    std 11, {NEXT_MSR}(9)
    mfspr 10, {DAR}
    mfspr 11, {DSISR}
    std 10, {T_DAR}(9)
    std 11, {T_DSISR}(9)
    mfmsr 10
    std 10, {T_MSR}(9)
    mfcr 10
    mflr 11
    std 10, {CR}(9)
    std 11, {LR}(9)
    mfctr 10
    mfxer 11
    std 10, {CTR}(9)
    std 11, {XER}(9)
    ld 11, {FIXUP}(9)
    cmpdi 11, 0
    beq 1f
    std 11, {NEXT}(9)
    ld 11, {FIXUP_MSR}(9)
    std 11, {NEXT_MSR}(9)
    li 11, 0
    std 11, {FIXUP}(9)
    b 2f
1:  ld 1, {STACK}(9)
    ld 2, {TOC}(9)
    mr 31, 9
    mr 3, 9
    lis 12, {handler}@ha
    addi 12, 12, {handler}@l
    mtctr 12
    bctrl
    mr 9, 31
2:  ld 10, {CR}(9)
    ld 11, {LR}(9)
    mtcr 10
    mtlr 11
    ld 10, {CTR}(9)
    ld 11, {XER}(9)
    mtctr 10
    mtxer 11
    ld 10, {NEXT}(9)
    ld 11, {NEXT_MSR}(9)
    mtspr {SRR0}, 10
    mtspr {SRR1}, 11
    .irp n, 0,1,2,3,4,5,6,7,8,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, {GPR} + 8*\n(9)
    .endr
    ld 9, {GPR} + 8*9(9)
    rfid
    .globl guest_vectors_end
guest_vectors_end:

// For the system reset vector: what ran before is given up.
    .globl guest_restart
guest_restart:
    mfspr 3, {SPRG3}
    ld 1, {RESTART_STACK}(3)
    ld 2, {TOC}(3)
    ld 12, {RESTART}(3)
    mtctr 12
    bctr
    .globl guest_restart_end
guest_restart_end:
"#,
    SPRG2 = const spr::SPRG2,
    SPRG3 = const spr::SPRG3,
    SRR0 = const spr::SRR0,
    SRR1 = const spr::SRR1,
    DAR = const spr::DAR,
    DSISR = const spr::DSISR,
    GPR = const offset_of!(TrapArea, gpr),
    T_SRR0 = const offset_of!(TrapArea, srr0),
    T_SRR1 = const offset_of!(TrapArea, srr1),
    T_DAR = const offset_of!(TrapArea, dar),
    T_DSISR = const offset_of!(TrapArea, dsisr),
    T_MSR = const offset_of!(TrapArea, msr),
    CR = const offset_of!(TrapArea, cr),
    LR = const offset_of!(TrapArea, lr),
    CTR = const offset_of!(TrapArea, ctr),
    XER = const offset_of!(TrapArea, xer),
    VECTOR = const offset_of!(TrapArea, vector),
    FIXUP = const offset_of!(TrapArea, fixup),
    FIXUP_MSR = const offset_of!(TrapArea, fixup_msr),
    NEXT = const offset_of!(TrapArea, next),
    NEXT_MSR = const offset_of!(TrapArea, next_msr),
    STACK = const offset_of!(TrapArea, stack),
    TOC = const offset_of!(TrapArea, toc),
    RESTART = const offset_of!(TrapArea, restart),
    RESTART_STACK = const offset_of!(TrapArea, restart_stack),
    handler = sym handle,
);

/// Puts the vectors where interrupts arrive, and prepares the trap areas.
pub(crate) fn install() {
    let start = &raw const guest_vectors;
    let bytes = &raw const guest_vectors_end as usize - start as usize - 0x100;
    let toc: u64;
    // SAFETY: reads r2.
    unsafe { core::arch::asm!("mr {}, 2", out(reg) toc, options(nomem, nostack, preserves_flags)) };
    for base in [0, VECTORS_AIL] {
        let to: *mut u8 = core::ptr::with_exposed_provenance_mut(base + 0x100);
        // SAFETY: memory below TRAP, and from VECTORS_AIL on, is the vectors' (table in lib.rs); the
        // symbols bound the source.
        unsafe { core::ptr::copy_nonoverlapping(start.add(0x100), to, bytes) };
        crate::machine::sync_instructions(base as u64 + 0x100, bytes as u64);
    }
    for vcpu in 0..VCPUS {
        let stack = stack_top(VCPUS + vcpu);
        // SAFETY: the area is in memory of the guest that nothing else uses; no trap runs yet.
        unsafe {
            core::ptr::write_bytes(trap_area(vcpu), 0, 1);
            (*trap_area(vcpu)).stack = stack;
            (*trap_area(vcpu)).toc = toc;
        }
    }
    const { assert!(0x1c00 < TRAP && VECTORS_AIL >= TRAP + VCPUS * TRAP_STRIDE) };
}

/// From now on a system reset of any vCPU gives up what it does and has it call `function` with its trap area,
/// on the stack that it began with. So one may come at any time: in a trap too, whose SRR0 and SRR1 it takes.
pub fn restart_on_reset(function: extern "C" fn(&TrapArea) -> !) {
    unsafe extern "C" {
        static guest_restart: u8;
        static guest_restart_end: u8;
    }
    for vcpu in 0..VCPUS {
        // SAFETY: the area is plain memory; these two are read by the code below only.
        unsafe {
            (*trap_area(vcpu)).restart = function as *const () as u64;
            (*trap_area(vcpu)).restart_stack = stack_top(vcpu);
        }
    }
    let start = &raw const guest_restart;
    let bytes = &raw const guest_restart_end as usize - start as usize;
    let at = vector::SYSTEM_RESET;
    // SAFETY: the vector has 256 bytes; the symbols bound the source.
    unsafe {
        let to = core::ptr::with_exposed_provenance_mut(at as usize);
        core::ptr::copy_nonoverlapping(start, to, bytes);
    }
    crate::machine::sync_instructions(at, bytes as u64);
}

/// Runs `f` with other instructions in a vector: at most 32, wherever they are run, that save nothing.
pub fn with_vector<R>(vector: u64, code: &[u32], f: impl FnOnce() -> R) -> R {
    const WORDS: usize = 32;
    assert!(code.len() <= WORDS);
    let at = core::ptr::with_exposed_provenance_mut::<[u32; WORDS]>(vector as usize);
    // SAFETY: a vector has 128 bytes, in which nothing else is.
    let before = unsafe { at.read_volatile() };
    let mut now = before;
    now[..code.len()].copy_from_slice(code);
    let put = |words| {
        // SAFETY: as above.
        unsafe { at.write_volatile(words) };
        crate::machine::sync_instructions(vector, 4 * WORDS as u64);
    };
    put(now);
    let result = f();
    put(before);
    result
}

/// From now on an external interrupt calls `function` with the number of the vCPU, before it is accepted.
pub fn on_external(function: fn(usize)) {
    ON_EXTERNAL.store(function as *mut (), Ordering::SeqCst);
}

/// Number of the vCPU whose trap area this is.
pub fn vcpu_of(area: &TrapArea) -> usize {
    (core::ptr::from_ref(area).addr() - TRAP) / TRAP_STRIDE
}

/// Gives the vCPU that calls its trap area.
pub fn use_area(vcpu: usize) {
    mtspr::<{ spr::SPRG3 }>(trap_area(vcpu) as u64);
}

/// A trap that no program expects.
extern "C" fn handle(area: &mut TrapArea) {
    match area.vector {
        vector::DECREMENTER => {
            mtspr::<{ spr::DEC }>(i32::MAX as u64);
            DECREMENTERS.fetch_add(1, Ordering::SeqCst);
        }
        vector::EXTERNAL => {
            let hook = ON_EXTERNAL.load(Ordering::SeqCst);
            if !hook.is_null() {
                // SAFETY: `on_external` has put a function of this type there.
                let hook = unsafe { core::mem::transmute::<*mut (), fn(usize)>(hook) };
                hook(vcpu_of(area));
            }
            let xirr = crate::hypercall::hypercall(H_XIRR, []).words[0];
            LAST_SOURCE.store(xirr & 0xff_ffff, Ordering::SeqCst);
            if xirr & 0xff_ffff == 2 {
                let me = vcpu_of(area) as u64;
                crate::hypercall::hypercall(partita_papr::hcall::number::H_IPI, [me, 0xff]);
            }
            crate::hypercall::hypercall(H_EOI, [xirr]);
            EXTERNALS.fetch_add(1, Ordering::SeqCst);
        }
        vector::SYSTEM_RESET => {
            RESETS.fetch_add(1, Ordering::SeqCst);
        }
        vector::PROGRAM if area.srr1 & ILLEGAL != 0 => crate::runner::abort(format_args!(
            "trap 0x700 at {:#x}, SRR1 {:#x}, LR {:#x}: illegal instruction in {:x?}",
            area.srr0,
            area.srr1,
            area.lr,
            [0, 8, 16, 24].map(|i| crate::memory::read((area.srr0 & !7).wrapping_add(i)))
        )),
        _ => crate::runner::abort(format_args!(
            "trap {:#x} at {:#x}, SRR1 {:#x}, DAR {:#x}, DSISR {:#x}, LR {:#x}",
            area.vector, area.srr0, area.srr1, area.dar, area.dsisr, area.lr
        )),
    }
}
