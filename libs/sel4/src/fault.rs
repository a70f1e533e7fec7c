// SPDX-License-Identifier: BSD-2-Clause
//! Fault messages.

use crate::{IpcBuffer, MessageInfo, Word};
use partita_abi::{FaultLabel, fault as words};

/// Declares one fault with an accessor for each word of its message (abi.toml, `fault`).
macro_rules! fault {
    ($(#[$attr:meta])* $name:ident, $module:ident {
        $($(#[$word_attr:meta])* $get:ident = $index:ident,)*
    }) => {
        $(#[$attr])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name([Word; words::$module::LENGTH]);

        impl $name {
            fn from_regs(regs: &[Word]) -> Self {
                let mut copy = [0; words::$module::LENGTH];
                copy.copy_from_slice(&regs[..words::$module::LENGTH]);
                $name(copy)
            }

            $(
                $(#[$word_attr])*
                pub const fn $get(&self) -> Word {
                    self.0[words::$module::$index]
                }
            )*
        }
    };
}

/// No fault: a Microkit PD sends this label to ask the monitor to make it passive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NullFault(());

/// A debug exception (no words; not raised by this kernel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugException(());

/// Label of an interrupt controller's maintenance (Arm; not raised by this kernel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VGicMaintenance(());

fault! {
    /// A capability that a system call named was not there or of the wrong kind.
    CapFault, cap_fault {
        /// Address of the system call.
        ip = IP,
        /// The capability pointer.
        addr = ADDRESS,
        /// 1 if the receive half failed.
        in_recv_phase = IN_RECV_PHASE,
        /// Why the look-up failed (`seL4_LookupFailureType`), 0 if it did not.
        lookup_failure_type = LOOKUP_FAILURE_TYPE,
        /// Bits that were left.
        bits_left = BITS_LEFT,
        /// Bits that the CNode at that place wanted.
        depth_bits_found = DEPTH_BITS_FOUND,
        /// Bits of its guard.
        guard_bits_found = GUARD_BITS_FOUND,
    }
}

fault! {
    /// A system call with a number that is none.
    UnknownSyscall, unknown_syscall {
        /// Address of the instruction.
        fault_ip = FAULT_IP,
        /// r1.
        sp = SP,
        /// Link register.
        lr = LR,
        /// Machine state.
        msr = MSR,
        /// r0.
        syscall = SYSCALL,
    }
}

impl UnknownSyscall {
    /// General register `i`, 3 to 10.
    pub const fn gpr(&self, i: usize) -> Word {
        assert!(i >= 3 && i <= 10, "only r3 to r10 are in the message");
        self.0[words::unknown_syscall::R3 + i - 3]
    }
}

fault! {
    /// An exception of an instruction: illegal, privileged, trap, alignment, facility unavailable.
    UserException, user_exception {
        /// Address of the instruction.
        fault_ip = FAULT_IP,
        /// r1.
        stack = SP,
        /// SRR1 as the interrupt left it.
        msr = MSR,
        /// Interrupt vector.
        number = NUMBER,
        /// Further status of the vector.
        code = CODE,
    }
}

fault! {
    /// The budget is used up.
    Timeout, timeout {
        /// Badge of the scheduling context.
        data = DATA,
        /// Microseconds consumed since the last report.
        consumed = CONSUMED_US,
    }
}

fault! {
    /// A translation failed.
    VmFault, vm_fault {
        /// Address of the instruction.
        ip = IP,
        /// The address that has no such translation.
        addr = ADDRESS,
        /// DSISR of a data access, SRR1 of a fetch.
        fsr = FSR,
    }
}

impl VmFault {
    /// Whether it was an instruction fetch.
    pub const fn is_prefetch(&self) -> bool {
        self.0[words::vm_fault::PREFETCH_FAULT] != 0
    }
}

/// An exit of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VCpuFault {
    kind: Word,
    words: [Word; 7],
}

impl VCpuFault {
    /// What the exit is.
    pub const fn kind(&self) -> Word {
        self.kind
    }

    /// Its words, as many as the kind has.
    pub const fn words(&self) -> &[Word; 7] {
        &self.words
    }
}

/// A fault, from the message that the kernel sent for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each variant only wraps the type that says what it is"
)]
pub enum Fault {
    NullFault(NullFault),
    CapFault(CapFault),
    UnknownSyscall(UnknownSyscall),
    UserException(UserException),
    DebugException(DebugException),
    Timeout(Timeout),
    VmFault(VmFault),
    VGicMaintenance(VGicMaintenance),
    VCpuFault(VCpuFault),
}

impl Fault {
    /// The fault whose message `info` and `buffer` hold.
    ///
    /// # Panics
    ///
    /// If the label is not a fault's ([`Self::try_new`] tells instead).
    pub fn new(buffer: &IpcBuffer, info: &MessageInfo) -> Self {
        match Self::try_new(info, buffer.msg_regs()) {
            Some(fault) => fault,
            None => panic!("label {} is not a fault's", info.label()),
        }
    }

    /// The fault with this label and these message registers (at least 16), `None` if the label is
    /// not a fault's.
    pub fn try_new(info: &MessageInfo, regs: &[Word]) -> Option<Self> {
        Some(match FaultLabel::from_number(info.label())? {
            FaultLabel::NullFault => Fault::NullFault(NullFault(())),
            FaultLabel::CapFault => Fault::CapFault(CapFault::from_regs(regs)),
            FaultLabel::UnknownSyscall => Fault::UnknownSyscall(UnknownSyscall::from_regs(regs)),
            FaultLabel::UserException => Fault::UserException(UserException::from_regs(regs)),
            FaultLabel::DebugException => Fault::DebugException(DebugException(())),
            FaultLabel::Timeout => Fault::Timeout(Timeout::from_regs(regs)),
            FaultLabel::VMFault => Fault::VmFault(VmFault::from_regs(regs)),
            FaultLabel::VGICMaintenance => Fault::VGicMaintenance(VGicMaintenance(())),
            FaultLabel::VCPUFault => {
                let mut words = [0; 7];
                words.copy_from_slice(&regs[1..8]);
                Fault::VCpuFault(VCpuFault {
                    kind: regs[0],
                    words,
                })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(label: FaultLabel) -> MessageInfo {
        MessageInfo::new(label as u64, 0, 0, 16)
    }

    #[test]
    fn words_have_their_accessors() {
        let regs: [u64; 16] = core::array::from_fn(|i| i as u64 + 100);
        let Some(Fault::VmFault(f)) = Fault::try_new(&message(FaultLabel::VMFault), &regs) else {
            panic!("not a VM fault")
        };
        assert_eq!(
            (f.ip(), f.addr(), f.is_prefetch(), f.fsr()),
            (100, 101, true, 103)
        );
        let Some(Fault::UnknownSyscall(f)) =
            Fault::try_new(&message(FaultLabel::UnknownSyscall), &regs)
        else {
            panic!("not an unknown system call")
        };
        assert_eq!(
            (f.gpr(3), f.gpr(10), f.fault_ip(), f.syscall()),
            (100, 107, 108, 112)
        );
        let Some(Fault::VCpuFault(f)) = Fault::try_new(&message(FaultLabel::VCPUFault), &regs)
        else {
            panic!("not an exit")
        };
        assert_eq!((f.kind(), f.words()[6]), (100, 107));
    }

    #[test]
    fn every_label_is_known_and_no_other() {
        for label in FaultLabel::ALL {
            assert!(
                Fault::try_new(&message(label), &[0; 16]).is_some(),
                "{label:?}"
            );
        }
        let info = MessageInfo::new(FaultLabel::COUNT as u64, 0, 0, 0);
        assert_eq!(Fault::try_new(&info, &[0; 16]), None);
    }
}
