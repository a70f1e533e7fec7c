// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's binary interface. Everything that kernel, facade, image tool and tests must agree
//! on stands here or in `kernel-config/abi.toml`, from which the constants below are generated.
//!
//! Register assignment of a system call (`sc`), docs/KERNEL.md:
//!
//! | register | in | out |
//! |---|---|---|
//! | r0 | system call number (negative) | 0 |
//! | r3 | capability pointer | badge |
//! | r4..r11 | message registers 0..7 | message registers 0..7 |
//! | r12 | [`MessageInfo`] | [`MessageInfo`] |
//! | r14 | reply capability (Recv, NBRecv, ReplyRecv, NBSendRecv) | unchanged |
//! | r15 | destination of the send half (NBSendRecv, NBSendWait) | unchanged |
//!
//! LR, CTR, XER and CR0, CR1, CR5..CR7 are clobbered, as by any ELFv2 call; all else is kept.
#![no_std]

pub mod bootinfo;
mod message;
mod rights;

pub use message::{IpcBufferLayout, MessageInfo, badge};
pub use rights::CapRights;

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sels() {
        assert_eq!(ErrorCode::NotEnoughMemory as u64, 10);
        assert_eq!(FaultLabel::VMFault as u64, 6);
        assert_eq!(FaultLabel::VCPUFault as u64, 8);
        assert_eq!(syscall::CALL, -1);
        assert_eq!(syscall::NB_SEND_RECV, -3);
        assert_eq!(syscall::DEBUG_PUT_CHAR, syscall::LAST - 1);
        assert_eq!(InvocationLabel::UntypedRetype as u64, 1);
        assert_eq!(ErrorCode::from_number(11), None);
        assert_eq!(user_context::R31, user_context::COUNT - 1);
    }
}
