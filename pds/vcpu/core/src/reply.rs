// SPDX-License-Identifier: BSD-2-Clause
//! Answers to exits (DESIGN.md section 4).

/// An interrupt to inject; the kernel does the SRR0/1, AIL and ILE work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Vector, as 0x100.
    pub vector: u64,
    /// Bits that SRR1 gets beside those of the MSR.
    pub srr1_bits: u64,
    /// DAR, for a data interrupt.
    pub dar: u64,
    /// DSISR, for a data interrupt.
    pub dsisr: u64,
}

impl Interrupt {
    /// System reset.
    pub const SYSTEM_RESET: Interrupt = Interrupt::new(0x100, 0);
    /// Program interrupt for an illegal instruction (SPEC 5.5).
    pub const ILLEGAL_INSTRUCTION: Interrupt = Interrupt::new(0x700, 0x8_0000);

    /// An interrupt without DAR and DSISR.
    pub const fn new(vector: u64, srr1_bits: u64) -> Self {
        Interrupt {
            vector,
            srr1_bits,
            dar: 0,
            dsisr: 0,
        }
    }
}

/// Result words of a hypercall, for r4 and up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words {
    count: u64,
    words: [u64; 3],
}

impl Words {
    /// No result.
    pub const NONE: Words = Words {
        count: 0,
        words: [0; 3],
    };

    /// r4.
    #[inline]
    pub const fn one(a: u64) -> Self {
        Words {
            count: 1,
            words: [a, 0, 0],
        }
    }

    /// r4 and r5.
    #[inline]
    pub const fn two(a: u64, b: u64) -> Self {
        Words {
            count: 2,
            words: [a, b, 0],
        }
    }

    /// r4 to r6.
    #[inline]
    pub const fn three(a: u64, b: u64, c: u64) -> Self {
        Words {
            count: 3,
            words: [a, b, c],
        }
    }

    /// The words in use.
    #[inline]
    pub fn as_slice(&self) -> &[u64] {
        self.words.get(..self.count as usize).unwrap_or(&[])
    }
}

/// What becomes of the vCPU after an exit. Everything but `Resume` is also H_SUCCESS with no result
/// words when it answers a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyAction {
    /// Back into the guest. An exit that is no hypercall ignores both fields.
    Resume {
        /// Hypercall status, for r3.
        status: i64,
        /// Results.
        words: Words,
    },
    /// Back into the guest with an interrupt.
    Inject(Interrupt),
    /// Back into the guest behind the others of its priority.
    Yield,
    /// Sleep with EE set until an event or the decrementer.
    Idle,
    /// Sleep until resumed.
    Stop,
}

impl ReplyAction {
    /// Back into the guest with H_SUCCESS and no result, or after an exit that is no hypercall.
    pub const RESUME: ReplyAction = ReplyAction::Resume {
        status: 0,
        words: Words::NONE,
    };

    /// A status without results.
    #[inline]
    pub const fn status(status: i64) -> Self {
        ReplyAction::Resume {
            status,
            words: Words::NONE,
        }
    }

    /// H_SUCCESS with results.
    #[inline]
    pub const fn words(words: Words) -> Self {
        ReplyAction::Resume { status: 0, words }
    }
}
