// SPDX-License-Identifier: BSD-2-Clause
//! System calls on capabilities.

use crate::arch::{self, MessageIn, MessageOut, Received};
use crate::{Badge, Cap, CapType, InvocationContext, MessageInfo, Word, cap, cap_type};
use core::mem::MaybeUninit;
use partita_abi::{IpcBufferLayout, syscall};

/// Message registers that travel in machine registers.
pub const NUM_FAST_MESSAGE_REGISTERS: usize = partita_abi::address_space::FAST_MESSAGE_REGISTERS;

/// Messages that fit in machine registers: arrays of 0 to 8 words.
pub trait FastMessages {
    #[doc(hidden)]
    fn prepare_in(self) -> MessageIn;
}

macro_rules! fast_messages {
    ($($n:literal)*) => {
        $(
            impl FastMessages for [Word; $n] {
                #[inline(always)]
                fn prepare_in(self) -> MessageIn {
                    arch::message(self)
                }
            }
        )*
    };
}
fast_messages!(0 1 2 3 4 5 6 7 8);

/// A received message whose first words never touched memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvWithMRs {
    /// Message info.
    pub info: MessageInfo,
    /// Badge of the sender's capability, or word of the notification.
    pub badge: Badge,
    /// Message registers 0 to 7.
    pub msg: MessageOut,
}

/// The answer to a call whose first words never touched memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWithMRs {
    /// Message info.
    pub info: MessageInfo,
    /// Message registers 0 to 7.
    pub msg: MessageOut,
}

impl From<Received> for RecvWithMRs {
    #[inline(always)]
    fn from(r: Received) -> Self {
        RecvWithMRs {
            info: MessageInfo::from_word(r.info),
            badge: r.badge,
            msg: r.words,
        }
    }
}

impl From<Received> for CallWithMRs {
    #[inline(always)]
    fn from(r: Received) -> Self {
        CallWithMRs {
            info: MessageInfo::from_word(r.info),
            msg: r.words,
        }
    }
}

/// Capabilities that system calls of IPC take.
pub trait IpcCapType: CapType {}

impl IpcCapType for cap_type::Endpoint {}
impl IpcCapType for cap_type::Notification {}
impl IpcCapType for cap_type::Reply {}
impl IpcCapType for cap_type::Unspecified {}

/// First message register of `buffer`.
fn window(buffer: *mut crate::IpcBuffer) -> *mut Word {
    buffer.cast::<Word>().wrapping_add(IpcBufferLayout::MSG)
}

/// Message registers 0 to 7 from the IPC buffer.
#[inline(always)]
fn load(context: &mut impl InvocationContext) -> MessageIn {
    let window = window(context.ipc_buffer());
    let mut words = arch::NO_WORDS;
    for (i, word) in words.iter_mut().enumerate() {
        // SAFETY: an InvocationContext gives a valid buffer that nobody refers to now.
        *word = MaybeUninit::new(unsafe { window.add(i).read() });
    }
    words
}

/// Message registers 0 to 7 into the IPC buffer.
#[inline(always)]
fn store(context: &mut impl InvocationContext, received: Received) -> (MessageInfo, Badge) {
    let window = window(context.ipc_buffer());
    for (i, word) in received.words.into_iter().enumerate() {
        // SAFETY: as in `load`.
        unsafe { window.add(i).write(word) };
    }
    (MessageInfo::from_word(received.info), received.badge)
}

impl<T: IpcCapType, C: InvocationContext> Cap<T, C> {
    /// `seL4_Send`.
    pub fn send(mut self, info: MessageInfo) {
        let words = load(&mut self.context);
        arch::send(syscall::SEND, self.bits(), info.into_word(), words);
    }

    /// `seL4_NBSend`.
    pub fn nb_send(mut self, info: MessageInfo) {
        let words = load(&mut self.context);
        arch::send(syscall::NB_SEND, self.bits(), info.into_word(), words);
    }

    /// `seL4_Recv`.
    pub fn recv(mut self, reply: cap::Reply) -> (MessageInfo, Badge) {
        let received = arch::recv(syscall::RECV, self.bits(), reply.bits());
        store(&mut self.context, received)
    }

