// SPDX-License-Identifier: BSD-2-Clause
//! When translated faults must come to the server (DESIGN 4, fault mode).
//!
//! While no entry is ABSENT or more restrictive than the guest's view, every translated fault is
//! the guest's own and hardware delivers it without an exit. Interception is switched on before
//! the first such entry is published. It is switched off when the count has gone back to zero and
//! a fault arrives that would not have had to.

use crate::{Table, TableError};
use partita_instance::atomic::{AtomicU64, Ordering};
use partita_instance::spin;

const LOCK: u64 = 1 << 63;
const INTERCEPT: u64 = 1 << 62;
const COUNT: u64 = (1 << 48) - 1;

/// Count of entries that need interception (bits 47:0), the mode (bit 62) and a lock bit (bit 63)
/// in one word. The lock is held across the kernel's change of the mode.
#[derive(Debug)]
#[repr(transparent)]
pub struct FaultMode(AtomicU64);

impl Default for FaultMode {
    fn default() -> Self {
        FaultMode(AtomicU64::new(0))
    }
}

impl FaultMode {
    /// Count and mode.
    pub fn get(&self) -> (u64, bool) {
        let word = self.0.load(Ordering::Acquire);
        (word & COUNT, word & INTERCEPT != 0)
    }

    fn lock(&self) -> u64 {
        loop {
            let word = self.0.fetch_or(LOCK, Ordering::Acquire);
            if word & LOCK == 0 {
                return word;
            }
            while self.0.load(Ordering::Relaxed) & LOCK != 0 {
                spin();
            }
        }
    }

    /// Counts one entry. When it returns without an error, interception is on.
    #[cold]
    pub(crate) fn raise(&self, table: &impl Table) -> Result<(), TableError> {
        let word = self.lock();
        if word & INTERCEPT == 0
            && let Err(error) = table.set_fault_mode(true)
        {
            self.0.fetch_and(!LOCK, Ordering::Release);
            return Err(error);
        }
        self.0.fetch_or(INTERCEPT, Ordering::Relaxed);
        self.0.fetch_add(1, Ordering::Relaxed);
        self.0.fetch_and(!LOCK, Ordering::Release);
        Ok(())
    }

    /// Uncounts one entry, which hardware can no longer fault on.
    #[cold]
    pub(crate) fn lower(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Switches interception off if nothing needs it.
    pub(crate) fn relax(&self, table: &impl Table) {
        let word = self.0.load(Ordering::Relaxed);
        if word & COUNT != 0 || word & INTERCEPT == 0 {
            return;
        }
        let word = self.lock();
        if word & COUNT == 0 && word & INTERCEPT != 0 && table.set_fault_mode(false).is_ok() {
            self.0.fetch_and(!INTERCEPT, Ordering::Relaxed);
        }
        self.0.fetch_and(!LOCK, Ordering::Release);
    }

    /// After a reset of the table: nothing is counted. Nobody else works meanwhile, so a lock bit is
    /// that of an instance that died with it. The mode is not known then; interception is always
    /// right.
    pub(crate) fn reset(&self, table: &impl Table) -> Result<(), TableError> {
        let word = self.0.load(Ordering::Acquire);
        let mut mode = word & INTERCEPT;
        if word & LOCK != 0 {
            table.set_fault_mode(true)?;
            mode = INTERCEPT;
        }
        self.0.store(mode, Ordering::Release);
        Ok(())
    }

    /// As an instance leaves it that dies while it changes the mode.
    #[cfg(test)]
    pub(crate) fn die(&self) {
        self.0.fetch_or(LOCK, Ordering::Relaxed);
    }
}
