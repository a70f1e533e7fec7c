// SPDX-License-Identifier: BSD-2-Clause
//! The pages of a slot (S2).

use crate::{
    BATCH, Error, Frame, FrameSize, Kernel, KernelFailed, MemSlots, Region, Step, UnmapError,
    Waiting,
};
use partita_papr::{Gfn, GuestReal, PAGE_SHIFT};
use partita_srcu::{Policy, SlotFlags};

/// What is behind one page of a slot: a page is as large as the slot's frames. 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageWord(u32);

const HELD: u32 = 1 << 31;
/// The frame is not the pool's (S2.9: pages without GOT_PAGE).
const FOREIGN: u32 = 1 << 30;
const MAPPED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;
const INDEX: u32 = BUSY - 1;

impl PageWord {
    /// Nothing behind the page.
    pub const FREE: PageWord = PageWord(0);

    fn holding(frame: Frame, foreign: bool) -> Self {
        PageWord(HELD | (frame.index & INDEX) | if foreign { FOREIGN } else { 0 })
    }

    pub(crate) fn frame_index(self) -> Option<u32> {
        if self.0 & HELD != 0 {
            Some(self.0 & INDEX)
        } else {
            None
        }
    }

    pub(crate) fn is_foreign(self) -> bool {
        self.0 & FOREIGN != 0
    }

    pub(crate) fn is_mapped(self) -> bool {
        self.0 & MAPPED != 0
    }

    pub(crate) fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    fn mapped(self) -> Self {
        PageWord(self.0 | MAPPED)
    }

    pub(crate) fn unmapped(self) -> Self {
        PageWord(self.0 & !MAPPED)
    }

    fn busy(self, busy: bool) -> Self {
        PageWord(if busy { self.0 | BUSY } else { self.0 & !BUSY })
    }
}

/// Answer to a request for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The page is in the GSpace.
    Ready,
    /// It is being reclaimed.
    Busy,
    /// There is no slot, it is INVALID or read-only, its pieces are smaller, or there is no frame.
    Refused,
}

fn answer(result: Result<(), KernelFailed>) -> Answer {
    match result {
        Ok(()) => Answer::Ready,
        Err(KernelFailed) => Answer::Refused,
    }
}

/// A place that a request has been checked for.
#[derive(Clone, Copy)]
struct Place {
    region: Region,
    /// Number of the page word.
    word: usize,
    /// Bytes from the start of the frame.
    offset: u64,
}

