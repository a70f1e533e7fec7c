// SPDX-License-Identifier: BSD-2-Clause
//! Entry from firmware: to little-endian, zero .bss, take a stack, call `rust_main`.
//!
//! Firmware enters big-endian with r3 = device tree, r8 = OPAL base, r9 = OPAL entry (skiboot).

use super::spr;
use partita_kernel_core::object::Core;

unsafe extern "C" {
    /// First byte of the image (the ELF header).
    static image_base: u8;
    /// End of the kernel's memory.
    static __image_end: u8;
    /// Where firmware lets the other cores go.
    static secondary_entry: u8;
}

/// Real address at which the other cores start.
pub fn secondary_entry_address() -> u64 {
    &raw const secondary_entry as u64
}

/// First byte of the image.
pub fn kernel_start() -> u64 {
    &raw const image_base as u64
}

/// First byte after the kernel's memory.
pub fn kernel_end() -> u64 {
    &raw const __image_end as u64
}

core::arch::global_asm!(
    r#"
    .section .head, "ax", @progbits
    .globl _start
    .p2align 2
_start:
    // The first word is a no-op in little-endian and jumps over the second in big-endian. Then, byte
    // swapped: mfmsr r11; ori r11,r11,LE; bcl 20,31,$+4; mflr r10; addi r10,r10,20; mtspr HSRR0,r10;
    // mtspr HSRR1,r11; hrfid, which lands behind it.
    tdi 0, 0, 0x48
    b 1f
    .long 0xa600607d
    .long 0x01006b61
    .long 0x05009f42
    .long 0xa602487d
    .long 0x14004a39
    .long 0xa64b5a7d
    .long 0xa64b7b7d
    .long 0x2402004c
1:  lis 2, .TOC.@ha
    addi 2, 2, .TOC.@l
    lis 14, __bss_start@ha
    addi 14, 14, __bss_start@l
    lis 15, __bss_end@ha
    addi 15, 15, __bss_end@l
    subf 15, 14, 15
    srdi 15, 15, 7
    mtctr 15
2:  dcbz 0, 14
    addi 14, 14, 128
    bdnz 2b
    lis 1, {stack}@ha
    addi 1, 1, {stack}@l
    addi 1, 1, {stack_bytes} - 128
    li 0, 0
    std 0, 0(1)
    mr 4, 8
    mr 5, 9
    mr 6, 2
    bl {main}
    trap

// Every other core: firmware enters big-endian, too.
    .section .text.secondary, "ax", @progbits
    .p2align 2
secondary_entry:
    tdi 0, 0, 0x48
    b 1f
    .long 0xa600607d
    .long 0x01006b61
    .long 0x05009f42
    .long 0xa602487d
    .long 0x14004a39
    .long 0xa64b5a7d
    .long 0xa64b7b7d
    .long 0x2402004c
1:  lis 4, {starting}@ha
    addi 4, 4, {starting}@l
    ld 3, 0(4)
    cmpdi 3, 0
    beq .                         // too late: nobody waits for it any more
    isync
    ld 1, {STACK}(3)
    ld 2, {TOC}(3)
    bl {secondary}
    trap
"#,
    starting = sym crate::smp::STARTING,
    STACK = const core::mem::offset_of!(Core, stack_top),
    TOC = const core::mem::offset_of!(Core, toc),
    secondary = sym crate::smp::secondary_main,
    stack = sym BOOT_STACK,
    stack_bytes = const BOOT_STACK_BYTES,
    main = sym crate::boot::rust_main,
);

/// Bytes of the stack that the boot core starts on.
const BOOT_STACK_BYTES: usize = 16384;

#[repr(C, align(128))]
struct BootStack(core::cell::UnsafeCell<[u8; BOOT_STACK_BYTES]>);

// SAFETY: only the boot core uses it, as its stack.
unsafe impl Sync for BootStack {}

static BOOT_STACK: BootStack = BootStack(core::cell::UnsafeCell::new([0; BOOT_STACK_BYTES]));

/// Enables machine checks, marks the kernel recoverable and leaves everything else off.
pub fn set_kernel_msr() {
    // SAFETY: SF, HV and LE are as they were; EE, IR and DR stay off.
    unsafe {
        core::arch::asm!("mtmsrd {}, 0", "isync", in(reg) spr::MSR_KERNEL, options(nostack, preserves_flags));
    }
}

/// Leaves the boot stack for good and runs the thread that `core.current` names.
pub fn enter_current() -> ! {
    // SAFETY: HSPRG0 names this core's `Core`, whose stack the code takes; nothing on the boot stack
    // is needed any more.
    unsafe { core::arch::asm!("b return_to_current", options(noreturn)) }
}
