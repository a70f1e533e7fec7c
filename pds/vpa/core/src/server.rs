// SPDX-License-Identifier: BSD-2-Clause
//! An instance of the server: H_REGISTER_VPA and the types of the other calls.

use crate::areas::{Area, InstanceViews, VcpuAreas, VcpuId};
use crate::limits::{DTL_ENTRY, MIN_AREA, PAGE, SLB_MIN, VPA_BYTES, offset_of_gpa};
use crate::traits::{EntryState, GuestMemory, Kernel, View};
use partita_instance::{Guard, Instance};
use partita_papr::areas;
use partita_papr::hcall::VpaSubfunction::{self, *};
use partita_papr::hcall::number::H_REGISTER_VPA;
use partita_papr::hcall::status::{H_FUNCTION, H_PARAMETER, H_RESOURCE, H_SUCCESS};
use partita_papr::{Gfn, GuestReal};

/// Why a vCPU has just been given a processor; decides whether the guest wants a trace entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// It had ceded.
    Ceded,
    /// It had been preempted.
    Preempted,
}

impl Dispatch {
    /// Bit in the VPA's DTL enable mask (SPEC 3.1, offset 0xb8).
    #[inline]
    pub(crate) const fn mask(self) -> u8 {
        match self {
            Dispatch::Ceded => areas::DTL_LOG_CEDE,
            Dispatch::Preempted => areas::DTL_LOG_PREEMPT,
        }
    }
}

/// What an `Entry` exit tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The guest's timebase, ticks.
    pub timebase: u64,
    /// Guest program counter.
    pub pc: u64,
    /// Guest MSR.
    pub msr: u64,
    /// All ticks that the vCPU was ready but had no processor since it was made.
    pub stolen: u64,
    /// Processor it runs on now.
    pub processor: u16,
    /// Set when this entry follows a switch-in.
    pub dispatch: Option<Dispatch>,
}

/// A range of guest real memory, in 4 KiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// First page number (address / 4096).
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Pages {
    /// All of guest memory.
    pub const ALL: Pages = Pages {
        first: 0,
        count: u64::MAX,
    };

    #[inline]
    pub(crate) fn contains(self, page: Gfn) -> bool {
        page.get().wrapping_sub(self.first) < self.count
    }
}

/// How far a long call came. The call never waits: it is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This instance has nothing left to do.
    Done,
    /// Go on from this vCPU number.
    More(u32),
    /// This vCPU has not yet passed its own entry; start again from it.
    NotYet(VcpuId),
}

/// Why H_REGISTER_VPA refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Parameter,
    Resource,
}

/// One instance. All of its state is in the two slices.
pub struct Server<'a, M, K> {
    pub(crate) shared: &'a [VcpuAreas],
    pub(crate) views: &'a [InstanceViews],
    pub(crate) instance: Instance,
    pub(crate) memory: M,
    pub(crate) kernel: K,
}

impl<'a, M: GuestMemory, K: Kernel> Server<'a, M, K> {
    /// An instance over the areas of a guest's vCPUs (shared) and its own views, one element each a
    /// vCPU; the shorter slice counts.
    pub fn new(
        shared: &'a [VcpuAreas],
        views: &'a [InstanceViews],
        instance: Instance,
        memory: M,
        kernel: K,
    ) -> Self {
        Server {
            shared,
            views,
            instance,
            memory,
            kernel,
        }
    }

    /// Frees lock bits and marks that a predecessor with the same instance number died with, and
    /// views it had not yet recorded. To be called once, at the start.
    pub fn recover(&mut self) {
        for areas in self.shared {
            for word in [&areas.lock, &areas.applying] {
                self.instance.release(word);
            }
        }
        self.memory.unmap(View::Scratch);
        for (number, views) in (0..).zip(self.views) {
            for area in Area::ALL
                .into_iter()
                .filter(|area| views.get(*area).is_none())
            {
                self.memory.unmap(View::Area(VcpuId(number), area));
            }
        }
    }

    /// The vCPU with a number that came from outside.
    #[inline]
    pub fn vcpu(&self, number: u64) -> Option<VcpuId> {
        let count = self.shared.len().min(self.views.len()) as u64;
        if number < count {
            Some(VcpuId(number as u32))
        } else {
            None
        }
    }

    #[inline]
    pub(crate) fn slots(&self, vcpu: VcpuId) -> Option<(&'a VcpuAreas, &'a InstanceViews)> {
        Some((
            self.shared.get(vcpu.0 as usize)?,
            self.views.get(vcpu.0 as usize)?,
        ))
    }

