// SPDX-License-Identifier: BSD-2-Clause
//! What the guests of the suite run. Position-independent, little-endian, in real mode; r9 = address of the words that
//! the root task sees.

use core::arch::global_asm;

/// Word numbers of the `spinner`.
pub mod spinner {
    /// Rounds.
    pub const ROUNDS: usize = 0;
    /// Rounds in which it was out of the guest.
    pub const OUT: usize = 1;
    /// External interrupts.
    pub const EXTERNAL: usize = 2;
    /// As many of them are answered: it waits for that, with interrupts off.
    pub const ANSWERED: usize = 3;
    /// System resets.
    pub const RESETS: usize = 4;
    /// Where the handlers of system reset, data storage and external interrupts are.
    pub const VECTORS: [u64; 3] = [0x100, 0x300, 0x500];
    /// Address that it loads from, 0: none.
    pub const LOAD: usize = 5;
    /// From here on: the round in which it was out for the n-th time, at n modulo [`OUTS`].
    pub const OUT_AT: usize = 0x80;
    /// See [`OUT_AT`].
    pub const OUTS: usize = 256;
    /// Data storage interrupts; the handler goes on behind the instruction.
    pub const MISSES: usize = 6;
}

/// Word numbers of `patterns`.
pub mod patterns {
    /// Rounds.
    pub const ROUNDS: usize = 0;
    /// Number of the first register that was not what it had been, plus one; then it stops.
    pub const LOST: usize = 1;
    /// All bits that were in any register at the start.
    pub const BLANK: usize = 2;
    /// 1 when that is known.
    pub const STARTED: usize = 3;
    /// Where the registers are that are checked, by number from 1: VSRs, general registers, special ones, SLB.
    pub const WHAT: [&str; 4] = ["VSR", "GPR", "SPR", "SLB"];
}

