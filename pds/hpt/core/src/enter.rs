// SPDX-License-Identifier: BSD-2-Clause
//! H_ENTER (2.2), and the insertion that the other parts share.

use crate::chain::{Chain, let_in};
use crate::hypercall::{Outcome, Words};
use crate::state::{NOT_GUEST, READ_ONLY_PAGE, Rev, needs_intercept};
use crate::{Hpt, PageAnswer, Pages, Table, TableError};
use partita_instance::atomic::Ordering;
use partita_papr::hcall::{flags, status};
use partita_papr::hpte::{ABSENT, C, GUEST_DW0, LOCK, M, R, VALID, WIMG};
use partita_papr::{Gfn, GuestReal, PageSize, Ptex};
use partita_srcu::{Policy, ReadGuard, SlotFlags};

/// How often a page that is said to be there and is not is asked for, before H_RESOURCE (S2.8).
const DEFERRALS: u32 = 3;

/// An entry that has passed all checks but those of its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry {
    /// dw0 without VALID, ABSENT and LOCK.
    pub v: u64,
    /// dw1 of the guest, with [`READ_ONLY_PAGE`].
    pub r: u64,
    /// First page.
    pub gfn: Gfn,
    /// log2 of its bytes.
    pub shift: u32,
}

/// Where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// There only.
    Exact(Ptex),
    /// The first free one of its group.
    Group(Ptex),
}

/// Why an entry was not inserted. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No free entry.
    Full,
    /// The kernel's answer.
    Table(TableError),
}

impl NewEntry {
    /// dw0 and dw1 for the kernel: memory is coherent; of R and C, what the guest set as far as the page carries
    /// it already (`rc`; H_ENTER step 10).
    #[inline(always)]
    pub(crate) fn real(&self, rc: u64) -> (u64, u64) {
        (
            self.v | VALID,
            (self.r & (!(R | C | WIMG | NOT_GUEST) | rc)) | M,
        )
    }
}

