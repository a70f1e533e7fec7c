// SPDX-License-Identifier: BSD-2-Clause
//! A vCPU's own entry: what is wanted becomes what is pinned.

use crate::areas::{Area, AreaState, InstanceViews, RESTORED, VcpuAreas, VcpuId, page_of};
use crate::limits::{
    DTL_ENABLE_MASK, DTL_ENTRY, DTL_IDX, ENQUEUE_DISPATCH_TB, RETRIES, STATUS, YIELD_COUNT,
    offset_of_gpa,
};
use crate::server::{Dispatch, Entry, Server};
use crate::traits::{GuestMemory, Kernel, MapError, View};
use partita_instance::Guard;
use partita_instance::atomic::{Ordering, fence};
use partita_papr::areas::{DtlEntry, VPA_SHARED};
use partita_papr::{Gfn, GuestReal};
use zerocopy::IntoBytes;

/// Dispatch reason of a trace entry: the end of a time slice (as KVM).
const DISPATCH_REASON: u8 = 7;

/// A vCPU's areas and this instance's views of them.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) vcpu: VcpuId,
    pub(crate) areas: &'a VcpuAreas,
    pub(crate) views: &'a InstanceViews,
}

impl<'a> Target<'a> {
    #[inline]
    pub(crate) fn state(&self, area: Area) -> &'a AreaState {
        self.areas.area(area)
    }

    #[inline]
    pub(crate) fn pinned(&self, area: Area) -> u64 {
        self.state(area).pinned.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn view(&self, area: Area) -> View {
        View::Area(self.vcpu, area)
    }
}

/// What was wanted at one moment (S0.15).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    gpa: u64,
    len: u64,
    restored: bool,
}

