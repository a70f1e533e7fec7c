// SPDX-License-Identifier: BSD-2-Clause
//! The chain of entries that map one guest page (S4.2 to S4.6).
//!
//! The head is one word for each 4 KiB: index of the first entry, PRESENT (0 is an index too),
//! C and R that entries have left behind, the size of the largest page that left C, the lock bit,
//! and HELD. Everything but C, R and HELD changes under the lock only. C and R are only ever or-ed
//! in, by anybody, and taken out by the one who reports them; no one stores the whole word (S4.5).

use crate::TableError;
use crate::state::{Rev, State};
use partita_instance::atomic::{AtomicU64, Ordering};
use partita_instance::spin;
use partita_papr::hpte::{C, R};
use partita_papr::{Gfn, PAGE_SHIFT, Ptex};

/// Index of the first entry.
pub(crate) const INDEX: u64 = 0xffff_ffff;
/// The chain has members.
pub(crate) const PRESENT: u64 = 1 << 32;
/// From R and C in dw1 to the head.
pub(crate) const RC_SHIFT: u32 = 32;
/// Lock bit.
pub(crate) const LOCK: u64 = 1 << 43;
/// The page has been flushed: it may be on its way out, though the GSpace still has it. Nothing is
/// linked before `memslots` has been asked for it. Set and cleared by anybody.
pub(crate) const HELD: u64 = 1 << 44;
const ORDER_SHIFT: u32 = 48;
/// log2 of the pages that C stands for.
const ORDER: u64 = 0x3f << ORDER_SHIFT;
/// Bits that the holder of the lock alone changes.
const OWNED: u64 = INDEX | PRESENT | ORDER;

/// A locked chain. Dropping it gives the lock back.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    state: &'a State<'a>,
    head: &'a AtomicU64,
    found: u64,
    word: u64,
}

/// The change of `head` when the page has been changed by other means than an entry.
pub(crate) fn mark_changed(state: &State<'_>, gfn: Gfn) {
    if let Some(head) = state.head(gfn)
        && head.load(Ordering::Relaxed) & (C << RC_SHIFT) == 0
    {
        head.fetch_or(C << RC_SHIFT, Ordering::Relaxed);
    }
}

/// Nothing is linked to the page's chain until [`let_in`]. Members stay: the caller flushes them.
pub(crate) fn hold_back(state: &State<'_>, gfn: Gfn) {
    if let Some(head) = state.head(gfn) {
        head.fetch_or(HELD, Ordering::Relaxed);
    }
}

/// Ends [`hold_back`].
pub(crate) fn let_in(state: &State<'_>, gfn: Gfn) {
    if let Some(head) = state.head(gfn)
        && head.load(Ordering::Relaxed) & HELD != 0
    {
        head.fetch_and(!HELD, Ordering::Relaxed);
    }
}

impl<'a> Chain<'a> {
    /// [`Chain::lock`] for a new member: `NotMapped` while the page is held back, `Rejected` if it has
    /// no head.
    #[inline(always)]
    pub(crate) fn lock_for_member(state: &'a State<'a>, gfn: Gfn) -> Result<Self, TableError> {
        let head = state.head(gfn).ok_or(TableError::Rejected)?;
        loop {
            let word = head.fetch_or(LOCK, Ordering::Acquire);
            if word & (LOCK | HELD) == 0 {
                return Ok(Chain {
                    state,
                    head,
                    found: word,
                    word,
                });
            }
            if word & LOCK == 0 {
                head.fetch_and(!LOCK, Ordering::Release);
                return Err(TableError::NotMapped);
            }
            while head.load(Ordering::Relaxed) & LOCK != 0 {
                spin();
            }
        }
    }

    /// Locks the chain of `gfn`, waiting for it. Only for one who holds an entry's lock or none
    /// and no other chain's. `None` if the page has no head.
    #[inline]
    pub(crate) fn lock(state: &'a State<'a>, gfn: Gfn) -> Option<Self> {
        let head = state.head(gfn)?;
        loop {
            let word = head.fetch_or(LOCK, Ordering::Acquire);
            if word & LOCK == 0 {
                return Some(Chain {
                    state,
                    head,
                    found: word,
                    word,
                });
            }
            while head.load(Ordering::Relaxed) & LOCK != 0 {
                spin();
            }
        }
    }

