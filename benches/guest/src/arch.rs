// SPDX-License-Identifier: BSD-2-Clause
//! Machine code: entry, vectors, the instructions that are measured.

use core::arch::{asm, global_asm};

// A guest is entered big-endian, so the first instructions stand here with their bytes swapped:
//   mfmsr 11; ori 11,11,1; bcl 20,31,$+4; mflr 10; addi 10,10,20; mtsrr0 10; mtsrr1 11; rfid
global_asm!(
    ".section .head, \"ax\", @progbits",
    ".globl _start",
    "_start:",
    ".long 0xa600607d, 0x01006b61, 0x05009f42, 0xa602487d",
    ".long 0x14004a39, 0xa6035a7d, 0xa6037b7d, 0x2400004c",
    "bcl 20, 31, 1f",
    "1: mflr 2",
    "addis 1, 2, (__stack_top - 1b)@ha",
    "addi 1, 1, (__stack_top - 1b)@l",
    "addis 2, 2, (.TOC. - 1b)@ha",
    "addi 2, 2, (.TOC. - 1b)@l",
    // No decrementer interrupt before somebody wants one.
    "lis 0, 0x7fff",
    "mtdec 0",
    "li 0, 0",
    "mtsprg 0, 0",
    "stdu 0, -32(1)",
    "bl {start}",
    "nop",
    "trap",
    start = sym crate::start,
);

// Interrupts come here little-endian (H_SET_MODE). SPRG0 is not 0 while a row expects them: they
// may then use r10 and r11.
global_asm!(
    ".section .vectors, \"ax\", @progbits",
    ".macro unexpected vector",
    ".org \\vector",
    "li 3, \\vector",
    "b unexpected_interrupt",
    ".endm",
    "unexpected 0x100",
    "unexpected 0x200",
    // Data storage: the faulting instruction is skipped.
    ".org 0x300",
    "mfsprg 10, 0",
    "cmpdi 10, 0",
    "li 3, 0x300",
    "beq unexpected_interrupt",
    "mfsrr0 10",
    "addi 10, 10, 4",
    "mtsrr0 10",
    "rfid",
    "unexpected 0x380",
    "unexpected 0x400",
    "unexpected 0x480",
    "unexpected 0x500",
    "unexpected 0x600",
    "unexpected 0x700",
    "unexpected 0x800",
    // Decrementer: r10 = the time at which the first instruction ran.
    ".org 0x900",
    "mftb 10",
    "mfsprg 11, 0",
    "cmpdi 11, 0",
    "beq 1f",
    "lis 11, 0x7fff",
    "mtdec 11",
    "rfid",
    "1: li 3, 0x900",
    "b unexpected_interrupt",
    "unexpected 0xa00",
    "unexpected 0xc00",
    "unexpected 0xd00",
    "unexpected 0xf00",
    ".org 0x1000",
    "unexpected_interrupt:",
    "mfsrr0 4",
    "mfsrr1 5",
    "mfdar 6",
    "b {unexpected}",
    ".text",
    unexpected = sym unexpected,
);

extern "C" fn unexpected(vector: u64, srr0: u64, srr1: u64, dar: u64) -> ! {
    crate::console::fail(format_args!(
        "interrupt {vector:#x} at {srr0:#x}, SRR1 {srr1:#x}, DAR {dar:#x}"
    ))
}

/// Timebase, 512 ticks in 1000 instructions.
#[inline(always)]
pub fn timebase() -> u64 {
    let now;
    // SAFETY: reads a register.
    unsafe { asm!("mftb {}", out(reg) now, options(nomem, nostack, preserves_flags)) };
    now
}

/// A hypercall with up to eight arguments: the status, and r4 to r11.
#[inline(always)]
pub fn hcall<const N: usize>(number: u64, arguments: [u64; N]) -> (i64, [u64; 8]) {
    let mut words = [0; 8];
    words[..N].copy_from_slice(&arguments);
    let status;
    // SAFETY: the calls made here write no memory that Rust knows of, and PAPR says which registers
    // they may change.
    unsafe {
        asm!(
            "sc 1",
            inlateout("r3") number => status,
            inlateout("r4") words[0],
            inlateout("r5") words[1],
            inlateout("r6") words[2],
            inlateout("r7") words[3],
            inlateout("r8") words[4],
            inlateout("r9") words[5],
            inlateout("r10") words[6],
            inlateout("r11") words[7],
            lateout("r0") _,
            lateout("r12") _,
            lateout("ctr") _,
            lateout("xer") _,
            lateout("cr0") _,
            lateout("cr1") _,
            lateout("cr5") _,
            lateout("cr6") _,
            lateout("cr7") _,
            options(nostack),
        );
    }
    (status, words)
}

