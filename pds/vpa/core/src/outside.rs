// SPDX-License-Identifier: BSD-2-Clause
//! Reading and setting the areas from outside the guest (SPEC S1).

use crate::areas::{Area, VcpuAreas, VcpuId};
use crate::limits::{DTL_ENTRY, PAGE, SLB_MIN, VPA_BYTES, offset_of_gpa};
use crate::server::Server;
use crate::traits::{GuestMemory, Kernel};
use partita_instance::Guard;
use partita_instance::atomic::Ordering;
use partita_papr::{GuestReal, areas::ALIGN, onereg};

/// The three ONE_REG ids (S1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Register {
    /// Address of the VPA: 8 bytes, the first word of a value.
    VpaAddr = onereg::VPA_ADDR,
    /// Address and length of the SLB shadow: 16 bytes.
    VpaSlb = onereg::VPA_SLB,
    /// Address and length of the DTL: 16 bytes.
    VpaDtl = onereg::VPA_DTL,
}

impl Register {
    /// The register with this id.
    pub const fn from_id(id: u64) -> Option<Register> {
        match id {
            onereg::VPA_ADDR => Some(Register::VpaAddr),
            onereg::VPA_SLB => Some(Register::VpaSlb),
            onereg::VPA_DTL => Some(Register::VpaDtl),
            _ => None,
        }
    }

    const fn area(self) -> Area {
        match self {
            Register::VpaAddr => Area::Vpa,
            Register::VpaSlb => Area::SlbShadow,
            Register::VpaDtl => Area::Dtl,
        }
    }
}

/// Why a value is refused: all of them are EINVAL to the caller of KVM_SET_ONE_REG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// No such vCPU.
    Vcpu,
    /// Not one of the three ids.
    Id,
    /// The address is no multiple of 128 (S1.4).
    Alignment,
    /// The length is too small (S1.9; an SLB shadow needs its 16-byte header).
    Length,
    /// The area crosses a 4 KiB page.
    CrossesPage,
    /// No slot has the page.
    NoSlot,
    /// A DTL or SLB shadow needs a VPA (S1.8, S1.9).
    NeedsVpa,
    /// The VPA is still needed by a DTL or SLB shadow (S1.7).
    InUse,
}

impl<M: GuestMemory, K: Kernel> Server<'_, M, K> {
    fn named(&self, vcpu: u64, id: u64) -> Result<(VcpuId, &VcpuAreas, Register), Invalid> {
        let vcpu = self.vcpu(vcpu).ok_or(Invalid::Vcpu)?;
        let (areas, _) = self.slots(vcpu).ok_or(Invalid::Vcpu)?;
        Ok((vcpu, areas, Register::from_id(id).ok_or(Invalid::Id)?))
    }

    /// KVM_GET_ONE_REG: the wanted address and length, 0 and 0 if not registered (S1.2). The VPA
    /// has only an address: its second word is 0.
    pub fn get(&self, vcpu: u64, id: u64) -> Result<[u64; 2], Invalid> {
        let (_, areas, register) = self.named(vcpu, id)?;
        let _guard = Guard::take(&areas.lock, self.instance);
        let state = areas.area(register.area());
        let len = match register {
            Register::VpaAddr => 0,
            _ => state.wanted_len.load(Ordering::Relaxed),
        };
        Ok([state.wanted.load(Ordering::Relaxed), len])
    }

    /// KVM_SET_ONE_REG: records address and length (the VPA's length is implied), to take effect at
    /// the vCPU's next entry (S1.3). Nothing is pinned here. Setting what is wanted already changes
    /// nothing (S1.5).
    pub fn set(&mut self, vcpu: u64, id: u64, value: [u64; 2]) -> Result<(), Invalid> {
        let (vcpu, areas, register) = self.named(vcpu, id)?;
        let area = register.area();
        let [gpa, len] = value;
        let len = match register {
            _ if gpa == 0 => 0,             // S1.6
            Register::VpaAddr => VPA_BYTES, // S1.7
            Register::VpaSlb if len < SLB_MIN => return Err(Invalid::Length),
            Register::VpaSlb => len,
            Register::VpaDtl if len < DTL_ENTRY => return Err(Invalid::Length), // S1.9
            Register::VpaDtl => len - len % DTL_ENTRY,
        };
        if !gpa.is_multiple_of(ALIGN) {
            return Err(Invalid::Alignment); // S1.4
        }
        if len > PAGE - offset_of_gpa(gpa) {
            return Err(Invalid::CrossesPage);
        }
        if gpa != 0 && !GuestReal::new(gpa).is_some_and(|gpa| self.memory.in_slot(gpa.gfn())) {
            return Err(Invalid::NoSlot);
        }
        {
            // The dependencies are checked under the lock that records: no check-then-act race.
            let _guard = Guard::take(&areas.lock, self.instance);
            let in_use = areas.registered(Area::Dtl) || areas.registered(Area::SlbShadow);
            match area {
                Area::Vpa if gpa == 0 && in_use => return Err(Invalid::InUse),
                Area::Dtl | Area::SlbShadow if gpa != 0 && !areas.registered(Area::Vpa) => {
                    return Err(Invalid::NeedsVpa);
                }
                _ => {}
            }
            let state = areas.area(area);
            // A guest may have registered its VPA with 1024 bytes: only the address counts there.
            let same_len = area == Area::Vpa || state.wanted_len.load(Ordering::Relaxed) == len;
            if state.wanted.load(Ordering::Relaxed) == gpa && same_len {
                return Ok(());
            }
            areas.record(area, gpa, len, true);
        }
        let _ = self.request_entry(vcpu);
        Ok(())
    }
}
