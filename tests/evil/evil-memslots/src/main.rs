// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `memslots`: it serves the guest and attacks.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/memslots/src/adapter.rs"]
mod adapter;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/memslots/src/pd.rs"]
mod pd;

#[cfg(target_arch = "powerpc64")]
mod evil_pd {
    use crate::pd::HandlerImpl;
    use evil::{Attack, Evil, Holding, Kind, OFFSET, Place, Reports, Slot};
    use partita_abi::InvocationLabel as L;
    use partita_guest_protocol::layout::{self, MEDIUM_FRAMES, SMALL_FRAMES, TABLES};
    use partita_guest_protocol::symbol;
    use sel4_microkit::{ImmutableCell, protection_domain};

    /// Memory of the guest that this program is made for: it is in the test's system description.
    const GUEST_MEMORY: u64 = 64 << 20;
    const LARGE_FRAMES: u64 = layout::chunks(GUEST_MEMORY);
    /// Where the capabilities of frames of each size begin (`adapter`): untypeds, frames, mappings.
    const SMALL: u64 = TABLES;
    const MEDIUM: u64 = SMALL + 3 * SMALL_FRAMES;
    const LARGE: u64 = MEDIUM + 3 * MEDIUM_FRAMES;
    const FREE: u64 = LARGE + 3 * LARGE_FRAMES;
    /// Tables that the real program makes for such a guest are among the first of these.
    const USED_TABLES: u64 = 32;

    const fn inside(kind: Kind, index: u64, count: u64) -> Holding {
        Holding::inside(kind, symbol::FRAMES_SLOT, index, count)
    }

    const HOLDINGS: &[Holding] = &[
        Holding::COMMON[0],
        Holding::COMMON[1],
        Holding::COMMON[2],
        Holding::COMMON[3],
        Holding::root(Kind::Untyped, symbol::UNTYPED_SLOT, 4),
        Holding::root(Kind::GSpace, symbol::GSPACE_SLOT, 1),
        Holding::root(Kind::Untyped, symbol::SPARE_SLOT, 1),
        Holding::own(Kind::CNode, 394 + symbol::FRAMES_SLOT, 1),
        inside(Kind::GPageTable, 0, USED_TABLES),
        inside(Kind::PageTable, 0, USED_TABLES),
        inside(Kind::Untyped, SMALL, SMALL_FRAMES),
        inside(Kind::Frame, SMALL + SMALL_FRAMES, 2 * SMALL_FRAMES),
        inside(Kind::Untyped, MEDIUM, MEDIUM_FRAMES),
        inside(Kind::Frame, MEDIUM + MEDIUM_FRAMES, 2 * MEDIUM_FRAMES),
        inside(Kind::Untyped, LARGE, LARGE_FRAMES),
        inside(Kind::Frame, LARGE + LARGE_FRAMES, 2 * LARGE_FRAMES),
        // What the attack makes, of any kind.
        inside(Kind::Untyped, FREE, 256),
        inside(Kind::Frame, FREE, 512),
        inside(Kind::PageTable, FREE, 512),
        inside(Kind::GPageTable, FREE, 512),
        inside(Kind::View, FREE, 512),
    ];

    // Variables of the real program.
    unsafe extern "Rust" {
        safe static slot_table: ImmutableCell<usize>;
        safe static untyped_count: ImmutableCell<usize>;
        safe static untyped_size: ImmutableCell<u64>;
    }

    #[protection_domain]
    fn init() -> Evil<HandlerImpl> {
        let bytes = *untyped_count.get() as u64 * untyped_size.get();
        assert_eq!(
            (*untyped_count.get(), bytes),
            (4, GUEST_MEMORY),
            "another guest"
        );
        let real = HandlerImpl::new();
        let reports = core::ptr::with_exposed_provenance::<Reports>(slot_table.get() + OFFSET);
        // SAFETY: the page of the slot table goes on that far behind the table, zeros at the start;
        // everybody accesses the report with atomic operations.
        let reports: &'static Reports = unsafe { &*reports };
        let place = Place {
            holdings: HOLDINGS,
            // What takes pages from the guest or from this program; and what the real program would
            // make its frames of.
            fatal: &[L::PageUnmap, L::GPageTableUnmap, L::PageTableUnmap],
            guest_memory: GUEST_MEMORY,
            hpt_order: 18,
            cnode: (layout::frames_radix(GUEST_MEMORY), FREE),
            keeps: |_| false,
        };
        Evil {
            real,
            attack: Attack::new(place, Slot::claim(reports)),
        }
    }
}
