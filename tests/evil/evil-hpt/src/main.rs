// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `hpt`: it serves the guest and attacks.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/hpt/src/adapter.rs"]
mod adapter;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/hpt/src/pd.rs"]
mod pd;

#[cfg(target_arch = "powerpc64")]
mod evil_pd {
    use crate::pd::HandlerImpl;
    use evil::{Attack, Evil, Holding, Kind, OFFSET, Place, Reports, Slot};
    use partita_abi::InvocationLabel as L;
    use partita_guest_protocol::{channel, symbol};
    use sel4_microkit::{ImmutableCell, protection_domain};

    const HOLDINGS: &[Holding] = &[
        Holding::COMMON[0],
        Holding::COMMON[1],
        Holding::COMMON[2],
        Holding::COMMON[3],
        Holding::calls(channel::MEMSLOTS),
        Holding::root(Kind::Hpt, symbol::HPT_SLOT, 1),
    ];

    // Variables of the real program.
    unsafe extern "Rust" {
        safe static control_words: ImmutableCell<usize>;
        safe static guest_memory: ImmutableCell<u64>;
        safe static hpt_order: ImmutableCell<u64>;
    }

    #[protection_domain]
    fn init() -> Evil<HandlerImpl> {
        let real = HandlerImpl::new();
        let reports = core::ptr::with_exposed_provenance::<Reports>(control_words.get() + OFFSET);
        // SAFETY: the page of the real program's words goes on that far, zeros at the start; everybody
        // accesses the report with atomic operations.
        let reports: &'static Reports = unsafe { &*reports };
        let place = Place {
            holdings: HOLDINGS,
            fatal: &[L::HPTClear],
            guest_memory: *guest_memory.get(),
            hpt_order: *hpt_order.get() as u32,
            cnode: (0, 0),
            // The last of a group: the virtual real mode area, on which the guest runs.
            keeps: |ptex| ptex % 8 == 7,
        };
        Evil {
            real,
            attack: Attack::new(place, Slot::claim(reports)),
        }
    }
}
