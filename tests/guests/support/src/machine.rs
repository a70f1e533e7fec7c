// SPDX-License-Identifier: BSD-2-Clause
//! Single instructions, and code that may trap.

use crate::low::{TrapArea, trap_area};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Special-purpose registers (ISA 3.0B).
pub mod spr {
    /// Data storage interrupt status.
    pub const DSISR: u16 = 18;
    /// Data address.
    pub const DAR: u16 = 19;
    /// Decrementer.
    pub const DEC: u16 = 22;
    /// Where an interrupt came from.
    pub const SRR0: u16 = 26;
    /// MSR of the interrupted code.
    pub const SRR1: u16 = 27;
    /// Authority mask.
    pub const AMR: u16 = 29;
    /// For software.
    pub const SPRG0: u16 = 272;
    /// For software.
    pub const SPRG1: u16 = 273;
    /// The vectors' own.
    pub const SPRG2: u16 = 274;
    /// The vCPU's trap area.
    pub const SPRG3: u16 = 275;
    /// Timebase.
    pub const TB: u16 = 268;
    /// Processor version.
    pub const PVR: u16 = 287;
}

/// MSR bits.
pub mod msr {
    /// 64-bit mode.
    pub const SF: u64 = 1 << 63;
    /// Hypervisor.
    pub const HV: u64 = 1 << 60;
    /// Vector facility.
    pub const VEC: u64 = 1 << 25;
    /// VSX.
    pub const VSX: u64 = 1 << 23;
    /// External interrupts.
    pub const EE: u64 = 1 << 15;
    /// User mode.
    pub const PR: u64 = 1 << 14;
    /// Floating point.
    pub const FP: u64 = 1 << 13;
    /// Machine checks.
    pub const ME: u64 = 1 << 12;
    /// Instruction translation.
    pub const IR: u64 = 1 << 5;
    /// Data translation.
    pub const DR: u64 = 1 << 4;
    /// Recoverable.
    pub const RI: u64 = 1 << 1;
    /// Little-endian.
    pub const LE: u64 = 1;
}