    /// A hypercall of vCPU `caller`: H_REGISTER_VPA (args: flags, vCPU, address); every other
    /// number is H_FUNCTION. Answers the status.
    pub fn hypercall(&mut self, caller: VcpuId, number: u64, args: &[u64; 8]) -> i64 {
        if number != H_REGISTER_VPA {
            return H_FUNCTION;
        }
        let [flags, target, address, ..] = *args;
        let Some(target) = self.vcpu(target) else {
            return H_PARAMETER;
        }; // S0.1
        let home = self.arrive(caller);
        let subfunction = VpaSubfunction::from_flags(flags); // S0.6
        let done = match subfunction {
            Some(RegisterVpa) => self.register(target, Area::Vpa, address),
            Some(RegisterDtl) => self.register(target, Area::Dtl, address),
            Some(RegisterSlbShadow) => self.register(target, Area::SlbShadow, address),
            Some(DeregisterVpa) => self.unregister(target, Area::Vpa),
            Some(DeregisterDtl) => self.unregister(target, Area::Dtl),
            Some(DeregisterSlbShadow) => self.unregister(target, Area::SlbShadow),
            None => Err(Refusal::Parameter),
        };
        match done {
            Ok(()) => {
                // Who calls is out, and stays so until we answer: no need to ask. Of a log the kernel is told.
                let log = matches!(subfunction, Some(RegisterDtl | DeregisterDtl));
                if caller == target && home && !log {
                    self.apply(target);
                } else {
                    self.request(target);
                }
                H_SUCCESS
            }
            Err(Refusal::Parameter) => H_PARAMETER,
            Err(Refusal::Resource) => H_RESOURCE,
        }
    }

    /// Asks for the vCPU's next entry, and for all its dispatches while it has a trace log (SPEC 3.3).
    pub(crate) fn request_entry(&mut self, vcpu: VcpuId) -> EntryState {
        let areas = self.shared.get(vcpu.0 as usize);
        let traced = areas.is_some_and(|areas| areas.registered(Area::Dtl));
        self.kernel.request_entry(vcpu, traced)
    }

    /// Has a recorded change applied: now if the vCPU is out and ours, else at its next entry.
    #[inline(never)]
    fn request(&mut self, target: VcpuId) {
        let state = self.request_entry(target);
        let ours = self.slots(target).is_some_and(|(a, _)| self.is_home(a));
        if state == EntryState::Out && ours {
            self.apply(target);
        }
    }

    fn register(&mut self, target: VcpuId, area: Area, address: u64) -> Result<(), Refusal> {
        if address == 0 || !address.is_multiple_of(areas::ALIGN) {
            return Err(Refusal::Parameter); // S0.7
        }
        let page = GuestReal::new(address).ok_or(Refusal::Parameter)?.gfn();
        let offset = offset_of_gpa(address);
        if !self.memory.in_slot(page) {
            return Err(Refusal::Parameter);
        }
        let (areas, views) = self.slots(target).ok_or(Refusal::Parameter)?;
        // S0.8: the length is read once. The page is pinned only for that, unless the area's view has it.
        let viewed = views.get(area) == Some(page);
        let view = if viewed {
            View::Area(target, area)
        } else {
            self.memory
                .map(View::Scratch, page)
                .map_err(|_| Refusal::Parameter)?;
            View::Scratch
        };
        let len = match area {
            Area::Vpa => u64::from(self.memory.read_u16(view, offset + 4)),
            Area::Dtl | Area::SlbShadow => u64::from(self.memory.read_u32(view, offset + 4)),
        };
        if !viewed {
            self.memory.unmap(View::Scratch);
        }
        if len < MIN_AREA || len > PAGE - offset {
            return Err(Refusal::Parameter); // S0.8; a view is one 4 KiB page for all three
        }
        let len = match area {
            Area::Vpa if len < VPA_BYTES => return Err(Refusal::Parameter), // S0.9
            Area::Dtl if len < DTL_ENTRY => return Err(Refusal::Parameter), // S0.10
            Area::SlbShadow if len < SLB_MIN => return Err(Refusal::Parameter), // S0.11
            Area::Dtl => len - len % DTL_ENTRY,
            Area::Vpa | Area::SlbShadow => len,
        };
        let _guard = Guard::take(&areas.lock, self.instance);
        if area != Area::Vpa && !areas.registered(Area::Vpa) {
            return Err(Refusal::Resource); // S0.10, S0.11, S0.13
        }
        areas.record(area, address, len, false); // S0.2, S0.14
        Ok(())
    }

    fn unregister(&mut self, target: VcpuId, area: Area) -> Result<(), Refusal> {
        let (areas, _) = self.slots(target).ok_or(Refusal::Parameter)?;
        let _guard = Guard::take(&areas.lock, self.instance);
        let in_use = areas.registered(Area::Dtl) || areas.registered(Area::SlbShadow);
        if area == Area::Vpa && in_use {
            return Err(Refusal::Resource); // S0.12
        }
        areas.record(area, 0, 0, false);
        Ok(())
    }

    /// The guest memory of this instance.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// The kernel of this instance.
    pub fn kernel_mut(&mut self) -> &mut K {
        &mut self.kernel
    }
}
