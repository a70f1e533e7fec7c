// SPDX-License-Identifier: BSD-2-Clause
//! All registers before and after a piece of code: what a hypercall or an exit changes.

use crate::low::{AFTER, BEFORE, KEPT};
use crate::machine::{mfmsr, msr, mtmsrd, sync_instructions};
use core::mem::offset_of;

/// Special-purpose registers that are loaded and saved, in this order.
pub const SPRS: [(u16, &str); 14] = [
    (272, "SPRG0"),
    (273, "SPRG1"),
    (274, "SPRG2"),
    (275, "SPRG3"),
    (815, "TAR"),
    (17, "DSCR"),
    (256, "VRSAVE"),
    (29, "AMR"),
    (61, "IAMR"),
    (157, "UAMOR"),
    (159, "PSPB"),
    (19, "DAR"),
    (18, "DSISR"),
    (153, "FSCR"),
];

/// The registers.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// r0 to r31.
    pub gpr: [u64; 32],
    /// CR.
    pub cr: u64,
    /// LR.
    pub lr: u64,
    /// CTR.
    pub ctr: u64,
    /// XER.
    pub xer: u64,
    /// Those of [`SPRS`].
    pub spr: [u64; 14],
    /// FPSCR.
    pub fpscr: u64,
    /// VSCR, its last word.
    pub vscr: u64,
    /// vs0 to vs63; the halves in the order of `stxvd2x`.
    pub vsr: [[u64; 2]; 64],
}

impl Registers {
    /// All zeros.
    pub const ZERO: Registers = Registers {
        gpr: [0; 32],
        cr: 0,
        lr: 0,
        ctr: 0,
        xer: 0,
        spr: [0; 14],
        fpscr: 0,
        vscr: 0,
        vsr: [[0; 2]; 64],
    };
}

/// Instructions that [`run`] can execute.
pub const CODE_WORDS: usize = 32;

unsafe extern "C" {
    fn guest_registers_run();
    static mut guest_registers_code: [u32; CODE_WORDS];
}

core::arch::global_asm!(
    r#"
    .section .text.guest_registers, "awx", @progbits
    .globl guest_registers_run
    .globl guest_registers_code
    .p2align 7
guest_registers_run:
    mflr 0
    std 0, 16(1)
    stdu 1, -192(1)
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, 32 + 8*(\n - 14)(1)
    .endr
    mfcr 0
    std 0, 8(1)
    std 1, {KEPT}(0)
    std 2, {KEPT} + 8(0)
    mfmsr 3
    std 3, {KEPT} + 16(0)
    mfspr 4, 275
    std 4, {KEPT} + 24(0)
    lis 4, 0x0280
    ori 4, 4, 0x2000
    or 3, 3, 4
    mtmsrd 3                      // FP, VEC, VSX
    isync
    lfd 0, {BEFORE} + {FPSCR}(0)
    mtfsf 0xff, 0, 1, 0
    ld 3, {BEFORE} + {VSCR}(0)
    li 4, 0
    std 3, {KEPT} + 32(0)
    std 4, {KEPT} + 40(0)
    li 3, {KEPT} + 32
    lvx 0, 0, 3
    mtvscr 0
    li 3, {BEFORE} + {VSR}
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    lxvd2x \n, 0, 3
    addi 3, 3, 16
    .endr
.macro LOAD_SPR number, index
    ld 3, {BEFORE} + {SPR} + 8*\index(0)
    mtspr \number, 3
.endm
    LOAD_SPR 272, 0
    LOAD_SPR 273, 1
    LOAD_SPR 274, 2
    LOAD_SPR 275, 3
    LOAD_SPR 815, 4
    LOAD_SPR 17, 5
    LOAD_SPR 256, 6
    LOAD_SPR 157, 9               // UAMOR before those that it masks
    LOAD_SPR 29, 7
    LOAD_SPR 61, 8
    LOAD_SPR 159, 10
    LOAD_SPR 19, 11
    LOAD_SPR 18, 12
    LOAD_SPR 153, 13
    ld 3, {BEFORE} + {CR}(0)
    mtcr 3
    ld 3, {BEFORE} + {LR}(0)
    mtlr 3
    ld 3, {BEFORE} + {CTR}(0)
    mtctr 3
    ld 3, {BEFORE} + {XER}(0)
    mtxer 3
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, {BEFORE} + 8*\n(0)
    .endr
guest_registers_code:
    .rept {WORDS}
    nop
    .endr
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {AFTER} + 8*\n(0)
    .endr
    mfcr 3
    std 3, {AFTER} + {CR}(0)
    mflr 3
    std 3, {AFTER} + {LR}(0)
    mfctr 3
    std 3, {AFTER} + {CTR}(0)
    mfxer 3
    std 3, {AFTER} + {XER}(0)
.macro SAVE_SPR number, index
    mfspr 3, \number
    std 3, {AFTER} + {SPR} + 8*\index(0)
.endm
    SAVE_SPR 272, 0
    SAVE_SPR 273, 1
    SAVE_SPR 274, 2
    SAVE_SPR 275, 3
    SAVE_SPR 815, 4
    SAVE_SPR 17, 5
    SAVE_SPR 256, 6
    SAVE_SPR 29, 7
    SAVE_SPR 61, 8
    SAVE_SPR 157, 9
    SAVE_SPR 159, 10
    SAVE_SPR 19, 11
    SAVE_SPR 18, 12
    SAVE_SPR 153, 13
    // Facilities, keys and the trap area as before.
    li 3, 0
    mtspr 29, 3
    mtspr 61, 3
    ld 3, {KEPT} + 24(0)
    mtspr 275, 3
    li 3, {AFTER} + {VSR}
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    stxvd2x \n, 0, 3
    addi 3, 3, 16
    .endr
    mffs 0
    stfd 0, {AFTER} + {FPSCR}(0)
    mfvscr 0
    li 3, {KEPT} + 32
    stvx 0, 0, 3
    ld 3, {KEPT} + 32(0)
    std 3, {AFTER} + {VSCR}(0)
    ld 1, {KEPT}(0)
    ld 2, {KEPT} + 8(0)
    ld 3, {KEPT} + 16(0)
    mtmsrd 3
    isync
    ld 0, 8(1)
    mtcr 0
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, 32 + 8*(\n - 14)(1)
    .endr
    addi 1, 1, 192
    ld 0, 16(1)
    mtlr 0
    blr
"#,
    WORDS = const CODE_WORDS,
    BEFORE = const BEFORE,
    AFTER = const AFTER,
    KEPT = const KEPT,
    CR = const offset_of!(Registers, cr),
    LR = const offset_of!(Registers, lr),
    CTR = const offset_of!(Registers, ctr),
    XER = const offset_of!(Registers, xer),
    SPR = const offset_of!(Registers, spr),
    FPSCR = const offset_of!(Registers, fpscr),
    VSCR = const offset_of!(Registers, vscr),
    VSR = const offset_of!(Registers, vsr),
);

