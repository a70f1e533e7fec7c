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
/// The frame is set aside with its group, and not made ready yet.
const SET_ASIDE: u32 = 1 << 27;
const INDEX: u32 = SET_ASIDE - 1;

impl PageWord {
    /// Nothing behind the page.
    pub const FREE: PageWord = PageWord(0);

    fn holding(frame: Frame, foreign: bool) -> Self {
        PageWord(HELD | (frame.index & INDEX) | if foreign { FOREIGN } else { 0 })
    }

    fn set_aside(index: u32) -> Self {
        PageWord(HELD | SET_ASIDE | (index & INDEX))
    }

    fn is_set_aside(self) -> bool {
        self.0 & SET_ASIDE != 0
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
            || !(PAGE_SHIFT..=u32::from(slot.page_shift)).contains(&shift)
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
        let size = place.region.size;
        let (frame, word, fresh) = match frame {
            Some(frame) if !word.is_set_aside() => (frame, word, false),
            Some(frame) => {
                self.kernel.prepare(frame).map_err(|_| Answer::Refused)?;
                (frame, PageWord::holding(frame, false), true)
            }
            None if place.region.grouped => {
                self.set_group_aside(place)?;
                return self.make_present(place);
            }
            None => {
                let frame = self.pool.take(size).ok_or(Answer::Refused)?;
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
                if fresh && !place.region.grouped {
                    self.pool.give_back(frame);
                }
                return Err(Answer::Refused);
            }
            self.set_word(&place.region, place.word, word.mapped());
        }
        Ok((frame, fresh))
    }

    /// Takes the frames of a piece of 16 MiB, so that they lie in a row. Each is made ready when it is needed.
    fn set_group_aside(&mut self, place: &Place) -> Result<(), Answer> {
        let first = self.pool.take_group().ok_or(Answer::Refused)?;
        for (index, number) in (first..).zip(place.region.piece(place.word)) {
            self.set_word(&place.region, number, PageWord::set_aside(index));
        }
        if let Some(region) = self.region_mut(place.region.slot.id) {
            region.groups += 1;
        }
        Ok(())
    }

    /// The frames that 2^`shift` bytes from a place on lie in.
    fn pieces(place: Place, shift: u32) -> impl Iterator<Item = Place> {
        let count = 1 << shift.saturating_sub(place.region.size.shift());
        (place.word..place.word + count).map(move |word| Place { word, ..place })
    }

    /// Makes the 2^`shift` bytes from `gfn` present in the GSpace (S2.5 to S2.8). `write` says that
    /// they will be written. Asking again for a page that is there changes nothing (S2.7).
    pub fn request(&mut self, gfn: Gfn, shift: u32, write: bool) -> Answer {
        let Some(place) = self.place(gfn, shift, write) else {
            return Answer::Refused;
        };
        for place in Self::pieces(place, shift) {
            if let Err(answer) = self.make_present(&place) {
                return answer;
            }
        }
        Answer::Ready
    }

    /// Zeroes 2^`shift` bytes from `gfn` (H_PAGE_INIT, ZERO_PAGE).
    pub fn zero(&mut self, gfn: Gfn, shift: u32) -> Answer {
        let Some(place) = self.place(gfn, shift, true) else {
            return Answer::Refused;
        };
        let bytes = 1 << shift.min(place.region.size.shift());
        for place in Self::pieces(place, shift) {
            let zeroed = match self.make_present(&place) {
                Ok((_, true)) => Answer::Ready,
                Ok((frame, false)) => answer(self.kernel.zero(frame, place.offset, bytes)),
                Err(answer) => answer,
            };
            if zeroed != Answer::Ready {
                return zeroed;
            }
        }
        Answer::Ready
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
        // Nobody knows whether they lie in a row.
        if region.grouped
            || last > INDEX as u64 + 1
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
        let piece = place.region.piece(place.word);
        let (first, _, _) = self.page(&place.region, piece.start);
        let first = first.ok_or(Error::NoSlot)?;
        self.mark_piece(&place, true);
        Ok((first, first.get() + place.region.piece_pages()))
    }

    fn mark_piece(&mut self, place: &Place, busy: bool) {
        for number in place.region.piece(place.word) {
            let (_, _, word) = self.page(&place.region, number);
            self.set_word(&place.region, number, word.busy(busy));
        }
    }

    /// Unmaps a BUSY piece and gives its frames back: Done, or NotYet while something pins it.
    pub fn reclaim_finish(&mut self, gfn: Gfn) -> Result<Step, Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        for number in place.region.piece(place.word) {
            let (gfn, frame, word) = self.page(&place.region, number);
            if !word.is_busy() {
                return Err(Error::NoChange);
            }
            if let (Some(gfn), Some(frame)) = (gfn, frame)
                && word.is_mapped()
            {
                match self.kernel.unmap(gfn, frame) {
                    Ok(()) => self.set_word(&place.region, number, word.unmapped()),
                    Err(UnmapError::Pinned) => return Ok(Step::NotYet(Waiting::Pinned(gfn))),
                    Err(UnmapError::Failed) => return Ok(Step::NotYet(Waiting::Failed)),
                }
            }
        }
        self.free_piece(&place);
        Ok(Step::Done)
    }

    /// Gives the frames of a piece back, none of which is mapped any more.
    fn free_piece(&mut self, place: &Place) {
        let piece = place.region.piece(place.word);
        let (_, frame, word) = self.page(&place.region, piece.start);
        if let Some(frame) = frame.filter(|_| !word.is_foreign()) {
            if place.region.grouped {
                self.pool.give_back_group(frame.index);
                if let Some(region) = self.region_mut(place.region.slot.id) {
                    region.groups -= 1;
                }
            } else {
                self.pool.give_back(frame);
            }
        }
        for number in piece {
            self.set_word(&place.region, number, PageWord::FREE);
        }
    }

    /// Takes the piece of memory that holds `gfn` away from the guest at once. What uses it does so no longer: the
    /// guest's table is poisoned then (the pin rule). The next request finds it other frames.
    pub fn reclaim_by_force(&mut self, gfn: Gfn) -> Result<Step, Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        for number in place.region.piece(place.word) {
            let (_, frame, word) = self.page(&place.region, number);
            let Some(frame) = frame.filter(|_| !word.is_set_aside()) else {
                continue;
            };
            if word.is_foreign() || self.kernel.destroy(frame).is_err() {
                return Ok(Step::NotYet(Waiting::Failed));
            }
            let again = if place.region.grouped {
                PageWord::set_aside(frame.index)
            } else {
                word.unmapped()
            };
            self.set_word(&place.region, number, again);
        }
        self.free_piece(&place);
        Ok(Step::Done)
    }

    /// Leaves a BUSY piece to the guest after all.
    pub fn reclaim_cancel(&mut self, gfn: Gfn) -> Result<(), Error> {
        let place = self.place(gfn, PAGE_SHIFT, false).ok_or(Error::NoSlot)?;
        self.mark_piece(&place, false);
        Ok(())
    }
}

const _: () = assert!(BATCH > 0 && FrameSize::Small.shift() == PAGE_SHIFT);
