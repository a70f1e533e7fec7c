// SPDX-License-Identifier: BSD-2-Clause
//! Receiving: what a badge means.

use crate::defer::PreparedAction;
use crate::message::{self, MessageInfo, MessageRegisterValue};
use crate::{Channel, ChannelSet, Child};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::{badge, microkit as slots, syscall};
use sel4::arch::{self, MessageIn, Received};

const INPUT: u64 = slots::INPUT_SLOT as u64;
const REPLY: u64 = slots::REPLY_SLOT as u64;

/// Message registers 0 to 7.
pub type PpcMrs = [MessageRegisterValue; 8];

/// Who calls a protected procedure: the badge of the call.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct Caller(u64);

impl Caller {
    /// The channel.
    #[inline]
    pub const fn channel(self) -> Channel {
        Channel::from_badge(self.0)
    }

    /// The vCPU that made the hypercall; 0 for an ordinary call.
    #[inline]
    pub const fn vcpu(self) -> usize {
        (self.0 >> badge::VCPU_ID_SHIFT & 0xffff) as usize
    }
}

static CALLER: AtomicU64 = AtomicU64::new(0);

/// Whose call [`Handler::protected`](crate::Handler::protected) serves now. (Not for handlers with a
/// `protected_mrs` of their own, which have it as an argument. Addition to upstream.)
#[inline]
pub fn caller() -> Caller {
    Caller(CALLER.load(Ordering::Relaxed))
}

pub(crate) fn set_caller(caller: Caller) {
    CALLER.store(caller.0, Ordering::Relaxed);
}

/// Answer of a protected procedure with up to eight words that stay in machine registers. (Addition
/// to upstream.)
#[derive(Debug, Clone, Copy)]
pub struct FastReply {
    pub(crate) info: sel4::MessageInfo,
    pub(crate) words: MessageIn,
}

impl FastReply {
    /// An answer of `N` words.
    #[inline]
    pub fn new<const N: usize>(label: u64, mrs: [MessageRegisterValue; N]) -> Self {
        FastReply {
            info: sel4::MessageInfo::new(label, 0, 0, N),
            words: arch::message(mrs),
        }
    }

    /// An answer whose message registers are those of [`set_mr`](crate::set_mr).
    #[inline]
    pub fn from_msg_regs(msg_info: MessageInfo) -> Self {
        FastReply {
            info: msg_info.into_inner(),
            words: message::load(),
        }
    }
}

/// What was received.
#[derive(Debug, Clone)]
pub enum Event {
    /// Signals.
    Notified(ChannelSet),
    /// A call.
    Protected(Caller, MessageInfo),
    /// A fault of a child.
    Fault(Child, MessageInfo),
}

impl Event {
    /// From a badge and a message info.
    #[inline(always)]
    pub fn new(badge: u64, info: u64) -> Self {
        let info = MessageInfo::from_inner(sel4::MessageInfo::from_word(info));
        if badge & badge::PPC != 0 {
            Event::Protected(Caller(badge), info)
        } else if badge & badge::FAULT != 0 {
            Event::Fault(Child::new((badge & 0xffff) as usize), info)
        } else {
            Event::Notified(ChannelSet::from_badge(badge))
        }
    }
}

/// `Recv`.
#[inline]
pub(crate) fn recv() -> Received {
    arch::recv(syscall::RECV, INPUT, REPLY)
}

/// `ReplyRecv`.
#[inline(always)]
pub(crate) fn reply_recv(reply: FastReply) -> Received {
    arch::reply_recv(INPUT, reply.info.into_word(), reply.words, REPLY)
}

/// `NBSendRecv` with an action as the send half.
#[inline]
pub(crate) fn act_recv(action: PreparedAction) -> Received {
    let PreparedAction { cptr, info } = action;
    arch::nb_send_recv(
        syscall::NB_SEND_RECV,
        cptr,
        info,
        arch::NO_WORDS,
        INPUT,
        REPLY,
    )
}

/// `Send` of an action.
#[inline]
pub(crate) fn act(action: PreparedAction) {
    arch::send(syscall::SEND, action.cptr, action.info, arch::NO_WORDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badges() {
        let Event::Protected(caller, info) = Event::new(1 << 63 | 5 << 32 | 7, 3 << 12 | 2) else {
            panic!("not a call")
        };
        assert_eq!((caller.channel().index(), caller.vcpu()), (7, 5));
        assert_eq!((info.label(), info.count()), (3, 2));
        assert!(matches!(Event::new(1 << 62 | 9, 0), Event::Fault(c, _) if c.index() == 9));
        assert!(matches!(Event::new(0b100, 0), Event::Notified(s) if s.contains(Channel::new(2))));
    }
}
