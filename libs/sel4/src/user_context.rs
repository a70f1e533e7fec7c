// SPDX-License-Identifier: BSD-2-Clause
//! Registers of a thread.

use crate::Word;
use partita_abi::user_context as regs;

/// Registers of a thread, in the order of `TCBReadRegisters`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct UserContext([Word; regs::COUNT]);

impl Default for UserContext {
    fn default() -> Self {
        UserContext([0; regs::COUNT])
    }
}

/// A getter and a `_mut` getter of one register.
macro_rules! register {
    ($get:ident, $get_mut:ident, $index:expr, $doc:expr) => {
        #[doc = $doc]
        pub fn $get(&self) -> &Word {
            &self.0[$index]
        }

        #[doc = $doc]
        pub fn $get_mut(&mut self) -> &mut Word {
            &mut self.0[$index]
        }
    };
}

impl UserContext {
    /// How many registers there are.
    pub const NUM_REGISTERS: usize = regs::COUNT;

    register!(pc, pc_mut, regs::PC, "Instruction pointer.");
    register!(sp, sp_mut, regs::R1, "Stack pointer (r1).");
    register!(
        msr,
        msr_mut,
        regs::MSR,
        "Machine state; the kernel filters what is written."
    );
    register!(cr, cr_mut, regs::CR, "Condition register.");
    register!(lr, lr_mut, regs::LR, "Link register.");
    register!(ctr, ctr_mut, regs::CTR, "Count register.");
    register!(xer, xer_mut, regs::XER, "Fixed-point exception register.");

    /// General register `i`, 0 to 31.
    pub fn gpr(&self, i: usize) -> &Word {
        &self.0[Self::gpr_index(i)]
    }

    /// General register `i`, 0 to 31.
    pub fn gpr_mut(&mut self, i: usize) -> &mut Word {
        &mut self.0[Self::gpr_index(i)]
    }

    /// Parameter `i` of a C function, 0 to 7: r3 and up.
    pub fn c_param(&self, i: usize) -> &Word {
        assert!(i < 8, "C parameter {i} is not in a register");
        self.gpr(3 + i)
    }

    /// Parameter `i` of a C function, 0 to 7: r3 and up.
    pub fn c_param_mut(&mut self, i: usize) -> &mut Word {
        assert!(i < 8, "C parameter {i} is not in a register");
        self.gpr_mut(3 + i)
    }

    /// All registers, in the kernel's order.
    pub const fn inner(&self) -> &[Word; regs::COUNT] {
        &self.0
    }

    /// All registers, in the kernel's order.
    pub const fn inner_mut(&mut self) -> &mut [Word; regs::COUNT] {
        &mut self.0
    }

    fn gpr_index(i: usize) -> usize {
        match i {
            0 => regs::R0,
            1 => regs::R1,
            2..=31 => regs::R2 + i - 2,
            _ => panic!("no general register {i}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_registers_are_where_the_abi_says() {
        for i in 0..32 {
            assert_eq!(regs::NAMES[UserContext::gpr_index(i)], format!("r{i}"));
        }
        let mut context = UserContext::default();
        *context.c_param_mut(0) = 5;
        *context.sp_mut() = 6;
        assert_eq!(context.inner()[regs::R3], 5);
        assert_eq!(*context.gpr(1), 6);
    }
}