    /// R and C that the page carries (0x180).
    #[inline]
    pub(crate) fn rc(&self) -> u64 {
        (self.found >> RC_SHIFT) & (R | C)
    }

    /// First member.
    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        if self.word & PRESENT != 0 {
            Some((self.word & INDEX) as u32)
        } else {
            None
        }
    }

    /// The index field, which is 0 when there is no member.
    pub(crate) fn index(&self) -> u64 {
        self.word & INDEX
    }

    /// Member after `index`.
    pub(crate) fn next(&self, index: u32) -> Option<u32> {
        Some(
            self.state
                .rev
                .get(index as usize)?
                .forw
                .load(Ordering::Relaxed),
        )
    }

    /// Member before `index`.
    pub(crate) fn previous(&self, index: u32) -> Option<u32> {
        Some(
            self.state
                .rev
                .get(index as usize)?
                .back
                .load(Ordering::Relaxed),
        )
    }

    #[inline]
    fn set_forw(&self, index: u32, forw: u32) {
        if let Some(rev) = self.state.rev.get(index as usize) {
            rev.forw.store(forw, Ordering::Relaxed);
        }
    }

    #[inline]
    fn set_back(&self, index: u32, back: u32) {
        if let Some(rev) = self.state.rev.get(index as usize) {
            rev.back.store(back, Ordering::Relaxed);
        }
    }

    /// Adds an entry, locked by the caller and on no chain, as the tail (S4.4).
    #[inline]
    pub(crate) fn link(&mut self, ptex: Ptex, rev: &Rev) {
        let new = ptex.index();
        match self.first() {
            None => {
                rev.forw.store(new, Ordering::Relaxed);
                rev.back.store(new, Ordering::Relaxed);
                self.word = (self.word & !INDEX) | PRESENT | new as u64;
            }
            Some(first) => {
                let Some(head) = self.state.rev.get(first as usize) else {
                    return;
                };
                let tail = head.back.load(Ordering::Relaxed);
                rev.forw.store(first, Ordering::Relaxed);
                rev.back.store(tail, Ordering::Relaxed);
                self.set_forw(tail, new);
                head.back.store(new, Ordering::Relaxed);
            }
        }
    }

    /// Takes out an entry that is on this chain and locked by the caller (S4.6).
    #[inline]
    pub(crate) fn unlink(&mut self, ptex: Ptex, rev: &Rev) {
        let old = ptex.index();
        let forw = rev.forw.load(Ordering::Relaxed);
        if forw == old {
            self.word &= !(PRESENT | INDEX);
            return;
        }
        let back = rev.back.load(Ordering::Relaxed);
        self.set_forw(back, forw);
        self.set_back(forw, back);
        if self.word & INDEX == old as u64 {
            self.word = (self.word & !INDEX) | forw as u64;
        }
    }

    /// Keeps R and C that a page of 2^`shift` bytes had (I8).
    #[inline]
    pub(crate) fn fold(&mut self, rc: u64, shift: u32) {
        let bits = (rc & (R | C)) << RC_SHIFT;
        if bits & !self.found != 0 {
            self.head.fetch_or(bits, Ordering::Relaxed);
        }
        if rc & C != 0 {
            let order = (shift.wrapping_sub(PAGE_SHIFT) as u64) << ORDER_SHIFT;
            if order > self.word & ORDER {
                self.word = (self.word & !ORDER) | order & ORDER;
            }
        }
    }

    /// Takes C out of the head; returns log2 of the 4 KiB pages it stood for.
    pub(crate) fn take_changed(&mut self) -> Option<u32> {
        let word = self.head.fetch_and(!(C << RC_SHIFT), Ordering::Relaxed);
        let order = ((self.word & ORDER) >> ORDER_SHIFT) as u32;
        self.word &= !ORDER;
        if word & (C << RC_SHIFT) != 0 {
            Some(order)
        } else {
            None
        }
    }
}

impl Drop for Chain<'_> {
    #[inline]
    fn drop(&mut self) {
        self.head
            .fetch_xor((self.found ^ self.word) & OWNED | LOCK, Ordering::Release);
    }
}
