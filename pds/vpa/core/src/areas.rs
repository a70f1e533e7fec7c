// SPDX-License-Identifier: BSD-2-Clause
//! The state that all instances share.

use partita_instance::atomic::{AtomicU64, Ordering};
use partita_papr::{Gfn, GuestReal};

/// A vCPU of this guest, checked against the number of vCPUs by [`crate::Server::vcpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VcpuId(pub(crate) u32);

impl VcpuId {
    /// The hardware server number of the device tree.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The three areas of a vCPU, in the order in which they are applied (S0.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Virtual processor area (lppaca).
    Vpa = 0,
    /// Dispatch trace log.
    Dtl = 1,
    /// SLB shadow buffer.
    SlbShadow = 2,
}

impl Area {
    /// All, in the order of S0.16.
    pub const ALL: [Area; 3] = [Area::Vpa, Area::Dtl, Area::SlbShadow];

    #[inline]
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u32
    }
}

/// `pending` bits above the three areas' own: the change came from outside (S1), so a VPA keeps its
/// yield count and a DTL goes on from the VPA's index.
pub(crate) const RESTORED: u32 = 8;

/// Page of an area's address; `None` for 0, which stands for no area.
#[inline]
pub(crate) fn page_of(gpa: u64) -> Option<Gfn> {
    if gpa == 0 {
        None
    } else {
        GuestReal::new(gpa).map(GuestReal::gfn)
    }
}

/// One area. Addresses are guest real, 0 for none; lengths are bytes.
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[derive(Default)]
#[repr(C)]
pub(crate) struct AreaState {
    /// What the guest or the operator asked for (`next_gpa`). Under the lock.
    pub(crate) wanted: AtomicU64,
    /// Its length. Under the lock.
    pub(crate) wanted_len: AtomicU64,
    /// What we use. The home's own (S0.4).
    pub(crate) pinned: AtomicU64,
    /// Its length. The home's own.
    pub(crate) pinned_len: AtomicU64,
    /// 1 when we wrote into the pinned page since it was last reported.
    pub(crate) dirty: AtomicU64,
}

/// The areas of one vCPU: 256 bytes of memory that every instance maps read-write. All zeros is the
/// state of a new vCPU (nothing registered, lock free: S0.21).
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[derive(Default)]
#[cfg_attr(not(loom), repr(C, align(256)))]
pub struct VcpuAreas {
    /// Lock bit (S0.4): 0 or holder + 1.
    pub(crate) lock: AtomicU64,
    /// A bit for each area whose wanted and pinned state differ; read without the lock (S0.5).
    pub(crate) pending: AtomicU64,
    /// Instance + 1 that last served this vCPU, 0 before it ever ran.
    pub(crate) home: AtomicU64,
    /// Instance + 1 that is applying changes; not a lock: nobody waits for it.
    pub(crate) applying: AtomicU64,
    pub(crate) areas: [AreaState; 3],
    /// Trace entries ever written (dtl_idx of the VPA).
    pub(crate) dtl_index: AtomicU64,
    /// Next entry of the ring.
    pub(crate) dtl_slot: AtomicU64,
    /// Stolen total at the last trace entry.
    pub(crate) dtl_stolen: AtomicU64,
    /// Last stolen total that the kernel reported, ticks.
    pub(crate) stolen: AtomicU64,
    /// enqueue_dispatch_tb minus the kernel's total: not 0 after a restore.
    pub(crate) stolen_base: AtomicU64,
    /// Areas that could not be pinned when their turn came (S0.18).
    pub(crate) failed_pins: AtomicU64,
    /// Areas taken away because their slot went (S0, gaps).
    pub(crate) forced: AtomicU64,
}

impl VcpuAreas {
    /// Areas that could not be pinned when their turn came; the guest cannot be told (S0.18).
    pub fn failed_pins(&self) -> u64 {
        self.failed_pins.load(Ordering::Relaxed)
    }

    /// Areas that were taken away because their memory went.
    pub fn forced_unregistrations(&self) -> u64 {
        self.forced.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn area(&self, area: Area) -> &AreaState {
        match area {
            Area::Vpa => &self.areas[0],
            Area::Dtl => &self.areas[1],
            Area::SlbShadow => &self.areas[2],
        }
    }

    /// Whether the area is registered as the guest sees it (S0.13): after a failed pin the wanted
    /// address is 0 as well, so wanted alone says it. Under the lock.
    #[inline]
    pub(crate) fn registered(&self, area: Area) -> bool {
        self.area(area).wanted.load(Ordering::Relaxed) != 0
    }

    /// Records what is wanted. Under the lock.
    #[inline]
    pub(crate) fn record(&self, area: Area, gpa: u64, len: u64, restored: bool) {
        let state = self.area(area);
        state.wanted.store(gpa, Ordering::Relaxed);
        state
            .wanted_len
            .store(if gpa == 0 { 0 } else { len }, Ordering::Relaxed);
        let restored_bit = area.bit() << RESTORED;
        let mut pending = self.pending.load(Ordering::Relaxed) & !restored_bit;
        pending |= area.bit();
        if restored {
            pending |= restored_bit;
        }
        self.pending.store(pending, Ordering::Release);
    }
}

impl VcpuAreas {
    /// Unregisters an area whatever the guest wants, with what depends on it. Under the lock.
    pub(crate) fn force(&self, area: Area) {
        let all = Area::ALL;
        let goes = if area == Area::Vpa {
            &all[..]
        } else {
            core::slice::from_ref(&area)
        };
        for &area in goes {
            let state = self.area(area);
            let wanted = state.wanted.load(Ordering::Relaxed);
            if wanted != 0 {
                self.forced.fetch_add(1, Ordering::Relaxed);
            }
            if wanted != 0 || state.pinned.load(Ordering::Relaxed) != 0 {
                self.record(area, 0, 0, false);
            }
        }
    }
}

/// What one instance has mapped for one vCPU: 32 bytes in memory of the instance's own, which
/// outlives a restart. Page number + 1, or 0.
///
/// A view stays mapped when its area is unregistered, for the next registration (a guest registers
/// the same pages again and again), until another page is wanted or the page is released.
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[derive(Default)]
#[repr(C)]
pub struct InstanceViews {
    pub(crate) pages: [AtomicU64; 3],
    /// 1 while the kernel may count through the view of the VPA.
    pub(crate) bound: AtomicU64,
}

impl InstanceViews {
    #[inline]
    pub(crate) fn get(&self, area: Area) -> Option<Gfn> {
        let word = self.pages[area as usize].load(Ordering::Relaxed);
        word.checked_sub(1).and_then(Gfn::new)
    }

    #[inline]
    pub(crate) fn set(&self, area: Area, page: Option<Gfn>) {
        self.pages[area as usize].store(page.map_or(0, |p| p.get() + 1), Ordering::Relaxed);
    }
}
