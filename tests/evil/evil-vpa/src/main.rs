// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `vpa`: it serves the guest and attacks.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vpa/src/calls.rs"]
mod calls;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vpa/src/kernel.rs"]
mod kernel;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vpa/src/memory.rs"]
mod memory;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vpa/src/pd.rs"]
mod pd;

#[cfg(target_arch = "powerpc64")]
mod evil_pd {
    use crate::pd::HandlerImpl;
    use evil::{Attack, Evil, Holding, Kind, OFFSET, Place, Reports, Slot};
    use partita_abi::InvocationLabel as L;
    use partita_guest_protocol::{channel, symbol};
    use sel4_microkit::{ImmutableCell, protection_domain};

    /// For a guest with so many vCPUs.
    const fn holdings(vcpus: u64) -> [Holding; 7] {
        [
            Holding::COMMON[0],
            Holding::COMMON[1],
            Holding::COMMON[2],
            Holding::COMMON[3],
            Holding::calls(channel::MEMSLOTS),
            Holding::root(Kind::View, symbol::VIEW_SLOT, 1 + 3 * vcpus),
            Holding::root(Kind::VCpu, symbol::VCPU_SLOT, vcpus),
        ]
    }

    const ONE: &[Holding] = &holdings(1);
    const TWO: &[Holding] = &holdings(2);

    // Variables of the real program.
    unsafe extern "Rust" {
        safe static vpa_areas: ImmutableCell<usize>;
        safe static guest_memory: ImmutableCell<u64>;
        safe static vcpu_count: ImmutableCell<u64>;
    }

    #[protection_domain]
    fn init() -> Evil<HandlerImpl> {
        let real = HandlerImpl::new();
        let reports = core::ptr::with_exposed_provenance::<Reports>(vpa_areas.get() + OFFSET);
        // SAFETY: the page of the areas of one vCPU goes on that far, zeros at the start; everybody
        // accesses the report with atomic operations.
        let reports: &'static Reports = unsafe { &*reports };
        let place = Place {
            holdings: match *vcpu_count.get() {
                1 => ONE,
                _ => TWO,
            },
            // The real program reads and writes through its views, and would fault; a vCPU that is
            // paused or whose exits go elsewhere makes no more calls.
            fatal: &[
                L::ViewUnmap,
                L::VCPUPause,
                L::VCPUSetMode,
                L::VCPUWriteRegisters,
                L::VCPUSetRoute,
                L::VCPURouteHypercall,
                L::VCPURouteExit,
            ],
            guest_memory: *guest_memory.get(),
            hpt_order: 18,
            cnode: (0, 0),
            keeps: |_| false,
        };
        Evil {
            real,
            attack: Attack::new(place, Slot::claim(reports)),
        }
    }
}
