// SPDX-License-Identifier: BSD-2-Clause
//! Taking areas away, the dirty log, and reading an SLB shadow.

use crate::areas::{Area, VcpuId, page_of};
use crate::limits::BATCH;
use crate::server::{Pages, Progress, Server};
use crate::traits::{EntryState, GuestMemory, Kernel};
use crate::update::Target;
use partita_instance::atomic::Ordering;

impl<'a, M: GuestMemory, K: Kernel> Server<'a, M, K> {
    /// Lets go of all areas in `pages`, whose slot is marked INVALID (so nothing new can be pinned
    /// there), for the vCPUs from number `from` on, at most 64 of them. `Done` says that this
    /// instance has no view left in the range: ask every instance.
    pub fn release(&mut self, pages: Pages, from: u32) -> Progress {
        let count = self.shared.len().min(self.views.len());
        let first = count.min(from as usize);
        let last = count.min(first.saturating_add(BATCH));
        for number in first..last {
            let vcpu = VcpuId(number as u32);
            if !self.release_one(vcpu, pages) {
                return Progress::NotYet(vcpu);
            }
        }
        if last < count {
            Progress::More(last as u32)
        } else {
            Progress::Done
        }
    }

    /// Unregisters all areas of one vCPU: at reset, before the new guest kernel is loaded (S1.11),
    /// and at its destruction (S0.20). Ask every instance.
    pub fn unregister_all(&mut self, vcpu: VcpuId) -> Progress {
        if self.release_one(vcpu, Pages::ALL) {
            Progress::Done
        } else {
            Progress::NotYet(vcpu)
        }
    }

    /// Drops this instance's views in the range that no pinned area of the vCPU uses: what is left of
    /// areas that were unregistered, and all of them if the vCPU lives elsewhere.
    fn drop_unused(&mut self, target: Target<'a>, pages: Pages) {
        let ours = self.is_home(target.areas);
        for area in Area::ALL {
            if let Some(page) = target.views.get(area)
                && pages.contains(page)
                && !(ours && page_of(target.pinned(area)) == Some(page))
            {
                self.unpin(target, area);
            }
        }
    }

    /// Whether this instance has a view of the vCPU's areas in the range.
    fn holds(&self, target: Target<'a>, pages: Pages) -> bool {
        Area::ALL
            .into_iter()
            .any(|a| target.views.get(a).is_some_and(|page| pages.contains(page)))
    }

    fn release_one(&mut self, vcpu: VcpuId, pages: Pages) -> bool {
        let Some(target) = self.target(vcpu) else {
            return true;
        };
        let mut recorded = false;
        {
            let _guard = self.lock(target);
            for area in Area::ALL {
                let state = target.state(area);
                let wanted = page_of(state.wanted.load(Ordering::Relaxed));
                let pinned = page_of(state.pinned.load(Ordering::Relaxed));
                if wanted
                    .into_iter()
                    .chain(pinned)
                    .any(|page| pages.contains(page))
                {
                    target.areas.force(area);
                    recorded = true;
                }
            }
        }
        let ours = self.is_home(target.areas);
        // S0.19: a vCPU that is inside may still use the page; it lets go at its own entry.
        let applied = !recorded || {
            let out = self.request_entry(vcpu) == EntryState::Out;
            !ours || out && self.apply(vcpu)
        };
        self.drop_unused(target, pages);
        applied && !self.holds(target, pages)
    }

    /// Puts every page in `pages` that we or the kernel wrote since the last call into the dirty
    /// log, for the vCPUs from number `from` on, at most 64 of them. A pinned VPA is always
    /// reported: the kernel counts in it at every switch.
    pub fn harvest_dirty(&mut self, pages: Pages, from: u32) -> Progress {
        let count = self.shared.len();
        let first = count.min(from as usize);
        let last = count.min(first.saturating_add(BATCH));
        for areas in self.shared.iter().take(last).skip(first) {
            for area in [Area::Vpa, Area::Dtl] {
                let state = areas.area(area);
                let page = page_of(state.pinned.load(Ordering::Relaxed));
                let Some(page) = page.filter(|page| pages.contains(*page)) else {
                    continue;
                };
                if area == Area::Vpa || state.dirty.swap(0, Ordering::Relaxed) != 0 {
                    self.memory.page_written(page);
                }
            }
        }
        if last < count {
            Progress::More(last as u32)
        } else {
            Progress::Done
        }
    }
}
