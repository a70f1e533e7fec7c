// SPDX-License-Identifier: BSD-2-Clause
//! Machine code: interrupt handlers that do nothing else, and the instructions that are measured.

use core::arch::asm;
use guest_support::trap::{vector, with_vector};

/// Data storage: the faulting instruction is skipped. mfsrr0 10; addi 10, 10, 4; mtsrr0 10; rfid
const SKIP: [u32; 4] = [0x7d5a_02a6, 0x394a_0004, 0x7d5a_03a6, 0x4c00_0024];
/// Decrementer: r10 = the time at which the first instruction ran. mftb 10; lis 11, 0x7fff; mtdec 11; rfid
const TAKE_TIME: [u32; 4] = [0x7d4c_42a6, 0x3d60_7fff, 0x7d76_03a6, 0x4c00_0024];

/// Cedes until the decrementer, which expires after `ticks`: the time from there to its handler's
/// first instruction, ticks.
pub fn cede(number: u64, ticks: u32) -> u64 {
    with_vector(vector::DECREMENTER, &TAKE_TIME, || cede_at(number, ticks))
}

fn cede_at(number: u64, ticks: u32) -> u64 {
    let (set, woken): (u64, u64);
    // SAFETY: the vector at 0x900 changes r10 and r11 and returns behind the call; interrupts are off
    // again before the block ends.
    unsafe {
        asm!(
            "mtdec {ticks}",
            "mftb 14",
            "sc 1",
            "li 11, 0",
            "mtmsrd 11, 1",
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
    with_vector(vector::DATA_STORAGE, &SKIP, || miss_at(ea, rounds))
}

fn miss_at(ea: u64, rounds: u64) -> u64 {
    let (begin, end): (u64, u64);
    // SAFETY: the vector at 0x300 changes r10 and skips the load.
    unsafe {
        asm!(
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
            old = out(reg) _,
            new = out(reg) _,
            rounds = in(reg) rounds,
            begin = out(reg) begin,
            end = out(reg) end,
            value = out(reg) _,
            ea = in(reg) ea,
            out("r10") _,
            out("ctr") _,
            out("cr0") _,
            options(nostack),
        );
    }
    end - begin
}
