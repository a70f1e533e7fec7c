// SPDX-License-Identifier: BSD-2-Clause
//! Atomics and the lock bit of shared memory (SPEC S4.8).

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};

#[inline]
fn pause() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// A lock word: 0 when free, else instance number + 1, so that a restarted instance finds the lock
/// its predecessor died with.
pub(crate) struct Guard<'a>(&'a AtomicU64);

impl<'a> Guard<'a> {
    /// Spins until the word is ours. Kernel invocations are allowed while it is held, calls to
    /// other PDs are not.
    #[inline]
    pub(crate) fn take(word: &'a AtomicU64, holder: u64) -> Self {
        while word
            .compare_exchange_weak(0, holder, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            pause();
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
