// SPDX-License-Identifier: BSD-2-Clause
//! Assembler macros of the low block, for each `global_asm!` that uses them: the compiler emits those
//! blocks in no particular order, so none may count on what another defines.

/// Text that defines `SAVE` and `JUMP`, once. Operands: HSPRG1, S0 to S2, GPR, CR, LR, CTR, XER, PC,
/// MSR, STACK, TOC.
macro_rules! low_macros {
    () => {
        r#"
.ifndef low_macros
.set low_macros, 1
// Saves everything into the context at r11. In: r13 = Core, scratch 0 = r12, scratch 1 = r11,
// scratch 2 = CR, HSPRG1 = r13. Out: r3 = Core, r4 = r12 as it comes in, r5 = [H]SRR1; stack and TOC
// are the kernel's.
.macro SAVE srr0, srr1
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {GPR} + 8*\n(11)
    .endr
    ld 0, {S1}(13)
    std 0, {GPR} + 8*11(11)
    ld 0, {S0}(13)
    std 0, {GPR} + 8*12(11)
    mfspr 0, {HSPRG1}
    std 0, {GPR} + 8*13(11)
    ld 0, {S2}(13)
    std 0, {CR}(11)
    mflr 0
    std 0, {LR}(11)
    mfctr 0
    std 0, {CTR}(11)
    mfxer 0
    std 0, {XER}(11)
    mfspr 0, \srr0
    std 0, {PC}(11)
    mfspr 5, \srr1
    std 5, {MSR}(11)
    mr 3, 13
    mr 4, 12
    ld 1, {STACK}(13)
    ld 2, {TOC}(13)
.endm

// The same for a system call; r14 to r31 are saved later, if at all.
.macro SAVE_CALL
    .irp n, 0,1,2,3,4,5,6,7,8,9,10
    std \n, {GPR} + 8*\n(11)
    .endr
    ld 3, {S1}(13)
    ld 4, {S0}(13)
    mfspr 5, {HSPRG1}
    ld 6, {S2}(13)
    mfspr 7, {SRR0}
    std 3, {GPR} + 8*11(11)
    std 4, {GPR} + 8*12(11)
    std 5, {GPR} + 8*13(11)
    std 6, {CR}(11)
    std 7, {PC}(11)
    mflr 3
    mfctr 4
    mfxer 5
    std 3, {LR}(11)
    std 4, {CTR}(11)
    std 5, {XER}(11)
    mr 3, 13
    ld 1, {STACK}(13)
    ld 2, {TOC}(13)
.endm

// Jumps from the low block into the kernel's text.
.macro JUMP target
    lis 12, \target@high
    ori 12, 12, \target@l
    mtctr 12
    bctr
.endm
.endif
"#
    };
}
pub(super) use low_macros;

/// Text that defines what the fast paths share, once. Operands: CURRENT, GPR, TCB_EPOCH, CORE_EPOCH, FAST_SLOTS,
/// FAST_CNODE.
macro_rules! fast_macros {
    () => {
        r#"
.ifndef fast_macros
.set fast_macros, 1
// r23..r31 become scratch, r31 = the running thread. CTR is lost.
.macro TAKE_SCRATCH
    mtctr 31
    ld 31, {CURRENT}(13)
    std 23, {GPR} + 8*23(31)
    std 24, {GPR} + 8*24(31)
    std 25, {GPR} + 8*25(31)
    std 26, {GPR} + 8*26(31)
    std 27, {GPR} + 8*27(31)
    std 28, {GPR} + 8*28(31)
    std 29, {GPR} + 8*29(31)
    std 30, {GPR} + 8*30(31)
    mfctr 30
    std 30, {GPR} + 8*31(31)
.endm

// The thread's decoded CNode is current; r30 = its address, r29 = its number of slots.
.macro CHECK_CSPACE
    ld 24, {TCB_EPOCH}(31)
    ld 25, {CORE_EPOCH}(13)
    cmpd 24, 25
    ld 29, {FAST_SLOTS}(31)
    ld 30, {FAST_CNODE}(31)
    bne- fast_refused
.endm

// \slot = address of the slot that capability pointer \cptr names.
.macro LOOK_UP slot, cptr, otherwise=fast_refused
    cmpld \cptr, 29
    sldi \slot, \cptr, 5
    add \slot, \slot, 30
    bge- \otherwise
.endm
.endif
"#
    };
}
pub(super) use fast_macros;
