// SPDX-License-Identifier: BSD-2-Clause
//! Entry (SPEC P4.1): to little-endian, take a stack, call `guest_main`; the other vCPUs' entry.

use crate::low::{ENTRY, VCPUS};

/// Bytes of each stack.
pub(crate) const STACK_BYTES: usize = 0x1_0000;

/// A stack.
#[repr(C, align(128))]
pub(crate) struct Stack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: each is used by one vCPU, as its stack.
unsafe impl Sync for Stack {}

/// For each vCPU one for the program, one for traps.
pub(crate) static STACKS: [Stack; 2 * VCPUS] =
    [const { Stack(core::cell::UnsafeCell::new([0; STACK_BYTES])) }; 2 * VCPUS];

/// Bytes below the top of a stack at which it starts: the caller's frame of the first function.
pub(crate) const STACK_ROOM: usize = 128;

/// First stack pointer of stack `number`.
pub(crate) fn stack_top(number: usize) -> u64 {
    STACKS[number].0.get() as u64 + (STACK_BYTES - STACK_ROOM) as u64
}

core::arch::global_asm!(
    r#"
// In big-endian: mfmsr r11; ori r11,r11,LE; bcl 20,31,$+4; mflr r10; addi r10,r10,20; mtsrr0 r10;
// mtsrr1 r11; rfid, which lands behind it.
.macro TO_LITTLE_ENDIAN
    .long 0xa600607d
    .long 0x01006b61
    .long 0x05009f42
    .long 0xa602487d
    .long 0x14004a39
    .long 0xa6035a7d
    .long 0xa6037b7d
    .long 0x2400004c
.endm

    .section .text.start, "ax", @progbits
    .globl _start
    .p2align 2
_start:
    TO_LITTLE_ENDIAN
    .irp n, 0,1,2,3,4,5,6,7,8,9,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {ENTRY} + 8*\n(0)
    .endr
    li 4, 0
    std 4, {ENTRY} + 8*10(0)
    std 4, {ENTRY} + 8*11(0)
    mfcr 4
    std 4, {ENTRY} + 8*32(0)
    mfctr 4
    std 4, {ENTRY} + 8*33(0)
    mfxer 4
    std 4, {ENTRY} + 8*34(0)
    mfspr 4, 272
    std 4, {ENTRY} + 8*35(0)
    mfspr 4, 273
    std 4, {ENTRY} + 8*36(0)
    mfspr 4, 274
    std 4, {ENTRY} + 8*37(0)
    mfspr 4, 275
    std 4, {ENTRY} + 8*38(0)
    mfspr 4, 19
    std 4, {ENTRY} + 8*39(0)
    mfspr 4, 18
    std 4, {ENTRY} + 8*40(0)
    lis 2, .TOC.@ha
    addi 2, 2, .TOC.@l
    lis 1, {stacks}@ha
    addi 1, 1, {stacks}@l
    addis 1, 1, ({bytes} - {room})@ha
    addi 1, 1, ({bytes} - {room})@l
    li 0, 0
    std 0, 0(1)
    bl guest_main
    trap

// r3 = where stack pointer, function and argument are
    .globl guest_secondary
    .p2align 2
guest_secondary:
    TO_LITTLE_ENDIAN
    lis 2, .TOC.@ha
    addi 2, 2, .TOC.@l
    ld 1, 0(3)
    ld 12, 8(3)
    ld 3, 16(3)
    mtctr 12
    bctrl
    trap
"#,
    ENTRY = const ENTRY,
    stacks = sym STACKS,
    bytes = const STACK_BYTES,
    room = const STACK_ROOM,
);
