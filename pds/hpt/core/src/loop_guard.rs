// SPDX-License-Identifier: BSD-2-Clause
//! Loop guard (SPEC 5.4): a vCPU that takes the same storage fault again and again gets nowhere,
//! whether the guest or this server is to blame. It goes on; somebody is told.

use crate::{Fault, Hpt, Pages, Table};
use core::fmt;
use partita_instance::atomic::{AtomicU64, Ordering};

/// Identical faults in a row that are reported.
pub const LOOP: u64 = 1000;
/// vCPUs that are watched: as many as children that a parent can have.
pub const WATCHED: usize = 64;

/// The last fault of a vCPU and how often it has come in a row: 32 bytes. The vCPU waits for the
/// answer to one fault before it takes the next, so nobody else writes these words meanwhile,
/// whatever its core.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LoopGuard {
    pc: AtomicU64,
    address: AtomicU64,
    cause: AtomicU64,
    count: AtomicU64,
}

/// [`LOOP`] identical faults in a row, as a line to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looping {
    /// The vCPU.
    pub vcpu: usize,
    /// The fault.
    pub fault: Fault,
}

impl fmt::Display for Looping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Looping { vcpu, fault } = self;
        write!(
            f,
            "vCPU {vcpu}: {LOOP} identical {} storage faults: pc {:#x}, address {:#x}, cause {:#x}",
            if fault.instruction {
                "instruction"
            } else {
                "data"
            },
            fault.pc,
            fault.address(),
            fault.cause
        )
    }
}

impl LoopGuard {
    /// Counts a fault; true at the last of [`LOOP`] identical ones.
    #[inline(always)]
    fn completes_loop(&self, fault: &Fault) -> bool {
        let is = |word: &AtomicU64, value| word.load(Ordering::Relaxed) == value;
        if is(&self.pc, fault.pc)
            && is(&self.address, fault.address())
            && is(&self.cause, fault.cause)
        {
            let count = self.count.load(Ordering::Relaxed).wrapping_add(1);
            self.count.store(count, Ordering::Relaxed);
            return count == LOOP;
        }
        self.pc.store(fault.pc, Ordering::Relaxed);
        self.address.store(fault.address(), Ordering::Relaxed);
        self.cause.store(fault.cause, Ordering::Relaxed);
        self.count.store(1, Ordering::Relaxed);
        false
    }

    /// As before the first fault.
    pub(crate) fn reset(&self) {
        for word in [&self.pc, &self.address, &self.cause, &self.count] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Counts a fault of `vcpu`. Once in a run of identical ones (same PC, address and cause), with
    /// the [`LOOP`]th, it says what to report. vCPUs that are
    /// [`WATCHED`] apart would share a count; a parent has fewer children.
    #[inline(always)]
    pub fn count_fault(&self, vcpu: usize, fault: &Fault) -> Option<Looping> {
        let control = self.state.control;
        if !control.guards.get(vcpu % WATCHED)?.completes_loop(fault) {
            return None;
        }
        control.loops.fetch_add(1, Ordering::Relaxed);
        Some(Looping {
            vcpu,
            fault: *fault,
        })
    }

    /// Reports since the regions were made.
    pub fn loops(&self) -> u64 {
        self.state.control.loops.load(Ordering::Relaxed)
    }
}
