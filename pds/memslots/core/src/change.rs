// SPDX-License-Identifier: BSD-2-Clause
//! Creating, deleting, moving slots and changing their flags, one step at a time (S3).

use crate::pages::PageWord;
use crate::pool::{GROUP, GROUP_SHIFT};
use crate::region::Extent;
use crate::{BATCH, Error, Kernel, MemSlots, Region, SCAN, UnmapError};
use partita_papr::Gfn;
use partita_srcu::{Drained, MAX_SLOTS, PublishError, Slot, SlotFlags};

/// What a change waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The reader with this number, which still uses the generation before.
    Reader(usize),
    /// The page, which something still pins: flush again, release views.
    Pinned(Gfn),
    /// Nobody: the work of one call was done, call again.
    Nobody,
    /// The slots could not be published or a page not unmapped. The change stays where it is.
    Failed,
}

/// Answer of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The change is complete.
    Done,
    /// The original slot is back, after an abort.
    Restored,
    /// Nobody can make new uses of these pages any more. The existing ones must go now (`hpt`
    /// flushes, `vpa` releases its views), then the change goes on.
    Flush {
        /// First page.
        first: Gfn,
        /// First page after the range.
        end: u64,
    },
    /// Call again.
    NotYet(Waiting),
}

/// Where a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// This state of the slot is to be published, and with it the change ends.
    PublishLast(Slot, Step),
    /// It is published; readers of the generation before leave.
    LastDrain(Step),
    /// INVALID is to be published.
    PublishInvalid,
    /// It is published; readers leave.
    InvalidDrain,
    /// Page words below this one have been taken out of the GSpace. Their frames are still held.
    Unmap(usize),
    /// The removal is published; readers leave.
    RemovedDrain,
    /// Frames of page words below this one have been given back.
    Free(usize),
}

/// A change in progress. There is one at most: writers are serialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    id: u16,
    /// The slot before.
    original: Slot,
    /// The slot afterwards; `None` for a deletion.
    target: Option<Slot>,
    phase: Phase,
}