/// The status of a refused invocation where the caller's arguments are not to blame.
#[inline]
pub(crate) fn failed(error: TableError) -> i64 {
    match error {
        TableError::NotMapped => status::H_RESOURCE,
        TableError::Poisoned | TableError::Rejected => status::H_HARDWARE,
    }
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_ENTER: r4 flags, r5 index, r6 and r7 the entry. Result: the index used.
    #[inline(never)]
    pub(crate) fn enter(&self, words: &mut Words) -> Outcome {
        if words[0] & (flags::EXACT | flags::ZERO_PAGE) != 0 {
            return self.enter_with_flags(words);
        }
        self.enter_either::<true>(words)
    }

    /// H_ENTER with a flag that Linux never passes; apart, so that the plain call is short.
    #[cold]
    #[inline(never)]
    fn enter_with_flags(&self, words: &mut Words) -> Outcome {
        self.enter_either::<false>(words)
    }

    #[inline(always)]
    fn enter_either<const PLAIN: bool>(&self, words: &mut Words) -> Outcome {
        let [call_flags, index, v, r, ..] = *words;
        // The read section lasts until the entry is on its chain (S3.1).
        let guard = self.slots.read();
        let Some(new) = self.check(&guard, v, r) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let Some(ptex) = Ptex::below(index, self.state.rev.len() as u64) else {
            return Outcome::status(status::H_PARAMETER);
        };
        let place = if !PLAIN && call_flags & flags::EXACT != 0 {
            Place::Exact(ptex)
        } else {
            Place::Group(ptex)
        };
        if !PLAIN
            && call_flags & flags::ZERO_PAGE != 0
            && let Err(status) = self.zero_first(&new, place)
        {
            return Outcome::status(status);
        }
        match self.place(&new, place) {
            Ok(ptex) => Outcome::one(words, ptex.get()),
            Err(Refusal::Full) => Outcome::status(status::H_PTEG_FULL),
            Err(Refusal::Table(TableError::NotMapped)) => self.enter_deferred(words),
            Err(Refusal::Table(error)) => Outcome::status(failed(error)),
        }
    }

    /// Checks an entry of the guest against its format and the slots: H_ENTER 1 to 8 but the
    /// place (S4.13). `None` is H_PARAMETER.
    #[inline(always)]
    pub(crate) fn check(&self, guard: &ReadGuard<'_>, v: u64, r: u64) -> Option<NewEntry> {
        // A reserved B would become a malformed tlbie.
        if v >> 63 != 0 {
            return None;
        }
        let size = PageSize::decode(v, r)?;
        let gfn = GuestReal::new(size.real_address(r))?.gfn();
        let slot = guard.lookup(gfn, Policy::Instantiate)?;
        if !slot.suits(size.shift()) {
            return None;
        }
        // The page must have a chain.
        if gfn.get() >= self.state.rmap.len() as u64 {
            return None;
        }
        let mut r = r & !NOT_GUEST;
        if slot.flags.contains(SlotFlags::READ_ONLY) {
            r |= READ_ONLY_PAGE;
        }
        Some(NewEntry {
            v: v & GUEST_DW0,
            r,
            gfn,
            shift: size.shift(),
        })
    }

    /// The deferred path (S2.5 to S2.8): the page is asked for, then the call is done again from
    /// the same registers. ZERO_PAGE has made its page present before.
    #[cold]
    #[inline(never)]
    fn enter_deferred(&self, words: &mut Words) -> Outcome {
        let [call_flags, index, v, r, ..] = *words;
        let guard = self.slots.read();
        let (Some(new), Some((ptex, _))) = (self.check_again(&guard, v, r), self.state.find(index))
        else {
            return Outcome::status(status::H_PARAMETER);
        };
        let place = if call_flags & flags::EXACT != 0 {
            Place::Exact(ptex)
        } else {
            Place::Group(ptex)
        };
        let mut result = Err(Refusal::Table(TableError::NotMapped));
        for _ in 0..DEFERRALS {
            result = match self.request(&new) {
                PageAnswer::Ready => self.place_again(&new, place),
                PageAnswer::Busy => self.place_absent(&new, place),
                PageAnswer::Refused => return Outcome::status(status::H_PARAMETER),
            };
            // Reclaimed again in between: a guest must not notice.
            if result != Err(Refusal::Table(TableError::NotMapped)) {
                break;
            }
        }
        match result {
            Ok(ptex) => Outcome::one(words, ptex.get()),
            Err(Refusal::Full) => Outcome::status(status::H_PTEG_FULL),
            Err(Refusal::Table(error)) => Outcome::status(failed(error)),
        }
    }

    /// Asks for the page of an entry. One that is there is held back no longer.
    #[inline]
    pub(crate) fn request(&self, new: &NewEntry) -> PageAnswer {
        let answer = self.pages.request(new.gfn, new.shift, !new.is_read_only());
        if answer == PageAnswer::Ready {
            let_in(&self.state, new.gfn);
        }
        answer
    }

    /// ZERO_PAGE: the page is zeroed before the entry becomes valid, unless it is plain that there
    /// is no room for the entry.
    #[cold]
    #[inline(never)]
    fn zero_first(&self, new: &NewEntry, place: Place) -> Result<(), i64> {
        if new.is_read_only() {
            return Err(status::H_PARAMETER);
        }
        if !self.seems_free(place) {
            return Err(status::H_PTEG_FULL);
        }
        match self.pages.zero(new.gfn, new.shift) {
            PageAnswer::Ready => {}
            PageAnswer::Busy => return Err(status::H_BUSY),
            PageAnswer::Refused => return Err(status::H_PARAMETER),
        }
        if let Some(mut chain) = Chain::lock(&self.state, new.gfn) {
            chain.fold(C, new.shift);
        }
        Ok(())
    }

    fn seems_free(&self, place: Place) -> bool {
        let free = |rev: &Rev| rev.v.load(Ordering::Relaxed) & (VALID | ABSENT) == 0;
        match place {
            Place::Exact(ptex) => self.state.entry(ptex).is_some_and(free),
            Place::Group(ptex) => self.state.group(ptex).is_some_and(|g| g.iter().any(free)),
        }
    }

    /// Locks a free entry.
    #[inline(always)]
    fn lock_free(&self, place: Place) -> Option<(Ptex, &Rev)> {
        match place {
            Place::Group(ptex) => {
                let group = self.state.group(ptex)?;
                for (i, rev) in group.iter().enumerate() {
                    if rev.try_lock_free() {
                        return Some((ptex.sibling(i as u32), rev));
                    }
                }
                self.lock_free_waiting(ptex)
            }
            Place::Exact(ptex) => {
                let rev = self.state.entry(ptex)?;
                let v = rev.lock();
                if v & (VALID | ABSENT) == 0 {
                    return Some((ptex, rev));
                }
                rev.unlock(v);
                None
            }
        }
    }

    /// The second pass: an entry that is locked may become free.
    #[cold]
    #[inline(never)]
    fn lock_free_waiting(&self, ptex: Ptex) -> Option<(Ptex, &Rev)> {
        for (i, rev) in self.state.group(ptex)?.iter().enumerate() {
            let seen = rev.v.load(Ordering::Relaxed);
            if seen & LOCK != 0 || seen & (VALID | ABSENT) == 0 {
                let v = rev.lock();
                if v & (VALID | ABSENT) == 0 {
                    return Some((ptex.sibling(i as u32), rev));
                }
                rev.unlock(v);
            }
        }
        None
    }

    /// Inserts an entry, in the order of S4.9.
    #[inline(always)]
    pub(crate) fn place(&self, new: &NewEntry, place: Place) -> Result<Ptex, Refusal> {
        let (ptex, rev) = self.lock_free(place).ok_or(Refusal::Full)?;
        match self.publish(ptex, rev, new) {
            Ok(()) => Ok(ptex),
            Err(error) => {
                rev.unlock(0);
                Err(Refusal::Table(error))
            }
        }
    }

    /// [`Hpt::place`] for those who are not in a hurry.
    #[cold]
    #[inline(never)]
    pub(crate) fn place_again(&self, new: &NewEntry, place: Place) -> Result<Ptex, Refusal> {
        self.place(new, place)
    }

    /// [`Hpt::check`] for those who are not in a hurry.
    #[cold]
    #[inline(never)]
    pub(crate) fn check_again(&self, guard: &ReadGuard<'_>, v: u64, r: u64) -> Option<NewEntry> {
        self.check(guard, v, r)
    }

    /// Makes the locked, unlinked entry valid and unlocks it. After an error it is still locked
    /// and unlinked.
    #[inline(always)]
    pub(crate) fn publish(&self, ptex: Ptex, rev: &Rev, new: &NewEntry) -> Result<(), TableError> {
        let intercept = new.is_read_only() && needs_intercept(new.v | VALID, new.r);
        if intercept {
            self.state.control.fault_mode.raise(&self.table)?;
        }
        rev.r.store(new.r, Ordering::Relaxed);
        let rc = {
            let mut chain = match Chain::lock_for_member(&self.state, new.gfn) {
                Ok(chain) => chain,
                Err(error) => {
                    if intercept {
                        self.state.control.fault_mode.lower();
                    }
                    return Err(error);
                }
            };
            chain.link(ptex, rev);
            chain.rc()
        };
        let (v, r) = new.real(rc);
        match self.table.insert(ptex, v, r) {
            Ok(()) => {
                rev.unlock(v);
                Ok(())
            }
            Err(error) => {
                self.withdraw(ptex, rev, v);
                Err(error)
            }
        }
    }

    /// Undoes what `publish` has done when the kernel refuses.
    #[cold]
    #[inline(never)]
    fn withdraw(&self, ptex: Ptex, rev: &Rev, v: u64) {
        let r = rev.r.load(Ordering::Relaxed);
        self.unchain(ptex, rev, v, r, 0);
        if needs_intercept(v, r) {
            self.state.control.fault_mode.lower();
        }
    }

    /// Gives the guest its entry while the page is being reclaimed; a fault will complete it.
    fn place_absent(&self, new: &NewEntry, place: Place) -> Result<Ptex, Refusal> {
        let (ptex, rev) = self.lock_free(place).ok_or(Refusal::Full)?;
        if let Err(error) = self.state.control.fault_mode.raise(&self.table) {
            rev.unlock(0);
            return Err(Refusal::Table(error));
        }
        rev.r.store(new.r, Ordering::Relaxed);
        rev.unlock(new.v | ABSENT);
        Ok(ptex)
    }
}

impl NewEntry {
    /// Whether the slot forbids writing.
    #[inline]
    pub(crate) fn is_read_only(&self) -> bool {
        self.r & READ_ONLY_PAGE != 0
    }
}
