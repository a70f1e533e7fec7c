// SPDX-License-Identifier: BSD-2-Clause
//! Messages: info word and message registers.

use core::mem::MaybeUninit;
use partita_abi::address_space::MAX_MESSAGE_REGISTERS;
use sel4::arch::{MessageIn, MessageOut, NO_WORDS};

/// Label of a message.
pub type MessageLabel = sel4::Word;
/// Value of a message register.
pub type MessageRegisterValue = sel4::Word;

/// Label of a message and number of its registers.
#[derive(Debug, Clone, Default)]
pub struct MessageInfo(sel4::MessageInfo);

impl MessageInfo {
    /// A message of `count` registers (at most 120).
    #[inline]
    pub fn new(label: MessageLabel, count: usize) -> Self {
        MessageInfo(sel4::MessageInfo::new(label, 0, 0, count))
    }

    #[doc(hidden)]
    #[inline]
    pub fn from_inner(inner: sel4::MessageInfo) -> Self {
        MessageInfo(inner)
    }

    #[doc(hidden)]
    #[inline]
    pub fn inner(&self) -> &sel4::MessageInfo {
        &self.0
    }

    #[doc(hidden)]
    #[inline]
    pub fn into_inner(self) -> sel4::MessageInfo {
        self.0
    }

    /// The label.
    #[inline]
    pub fn label(&self) -> MessageLabel {
        self.0.label()
    }

    /// Bits of a label.
    pub const fn label_width() -> usize {
        sel4::MessageInfo::label_width()
    }

    /// Number of message registers.
    #[inline]
    pub fn count(&self) -> usize {
        self.0.length()
    }

    /// The fault that the message tells, in [`Handler::fault`](crate::Handler::fault).
    ///
    /// # Panics
    ///
    /// If the label is not a fault's.
    pub fn fault(&self) -> sel4::Fault {
        sel4::with_ipc_buffer(|buffer| sel4::Fault::new(buffer, &self.0))
    }
}

/// Message register 0 in the IPC buffer.
#[inline(always)]
fn window() -> *mut u64 {
    // The constant, not `sel4`'s variable: loads and stores then combine.
    #[cfg(target_os = "none")]
    return core::ptr::with_exposed_provenance_mut::<u64>(
        sel4::PD_IPC_BUFFER + partita_abi::IpcBufferLayout::MSG * 8,
    );
    #[cfg(not(target_os = "none"))]
    return sel4::with_ipc_buffer_mut(|buffer| buffer.msg_regs_mut().as_mut_ptr());
}

/// Message registers 0 to 7 as a system call takes them.
#[inline(always)]
pub(crate) fn load() -> MessageIn {
    let mut words = NO_WORDS;
    for (i, word) in words.iter_mut().enumerate() {
        // SAFETY: the IPC buffer is mapped by the image tool's convention; references to it exist
        // only inside the `with_` functions below.
        *word = MaybeUninit::new(unsafe { window().add(i).read() });
    }
    words
}

/// Keeps the message registers that a system call gave.
#[inline(always)]
pub(crate) fn store(words: MessageOut) {
    for (i, word) in words.into_iter().enumerate() {
        // SAFETY: as in `load`.
        unsafe { window().add(i).write(word) };
    }
}

/// Calls `f` with all message registers. `f` must not make a call that changes them.
#[inline]
pub fn with_msg_regs<T>(f: impl FnOnce(&[MessageRegisterValue]) -> T) -> T {
    // SAFETY: the IPC buffer is mapped by the image tool's convention and holds this many registers;
    // the program has one thread.
    f(unsafe { core::slice::from_raw_parts(window(), MAX_MESSAGE_REGISTERS) })
}

/// Calls `f` with all message registers, to be written. `f` must not use this module otherwise.
#[inline]
pub fn with_msg_regs_mut<T>(f: impl FnOnce(&mut [MessageRegisterValue]) -> T) -> T {
    // SAFETY: as in `with_msg_regs`.
    f(unsafe { core::slice::from_raw_parts_mut(window(), MAX_MESSAGE_REGISTERS) })
}

/// As [`with_msg_regs`], bytes in memory order.
#[inline]
pub fn with_msg_bytes<T>(f: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: as in `with_msg_regs`; a word is eight bytes without padding.
    f(unsafe { core::slice::from_raw_parts(window().cast(), MAX_MESSAGE_REGISTERS * 8) })
}

/// As [`with_msg_regs_mut`], bytes in memory order.
#[inline]
pub fn with_msg_bytes_mut<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    // SAFETY: as in `with_msg_regs`; every byte pattern is a word.
    f(unsafe { core::slice::from_raw_parts_mut(window().cast(), MAX_MESSAGE_REGISTERS * 8) })
}

/// Sets message register `i`.
///
/// # Panics
///
/// If `i` is not below 120.
#[inline]
pub fn set_mr(i: usize, value: MessageRegisterValue) {
    with_msg_regs_mut(|regs| regs[i] = value);
}

/// Message register `i`.
///
/// # Panics
///
/// If `i` is not below 120.
#[inline]
pub fn get_mr(i: usize) -> MessageRegisterValue {
    with_msg_regs(|regs| regs[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_one_slice() {
        for i in 0..120 {
            set_mr(i, i as u64);
        }
        with_msg_regs(|regs| assert!(regs.iter().enumerate().all(|(i, &r)| r == i as u64)));
        with_msg_bytes_mut(|bytes| bytes[8] = 0xff);
        assert_eq!(get_mr(1), 0xff);
        store([9; 8]);
        assert_eq!((get_mr(7), get_mr(8)), (9, 8));
    }

    #[test]
    fn info() {
        let info = MessageInfo::new(7, 3);
        assert_eq!(
            (info.label(), info.count(), MessageInfo::label_width()),
            (7, 3, 52)
        );
        assert_eq!(MessageInfo::default().inner().into_word(), 0);
    }
}
