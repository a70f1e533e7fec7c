// SPDX-License-Identifier: BSD-2-Clause
//! The handler.

use crate::calls;
use crate::kernel::SeL4;
use crate::memory::Views;
use core::convert::Infallible;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::AtomicU64;
use partita_abi::GuestExit;
use partita_guest_protocol::channel::{MEMSLOTS, Peer};
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::{answer, layout, symbol};
use partita_srcu::{EpochWord, Reader, Table};
use partita_vpa::{Dispatch, Entry, Instance, InstanceViews, Server, VcpuAreas};
use sel4_microkit::ipc::PpcMrs;
use sel4_microkit::{
    Caller, Channel, ChannelSet, Child, FastReply, Handler, MessageInfo, memory_region_symbol, var,
};

/// A hypercall's status is in these bits of the answer's label; the action is above them.
const STATUS: u64 = (1 << 48) - 1;

pub(crate) type Pd = Server<'static, Views, SeL4>;

/// The handler.
pub(crate) struct HandlerImpl {
    server: Pd,
}

impl HandlerImpl {
    /// Over what the system description maps and grants.
    pub(crate) fn new() -> Self {
        let table: NonNull<Table> = memory_region_symbol!(slot_table: *mut Table);
        let epoch: NonNull<EpochWord> = memory_region_symbol!(epoch: *mut EpochWord);
        // SAFETY: the system description maps both there for as long as this program runs; all of
        // their contents are atomics, and any value of them is valid.
        let reader = unsafe { Reader::new(table.as_ref(), epoch.as_ref()) };
        let vcpus = *var!(vcpu_count: usize = 0);
        let areas = memory_region_symbol!(vpa_areas: *mut [VcpuAreas], n = vcpus);
        let views = memory_region_symbol!(vpa_views: *mut [InstanceViews], n = vcpus);
        // SAFETY: as above; the regions have room for all vCPUs (layout::vpa_areas_bytes).
        let (areas, views) = unsafe { (areas.as_ref(), views.as_ref()) };
        let window = memory_region_symbol!(view_window: *mut u8);
        let words = layout::dirty_log_bytes(*var!(guest_memory: u64 = 0)) as usize / 8;
        let log = *var!(dirty_log: usize = 0);
        let log = NonNull::new(core::ptr::with_exposed_provenance_mut::<AtomicU64>(log));
        // SAFETY: as above; without a log the symbol is 0.
        let log =
            log.map(|log| DirtyLog::new(unsafe { slice::from_raw_parts(log.as_ptr(), words) }));
        let memory = Views::new(reader, window, log, Channel::new(MEMSLOTS));
        let instance = Instance(*var!(instance: usize = 0) as u32);
        let kernel = SeL4 {
            first_vcpu: symbol::VCPU_SLOT,
        };
        let mut server = Server::new(areas, views, instance, memory, kernel);
        server.recover();
        HandlerImpl { server }
    }
}

impl Handler for HandlerImpl {
    type Error = Infallible;

    /// A peer may notify, and says nothing by that.
    fn notified(&mut self, _channels: ChannelSet) -> Result<(), Infallible> {
        Ok(())
    }

    #[inline(always)]
    fn protected_mrs(
        &mut self,
        caller: Caller,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<FastReply, Infallible> {
        let label = msg_info.label();
        let peer = Peer::of(caller.channel().index());
        if peer == Some(Peer::Guest) {
            let status = match self.server.vcpu(caller.vcpu() as u64) {
                Some(vcpu) => self.server.hypercall(vcpu, label, &mrs),
                None => partita_papr::hcall::status::H_HARDWARE,
            };
            return Ok(FastReply::new(status as u64 & STATUS, []));
        }
        if !peer.is_some_and(Peer::manages) {
            return Ok(FastReply::new(answer::INVALID, []));
        }
        let done = calls::serve(&mut self.server, label, &mrs);
        Ok(FastReply::new(done.label, done.words))
    }

    /// Exits of vCPUs: `Entry` is the only one that the system description sends here. The
    /// answer is always "resume".
    fn fault_mrs(
        &mut self,
        child: Child,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<Option<FastReply>, Infallible> {
        if msg_info.label() == GuestExit::Entry as u64
            && let Some(vcpu) = self.server.vcpu(child.index() as u64)
        {
            let [pc, msr, stolen, dispatch, core, tb_offset, ..] = mrs;
            let entry = Entry {
                timebase: sel4::arch::timebase().wrapping_add(tb_offset),
                pc,
                msr,
                stolen,
                processor: core as u16,
                dispatch: match dispatch {
                    1 => Some(Dispatch::Ceded),
                    2 => Some(Dispatch::Preempted),
                    _ => None,
                },
            };
            self.server.entry(vcpu, &entry);
        }
        Ok(Some(FastReply::new(0, [])))
    }
}
