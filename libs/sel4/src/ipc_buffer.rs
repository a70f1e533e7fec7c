// SPDX-License-Identifier: BSD-2-Clause
//! The IPC buffer: message registers beyond the eighth, and capabilities to send or receive.

use crate::{CPtr, CPtrWithDepth, Word};
use core::sync::atomic::{AtomicPtr, Ordering};
use partita_abi::IpcBufferLayout as Layout;
use partita_abi::address_space::{
    IPC_BUFFER_BYTES, MAX_EXTRA_CAPS, MAX_MESSAGE_REGISTERS, PAGE_BITS, USER_VSPACE_TOP,
};

/// Where a PD's IPC buffer lies: the page of the highest user address.
pub const PD_IPC_BUFFER: usize = USER_VSPACE_TOP & !((1 << PAGE_BITS) - 1);

/// A thread's IPC buffer.
#[derive(Debug)]
#[repr(C, align(1024))]
pub struct IpcBuffer([Word; IPC_BUFFER_BYTES / 8]);

impl Default for IpcBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl IpcBuffer {
    /// A buffer of zeros (for the host and for threads that a program makes).
    pub const fn new() -> Self {
        IpcBuffer([0; IPC_BUFFER_BYTES / 8])
    }

    /// The words as the kernel lays them out.
    pub const fn words(&self) -> &[Word; IPC_BUFFER_BYTES / 8] {
        &self.0
    }

    /// Message registers. Numbers 0 to 7 are where calls without `_with_mrs` take them from and put
    /// them; the kernel does not look at those.
    #[inline(always)]
    pub fn msg_regs(&self) -> &[Word] {
        &self.0[Layout::MSG..Layout::MSG + MAX_MESSAGE_REGISTERS]
    }

    /// Message registers, to be written.
    #[inline(always)]
    pub fn msg_regs_mut(&mut self) -> &mut [Word] {
        &mut self.0[Layout::MSG..Layout::MSG + MAX_MESSAGE_REGISTERS]
    }

    /// Message registers as bytes.
    pub fn msg_bytes(&self) -> &[u8] {
        bytes_of(self.msg_regs())
    }

    /// Message registers as bytes, to be written.
    pub fn msg_bytes_mut(&mut self) -> &mut [u8] {
        let words = self.msg_regs_mut();
        // SAFETY: a word is eight bytes without padding, every byte pattern is a word, and the
        // mutable borrow passes to the result.
        unsafe {
            core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val::<[Word]>(words))
        }
    }

    /// A word for the thread.
    pub fn user_data(&self) -> Word {
        self.0[Layout::USER_DATA]
    }

    /// Sets the word for the thread.
    pub fn set_user_data(&mut self, data: Word) {
        self.0[Layout::USER_DATA] = data;
    }

    /// Capabilities to send, or badges of unwrapped ones.
    pub fn caps_or_badges(&self) -> &[Word] {
        &self.0[Layout::CAPS_OR_BADGES..Layout::CAPS_OR_BADGES + MAX_EXTRA_CAPS]
    }

    /// Capabilities to send, to be written.
    pub fn caps_or_badges_mut(&mut self) -> &mut [Word] {
        &mut self.0[Layout::CAPS_OR_BADGES..Layout::CAPS_OR_BADGES + MAX_EXTRA_CAPS]
    }

    /// Root CNode and path of the slot that a received capability goes to.
    pub fn recv_slot(&self) -> (CPtr, CPtrWithDepth) {
        (
            CPtr::from_bits(self.0[Layout::RECEIVE_CNODE]),
            CPtrWithDepth::from_bits_with_depth(
                self.0[Layout::RECEIVE_INDEX],
                self.0[Layout::RECEIVE_DEPTH] as usize,
            ),
        )
    }

    /// Sets the slot that a received capability goes to.
    pub fn set_recv_slot(&mut self, slot: &crate::AbsoluteCPtr) {
        self.0[Layout::RECEIVE_CNODE] = slot.root().bits();
        self.0[Layout::RECEIVE_INDEX] = slot.path().bits();
        self.0[Layout::RECEIVE_DEPTH] = slot.path().depth() as Word;
    }
}

/// The bytes of some words.
pub(crate) fn bytes_of(words: &[Word]) -> &[u8] {
    // SAFETY: a word is eight bytes without padding; the borrow passes to the result.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val::<[Word]>(words)) }
}

#[cfg(target_os = "none")]
static IPC_BUFFER: AtomicPtr<IpcBuffer> = AtomicPtr::new(PD_IPC_BUFFER as *mut IpcBuffer);

#[cfg(not(target_os = "none"))]
std::thread_local! {
    // A buffer for each thread of a host test, made at its first use and never freed.
    static IPC_BUFFER: AtomicPtr<IpcBuffer> =
        AtomicPtr::new(std::boxed::Box::leak(std::boxed::Box::default()));
}

/// The buffer that calls without explicit context use.
#[inline(always)]
pub(crate) fn current() -> *mut IpcBuffer {
    #[cfg(target_os = "none")]
    return IPC_BUFFER.load(Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    return IPC_BUFFER.with(|buffer| buffer.load(Ordering::Relaxed));
}

/// Says where this program's IPC buffer is. A PD needs no call: its buffer lies at
/// [`PD_IPC_BUFFER`], which is the default.
///
/// There is one such pointer in a program: threads that share a VSpace use
/// [`Cap::with`](crate::Cap::with).
///
/// # Safety
///
/// `buffer` must be the calling thread's IPC buffer, stay mapped, and no reference to it may be
/// alive when this crate's functions run.
pub unsafe fn set_ipc_buffer(buffer: *mut IpcBuffer) {
    #[cfg(target_os = "none")]
    IPC_BUFFER.store(buffer, Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    IPC_BUFFER.with(|current| current.store(buffer, Ordering::Relaxed));
}

/// Calls `f` with the IPC buffer. `f` must make no system call that receives.
pub fn with_ipc_buffer<T>(f: impl FnOnce(&IpcBuffer) -> T) -> T {
    // SAFETY: `current` is the thread's mapped buffer (contract of `set_ipc_buffer`, or the image
    // tool's convention); the thread is alone with it, so that the reference is unique in `f`.
    f(unsafe { &*current() })
}

/// Calls `f` with the IPC buffer, to be written. `f` must not call this again.
pub fn with_ipc_buffer_mut<T>(f: impl FnOnce(&mut IpcBuffer) -> T) -> T {
    // SAFETY: as in `with_ipc_buffer`.
    f(unsafe { &mut *current() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<IpcBuffer>(), IPC_BUFFER_BYTES);
        assert_eq!(align_of::<IpcBuffer>(), IPC_BUFFER_BYTES);
        assert_eq!(PD_IPC_BUFFER, 0x3fff_ffff_f000);
        let mut buffer = IpcBuffer::new();
        buffer.msg_regs_mut()[119] = 1;
        buffer.set_user_data(2);
        buffer.caps_or_badges_mut()[2] = 3;
        assert_eq!(buffer.words()[120..125], [1, 2, 0, 0, 3]);
    }

    #[test]
    fn bytes_and_words_are_the_same_memory() {
        with_ipc_buffer_mut(|b| b.msg_bytes_mut()[..8].copy_from_slice(&7u64.to_ne_bytes()));
        assert_eq!(with_ipc_buffer(|b| b.msg_regs()[0]), 7);
        assert_eq!(with_ipc_buffer(|b| b.msg_bytes().len()), 960);
    }
}
