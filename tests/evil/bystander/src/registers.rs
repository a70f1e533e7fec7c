// SPDX-License-Identifier: BSD-2-Clause
//! Registers that must survive whatever happens to the thread in between.

use core::arch::asm;

/// Turns of the loop in between: some time slices of an attacker fall into each.
const TURNS: u64 = 20_000;

/// Fills registers with values that `seed` determines, waits, and compares. 0: all have kept their
/// values; else a mixture of the differences.
pub fn difference(seed: u64) -> u64 {
    let difference: u64;
    // SAFETY: changes only what it names; no memory.
    unsafe {
        asm!(
            "addi 14, {seed}, 14",
            "addi 15, {seed}, 15",
            "addi 16, {seed}, 16",
            "addi 17, {seed}, 17",
            "addi 18, {seed}, 18",
            "addi 19, {seed}, 19",
            "addi 20, {seed}, 20",
            "addi 21, {seed}, 21",
            "addi 22, {seed}, 22",
            "addi 23, {seed}, 23",
            "addi 24, {seed}, 24",
            "addi 25, {seed}, 25",
            "addi 26, {seed}, 26",
            "addi 27, {seed}, 27",
            "addi 28, {seed}, 28",
            "mtctr {seed}",
            "mtlr {seed}",
            "mtcrf 0x7f, {seed}",
            "mfcr 5",
            "2:",
            "addi 6, 6, -1",
            "cmpdi 6, 0",
            "bne 2b",
            // The condition register but for its first field, which the loop uses.
            "mfcr 7",
            "xor 4, 5, 7",
            "clrldi 4, 4, 36",
            "mfctr 7",
            "xor 7, 7, {seed}",
            "or 4, 4, 7",
            "mflr 7",
            "xor 7, 7, {seed}",
            "or 4, 4, 7",
            "addi 14, 14, -14", "xor 14, 14, {seed}", "or 4, 4, 14",
            "addi 15, 15, -15", "xor 15, 15, {seed}", "or 4, 4, 15",
            "addi 16, 16, -16", "xor 16, 16, {seed}", "or 4, 4, 16",
            "addi 17, 17, -17", "xor 17, 17, {seed}", "or 4, 4, 17",
            "addi 18, 18, -18", "xor 18, 18, {seed}", "or 4, 4, 18",
            "addi 19, 19, -19", "xor 19, 19, {seed}", "or 4, 4, 19",
            "addi 20, 20, -20", "xor 20, 20, {seed}", "or 4, 4, 20",
            "addi 21, 21, -21", "xor 21, 21, {seed}", "or 4, 4, 21",
            "addi 22, 22, -22", "xor 22, 22, {seed}", "or 4, 4, 22",
            "addi 23, 23, -23", "xor 23, 23, {seed}", "or 4, 4, 23",
            "addi 24, 24, -24", "xor 24, 24, {seed}", "or 4, 4, 24",
            "addi 25, 25, -25", "xor 25, 25, {seed}", "or 4, 4, 25",
            "addi 26, 26, -26", "xor 26, 26, {seed}", "or 4, 4, 26",
            "addi 27, 27, -27", "xor 27, 27, {seed}", "or 4, 4, 27",
            "addi 28, 28, -28", "xor 28, 28, {seed}", "or 4, 4, 28",
            seed = in(reg) seed,
            out("r4") difference,
            out("r5") _,
            inout("r6") TURNS => _,
            out("r7") _,
            out("r14") _, out("r15") _, out("r16") _, out("r17") _, out("r18") _,
            out("r19") _, out("r20") _, out("r21") _, out("r22") _, out("r23") _,
            out("r24") _, out("r25") _, out("r26") _, out("r27") _, out("r28") _,
            out("ctr") _, out("lr") _,
            out("cr0") _, out("cr1") _, out("cr2") _, out("cr3") _,
            out("cr4") _, out("cr5") _, out("cr6") _, out("cr7") _,
            options(nomem, nostack),
        );
    }
    difference
}