/// Reads a special-purpose register.
#[inline(always)]
pub fn mfspr<const SPR: u16>() -> u64 {
    let value;
    // SAFETY: reading the registers of `spr` has no effect.
    unsafe {
        asm!("mfspr {}, {}", out(reg) value, const SPR, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes a special-purpose register of [`spr`].
#[inline(always)]
pub fn mtspr<const SPR: u16>(value: u64) {
    // SAFETY: the program owns its registers; none of `spr` changes what memory is accessible.
    unsafe { asm!("mtspr {}, {}", const SPR, in(reg) value, options(nostack, preserves_flags)) }
}

/// The timebase, ticks.
#[inline(always)]
pub fn timebase() -> u64 {
    mfspr::<{ spr::TB }>()
}

/// MSR.
#[inline(always)]
pub fn mfmsr() -> u64 {
    let value;
    // SAFETY: no effect.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets MSR; LE and HV cannot be changed so (ISA).
///
/// # Safety
///
/// What runs on is where the new translation says that it is.
#[inline(always)]
pub unsafe fn mtmsrd(value: u64) {
    // SAFETY: as the caller says.
    unsafe { asm!("mtmsrd {}", "isync", in(reg) value, options(nostack, preserves_flags)) }
}

/// Runs `f` with external interrupts and the decrementer enabled.
pub fn with_interrupts<R>(f: impl FnOnce() -> R) -> R {
    let before = mfmsr();
    // SAFETY: translation does not change; the vectors are there.
    unsafe { mtmsrd(before | msr::EE | msr::RI) };
    let result = f();
    // SAFETY: as before.
    unsafe { mtmsrd(before) };
    result
}

/// Cedes until the decrementer expires, in `ticks`, or something else wakes the vCPU. Interrupts are
/// off before and after.
pub fn sleep(ticks: u32) {
    mtspr::<{ spr::DEC }>(ticks.into());
    let before = mfmsr();
    crate::hypercall::hypercall(partita_papr::hcall::number::H_CEDE, []);
    // H_CEDE has set EE: the decrementer interrupt was taken. SAFETY: translation does not change.
    unsafe { mtmsrd(before & !msr::EE) };
}

/// Makes `bytes` of instructions at `start` that were just written visible to instruction fetch.
pub fn sync_instructions(start: u64, bytes: u64) {
    for line in (start & !127..start + bytes).step_by(128) {
        // SAFETY: cache maintenance of the program's own memory.
        unsafe {
            asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", in(reg) line, options(nostack, preserves_flags))
        }
    }
    // SAFETY: a barrier.
    unsafe { asm!("sync", "isync", options(nostack, preserves_flags)) };
}

/// Code words that [`execute`] can run, but one for `blr`.
pub const CODE_WORDS: usize = 63;

#[repr(C, align(512))]
struct Code(UnsafeCell<[u32; CODE_WORDS + 1]>);

// SAFETY: only vCPU 0 runs `execute`.
unsafe impl Sync for Code {}

static CODE: Code = Code(UnsafeCell::new([0; CODE_WORDS + 1]));

/// blr
const BLR: u32 = 0x4e80_0020;

/// What [`execute`] left.
#[derive(Clone, Copy, Debug)]
pub struct Executed {
    /// r3 to r6.
    pub gpr: [u64; 4],
    /// The trap that ended it.
    pub trap: Option<Trap>,
}

/// A trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Vector, as 0x300.
    pub vector: u64,
    /// SRR0.
    pub srr0: u64,
    /// SRR1.
    pub srr1: u64,
    /// DAR.
    pub dar: u64,
    /// DSISR.
    pub dsisr: u64,
    /// MSR when the trap was taken.
    pub msr: u64,
}

unsafe extern "C" {
    fn guest_execute(code: u64, gpr: *mut u64, area: *mut TrapArea);
}

core::arch::global_asm!(
    r#"
    .section .text.guest_execute, "ax", @progbits
    .globl guest_execute
    .p2align 2
// r3 = code, r4 = r3..r6 for it, r5 = trap area
guest_execute:
    mflr 0
    std 0, 16(1)
    stdu 1, -64(1)
    std 29, 40(1)
    std 30, 48(1)
    std 31, 56(1)
    mfmsr 29
    mr 30, 5
    mr 31, 4
    mtctr 3
    bcl 20, 31, 0f
0:  mflr 6
    addi 6, 6, 1f - 0b
    li 7, 0
    std 7, {VECTOR}(5)
    std 29, {FIXUP_MSR}(5)
    std 6, {FIXUP}(5)
    ld 3, 0(4)
    ld 5, 16(4)
    ld 6, 24(4)
    ld 4, 8(4)
    bctrl
1:  mtmsrd 29
    isync
    std 3, 0(31)
    std 4, 8(31)
    std 5, 16(31)
    std 6, 24(31)
    li 7, 0
    std 7, {FIXUP}(30)
    ld 29, 40(1)
    ld 30, 48(1)
    ld 31, 56(1)
    addi 1, 1, 64
    ld 0, 16(1)
    mtlr 0
    blr
"#,
    VECTOR = const offset_of!(TrapArea, vector),
    FIXUP = const offset_of!(TrapArea, fixup),
    FIXUP_MSR = const offset_of!(TrapArea, fixup_msr),
);

/// Runs instructions with r3 to r6 as given; they may use r3 to r8, CR0 and traps. A trap ends them.
/// On vCPU 0 only.
pub fn execute(code: &[u32], gpr: [u64; 4]) -> Executed {
    let first = CODE.0.get().cast::<u32>();
    assert!(code.len() <= CODE_WORDS);
    for (i, word) in code.iter().chain([&BLR]).enumerate() {
        // SAFETY: in `CODE`, which nobody else uses while this runs.
        unsafe { first.add(i).write_volatile(*word) };
    }
    sync_instructions(first as u64, 4 * (code.len() as u64 + 1));
    execute_at(first as u64, gpr)
}

/// mtsrr0 r3; mtsrr1 r4; rfid
const TO_USER: [u32; 3] = [0x7c7a_03a6, 0x7c9b_03a6, 0x4c00_0024];

/// Runs instructions in user mode, with translation on, until they trap; r3 to r6 are as given. The
/// program's memory is mapped ([`crate::mmu::map_identity`]).
pub fn execute_user(code: &[u32], gpr: [u64; 4]) -> Executed {
    // They lie behind those that go to user mode and load r3 and r4: ld r3,0(r5); ld r4,8(r5).
    const LOAD: [u32; 4] = [0xe865_0000, 0xe885_0008, 0xe8c5_0018, 0xe8a5_0010];
    let mut all = [0; CODE_WORDS];
    let head = TO_USER.len() + LOAD.len();
    assert!(head + code.len() <= CODE_WORDS);
    all[..3].copy_from_slice(&TO_USER);
    all[3..head].copy_from_slice(&LOAD);
    all[head..head + code.len()].copy_from_slice(code);
    let entry = code_address() + 4 * TO_USER.len() as u64;
    let state = mfmsr() | msr::PR | msr::IR | msr::DR | msr::EE;
    execute(&all, [entry, state, &raw const gpr as u64, 0])
}

/// Where [`execute`] puts its code.
pub fn code_address() -> u64 {
    CODE.0.get() as u64
}

/// Runs the code at address `code`, which ends with `blr`, as [`execute`] does.
pub fn execute_at(code: u64, mut gpr: [u64; 4]) -> Executed {
    let area = trap_area(0);
    // SAFETY: the routine keeps to the ABI whatever the code does with r3 to r8, since a trap comes
    // back to it; what the code does to memory is the caller's choice.
    unsafe { guest_execute(code, gpr.as_mut_ptr(), area) };
    // SAFETY: the area is plain memory.
    let area = unsafe { area.read_volatile() };
    Executed {
        gpr,
        trap: (area.vector != 0).then_some(Trap {
            vector: area.vector,
            srr0: area.srr0,
            srr1: area.srr1,
            dar: area.dar,
            dsisr: area.dsisr,
            msr: area.msr,
        }),
    }
}