impl<K: Kernel> MemSlots<'_, K> {
    pub(crate) fn page(
        &self,
        region: &Region,
        number: usize,
    ) -> (Option<Gfn>, Option<Frame>, PageWord) {
        let word = self
            .words
            .get(region.words.0 + number)
            .copied()
            .filter(|_| number < region.words.1)
            .unwrap_or_default();
        let gfn = Gfn::new(region.slot.base.get() + number as u64 * region.size.pages());
        let frame = word.frame_index().map(|index| Frame {
            size: region.size,
            index,
        });
        (gfn, frame, word)
    }

    pub(crate) fn set_word(&mut self, region: &Region, number: usize, word: PageWord) {
        if number < region.words.1
            && let Some(place) = self.words.get_mut(region.words.0 + number)
        {
            *place = word;
        }
    }

    /// Where 2^`shift` bytes from `gfn` lie, if a slot has them in one piece and lets them be used.
    fn place(&self, gfn: Gfn, shift: u32, write: bool) -> Option<Place> {
        let slot = self.writer.lookup(gfn, Policy::Instantiate)?;
        let region = self.region(slot.id)?;
        // While a slot moves, its published and its own base differ: then it is INVALID anyway.
        if region.slot.base != slot.base
            || (write && slot.flags.contains(SlotFlags::READ_ONLY))
            || !(PAGE_SHIFT..=region.size.shift()).contains(&shift)
            || gfn.get() & ((1 << (shift - PAGE_SHIFT)) - 1) != 0
        {
            return None;
        }
        let page = gfn.get() - slot.base.get();
        Some(Place {
            region,
            word: usize::try_from(page / region.size.pages()).ok()?,
            offset: (page & (region.size.pages() - 1)) << PAGE_SHIFT,
        })
    }

    /// Makes a page present; its frame, and whether it has just been zeroed.
    fn make_present(&mut self, place: &Place) -> Result<(Frame, bool), Answer> {
        let (gfn, frame, word) = self.page(&place.region, place.word);
        let gfn = gfn.ok_or(Answer::Refused)?;
        if word.is_busy() {
            return Err(Answer::Busy);
        }
        let (frame, word, fresh) = match frame {
            Some(frame) => (frame, word, false),
            None => {
                let frame = self.pool.take(place.region.size).ok_or(Answer::Refused)?;
                // Whoever had it before must not be seen in it.
                if self.kernel.prepare(frame).is_err() {
                    self.pool.give_back(frame);
                    return Err(Answer::Refused);
                }
                (frame, PageWord::holding(frame, false), true)
            }
        };
        if !word.is_mapped() {
            let writable = !place.region.slot.flags.contains(SlotFlags::READ_ONLY);
            if self.kernel.map(gfn, frame, writable).is_err() {
                if fresh {
                    self.pool.give_back(frame);
                }
                return Err(Answer::Refused);
            }
            self.set_word(&place.region, place.word, word.mapped());
        }
        Ok((frame, fresh))
    }

    /// Makes the 2^`shift` bytes from `gfn` present in the GSpace (S2.5 to S2.8). `write` says that
    /// they will be written. Asking again for a page that is there changes nothing (S2.7).
    pub fn request(&mut self, gfn: Gfn, shift: u32, write: bool) -> Answer {
        match self.place(gfn, shift, write) {
            Some(place) => match self.make_present(&place) {
                Ok(_) => Answer::Ready,
                Err(answer) => answer,
            },
            None => Answer::Refused,
        }
    }

    /// Zeroes 2^`shift` bytes from `gfn` (H_PAGE_INIT, ZERO_PAGE).
    pub fn zero(&mut self, gfn: Gfn, shift: u32) -> Answer {
        let Some(place) = self.place(gfn, shift, true) else {
            return Answer::Refused;
        };
        match self.make_present(&place) {
            Ok((frame, fresh)) => {
                if fresh {
                    return Answer::Ready;
                }
                answer(self.kernel.zero(frame, place.offset, 1 << shift))
            }
            Err(answer) => answer,
        }
    }

    /// Copies the 4 KiB at `from` to `to` (H_PAGE_INIT).
    pub fn copy(&mut self, to: Gfn, from: Gfn) -> Answer {
        let (Some(to), Some(from)) = (
            self.place(to, PAGE_SHIFT, true),
            self.place(from, PAGE_SHIFT, false),
        ) else {
            return Answer::Refused;
        };
        let source = match self.make_present(&from) {
            Ok((frame, _)) => frame,
            Err(answer) => return answer,
        };
        match self.make_present(&to) {
            Ok((frame, _)) => answer(self.kernel.copy((frame, to.offset), (source, from.offset))),
            Err(answer) => answer,
        }
    }

    /// Writes `bytes` at a guest real address, as the loader of guest images does; read-only slots
    /// too. After an answer that is not Ready, a part may have been written.
    pub fn load(&mut self, address: u64, mut bytes: &[u8]) -> Answer {
        let mut at = address;
        while !bytes.is_empty() {
            let place = GuestReal::new(at).and_then(|a| self.place(a.gfn(), PAGE_SHIFT, false));
            let Some(place) = place else {
                return Answer::Refused;
            };
            let frame = match self.make_present(&place) {
                Ok((frame, _)) => frame,
                Err(answer) => return answer,
            };
            let in_page = at & ((1 << PAGE_SHIFT) - 1);
            let room = (1usize << PAGE_SHIFT) - in_page as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if self
                .kernel
                .write(frame, place.offset + in_page, now)
                .is_err()
            {
                return Answer::Refused;
            }
            at += now.len() as u64;
            bytes = later;
        }
        Answer::Ready
    }

    /// Gives slot `id`, which has no page yet, frames of the caller's: page `i` gets number
    /// `first + i`. They are not the pool's and never go there (S2.9, S2.15).
    pub fn prefill(&mut self, id: u16, first: u32) -> Result<(), Error> {
        let region = self.region(id).ok_or(Error::NoSlot)?;
        if self.change.is_some() {
            return Err(Error::InProgress);
        }
        let last = first as u64 + region.words.1 as u64;
        if last > INDEX as u64 + 1
            || self
                .region_words(&region)
                .iter()
                .any(|w| *w != PageWord::FREE)
        {
            return Err(Error::Changed);
        }
        for number in 0..region.words.1 {
            let frame = Frame {
                size: region.size,
                index: first + number as u32,
            };
            self.set_word(&region, number, PageWord::holding(frame, true));
        }
        Ok(())
    }

    /// Begins to take the piece of memory that holds `gfn` away from the guest: from now on it is
    /// BUSY. Answers the pages to flush (`hpt`, `vpa`).
    pub fn reclaim_begin(&mut self, gfn: Gfn) -> Result<(Gfn, u64), Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        let (first, _, word) = self.page(&place.region, place.word);
        let first = first.ok_or(Error::NoSlot)?;
        self.set_word(&place.region, place.word, word.busy(true));
        Ok((first, first.get() + place.region.size.pages()))
    }

    /// Unmaps a BUSY piece and gives its frame back: Done, or NotYet while something pins it.
    pub fn reclaim_finish(&mut self, gfn: Gfn) -> Result<Step, Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        let (first, frame, word) = self.page(&place.region, place.word);
        if !word.is_busy() {
            return Err(Error::NoChange);
        }
        if let (Some(first), Some(frame)) = (first, frame) {
            if word.is_mapped() {
                match self.kernel.unmap(first, frame) {
                    Ok(()) => {}
                    Err(UnmapError::Pinned) => return Ok(Step::NotYet(Waiting::Pinned(first))),
                    Err(UnmapError::Failed) => return Ok(Step::NotYet(Waiting::Failed)),
                }
            }
            if !word.is_foreign() {
                self.pool.give_back(frame);
            }
        }
        self.set_word(&place.region, place.word, PageWord::FREE);
        Ok(Step::Done)
    }

    /// Takes the piece of memory that holds `gfn` away from the guest at once. What uses it does so no longer: the
    /// guest's table is poisoned then (the pin rule). The next request finds it another frame.
    pub fn reclaim_by_force(&mut self, gfn: Gfn) -> Result<Step, Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        let (_, frame, word) = self.page(&place.region, place.word);
        if let Some(frame) = frame {
            if word.is_foreign() || self.kernel.destroy(frame).is_err() {
                return Ok(Step::NotYet(Waiting::Failed));
            }
            self.pool.give_back(frame);
        }
        self.set_word(&place.region, place.word, PageWord::FREE);
        Ok(Step::Done)
    }

    /// Leaves a BUSY piece to the guest after all.
    pub fn reclaim_cancel(&mut self, gfn: Gfn) -> Result<(), Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        let (_, _, word) = self.page(&place.region, place.word);
        self.set_word(&place.region, place.word, word.busy(false));
        Ok(())
    }
}

const _: () = assert!(BATCH > 0 && FrameSize::Small.shift() == PAGE_SHIFT);
