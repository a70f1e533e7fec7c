// SPDX-License-Identifier: BSD-2-Clause
//! What an attacker says of itself, for the bystander to print. It stands at the end of a page that the
//! real protection domain has too, behind all that the real one keeps there.

use core::sync::atomic::{AtomicU64, Ordering};

/// Offset of the reports in the page, bytes.
pub const OFFSET: usize = 0xe00;
/// Attackers that share a page: instances of one protection domain.
pub const ATTACKERS: usize = 2;

/// The reports in a page: zeros at first.
pub type Reports = [Report; ATTACKERS];

/// Where one attacker reports, and the seed that it got with that.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its report.
    pub report: &'static Report,
    /// That of all.
    all: &'static Reports,
    /// Its seed.
    pub seed: u64,
}

impl Slot {
    /// The first report that nobody has yet. There are as many as there can be instances.
    pub fn claim(reports: &'static Reports) -> Self {
        for (report, seed) in reports.iter().zip(crate::SEED..) {
            let taken = report
                .seed
                .compare_exchange(0, seed, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return Slot {
                    report,
                    all: reports,
                    seed,
                };
            }
        }
        panic!("more instances than reports")
    }

    /// The figures of every attacker that there is.
    fn present(&self) -> impl Iterator<Item = Figures> {
        self.all.iter().map(Report::get).filter(|f| f.seed != 0)
    }

    /// Whether every one has made so many calls.
    pub fn all_have(&self, calls: u64) -> bool {
        self.present().all(|f| f.calls >= calls)
    }

    /// Whether every one is done.
    pub fn all_are_done(&self) -> bool {
        self.present().all(|f| f.done)
    }
}

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
    /// Nobody's.
    #[cfg(test)]
    const fn new() -> Self {
        Report {
            seed: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            events: AtomicU64::new(0),
            lies: AtomicU64::new(0),
            gentle_events: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attacker_has_a_report_and_a_seed_of_its_own() {
        static REPORTS: Reports = [const { Report::new() }; ATTACKERS];
        let first = Slot::claim(&REPORTS);
        assert!(first.all_have(0) && !first.all_have(1));
        let figures = Figures {
            seed: first.seed,
            calls: 9,
            ..Figures::default()
        };
        first.report.set(&figures);
        assert!(first.all_have(9), "nobody else is there");
        let second = Slot::claim(&REPORTS);
        assert!(!first.all_have(9));
        assert_eq!([first.seed, second.seed], [crate::SEED, crate::SEED + 1]);
        assert_eq!(REPORTS[1].get().seed, crate::SEED + 1);
        assert!(OFFSET + size_of::<Reports>() <= 0x1000);
    }
}
