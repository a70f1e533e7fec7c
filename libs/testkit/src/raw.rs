// SPDX-License-Identifier: BSD-2-Clause
//! Invocations as bare words, for tests of what no well-typed caller would send.

use core::mem::MaybeUninit;
use partita_abi::{ErrorCode, InvocationLabel, MessageInfo};
use sel4::arch;

/// The kernel's answer to an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Label: an error number, 0 for success.
    pub label: u64,
    /// Message registers in use.
    pub length: u64,
    /// The first eight of them.
    pub words: [u64; 8],
}

impl Answer {
    /// The label as an error; `None` for numbers that are none.
    pub fn error(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.label)
    }

    /// Whether it is this error.
    pub fn is(&self, error: ErrorCode) -> bool {
        self.label == error as u64
    }
}

/// Puts words beyond the eighth and capabilities into the program's IPC buffer.
fn lay_down(args: &[u64], caps: &[u64]) -> arch::MessageIn {
    let mut fast = arch::NO_WORDS;
    for (to, from) in fast.iter_mut().zip(args) {
        *to = MaybeUninit::new(*from);
    }
    if args.len() > fast.len() || !caps.is_empty() {
        sel4::with_ipc_buffer_mut(|buffer| {
            for (to, from) in buffer.msg_regs_mut().iter_mut().zip(args).skip(fast.len()) {
                *to = *from;
            }
            for (to, from) in buffer.caps_or_badges_mut().iter_mut().zip(caps) {
                *to = *from;
            }
        });
    }
    fast
}

/// Calls `cptr` with any label, words and capabilities (at most three).
pub fn call(cptr: u64, label: u64, args: &[u64], caps: &[u64]) -> Answer {
    let fast = lay_down(args, caps);
    let info = MessageInfo::new(label, 0, caps.len() as u64, args.len() as u64);
    let received = arch::call(cptr, info.0, fast);
    let info = MessageInfo(received.info);
    Answer {
        label: info.label(),
        length: info.length(),
        words: received.words,
    }
}

/// Sends to `cptr` without waiting for an answer.
pub fn send(cptr: u64, label: u64, args: &[u64], caps: &[u64]) {
    let fast = lay_down(args, caps);
    let info = MessageInfo::new(label, 0, caps.len() as u64, args.len() as u64);
    arch::send(partita_abi::syscall::SEND, cptr, info.0, fast);
}

/// Invokes `cptr`.
pub fn invoke(cptr: u64, label: InvocationLabel, args: &[u64], caps: &[u64]) -> Answer {
    call(cptr, label as u64, args, caps)
}

include!(concat!(env!("OUT_DIR"), "/needs.rs"));

/// How many words and capabilities an invocation needs at least (abi.toml).
pub fn needs(label: InvocationLabel) -> (usize, usize) {
    NEEDS[label as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_the_abis() {
        assert_eq!(needs(InvocationLabel::InvalidInvocation), (0, 0));
        assert_eq!(needs(InvocationLabel::UntypedRetype), (6, 1));
        // The registers are as many as the caller likes.
        assert_eq!(needs(InvocationLabel::TCBWriteRegisters), (2, 0));
        assert_eq!(needs(InvocationLabel::CNodeRotate), (8, 2));
        assert_eq!(needs(InvocationLabel::TimerCancel), (0, 0));
    }
}
