// SPDX-License-Identifier: BSD-2-Clause
//! Hypercalls (SPEC 2.1).

/// r3 and r4 to r11 after a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// r3.
    pub status: i64,
    /// r4 to r11.
    pub words: [u64; 8],
}

/// Arguments: up to eight words, the others 0.
pub trait Words {
    /// r4 to r11.
    fn words(self) -> [u64; 8];
}

impl<const N: usize> Words for [u64; N] {
    #[inline(always)]
    fn words(self) -> [u64; 8] {
        const { assert!(N <= 8, "a hypercall has at most eight arguments here") };
        core::array::from_fn(|i| self.get(i).copied().unwrap_or(0))
    }
}

/// Makes hypercall `number`.
#[cfg(target_arch = "powerpc64")]
#[inline(always)]
pub fn hypercall(number: u64, args: impl Words) -> Answer {
    let [a, b, c, d, e, f, g, h] = args.words();
    let status: i64;
    let mut words = [0; 8];
    // SAFETY: `sc 1` changes the registers named here (SPEC H2.2). What a call does to memory is what
    // its caller asks for: all memory of the guest is the program's own.
    unsafe {
        core::arch::asm!(
            "sc 1",
            inlateout("r3") number => status,
            inlateout("r4") a => words[0],
            inlateout("r5") b => words[1],
            inlateout("r6") c => words[2],
            inlateout("r7") d => words[3],
            inlateout("r8") e => words[4],
            inlateout("r9") f => words[5],
            inlateout("r10") g => words[6],
            inlateout("r11") h => words[7],
            out("r0") _, out("r12") _, out("lr") _, out("ctr") _, out("xer") _,
            out("cr0") _, out("cr1") _, out("cr5") _, out("cr6") _, out("cr7") _,
            options(nostack),
        );
    }
    Answer { status, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_arguments_are_zero() {
        assert_eq!([].words(), [0; 8]);
        assert_eq!([1, 2].words(), [1, 2, 0, 0, 0, 0, 0, 0]);
    }
}