    /// `seL4_NBRecv`: badge 0 if nothing was there.
    pub fn nb_recv(mut self, reply: cap::Reply) -> (MessageInfo, Badge) {
        let received = arch::recv(syscall::NB_RECV, self.bits(), reply.bits());
        store(&mut self.context, received)
    }

    /// `seL4_Call`.
    pub fn call(mut self, info: MessageInfo) -> MessageInfo {
        let words = load(&mut self.context);
        let received = arch::call(self.bits(), info.into_word(), words);
        store(&mut self.context, received).0
    }

    /// `seL4_ReplyRecv`.
    pub fn reply_recv(mut self, info: MessageInfo, reply: cap::Reply) -> (MessageInfo, Badge) {
        let words = load(&mut self.context);
        let received = arch::reply_recv(self.bits(), info.into_word(), words, reply.bits());
        store(&mut self.context, received)
    }

    /// `seL4_NBSendRecv`: sends to this capability, receives from `src`.
    pub fn nb_send_recv<T1: IpcCapType, C1>(
        mut self,
        info: MessageInfo,
        src: Cap<T1, C1>,
        reply: cap::Reply,
    ) -> (MessageInfo, Badge) {
        let words = load(&mut self.context);
        let received = arch::nb_send_recv(
            syscall::NB_SEND_RECV,
            self.bits(),
            info.into_word(),
            words,
            src.bits(),
            reply.bits(),
        );
        store(&mut self.context, received)
    }

    /// `seL4_NBSendWait`: sends to this capability, waits on `src`.
    pub fn nb_send_wait<T1: IpcCapType, C1>(
        mut self,
        info: MessageInfo,
        src: Cap<T1, C1>,
    ) -> (MessageInfo, Badge) {
        let words = load(&mut self.context);
        let received = arch::nb_send_recv(
            syscall::NB_SEND_WAIT,
            self.bits(),
            info.into_word(),
            words,
            src.bits(),
            0,
        );
        store(&mut self.context, received)
    }
}

impl<T: IpcCapType, C> Cap<T, C> {
    /// `seL4_Send`, message in registers.
    #[inline]
    pub fn send_with_mrs<M: FastMessages>(self, info: MessageInfo, messages: M) {
        arch::send(
            syscall::SEND,
            self.bits(),
            info.into_word(),
            messages.prepare_in(),
        );
    }

    /// `seL4_NBSend`, message in registers.
    #[inline]
    pub fn nb_send_with_mrs<M: FastMessages>(self, info: MessageInfo, messages: M) {
        arch::send(
            syscall::NB_SEND,
            self.bits(),
            info.into_word(),
            messages.prepare_in(),
        );
    }

    /// `seL4_Recv`, message in registers.
    #[inline]
    pub fn recv_with_mrs(self, reply: cap::Reply) -> RecvWithMRs {
        arch::recv(syscall::RECV, self.bits(), reply.bits()).into()
    }

    /// `seL4_NBRecv`, message in registers; badge 0 if nothing was there.
    #[inline]
    pub fn nb_recv_with_mrs(self, reply: cap::Reply) -> RecvWithMRs {
        arch::recv(syscall::NB_RECV, self.bits(), reply.bits()).into()
    }

    /// `seL4_Call`, messages in registers.
    #[inline]
    pub fn call_with_mrs<M: FastMessages>(self, info: MessageInfo, messages: M) -> CallWithMRs {
        arch::call(self.bits(), info.into_word(), messages.prepare_in()).into()
    }

    /// `seL4_ReplyRecv`, messages in registers.
    #[inline]
    pub fn reply_recv_with_mrs<M: FastMessages>(
        self,
        info: MessageInfo,
        messages: M,
        reply: cap::Reply,
    ) -> RecvWithMRs {
        arch::reply_recv(
            self.bits(),
            info.into_word(),
            messages.prepare_in(),
            reply.bits(),
        )
        .into()
    }

