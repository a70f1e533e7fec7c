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
    use evil::{Attack, Evil, Holding, Kind, OFFSET, Place, Report};
    use partita_abi::InvocationLabel as L;
    use partita_guest_protocol::{channel, symbol};
    use sel4_microkit::{ImmutableCell, protection_domain};

    const HOLDINGS: &[Holding] = &[
        Holding::COMMON[0],
        Holding::COMMON[1],
        Holding::COMMON[2],
        Holding::COMMON[3],
        Holding::calls(channel::MEMSLOTS),
        Holding::notifies(channel::MEMSLOTS),
        Holding::notifies(channel::VCPU),
        Holding::root(Kind::View, symbol::VIEW_SLOT, 4),
        Holding::root(Kind::VCpu, symbol::VCPU_SLOT, 1),
    ];

    // Variables of the real program.
    unsafe extern "Rust" {
        safe static vpa_areas: ImmutableCell<usize>;
        safe static guest_memory: ImmutableCell<u64>;
    }

    #[protection_domain]
    fn init() -> Evil<HandlerImpl> {
        let real = HandlerImpl::new();
        let report = core::ptr::with_exposed_provenance::<Report>(vpa_areas.get() + OFFSET);
        // SAFETY: the page of the areas of one vCPU goes on that far, zeros at the start; everybody
        // accesses the report with atomic operations.
        let report: &'static Report = unsafe { &*report };
        let place = Place {
            holdings: HOLDINGS,
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
            attack: Attack::new(place, report),
        }
    }
}
