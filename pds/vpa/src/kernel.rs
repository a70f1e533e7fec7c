// SPDX-License-Identifier: BSD-2-Clause
//! Kernel invocations on vCPUs.

use crate::memory::view_cap;
use partita_papr::GuestReal;
use partita_vpa::{Area, EntryState, Kernel, MapError, VcpuId, View};
use sel4::{CPtr, Cap, cap};

/// The kernel, with the VCPU capabilities in consecutive slots of `<cspace>`.
pub(crate) struct SeL4 {
    /// Slot of vCPU 0's.
    pub(crate) first_vcpu: usize,
}

impl SeL4 {
    fn vcpu(&self, vcpu: VcpuId) -> cap::VCpu {
        Cap::from_cptr(CPtr::from_bits(crate::memory::cptr(
            self.first_vcpu + vcpu.number() as usize,
        )))
    }
}

impl Kernel for SeL4 {
    fn request_entry(&mut self, vcpu: VcpuId, every_dispatch: bool) -> EntryState {
        match self.vcpu(vcpu).vcpu_request_entry(every_dispatch) {
            Ok(false) => EntryState::Out,
            // A vCPU that is gone never passes its entry again.
            Ok(true) | Err(_) => EntryState::InGuestOrEntering,
        }
    }

    fn bind_dispatch_counter(&mut self, vcpu: VcpuId, word: GuestReal) -> Result<(), MapError> {
        let view = view_cap(View::Area(vcpu, Area::Vpa));
        self.vcpu(vcpu)
            .vcpu_bind_dispatch_counter(view, word.get())
            .map_err(|_| MapError::NoFrame)
    }

    fn unbind_dispatch_counter(&mut self, vcpu: VcpuId) {
        // It fails only if the vCPU is gone, and then nothing is bound.
        let _ = self.vcpu(vcpu).vcpu_unbind_dispatch_counter();
    }
}