const _: () =
    assert!(size_of::<Registers>() <= AFTER - BEFORE && AFTER + size_of::<Registers>() <= KEPT);

/// nop
const NOP: u32 = 0x6000_0000;

/// Loads `before`, executes `code` and answers what it left. SPRG3 is not the trap area meanwhile,
/// unless `before` says so: then the code may trap.
pub fn run(before: &Registers, code: &[u32]) -> Registers {
    assert!(code.len() <= CODE_WORDS);
    let place = (&raw mut guest_registers_code).cast::<u32>();
    let words = code
        .iter()
        .copied()
        .chain(core::iter::repeat(NOP))
        .take(CODE_WORDS);
    for (i, word) in words.enumerate() {
        // SAFETY: inside the room for the code, which only this function uses.
        unsafe { place.add(i).write_volatile(word) };
    }
    sync_instructions(place as u64, 4 * CODE_WORDS as u64);
    let (from, to): (*mut Registers, *mut Registers) = (
        core::ptr::with_exposed_provenance_mut(BEFORE),
        core::ptr::with_exposed_provenance_mut(AFTER),
    );
    // SAFETY: the two areas are this function's (table in lib.rs). The routine keeps to the ABI
    // whatever the code does to registers.
    unsafe {
        from.write_volatile(*before);
        guest_registers_run();
        to.read_volatile()
    }
}

/// Where [`run`] puts its code.
pub fn code_address() -> u64 {
    &raw const guest_registers_code as u64
}

/// vs0 to vs63 as they are now.
pub fn vectors() -> [u64; 128] {
    let mut all = [0u64; 128];
    let before = mfmsr();
    // SAFETY: MSR gets FP, VEC and VSX and loses them again; the stores are within `all`.
    unsafe {
        mtmsrd(before | msr::FP | msr::VEC | msr::VSX);
        core::arch::asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
            "stxvd2x \\n, 0, {0}", "addi {0}, {0}, 16",
            ".endr",
            inout(reg_nonzero) all.as_mut_ptr() => _, options(nostack),
        );
        mtmsrd(before);
    }
    all
}
