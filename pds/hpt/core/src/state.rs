// SPDX-License-Identifier: BSD-2-Clause
//! The shared memory of one hash page table.

use crate::{FaultMode, LoopGuard, WATCHED};
use partita_instance::atomic::{AtomicU32, AtomicU64, Ordering};
use partita_instance::spin;
use partita_papr::hpte::{ABSENT, LOCK, MODIFIED, PER_GROUP, VALID};
use partita_papr::{Gfn, HptOrder, PageSize, Ptex};

/// In [`Rev`]'s dw1: the page is read-only in its slot. No guest real address has bit 59
/// ([`partita_papr::GuestReal`]), so the bit is free.
pub(crate) const READ_ONLY_PAGE: u64 = 1 << 59;
/// Bits of [`Rev`]'s dw1 that are not the guest's.
pub(crate) const NOT_GUEST: u64 = READ_ONLY_PAGE | MODIFIED;

/// What the server knows of an entry: 24 bytes, native byte order. All zeros is a free entry.
#[derive(Debug)]
#[repr(C)]
pub struct Rev {
    /// The guest's dw0. VALID: the real entry is valid too; ABSENT: only the guest's is; LOCK.
    pub(crate) v: AtomicU64,
    /// The guest's dw1 (S4.1).
    pub(crate) r: AtomicU64,
    /// Next entry of the chain.
    pub(crate) forw: AtomicU32,
    /// Previous entry of the chain.
    pub(crate) back: AtomicU32,
}

/// An entry of the real table, which hardware and the kernel write: 16 bytes, big-endian, mapped
/// read-only (`HPT_MapView`).
#[derive(Debug)]
#[repr(C, align(16))]
pub struct RealHpte {
    dw0: AtomicU64,
    dw1: AtomicU64,
}

/// The words that exist once, and those of each vCPU: 64 bytes and 32 a vCPU. All zeros is the state
/// at the start.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Control {
    /// Entries that need interception, and whether it is on.
    pub(crate) fault_mode: FaultMode,
    /// Where H_CLEAR_HPT goes on.
    pub(crate) clear_next: AtomicU64,
    /// Whether the virtual real mode area has been set up, and its lock bit.
    pub(crate) vrma_done: AtomicU64,
    /// Runs of identical faults that have been reported. A reset keeps it.
    pub(crate) loops: AtomicU64,
    _reserved: [u64; 4],
    /// The last fault of each vCPU.
    pub(crate) guards: [LoopGuard; WATCHED],
}

impl Default for Control {
    fn default() -> Self {
        Control {
            fault_mode: FaultMode::default(),
            clear_next: AtomicU64::new(0),
            vrma_done: AtomicU64::new(0),
            loops: AtomicU64::new(0),
            _reserved: [0; 4],
            guards: core::array::from_fn(|_| LoopGuard::default()),
        }
    }
}

impl Rev {
    /// A free entry.
    pub fn new() -> Self {
        Rev {
            v: AtomicU64::new(0),
            r: AtomicU64::new(0),
            forw: AtomicU32::new(0),
            back: AtomicU32::new(0),
        }
    }

    /// Takes the lock bit, waiting for it; returns dw0 without it.
    #[inline]
    pub(crate) fn lock(&self) -> u64 {
        loop {
            let v = self.v.fetch_or(LOCK, Ordering::Acquire);
            if v & LOCK == 0 {
                return v;
            }
            self.wait_until_unlocked();
        }
    }

    /// Takes the lock bit if nobody holds it; returns dw0 without it.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<u64> {
        let v = self.v.fetch_or(LOCK, Ordering::Acquire);
        if v & LOCK == 0 { Some(v) } else { None }
    }

    /// Takes the lock bit of a free entry, if it is free and nobody holds it.
    #[inline]
    pub(crate) fn try_lock_free(&self) -> bool {
        let v = self.v.load(Ordering::Relaxed);
        v & (LOCK | VALID | ABSENT) == 0
            && self
                .v
                .compare_exchange(v, LOCK, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Looks until the lock bit is clear, without taking it.
    pub(crate) fn wait_until_unlocked(&self) {
        while self.v.load(Ordering::Relaxed) & LOCK != 0 {
            spin();
        }
    }

    /// Stores dw0 and gives the lock bit back. `v` is without LOCK.
    #[inline]
    pub(crate) fn unlock(&self, v: u64) {
        #[cfg(not(loom))]
        self.v.store(v, Ordering::Release);
        // loom does not derive that this store comes after the fetch_or of a waiting thread, which
        // has read the lock bit; a read-modify-write tells it.
        #[cfg(loom)]
        self.v.swap(v, Ordering::Release);
    }
}

impl Default for Rev {
    fn default() -> Self {
        Self::new()
    }
}

impl RealHpte {
    /// An entry with these words, as numbers.
    pub fn new(dw0: u64, dw1: u64) -> Self {
        RealHpte {
            dw0: AtomicU64::new(dw0.to_be()),
            dw1: AtomicU64::new(dw1.to_be()),
        }
    }

    /// dw0 as a number.
    #[inline]
    pub fn dw0(&self) -> u64 {
        u64::from_be(self.dw0.load(Ordering::Relaxed))
    }

    /// dw1 as a number. Hardware stores R and C into it at any time.
    #[inline]
    pub fn dw1(&self) -> u64 {
        u64::from_be(self.dw1.load(Ordering::Relaxed))
    }

    /// Writes both words as the kernel would (dw1 first); only a machine model needs it.
    #[cfg(test)]
    pub(crate) fn set(&self, dw0: u64, dw1: u64) {
        self.dw1.store(dw1.to_be(), Ordering::Relaxed);
        self.dw0.store(dw0.to_be(), Ordering::Relaxed);
    }
}

/// The regions of one hash page table of order `o`:
///
/// | region | bytes | access |
/// |---|---|---|
/// | `rev` | 24 for each entry = 1.5 * 2^o | every instance, read-write |
/// | `rmap` | 8 for each 4 KiB of guest real address space | every instance, read-write |
/// | `real` | 2^o | read-only view of the real table |
/// | `control` | 2,112 | every instance, read-write |
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    pub(crate) order: HptOrder,
    pub(crate) rev: &'a [Rev],
    pub(crate) rmap: &'a [AtomicU64],
    pub(crate) real: &'a [RealHpte],
    pub(crate) control: &'a Control,
}

