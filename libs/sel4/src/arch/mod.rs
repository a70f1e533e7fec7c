// SPDX-License-Identifier: BSD-2-Clause
//! The machine's part: system calls and the trap instruction. Nothing else in user space of the
//! project holds assembly, but for entry points.

use core::mem::MaybeUninit;

#[cfg(target_arch = "powerpc64")]
mod ppc64;
#[cfg(target_arch = "powerpc64")]
use ppc64 as imp;

#[cfg(not(target_arch = "powerpc64"))]
mod host;
#[cfg(not(target_arch = "powerpc64"))]
use host as imp;

pub use imp::{call, debug, nb_send_recv, null, recv, reply_recv, send, timebase, trap};

/// Message registers 0 to 7 as a system call takes them. Those beyond the message's length need
/// no value: the kernel does not read them.
pub type MessageIn = [MaybeUninit<u64>; 8];
/// Message registers 0 to 7 as a system call leaves them.
pub type MessageOut = [u64; 8];

/// No message register is in use.
pub const NO_WORDS: MessageIn = [MaybeUninit::uninit(); 8];

/// What a receiving system call returns.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Badge of the sender's capability, or word of the notification.
    pub badge: u64,
    /// Message info.
    pub info: u64,
    /// Message registers 0 to 7; zero beyond the length.
    pub words: MessageOut,
}

/// The first `N` registers hold `words`, the rest nothing. At most 8.
#[inline(always)]
pub fn message<const N: usize>(words: [u64; N]) -> MessageIn {
    const { assert!(N <= 8, "more words than fast message registers") };
    let mut message = NO_WORDS;
    let mut i = 0;
    while i < N {
        message[i] = MaybeUninit::new(words[i]);
        i += 1;
    }
    message
}
