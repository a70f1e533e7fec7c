// SPDX-License-Identifier: BSD-2-Clause
//! Instances of a server: the same program on several cores over the same memory regions. All state that
//! counts is in those regions, as atomics, with lock bits around what is more than one word.
//!
//! Under `cfg(loom)` the atomics are the model checker's.
#![no_std]
#![forbid(unsafe_code)]
#![allow(unexpected_cfgs)] // `loom` is set by hand for the model check.

/// Atomics, the model checker's under `cfg(loom)`.
pub mod atomic {
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
}

use atomic::{AtomicU64, Ordering};

/// One turn of waiting for a lock bit.
#[inline]
pub fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Number of an instance of a server, below 2^32 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance(pub u32);

impl Instance {
    /// What its lock words hold: the number + 1, since 0 is free.
    #[inline]
    pub const fn mark(self) -> u64 {
        self.0 as u64 + 1
    }

    /// Frees a lock word (or mark) that a predecessor with the same number died with. To be called
    /// before the instance serves anybody.
    pub fn release(self, word: &AtomicU64) {
        let _ = word.compare_exchange(self.mark(), 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// A held lock word (SPEC S4.8): 0 when free, else the holder's mark, so that a restarted instance
/// finds the locks its predecessor died with. It is freed on drop.
///
/// While it is held, no other PD is called: a spinner only ever waits for a few instructions of the
/// holder, or for an invocation of the kernel.
#[must_use]
#[derive(Debug)]
pub struct Guard<'a>(&'a AtomicU64);

impl<'a> Guard<'a> {
    /// Spins until the word is `holder`'s.
    #[inline]
    pub fn take(word: &'a AtomicU64, holder: Instance) -> Self {
        while word
            .compare_exchange_weak(0, holder.mark(), Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            spin();
        }
        Guard(word)
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// S4.8: the word says who holds the lock; it is free again with the guard.
    #[test]
    fn a_lock_word_names_its_holder() {
        let word = AtomicU64::new(0);
        let guard = Guard::take(&word, Instance(2));
        assert_eq!(word.load(Ordering::Relaxed), 3);
        drop(guard);
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_the_successor_frees_a_dead_holders_word() {
        let word = AtomicU64::new(Instance(1).mark());
        Instance(0).release(&word);
        assert_eq!(word.load(Ordering::Relaxed), 2);
        Instance(1).release(&word);
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }
}