/// Cedes until the decrementer, which expires after `ticks`: the time from there to its handler's
/// first instruction, ticks.
pub fn cede(number: u64, ticks: u32) -> u64 {
    let (set, woken): (u64, u64);
    // SAFETY: the vector at 0x900 changes r10 and r11 and returns behind the call; interrupts are off
    // again before the block ends.
    unsafe {
        asm!(
            "mtsprg 0, {one}",
            "mtdec {ticks}",
            "mftb 14",
            "sc 1",
            "li 11, 0",
            "mtmsrd 11, 1",
            "mtsprg 0, 11",
            one = in(reg) 1u64,
            ticks = in(reg) u64::from(ticks),
            inlateout("r3") number => _,
            lateout("r10") woken,
            out("r14") set,
            out("r0") _,
            lateout("r4") _,
            lateout("r5") _,
            lateout("r6") _,
            lateout("r7") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r11") _,
            lateout("r12") _,
            lateout("ctr") _,
            lateout("xer") _,
            lateout("cr0") _,
            lateout("cr1") _,
            lateout("cr5") _,
            lateout("cr6") _,
            lateout("cr7") _,
            options(nostack),
        );
    }
    woken.wrapping_sub(set).wrapping_sub(u64::from(ticks))
}

/// Lets this guest use the floating point and vector registers.
pub fn use_vector_registers() {
    const FP_VEC_VSX: u64 = 1 << 13 | 1 << 25 | 1 << 23;
    // SAFETY: no code of this program has values in those registers.
    unsafe {
        asm!(
            "mfmsr {msr}",
            "or {msr}, {msr}, {bits}",
            "mtmsrd {msr}",
            "isync",
            msr = out(reg) _,
            bits = in(reg) FP_VEC_VSX,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Uses a register of each kind: fmr 0, 0; vor 0, 0, 0; xxlor 1, 1, 1.
#[inline(always)]
pub fn touch_vector_registers() {
    // SAFETY: as above; no value changes.
    unsafe {
        asm!(
            ".long 0xfc000090, 0x10000484, 0xf0210c90",
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Writes an entry of the SLB.
pub fn slb(index: u64, esid: u64, vsid_word: u64) {
    // SAFETY: translation is off for everything that Rust does.
    unsafe {
        asm!("slbmte {}, {}", in(reg) vsid_word, in(reg) esid | index, options(nomem, nostack));
    }
}

/// Makes every entry of the SLB invalid but the first.
pub fn slb_clear() {
    // SAFETY: translation is off.
    unsafe { asm!("slbia", options(nomem, nostack)) };
}

/// Writes a word with data translation on.
///
/// # Safety
///
/// The effective address is mapped to memory that nothing else uses.
pub unsafe fn store_translated(ea: u64, value: u64) {
    // SAFETY: as the caller says; translation is off again before the next access.
    unsafe {
        asm!(
            "mfmsr {old}",
            "ori {new}, {old}, 0x10",
            "mtmsrd {new}",
            "isync",
            "std {value}, 0({ea})",
            "mtmsrd {old}",
            "isync",
            old = out(reg) _,
            new = out(reg) _,
            value = in(reg) value,
            ea = in(reg) ea,
            options(nostack),
        );
    }
}

/// Loads `rounds` times from an address that no page is mapped at, with data translation on: the
/// guest's own handler skips each load. The time for all, ticks.
pub fn miss(ea: u64, rounds: u64) -> u64 {
    let (begin, end): (u64, u64);
    // SAFETY: the vector at 0x300 changes r3 and r10 and skips the load.
    unsafe {
        asm!(
            "mtsprg 0, {one}",
            "mfmsr {old}",
            "ori {new}, {old}, 0x10",
            "mtctr {rounds}",
            "mtmsrd {new}",
            "isync",
            "mftb {begin}",
            "2: ld {value}, 0({ea})",
            "bdnz 2b",
            "mftb {end}",
            "mtmsrd {old}",
            "isync",
            "li {old}, 0",
            "mtsprg 0, {old}",
            one = in(reg) 1u64,
            old = out(reg) _,
            new = out(reg) _,
            rounds = in(reg) rounds,
            begin = out(reg) begin,
            end = out(reg) end,
            value = out(reg) _,
            ea = in(reg) ea,
            out("r3") _,
            out("r10") _,
            out("r11") _,
            out("ctr") _,
            out("cr0") _,
            options(nostack),
        );
    }
    end - begin
}