global_asm!(
    r#"
    .section .rodata.payload, "a", @progbits
    .p2align 3
    .globl payload_spinner
payload_spinner:
    lis 9, 2                      // DATA
    addi 10, 9, 0x300
    ldarx 5, 0, 10
1:  ld 6, 0(9)
    addi 6, 6, 1
    std 6, 0(9)
    ld 7, 40(9)
    cmpdi 7, 0
    beq 3f
    ld 8, 0(7)
3:  li 7, 200
    mtctr 7
2:  bdnz 2b
    stdcx. 5, 0, 10               // an exit ends the reservation
    ldarx 5, 0, 10
    beq 1b
    ld 6, 0(9)
    ld 7, 8(9)
    rldic 8, 7, 3, 53             // 8 * (OUT % 256)
    add 8, 8, 9
    std 6, 0x400(8)
    addi 7, 7, 1
    std 7, 8(9)
    b 1b
    .globl payload_spinner_end
payload_spinner_end:

// The handlers: registers r20 to r23 are theirs.
    .globl payload_reset
payload_reset:
    lis 20, 2
    ld 21, 32(20)
    addi 21, 21, 1
    std 21, 32(20)
    rfid
    .globl payload_miss
payload_miss:
    lis 20, 2
    ld 21, 48(20)
    addi 21, 21, 1
    std 21, 48(20)
    mfspr 21, 26
    addi 21, 21, 4
    mtspr 26, 21
    rfid
    .globl payload_external
payload_external:
    lis 20, 2
    ld 21, 16(20)
    addi 21, 21, 1
    std 21, 16(20)
4:  ld 22, 24(20)
    cmpd 22, 21
    bne 4b
    rfid
    .globl payload_handlers_end
payload_handlers_end:

    .macro ALL_VSR do
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \do \n
    .endr
    .irp n, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    \do \n
    .endr
    .endm
    .macro ALL_GPR do
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \do \n
    .endr
    .endm
    // SPRG0 to 3, TAR, DAR, SRR0, SRR1, CTR, LR
    .macro ALL_SPR do
    .irp n, 272,273,274,275,815,19,26,27,9,8
    \do \n
    .endr
    .endm
    // Some of the 32-bit ones: DSISR, VRSAVE
    .macro ALL_SHORT_SPR do
    .irp n, 18,256
    \do \n
    .endr
    .endm
    .macro ALL_SLB do
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \do \n
    .endr
    .endm

    .macro GATHER_VSR n
    mfvsrd 3, \n
    mfvsrld 4, \n
    or 8, 8, 3
    or 8, 8, 4
    .endm
    .macro GATHER_GPR n
    or 8, 8, \n
    .endm
    .macro GATHER_SPR n
    mfspr 3, \n
    or 8, 8, 3
    .endm
    .macro GATHER_SLB n
    li 5, \n
    slbmfee 3, 5
    slbmfev 4, 5
    or 8, 8, 3
    or 8, 8, 4
    .endm

    // r2 = what this round's values are made of.
    .macro FILL_VSR n
    addi 3, 2, \n
    mtvsrdd \n, 2, 3
    .endm
    .macro CHECK_VSR n
    addi 3, 2, \n
    mfvsrd 4, \n
    mfvsrld 5, \n
    xor 4, 4, 2
    xor 5, 5, 3
    or. 4, 4, 5
    bne lost_vsr
    .endm
    .macro FILL_GPR n
    addi \n, 2, 100 + \n
    .endm
    .macro CHECK_GPR n
    addi 3, 2, 100 + \n
    cmpd 3, \n
    bne lost_gpr
    .endm
    .macro FILL_SPR n
    addi 3, 2, 200 + \n
    sldi 3, 3, 2
    mtspr \n, 3
    .endm
    .macro CHECK_SPR n
    addi 3, 2, 200 + \n
    sldi 3, 3, 2
    mfspr 4, \n
    cmpd 3, 4
    bne lost_spr
    .endm
    .macro FILL_SHORT_SPR n
    addi 3, 2, 200 + \n
    clrldi 3, 3, 32
    mtspr \n, 3
    .endm
    .macro CHECK_SHORT_SPR n
    addi 3, 2, 200 + \n
    clrldi 3, 3, 32
    mfspr 4, \n
    cmpd 3, 4
    bne lost_spr
    .endm
    // r3 = ESID word with the number, r4 = VSID word: an ESID that no other entry has.
    .macro SLB_WORDS n
    clrldi 3, 2, 40
    sldi 3, 3, 12
    addi 4, 3, \n
    sldi 3, 4, 28
    clrldi 4, 4, 26
    sldi 4, 4, 12
    oris 3, 3, 0x800
    ori 4, 4, 0x400
    .endm
    .macro FILL_SLB n
    SLB_WORDS \n
    ori 3, 3, \n
    slbmte 4, 3
    .endm
    .macro CHECK_SLB n
    SLB_WORDS \n
    li 5, \n
    slbmfee 6, 5
    slbmfev 7, 5
    xor 6, 6, 3
    xor 7, 7, 4
    or. 6, 6, 7
    bne lost_slb
    .endm

// r1 = what distinguishes this guest's values from others'; all else is 0.
    .p2align 3
    .globl payload_patterns
payload_patterns:
    or 8, 8, 0
    .irp n, 2,3,4,5,6,7,9,10,11,12,13
    or 8, 8, \n
    .endr
    ALL_GPR GATHER_GPR
    mfmsr 3
    ori 3, 3, 0x2000
    oris 3, 3, 0x280
    mtmsrd 3                      // FP, VEC, VSX
    isync
    ALL_VSR GATHER_VSR
    ALL_SPR GATHER_SPR
    ALL_SHORT_SPR GATHER_SPR
    mffs 0
    mfvsrd 3, 0
    or 8, 8, 3
    ALL_SLB GATHER_SLB
    lis 9, 2
    li 3, 1
    std 8, 16(9)
    std 3, 24(9)
    mr 2, 1
1:  addi 2, 2, 0x101              // new values
    ALL_VSR FILL_VSR
    ALL_GPR FILL_GPR
    ALL_SPR FILL_SPR
    ALL_SHORT_SPR FILL_SHORT_SPR
    ALL_SLB FILL_SLB
    isync
    // Every other round a hypercall, in all of them a while.
    andi. 3, 2, 1
    beq 2f
    li 3, 0x58
    sc 1
2:  FILL_SPR 26                   // which a hypercall changes
    FILL_SPR 27
    lis 9, 2
3:  ld 4, 32(9)
    addi 4, 4, 1
    std 4, 32(9)
    andi. 4, 4, 0x1ff
    bne 3b
    ALL_SLB CHECK_SLB
    ALL_SPR CHECK_SPR
    ALL_SHORT_SPR CHECK_SHORT_SPR
    ALL_GPR CHECK_GPR
    ALL_VSR CHECK_VSR
    lis 9, 2
    ld 3, 0(9)
    addi 3, 3, 1
    std 3, 0(9)
    b 1b
lost_vsr:
    li 3, 1
    b 5f
lost_gpr:
    li 3, 2
    b 5f
lost_spr:
    li 3, 3
    b 5f
lost_slb:
    li 3, 4
5:  lis 9, 2
    std 3, 8(9)
    b .
    .globl payload_patterns_end
payload_patterns_end:
    .text
"#
);

unsafe extern "C" {
    static payload_spinner: u32;
    static payload_spinner_end: u32;
    static payload_reset: u32;
    static payload_miss: u32;
    static payload_external: u32;
    static payload_handlers_end: u32;
    static payload_patterns: u32;
    static payload_patterns_end: u32;
}

/// The instructions between two labels.
fn between(from: *const u32, to: *const u32) -> &'static [u32] {
    let count = (to as usize - from as usize) / 4;
    // SAFETY: the callers give labels of one section above, in order.
    unsafe { core::slice::from_raw_parts(from, count) }
}

/// Counts its rounds, and those in which it left the guest.
pub fn spinner() -> &'static [u32] {
    between(&raw const payload_spinner, &raw const payload_spinner_end)
}

/// Its interrupt handlers, in the order of [`spinner::VECTORS`].
pub fn handlers() -> [&'static [u32]; 3] {
    [
        between(&raw const payload_reset, &raw const payload_miss),
        between(&raw const payload_miss, &raw const payload_external),
        between(&raw const payload_external, &raw const payload_handlers_end),
    ]
}

/// Fills all registers with values of its own, waits, and checks them, again and again.
pub fn patterns() -> &'static [u32] {
    between(&raw const payload_patterns, &raw const payload_patterns_end)
}
