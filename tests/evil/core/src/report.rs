// SPDX-License-Identifier: BSD-2-Clause
//! What an attacker says of itself, for the bystander to print. It stands at the end of a page that the
//! real protection domain has too, behind all that the real one keeps there.

use core::sync::atomic::{AtomicU64, Ordering};

/// Offset in the page, bytes.
pub const OFFSET: usize = 0xe00;

/// The report: zeros at first.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Report {
    seed: AtomicU64,
    /// Calls so far.
    calls: AtomicU64,
    /// Of these, invocations that the kernel carried out.
    accepted: AtomicU64,
    /// Events of the guest and of peers so far.
    events: AtomicU64,
    /// Answers that were lies.
    lies: AtomicU64,
    /// Events when the second part began; 0 before.
    gentle_events: AtomicU64,
    done: AtomicU64,
}

/// The figures of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Seed of the attack.
    pub seed: u64,
    /// Calls so far.
    pub calls: u64,
    /// Invocations that the kernel carried out.
    pub accepted: u64,
    /// Events so far.
    pub events: u64,
    /// Answers that were lies.
    pub lies: u64,
    /// Events when the second part began; 0 before.
    pub gentle_events: u64,
    /// Whether the attack is over.
    pub done: bool,
}

impl Report {
    /// Publishes the figures.
    pub fn set(&self, f: &Figures) {
        self.seed.store(f.seed, Ordering::Relaxed);
        self.calls.store(f.calls, Ordering::Relaxed);
        self.accepted.store(f.accepted, Ordering::Relaxed);
        self.events.store(f.events, Ordering::Relaxed);
        self.lies.store(f.lies, Ordering::Relaxed);
        self.gentle_events.store(f.gentle_events, Ordering::Relaxed);
        self.done.store(f.done.into(), Ordering::Release);
    }

    /// The figures as they are.
    pub fn get(&self) -> Figures {
        let done = self.done.load(Ordering::Acquire) != 0;
        Figures {
            seed: self.seed.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            lies: self.lies.load(Ordering::Relaxed),
            gentle_events: self.gentle_events.load(Ordering::Relaxed),
            done,
        }
    }
}