impl<'a, M: GuestMemory, K: Kernel> Server<'a, M, K> {
    #[inline]
    pub(crate) fn target(&self, vcpu: VcpuId) -> Option<Target<'a>> {
        let (areas, views) = self.slots(vcpu)?;
        Some(Target { vcpu, areas, views })
    }

    pub(crate) fn lock(&self, target: Target<'a>) -> Guard<'a> {
        Guard::take(&target.areas.lock, self.instance)
    }

    /// The vCPU's own `Entry` exit: applies what is pending, then writes stolen time and a trace
    /// entry. The reply is always "resume".
    pub fn entry(&mut self, vcpu: VcpuId, entry: &Entry) {
        let Some(target) = self.target(vcpu) else {
            return;
        };
        target.areas.stolen.store(entry.stolen, Ordering::Relaxed);
        if !self.arrive(vcpu) {
            return;
        }
        // S0.5: nothing pending, no lock.
        if target.areas.pending.load(Ordering::Acquire) != 0 && !self.apply(vcpu) {
            return;
        }
        let vpa = target.pinned(Area::Vpa);
        if vpa == 0 {
            return;
        }
        self.write_stolen(target, vpa, entry.stolen);
        if let Some(dispatch) = entry.dispatch {
            self.trace(target, vpa, entry, dispatch);
        }
    }

    fn write_stolen(&mut self, target: Target<'a>, vpa: u64, stolen: u64) {
        let total = target
            .areas
            .stolen_base
            .load(Ordering::Relaxed)
            .wrapping_add(stolen);
        let offset = offset_of_gpa(vpa) + ENQUEUE_DISPATCH_TB;
        self.memory.write_u64(target.view(Area::Vpa), offset, total);
    }

    /// Appends a trace entry if the guest wants this kind (SPEC 3.3).
    fn trace(&mut self, target: Target<'a>, vpa: u64, entry: &Entry, dispatch: Dispatch) {
        let dtl = target.state(Area::Dtl);
        let dtl_gpa = dtl.pinned.load(Ordering::Relaxed);
        if dtl_gpa == 0 {
            return;
        }
        let (vpa_view, dtl_view) = (target.view(Area::Vpa), target.view(Area::Dtl));
        let vpa_offset = offset_of_gpa(vpa);
        let mask = self.memory.read_u8(vpa_view, vpa_offset + DTL_ENABLE_MASK);
        if mask & dispatch.mask() == 0 {
            return;
        }
        let slot = target.areas.dtl_slot.load(Ordering::Relaxed);
        let index = target
            .areas
            .dtl_index
            .load(Ordering::Relaxed)
            .wrapping_add(1);
        let since = entry
            .stolen
            .wrapping_sub(target.areas.dtl_stolen.load(Ordering::Relaxed));
        let record = DtlEntry {
            dispatch_reason: DISPATCH_REASON,
            processor_id: entry.processor.into(),
            enqueue_to_dispatch_time: u32::try_from(since).unwrap_or(u32::MAX).into(),
            timebase: entry.timebase.into(),
            srr0: entry.pc.into(),
            srr1: entry.msr.into(),
            ..DtlEntry::default()
        };
        let offset = offset_of_gpa(dtl_gpa) + slot * DTL_ENTRY;
        let (words, _) = record.as_bytes().as_chunks::<8>();
        for (word, at) in words.iter().zip((offset..).step_by(8)) {
            self.memory
                .write_u64(dtl_view, at, u64::from_be_bytes(*word));
        }
        // The index must not be seen before the entry.
        fence(Ordering::Release);
        self.memory.write_u64(vpa_view, vpa_offset + DTL_IDX, index);
        let full = (slot + 2) * DTL_ENTRY > dtl.pinned_len.load(Ordering::Relaxed);
        target
            .areas
            .dtl_slot
            .store(if full { 0 } else { slot + 1 }, Ordering::Relaxed);
        target.areas.dtl_index.store(index, Ordering::Relaxed);
        target
            .areas
            .dtl_stolen
            .store(entry.stolen, Ordering::Relaxed);
        dtl.dirty.store(1, Ordering::Relaxed);
    }

    /// Marks the vCPU's areas as being changed by this instance. `None`, and another `Entry` exit,
    /// if another instance is at it: nobody waits.
    fn claim(&mut self, target: Target<'a>) -> Option<Claim<'a>> {
        let (word, mark) = (&target.areas.applying, self.instance.mark());
        if word
            .compare_exchange(0, mark, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            return Some(Claim(target.areas));
        }
        let _ = self.request_entry(target.vcpu);
        None
    }

    /// Makes this instance the vCPU's home: areas pinned by another one get views of ours (the
    /// former home's views go when their pages are released). False if that must be tried again.
    #[inline]
    pub(crate) fn arrive(&mut self, vcpu: VcpuId) -> bool {
        match self.target(vcpu) {
            Some(target) => self.is_home(target.areas) || self.move_in(target),
            None => false,
        }
    }

    /// Whether this instance is the vCPU's home.
    #[inline]
    pub(crate) fn is_home(&self, areas: &VcpuAreas) -> bool {
        areas.home.load(Ordering::Acquire) == self.instance.mark()
    }

    #[cold]
    #[inline(never)]
    fn move_in(&mut self, target: Target<'a>) -> bool {
        let Some(_claim) = self.claim(target) else {
            return false;
        };
        for area in Area::ALL {
            let gpa = target.pinned(area);
            let Some(page) = page_of(gpa) else { continue };
            let mut usable = self.pin(target, area, page).is_ok();
            if usable && area == Area::Vpa {
                usable = self.bind(target, gpa).is_ok();
            }
            if !usable {
                self.give_up(target, area);
                let _guard = self.lock(target);
                target.areas.failed_pins.fetch_add(1, Ordering::Relaxed);
                target.areas.force(area);
            }
        }
        let mark = self.instance.mark();
        target.areas.home.store(mark, Ordering::Release);
        true
    }

    /// Applies what is pending; this is the home, the vCPU is out and latched for an `Entry` exit.
    /// False if it must be tried again.
    pub(crate) fn apply(&mut self, vcpu: VcpuId) -> bool {
        let Some(target) = self.target(vcpu) else {
            return true;
        };
        let Some(claim) = self.claim(target) else {
            return false;
        };
        // Between the caller's look and the mark another instance may have become the vCPU's home.
        if !self.is_home(target.areas) {
            drop(claim);
            let _ = self.request_entry(vcpu);
            return false;
        }
        for area in Area::ALL {
            for tries in 1.. {
                // S0.5
                if target.areas.pending.load(Ordering::Acquire) & area.bit() == 0
                    || self.update(target, area)
                {
                    break;
                }
                if tries == RETRIES {
                    let _ = self.request_entry(vcpu);
                    return false;
                }
            }
        }
        true
    }

    fn wanted(&self, target: Target<'a>, area: Area) -> Option<Wanted> {
        let pending = target.areas.pending.load(Ordering::Relaxed);
        let state = target.state(area);
        (pending & area.bit() != 0).then(|| Wanted {
            gpa: state.wanted.load(Ordering::Relaxed),
            len: state.wanted_len.load(Ordering::Relaxed),
            restored: pending & (area.bit() << RESTORED) != 0,
        })
    }

    /// Makes one area what is wanted (S0.15). False if that changed meanwhile.
    #[inline(never)] // A loop around it would keep its constants in registers that must be saved.
    fn update(&mut self, target: Target<'a>, area: Area) -> bool {
        let wanted = {
            let _guard = self.lock(target);
            self.wanted(target, area)
        };
        let Some(wanted) = wanted else { return true };
        let page = page_of(wanted.gpa);
        self.retire(target, area);
        // Asking for the page may call memslots: no lock is held.
        let mut usable = page.is_some_and(|page| self.pin(target, area, page).is_ok());
        if usable && area == Area::Vpa {
            usable = self.start_vpa(target, wanted).is_ok();
        }
        if !usable && page.is_some() {
            self.give_up(target, area);
        }
        let changed = {
            let _guard = self.lock(target);
            let changed = self.wanted(target, area) != Some(wanted);
            if !changed {
                publish(target, area, wanted, usable);
            }
            changed
        };
        if changed {
            self.retire(target, area);
            return false;
        }
        if usable && area == Area::Dtl {
            self.start_dtl(target, wanted);
        }
        true
    }

    /// Ends the use of an area, pinned or only begun: the page is reported if we wrote to it. Its view
    /// stays.
    fn retire(&mut self, target: Target<'a>, area: Area) {
        let state = target.state(area);
        let old = state.pinned.load(Ordering::Relaxed);
        let bound = &target.views.bound;
        // Where nothing is pinned, a predecessor may have died with the counter bound.
        if area == Area::Vpa && (old != 0 || bound.load(Ordering::Relaxed) != 0) {
            self.kernel.unbind_dispatch_counter(target.vcpu);
            bound.store(0, Ordering::Relaxed);
        }
        if state.dirty.load(Ordering::Relaxed) != 0 {
            // Whoever harvests at the same time reports the page as well; at worst both do.
            state.dirty.store(0, Ordering::Relaxed);
            // What was only begun has its page behind the view.
            if let Some(page) = page_of(old).or_else(|| target.views.get(area)) {
                self.memory.page_written(page);
            }
        }
        state.pinned.store(0, Ordering::Relaxed);
    }

    /// An area that cannot be used: not even its view stays.
    #[cold]
    fn give_up(&mut self, target: Target<'a>, area: Area) {
        self.retire(target, area);
        self.unpin(target, area);
    }

    /// Lets go of the page behind a view. The kernel's binding through it ends with the mapping.
    pub(crate) fn unpin(&mut self, target: Target<'a>, area: Area) {
        if target.views.get(area).is_some() {
            self.memory.unmap(target.view(area));
            target.views.set(area, None);
            if area == Area::Vpa {
                target.views.bound.store(0, Ordering::Relaxed);
            }
        }
    }

    fn pin(&mut self, target: Target<'a>, area: Area, page: Gfn) -> Result<(), MapError> {
        if target.views.get(area) != Some(page) {
            self.unpin(target, area);
            self.memory.map(target.view(area), page)?;
            target.views.set(area, Some(page));
        }
        Ok(())
    }

    fn bind(&mut self, target: Target<'a>, vpa: u64) -> Result<(), MapError> {
        let word = GuestReal::new(vpa + YIELD_COUNT).ok_or(MapError::NoSlot)?;
        target.views.bound.store(1, Ordering::Relaxed);
        self.kernel.bind_dispatch_counter(target.vcpu, word)
    }

    /// Initialises a VPA (S0.16, S1.12) and has the kernel count dispatches in it.
    fn start_vpa(&mut self, target: Target<'a>, wanted: Wanted) -> Result<(), MapError> {
        let (view, offset) = (target.view(Area::Vpa), offset_of_gpa(wanted.gpa));
        let memory = &mut self.memory;
        let status = memory.read_u8(view, offset + STATUS);
        memory.write_u8(view, offset + STATUS, status | VPA_SHARED);
        let stolen = target.areas.stolen.load(Ordering::Relaxed);
        let mut count = 1;
        let mut total = stolen;
        if wanted.restored {
            count = memory.read_u32(view, offset + YIELD_COUNT) | 1;
            total = memory.read_u64(view, offset + ENQUEUE_DISPATCH_TB);
        }
        target
            .areas
            .stolen_base
            .store(total.wrapping_sub(stolen), Ordering::Relaxed);
        memory.write_u32(view, offset + YIELD_COUNT, count);
        memory.write_u64(view, offset + ENQUEUE_DISPATCH_TB, total);
        // The page is reported when the area is retired, and at each harvest before that.
        target.state(Area::Vpa).dirty.store(1, Ordering::Relaxed);
        // From here on the word is the kernel's.
        self.bind(target, wanted.gpa)
    }

    /// S0.17; after a restore the count goes on from the VPA's.
    fn start_dtl(&mut self, target: Target<'a>, wanted: Wanted) {
        let vpa = target.pinned(Area::Vpa);
        let mut index = 0;
        if wanted.restored && vpa != 0 {
            let offset = offset_of_gpa(vpa) + DTL_IDX;
            index = self.memory.read_u64(target.view(Area::Vpa), offset);
        }
        let slot = index.checked_rem(wanted.len / DTL_ENTRY).unwrap_or(0);
        target.areas.dtl_index.store(index, Ordering::Relaxed);
        target.areas.dtl_slot.store(slot, Ordering::Relaxed);
        let stolen = target.areas.stolen.load(Ordering::Relaxed);
        target.areas.dtl_stolen.store(stolen, Ordering::Relaxed);
    }
}

/// Held while one instance changes a vCPU's areas; not a lock, since nobody waits for it.
struct Claim<'a>(&'a VcpuAreas);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.applying.store(0, Ordering::Release);
    }
}

/// Records the outcome of an update. Under the lock.
fn publish(target: Target<'_>, area: Area, wanted: Wanted, usable: bool) {
    let state = target.state(area);
    let bits = area.bit() | (area.bit() << RESTORED);
    let pending = target.areas.pending.load(Ordering::Relaxed) & !bits;
    target.areas.pending.store(pending, Ordering::Release);
    if usable {
        state.pinned.store(wanted.gpa, Ordering::Relaxed);
        state.pinned_len.store(wanted.len, Ordering::Relaxed);
    } else if wanted.gpa != 0 {
        // S0.18: as if it had never been registered; what needs a VPA goes with it.
        target.areas.failed_pins.fetch_add(1, Ordering::Relaxed);
        state.wanted.store(0, Ordering::Relaxed);
        state.wanted_len.store(0, Ordering::Relaxed);
        if area == Area::Vpa {
            target.areas.record(Area::Dtl, 0, 0, false);
            target.areas.record(Area::SlbShadow, 0, 0, false);
        }
    }
}