    /// `seL4_NBSendRecv`, messages in registers.
    #[inline]
    pub fn nb_send_recv_with_mrs<M: FastMessages, T1: IpcCapType, C1>(
        self,
        info: MessageInfo,
        messages: M,
        src: Cap<T1, C1>,
        reply: cap::Reply,
    ) -> RecvWithMRs {
        arch::nb_send_recv(
            syscall::NB_SEND_RECV,
            self.bits(),
            info.into_word(),
            messages.prepare_in(),
            src.bits(),
            reply.bits(),
        )
        .into()
    }

    /// `seL4_NBSendWait`, messages in registers.
    #[inline]
    pub fn nb_send_wait_with_mrs<M: FastMessages, T1: IpcCapType, C1>(
        self,
        info: MessageInfo,
        messages: M,
        src: Cap<T1, C1>,
    ) -> RecvWithMRs {
        arch::nb_send_recv(
            syscall::NB_SEND_WAIT,
            self.bits(),
            info.into_word(),
            messages.prepare_in(),
            src.bits(),
            0,
        )
        .into()
    }

    /// `seL4_Wait` on an endpoint or notification: message and badge. No reply is possible.
    #[inline]
    pub fn wait_with_mrs(self) -> RecvWithMRs {
        arch::recv(syscall::WAIT, self.bits(), 0).into()
    }

    /// `seL4_NBWait`: as [`Self::wait_with_mrs`], badge 0 if nothing was there.
    #[inline]
    pub fn nb_wait_with_mrs(self) -> RecvWithMRs {
        arch::recv(syscall::NB_WAIT, self.bits(), 0).into()
    }
}

impl<C> Cap<cap_type::Notification, C> {
    /// `seL4_Signal`.
    #[inline]
    pub fn signal(self) {
        arch::send(syscall::SEND, self.bits(), 0, arch::NO_WORDS);
    }

    /// `seL4_Wait`: the word and badge of the notification.
    #[inline]
    pub fn wait(self) -> ((), Badge) {
        ((), arch::recv(syscall::WAIT, self.bits(), 0).badge)
    }

    /// `seL4_Poll`: 0 if there was no signal.
    #[inline]
    pub fn poll(self) -> ((), Badge) {
        ((), arch::recv(syscall::NB_WAIT, self.bits(), 0).badge)
    }
}

/// `seL4_Yield`.
#[inline]
pub fn yield_() {
    arch::null(syscall::YIELD);
}

/// `seL4_DebugHalt`: stops the machine.
#[cfg(partita_printing)]
pub fn debug_halt() {
    arch::null(syscall::DEBUG_HALT);
}

/// `seL4_DebugSnapshot`: the kernel prints the capabilities of the system.
#[cfg(partita_printing)]
pub fn debug_snapshot() {
    arch::null(syscall::DEBUG_SNAPSHOT);
}

/// `seL4_DebugCapIdentify`: the kernel's number for the type of a capability.
#[cfg(partita_printing)]
pub fn debug_cap_identify<T: CapType>(cap: Cap<T>) -> Word {
    arch::debug(syscall::DEBUG_CAP_IDENTIFY, cap.bits())
}

/// Has the kernel check the hash page tables of all guests: valid entries, or `None` if one of them
/// does not map a page of its guest as it may (the kernel prints which). (Addition to upstream.)
#[cfg(partita_printing)]
pub fn debug_audit_guests() -> Option<Word> {
    match arch::debug(syscall::DEBUG_AUDIT_GUESTS, 0) {
        Word::MAX => None,
        entries => Some(entries),
    }
}

/// `seL4_DebugNameThread`: names a thread in the kernel's debug output. The name travels in the IPC
/// buffer from message register 0 on, ended by a zero byte; it is cut at 63 bytes.
#[cfg(partita_printing)]
pub fn debug_name_thread(tcb: cap::Tcb, name: &str) {
    crate::with_ipc_buffer_mut(|buffer| {
        let bytes = buffer.msg_bytes_mut();
        let length = name.len().min(63);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        bytes[length] = 0;
    });
    arch::debug(syscall::DEBUG_NAME_THREAD, tcb.bits());
}