impl<K: Kernel> MemSlots<'_, K> {
    /// Begins to make slot `id` cover `size` bytes of guest real memory from `base`, with `flags`
    /// (READ_ONLY, LOG_DIRTY). Size 0 deletes it. An existing slot can be moved and its LOG_DIRTY
    /// flag changed; size and READ_ONLY stay. Nothing is looked up or reserved behind it (S2.1).
    ///
    /// `Ok(Done)`: the slot was like that already. Otherwise [`MemSlots::advance`] goes on.
    pub fn set_region(&mut self, id: u16, base: u64, size: u64, flags: u8) -> Result<Step, Error> {
        if self.change.is_some() {
            return Err(Error::InProgress);
        }
        let existing = self.region(id);
        if size == 0 {
            let region = existing.ok_or(Error::NoSlot)?;
            return Ok(self.begin(region.slot, None, Phase::PublishInvalid));
        }
        let extent = self.check_extent(base, size, flags)?;
        self.check_overlap(id, &extent)?;
        let Some(region) = existing else {
            return self.create(id, &extent);
        };
        let slot = region.slot;
        let read_only = |flags: SlotFlags| flags.contains(SlotFlags::READ_ONLY);
        if slot.npages != extent.npages || read_only(slot.flags) != read_only(extent.flags) {
            return Err(Error::Changed);
        }
        let target = Slot {
            base: extent.base,
            flags: extent.flags,
            ..slot
        };
        if target == slot {
            return Ok(Step::Done);
        }
        if target.base != slot.base {
            let pages = region.piece_pages();
            // The frames stay, so the new place must fit them too.
            if target.base.get() & (pages - 1) != 0 {
                return Err(Error::Alignment);
            }
            return Ok(self.begin(slot, Some(target), Phase::PublishInvalid));
        }
        // Flags alone: one step (S3.4). Translations stay valid: the dirty log takes C from them.
        if let Some(region) = self.region_mut(id) {
            region.slot = target;
        }
        Ok(self.begin(slot, Some(target), Phase::PublishLast(target, Step::Done)))
    }

    fn create(&mut self, id: u16, extent: &Extent) -> Result<Step, Error> {
        if self.regions.len() == MAX_SLOTS {
            return Err(Error::TooManySlots);
        }
        let size = self.choose_size(extent);
        let count =
            usize::try_from(extent.npages / size.pages()).map_err(|_| Error::NoPageWords)?;
        let first = self.find_words(count)?;
        let grouped = self.promise_groups(extent, size);
        let shift = if grouped { GROUP_SHIFT } else { size.shift() };
        let slot = Slot {
            base: extent.base,
            npages: extent.npages,
            flags: extent.flags,
            page_shift: shift as u8,
            id,
        };
        self.pool.commit(size, count as u64);
        // Words of an earlier slot were cleared when its frames were given back (S2.3).
        let region = Region {
            slot,
            size,
            words: (first, count),
            grouped,
            groups: 0,
        };
        if self.regions.push(region).is_err() {
            return Err(Error::TooManySlots);
        }
        self.regions.sort_unstable_by_key(|region| region.slot.base);
        Ok(self.begin(slot, Some(slot), Phase::PublishLast(slot, Step::Done)))
    }

    fn begin(&mut self, original: Slot, target: Option<Slot>, phase: Phase) -> Step {
        self.change = Some(Change {
            id: original.id,
            original,
            target,
            phase,
        });
        self.step()
    }

    /// Takes the change one step further. Never waits.
    pub fn advance(&mut self) -> Result<Step, Error> {
        if self.change.is_none() {
            return Err(Error::NoChange);
        }
        Ok(self.step())
    }

    /// Gives up a deletion or a move: the original slot comes back, with its contents. Possible
    /// until the removal is published. [`MemSlots::advance`] goes on to [`Step::Restored`].
    pub fn abort(&mut self) -> Result<Step, Error> {
        match &mut self.change {
            Some(change)
                if matches!(
                    change.phase,
                    Phase::PublishInvalid | Phase::InvalidDrain | Phase::Unmap(_)
                ) =>
            {
                change.phase = Phase::PublishLast(change.original, Step::Restored);
                Ok(self.step())
            }
            _ => Err(Error::NoChange),
        }
    }

    /// Whether a change is in progress, and of which slot.
    pub fn changing(&self) -> Option<u16> {
        self.change.map(|change| change.id)
    }

    fn step(&mut self) -> Step {
        let Some(change) = self.change else {
            return Step::Done;
        };
        match change.phase {
            Phase::PublishLast(slot, end) => self.publish(Some(slot), None, Phase::LastDrain(end)),
            Phase::PublishInvalid => {
                let slot = change.original;
                let invalid = Slot {
                    flags: slot.flags.with(SlotFlags::INVALID),
                    ..slot
                };
                self.publish(Some(invalid), None, Phase::InvalidDrain)
            }
            Phase::LastDrain(end) => match self.writer.drained() {
                Drained::NotYet(reader) => Step::NotYet(Waiting::Reader(reader)),
                Drained::Done => {
                    self.change = None;
                    end
                }
            },
            Phase::InvalidDrain => match self.writer.drained() {
                Drained::NotYet(reader) => Step::NotYet(Waiting::Reader(reader)),
                Drained::Done => {
                    self.set_phase(Phase::Unmap(0));
                    Step::Flush {
                        first: change.original.base,
                        end: change.original.end(),
                    }
                }
            },
            Phase::Unmap(next) => self.unmap_some(change, next),
            Phase::RemovedDrain => match self.writer.drained() {
                Drained::NotYet(reader) => Step::NotYet(Waiting::Reader(reader)),
                Drained::Done => {
                    self.set_phase(Phase::Free(0));
                    Step::NotYet(Waiting::Nobody)
                }
            },
            Phase::Free(next) => self.free_some(change, next),
        }
    }

    /// Publishes the slots and goes on with `then`; or stays, if a reader is in the way.
    fn publish(&mut self, changed: Option<Slot>, removed: Option<u16>, then: Phase) -> Step {
        match self.writer.publish(&self.published(changed, removed)) {
            Ok(_) => {
                self.set_phase(then);
                self.step()
            }
            Err(PublishError::NotDrained(reader)) => Step::NotYet(Waiting::Reader(reader)),
            Err(PublishError::TooMany | PublishError::Malformed) => Step::NotYet(Waiting::Failed),
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(change) = &mut self.change {
            change.phase = phase;
        }
    }

    /// Takes pages out of the GSpace; the frames and their contents stay with the slot.
    fn unmap_some(&mut self, change: Change, mut next: usize) -> Step {
        let Some(region) = self.region(change.id) else {
            return Step::NotYet(Waiting::Failed);
        };
        let (mut unmapped, last) = (0, next.saturating_add(SCAN));
        while next < region.words.1 {
            if unmapped == BATCH || next == last {
                self.set_phase(Phase::Unmap(next));
                return Step::NotYet(Waiting::Nobody);
            }
            let (gfn, frame, word) = self.page(&region, next);
            if let (Some(gfn), Some(frame)) = (gfn, frame)
                && word.is_mapped()
            {
                match self.kernel.unmap(gfn, frame) {
                    Ok(()) => self.set_word(&region, next, word.unmapped()),
                    Err(error) => {
                        self.set_phase(Phase::Unmap(next));
                        return Step::NotYet(match error {
                            UnmapError::Pinned => Waiting::Pinned(gfn),
                            UnmapError::Failed => Waiting::Failed,
                        });
                    }
                }
                unmapped += 1;
            }
            next += 1;
        }
        self.set_phase(Phase::Unmap(next));
        match change.target {
            // A move ends with the slot at its new place; its pages are mapped there when needed.
            Some(target) => {
                if let Some(region) = self.region_mut(change.id) {
                    region.slot = target;
                }
                self.regions.sort_unstable_by_key(|region| region.slot.base);
                self.set_phase(Phase::PublishLast(target, Step::Done));
                self.step()
            }
            None => self.publish(None, Some(change.id), Phase::RemovedDrain),
        }
    }

    /// Gives the frames of a removed slot back, each exactly once (S2.9, S3.11).
    fn free_some(&mut self, change: Change, mut next: usize) -> Step {
        let Some(region) = self.region(change.id) else {
            return Step::NotYet(Waiting::Failed);
        };
        let (mut freed, last) = (0, next.saturating_add(SCAN));
        while next < region.words.1 {
            if freed == BATCH || next == last {
                self.set_phase(Phase::Free(next));
                return Step::NotYet(Waiting::Nobody);
            }
            let (_, frame, word) = self.page(&region, next);
            if let Some(frame) = frame {
                freed += 1;
                if !word.is_foreign() {
                    self.pool.give_back(frame);
                }
            }
            self.set_word(&region, next, PageWord::FREE);
            next += 1;
        }
        if region.grouped {
            let groups = (region.words.1 / GROUP) as u64;
            self.pool.unpromise(groups - region.groups.min(groups));
        }
        self.pool.uncommit(region.size, region.words.1 as u64);
        self.regions.retain(|region| region.slot.id != change.id);
        self.change = None;
        Step::Done
    }
}