impl<'a> State<'a> {
    /// The regions; `None` if `rev` or `real` is shorter than the table. Guest pages past the end
    /// of `rmap` cannot be mapped.
    pub fn new(
        order: HptOrder,
        rev: &'a [Rev],
        rmap: &'a [AtomicU64],
        real: &'a [RealHpte],
        control: &'a Control,
    ) -> Option<Self> {
        let entries = usize::try_from(order.entries()).ok()?;
        Some(State {
            order,
            rev: rev.get(..entries)?,
            rmap,
            real: real.get(..entries)?,
            control,
        })
    }

    /// Bytes of the `rev` region of a table.
    pub const fn rev_bytes(order: HptOrder) -> u64 {
        order.entries() * size_of::<Rev>() as u64
    }

    /// Bytes of the `rmap` region for `guest_bytes` of guest real address space.
    pub const fn rmap_bytes(guest_bytes: u64) -> u64 {
        guest_bytes.div_ceil(1 << partita_papr::PAGE_SHIFT) * size_of::<AtomicU64>() as u64
    }

    /// Entries in the table.
    pub fn entries(&self) -> u64 {
        self.order.entries()
    }

    /// Entries that are absent or more restrictive than the guest's view, and whether translated
    /// faults are intercepted.
    pub fn fault_mode(&self) -> (u64, bool) {
        self.control.fault_mode.get()
    }

    /// The entry, whose index the type has checked.
    #[inline]
    pub(crate) fn entry(&self, ptex: Ptex) -> Option<&'a Rev> {
        self.rev.get(ptex.index() as usize)
    }

    /// Index, entry and real entry for a number from the guest.
    #[inline]
    pub(crate) fn find(&self, index: u64) -> Option<(Ptex, &'a Rev)> {
        // The slice is as long as the table, so one comparison does for both.
        let ptex = Ptex::below(index, self.rev.len() as u64)?;
        Some((ptex, self.rev.get(index as usize)?))
    }

    /// The eight entries of the group of `ptex`.
    #[inline]
    pub(crate) fn group(&self, ptex: Ptex) -> Option<&'a [Rev; PER_GROUP]> {
        let first = ptex.sibling(0).index() as usize;
        self.rev.get(first..)?.first_chunk()
    }

    /// R and C in the real entry now.
    #[inline]
    pub(crate) fn hardware_rc(&self, ptex: Ptex) -> u64 {
        match self.real.get(ptex.index() as usize) {
            Some(real) => real.dw1() & (partita_papr::hpte::R | partita_papr::hpte::C),
            None => 0,
        }
    }

    /// The chain head of a page.
    #[inline]
    pub(crate) fn head(&self, gfn: Gfn) -> Option<&'a AtomicU64> {
        self.rmap.get(usize::try_from(gfn.get()).ok()?)
    }
}

/// The first guest page that an entry maps and log2 of the page's bytes (S4.7). `None` for a page
/// size that does not exist, which no stored entry has.
#[inline]
pub(crate) fn page_of(v: u64, r: u64) -> Option<(Gfn, u32)> {
    let size = PageSize::decode(v, r)?;
    let address = partita_papr::GuestReal::new(size.real_address(r & !NOT_GUEST))?;
    Some((address.gfn(), size.shift()))
}

/// Whether hardware must not deliver faults on this entry to the guest by itself.
#[inline]
pub(crate) fn needs_intercept(v: u64, r: u64) -> bool {
    v & ABSENT != 0
        || (r & READ_ONLY_PAGE != 0 && v & VALID != 0 && partita_papr::protection::is_writable(r))
}
