// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's locks, and how one core gets another one out of user mode or its guest.
//!
//! * Every core has a lock. A core that touches only what belongs to it takes its own; whoever touches
//!   anything else takes those of all cores, in order ([`lock_all`]).
//! * Every core says whether it runs a thread, whose registers are then in the core
//!   ([`CoreLock::depart`], [`CoreLock::arrive`]). It says yes only while it holds its own lock, and no as
//!   soon as the registers are in memory, before it waits for any lock. So whoever holds all locks and
//!   has seen a "no" can use the thread's registers: they stay where they are until it lets go.
//! * What only a core itself can do (save registers that a guest left there) is asked of it with
//!   [`CoreLock::ask`], by the holder of all locks. A core that waits for a lock serves requests
//!   ([`CoreLock::serve`]), so that the holder never waits for somebody who waits for it.
//!
//! The holder rings the other core's doorbell after it has asked; that is the caller's business, as is
//! what a request means. Checked with loom: `RUSTFLAGS="--cfg loom" cargo test -p partita-kernel-lock
//! --release`.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

/// A fair lock: first come, first served. All zeros is a free one.
#[repr(C)]
#[derive(Debug)]
pub struct TicketLock {
    /// Ticket of the next who comes.
    next: AtomicU32,
    /// Ticket of the holder; of the next one, if the lock is free.
    serving: AtomicU32,
}

impl TicketLock {
    /// Where a lock has the ticket of the next who comes (32 bits), for assembly.
    pub const NEXT: usize = core::mem::offset_of!(TicketLock, next);
    /// Where it has the ticket of the holder (32 bits).
    pub const SERVING: usize = core::mem::offset_of!(TicketLock, serving);

    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
        }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
        }
    }

    /// Takes the lock; calls `wait` again and again until it has it.
    #[inline]
    pub fn lock(&self, mut wait: impl FnMut()) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        while self.serving.load(Ordering::Acquire) != ticket {
            wait();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire: what the last holder did happened before its store to `serving`. Whoever then finds
        // `next` unchanged knows that nobody has come since.
        let ticket = self.serving.load(Ordering::Acquire);
        self.next
            .compare_exchange(
                ticket,
                ticket.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Gives the lock to the next in line. Only its holder calls this.
    #[inline]
    pub fn unlock(&self) {
        let ticket = self.serving.load(Ordering::Relaxed);
        self.serving
            .store(ticket.wrapping_add(1), Ordering::Release);
    }

    /// Whether somebody waits behind the holder.
    #[inline]
    pub fn contended(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        next.wrapping_sub(self.serving.load(Ordering::Relaxed)) > 1
    }
}

impl Default for TicketLock {
    fn default() -> Self {
        Self::new()
    }
}

/// A core's lock, and what it and the others tell each other, in a cache line of its own. All zeros is a core in the
/// kernel.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct CoreLock {
    /// Protects what belongs to the core.
    pub lock: TicketLock,
    /// 1 while a thread's registers are in the core.
    running: AtomicU32,
    /// What is asked of the core; 0: nothing.
    request: AtomicU64,
}

impl CoreLock {
    /// A core in the kernel.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            lock: TicketLock::new(),
            running: AtomicU32::new(0),
            request: AtomicU64::new(0),
        }
    }

    /// A core in the kernel.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            lock: TicketLock::new(),
            running: AtomicU32::new(0),
            request: AtomicU64::new(0),
        }
    }

    /// This core has come out of user mode or its guest; its thread's registers are in memory.
    #[inline]
    pub fn arrive(&self) {
        // Release: the registers are there for whoever sees it.
        self.running.store(0, Ordering::Release);
    }

    /// This core, which holds its lock, is about to load its thread's registers. The unlock that
    /// follows publishes it.
    #[inline]
    pub fn depart(&self) {
        self.running.store(1, Ordering::Relaxed);
    }

    /// Whether the core runs a thread. The answer no stays true as long as the caller holds the core's
    /// lock.
    #[inline]
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) != 0
    }

    /// Asks something of the core (not 0). The caller holds all locks and waits for
    /// [`Self::is_served`] before it asks anything else.
    #[inline]
    pub fn ask(&self, request: u64) {
        self.request.store(request, Ordering::Release);
    }

    /// Whether the core has done what was asked.
    #[inline]
    pub fn is_served(&self) -> bool {
        self.request.load(Ordering::Acquire) == 0
    }

    /// Does what is asked of this core, if anything is.
    #[inline]
    pub fn serve(&self, f: impl FnOnce(u64)) {
        let request = self.request.load(Ordering::Acquire);
        if request != 0 {
            f(request);
            self.request.store(0, Ordering::Release);
        }
    }
}

impl Default for CoreLock {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the locks of all cores, in order. The order is what keeps two cores that do this from waiting
/// for each other; `wait` is as in [`TicketLock::lock`].
#[inline]
pub fn lock_all<'a>(cores: impl Iterator<Item = &'a CoreLock>, mut wait: impl FnMut()) {
    for core in cores {
        core.lock.lock(&mut wait);
    }
}

/// Releases the locks of all cores.
#[inline]
pub fn unlock_all<'a>(cores: impl Iterator<Item = &'a CoreLock>) {
    for core in cores {
        core.lock.unlock();
    }
}
