// SPDX-License-Identifier: BSD-2-Clause
//! The virtual real mode area: what a guest with translation off uses (S2.12 to S2.19).
//!
//! On POWER9 there is no other way, so the choice between RMO and VRMA has one answer. Entries
//! are made at the first run, as many as the caller asks for, and on demand when a fault with
//! translation off finds none.

use crate::enter::{NewEntry, Place, Refusal};
use crate::{BATCH, Hpt, PageAnswer, Pages, Progress, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_instance::spin;
use partita_papr::hash::{Segment, VRMA_END, is_vrma, vrma_entry, vrma_ptex};
use partita_papr::hpte::{ABSENT, BOLTED, SECONDARY, VALID};
use partita_papr::{Gfn, PAGE_SHIFT, PageSize};
use partita_srcu::Policy;

/// Why the area could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VrmaError {
    /// No slot at guest real address 0, or it is INVALID (S2.14).
    NoMemory,
    /// The slot at 0 cannot have pages of the area's size.
    PageSize,
    /// The page at this guest real address could not be had.
    Page(u64),
    /// No entry was free for the page at this guest real address.
    Full(u64),
    /// The kernel refused.
    Table(TableError),
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Sets the area up to `bytes`, at most [`BATCH`] entries a call; `cursor` starts at 0 and
    /// counts pages. When it has been done since the last reset, it answers Done at once (S2.13).
    /// The table is empty and no vCPU runs. An entry that cannot be made fails the whole (S2.18).
    pub fn set_up_vrma(&self, cursor: &mut u64, bytes: u64) -> Result<Progress, VrmaError> {
        if self.state.control.vrma_done.load(Ordering::Acquire) & DONE != 0 {
            return Ok(Progress::Done);
        }
        let guard = self.slots.read();
        let first = Gfn::new(0).ok_or(VrmaError::NoMemory)?;
        let slot = guard
            .lookup(first, Policy::Instantiate)
            .ok_or(VrmaError::NoMemory)?;
        let shift = self.vrma.shift();
        if !slot.suits(shift) {
            return Err(VrmaError::PageSize);
        }
        let memory = slot.npages << PAGE_SHIFT;
        let pages = (bytes.min(memory).min(VRMA_END) >> shift).min(self.state.order.groups());
        for _ in 0..BATCH {
            if *cursor >= pages {
                // Everything above is visible to whoever sees this (S2.19).
                self.state
                    .control
                    .vrma_done
                    .fetch_or(DONE, Ordering::Release);
                return Ok(Progress::Done);
            }
            self.set_up_page(*cursor << shift)?;
            *cursor += 1;
        }
        Ok(Progress::More)
    }

    fn set_up_page(&self, address: u64) -> Result<(), VrmaError> {
        let ptex = vrma_ptex(address, self.vrma, self.state.order);
        let new = self.vrma_page(address).ok_or(VrmaError::Page(address))?;
        let mut result = self.place_again(&new, Place::Exact(ptex));
        if result == Err(Refusal::Table(TableError::NotMapped)) {
            match self.request(&new) {
                PageAnswer::Ready => result = self.place_again(&new, Place::Exact(ptex)),
                PageAnswer::Busy | PageAnswer::Refused => return Err(VrmaError::Page(address)),
            }
        }
        match result {
            Ok(_) => Ok(()),
            Err(Refusal::Table(error)) => Err(VrmaError::Table(error)),
            // A set-up that is done again finds its own entries.
            Err(Refusal::Full) if self.is_mapped(Segment::vrma(self.vrma), address) => Ok(()),
            Err(Refusal::Full) => Err(VrmaError::Full(address)),
        }
    }

    /// Makes the entry for a fault with translation off at `ea`. True: try again; false: the guest
    /// has no memory there.
    pub(crate) fn vrma_fault(&self, ea: u64) -> bool {
        let address = (ea & (VRMA_END - 1)) & !(self.vrma.bytes() - 1);
        let _guard = self.slots.read();
        let Some(new) = self.vrma_page(address) else {
            return false;
        };
        // The page first: no lock is held across a call to memslots.
        match self.request(&new) {
            PageAnswer::Ready => {}
            PageAnswer::Busy => return true,
            PageAnswer::Refused => return false,
        }
        // Two vCPUs that miss the same page must not make two entries for it.
        self.lock_vrma();
        let placed = self.place_missing(address, &new);
        self.state
            .control
            .vrma_done
            .fetch_and(!LOCK, Ordering::Release);
        placed
    }

    fn place_missing(&self, address: u64, new: &NewEntry) -> bool {
        let segment = Segment::vrma(self.vrma);
        let (primary, secondary) = self.groups(segment, address);
        let second = NewEntry {
            v: new.v | SECONDARY,
            ..*new
        };
        while !self.is_mapped(segment, address) {
            let result = match self.place_again(new, primary) {
                Err(Refusal::Full) => self.place_again(&second, secondary),
                result => result,
            };
            match result {
                Ok(_) => return true,
                Err(Refusal::Full) => {
                    if !self.evict(primary) {
                        return false;
                    }
                }
                Err(Refusal::Table(TableError::Rejected)) => return false,
                // The page is being taken away, or no vCPU will run: the fault comes again.
                Err(Refusal::Table(_)) => return true,
            }
        }
        true
    }

    /// Both groups are full: an entry that the guest has not bolted goes. The guest finds out as
    /// it does after any eviction: by a fault.
    fn evict(&self, group: Place) -> bool {
        let Place::Group(first) = group else {
            return false;
        };
        for (i, rev) in self.state.group(first).into_iter().flatten().enumerate() {
            let v = rev.lock();
            if v & (VALID | ABSENT) == 0 {
                rev.unlock(v);
                return true;
            }
            if v & BOLTED == 0 && !is_vrma(v) {
                return self.empty(first.sibling(i as u32), rev, v).is_ok();
            }
            rev.unlock(v);
        }
        false
    }

    fn vrma_page(&self, address: u64) -> Option<NewEntry> {
        let entry = vrma_entry(address, self.vrma);
        let guard = self.slots.read();
        self.check_again(&guard, entry.v, entry.r)
    }

    fn lock_vrma(&self) {
        let word = &self.state.control.vrma_done;
        while word.fetch_or(LOCK, Ordering::Acquire) & LOCK != 0 {
            while word.load(Ordering::Relaxed) & LOCK != 0 {
                spin();
            }
        }
    }
}

const DONE: u64 = 1;
/// Lock bit in the "done" word: held while a missing entry is looked for and made; outermost.
const LOCK: u64 = 1 << 63;

const _: () = assert!(PageSize::Size4K.shift() == PAGE_SHIFT);
