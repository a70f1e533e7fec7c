// SPDX-License-Identifier: BSD-2-Clause
//! Sizes of the shared regions, in bytes. All zeros is the right content of each at the start.
//! Regions of a system description are whole pages: see [`pages`].

use crate::symbol::READERS;
use partita_papr::HptOrder;

/// The slot table: one page.
pub const SLOT_TABLE_BYTES: u64 = 0x1000;
/// An epoch word: one page, as each reader has its own.
pub const EPOCH_BYTES: u64 = 0x1000;
/// `partita_hpt::Control`: a word group of the table, and 32 bytes for each of 64 vCPUs.
pub const HPT_CONTROL_BYTES: u64 = 64 + 64 * 32;
/// `partita_hpt::Rev`, one for each entry of the table.
pub const REV_BYTES: u64 = 24;
/// Untyped memory of `memslots` beside guest memory: page tables, small frames.
pub const SPARE_BYTES: u64 = 8 << 20;

/// Bytes of a chunk, the unit in which `memslots` hands out memory.
pub const CHUNK_BYTES: u64 = 2 << 20;
/// 64 KiB frames that `memslots` has.
pub const MEDIUM_FRAMES: u64 = 32;
/// 4 KiB frames that `memslots` has.
pub const SMALL_FRAMES: u64 = 512;
/// Page tables that `memslots` can make.
pub const TABLES: u64 = 1024;

/// `partita_vpa::VcpuAreas`, one for each vCPU.
pub const VCPU_AREAS_BYTES: u64 = 256;
/// `partita_vpa::InstanceViews`, one for each vCPU.
pub const INSTANCE_VIEWS_BYTES: u64 = 32;
/// `partita_vcpu::VmState`.
pub const VM_STATE_BYTES: u64 = 128;
/// `partita_vcpu::VcpuState`, one for each vCPU.
pub const VCPU_STATE_BYTES: u64 = 128;
/// `partita_vcpu::InputRing`, one for each terminal.
pub const INPUT_RING_BYTES: u64 = 384;
/// `partita_vcpu::SourceState`, one for each interrupt source.
pub const SOURCE_STATE_BYTES: u64 = 8;
/// Virtual terminals of a guest.
pub const TERMINALS: u64 = 1;
/// Interrupt sources of a guest; the terminals' come first.
pub const SOURCES: u64 = TERMINALS;

/// Whole 4 KiB pages that hold `bytes`, in bytes.
pub const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(0x1000) * 0x1000
}

/// `rev`: one word group for each entry of the hash page table, 1.5 times the table.
pub const fn rev_bytes(order: HptOrder) -> u64 {
    pages(order.entries() * REV_BYTES)
}

/// `rmap`: one word for each page that slots can have.
pub const fn rmap_bytes(guest_bytes: u64) -> u64 {
    pages(guest_bytes.div_ceil(0x1000) * 8)
}

/// `dirty_log`: one bit for each page that slots can have, in 64-bit words, bit 0 of word 0 the first.
pub const fn dirty_log_bytes(guest_bytes: u64) -> u64 {
    pages(guest_bytes.div_ceil(0x1000 * 64) * 8)
}

/// Chunks in `bytes` of untyped memory.
pub const fn chunks(bytes: u64) -> u64 {
    bytes / CHUNK_BYTES
}

/// Words for pages that slots can have in all: those of memory twice (a slot may be larger than what
/// is behind it), and those of small frames.
pub const fn page_words(untyped_bytes: u64) -> u64 {
    2 * chunks(untyped_bytes) + 8 * (MEDIUM_FRAMES + SMALL_FRAMES)
}

/// `page_state`: a pointer for each reader, a word for each table, four bytes for each page, five
/// for each frame.
pub const fn page_state_bytes(untyped_bytes: u64) -> u64 {
    page_state_bytes_of(untyped_bytes, 0)
}

/// The same for slots of `guest_bytes` in all, which may be more than the memory behind them.
pub const fn page_state_bytes_of(untyped_bytes: u64, guest_bytes: u64) -> u64 {
    let frames = chunks(untyped_bytes) + MEDIUM_FRAMES + SMALL_FRAMES;
    let (least, wanted) = (page_words(untyped_bytes), chunks(guest_bytes));
    let words = if wanted > least { wanted } else { least };
    pages(8 * (READERS as u64 + TABLES) + 4 * words + 5 * frames)
}

/// Radix of the CNode in slot 8 of `memslots`: log2 of its slots. Each frame has three.
pub const fn frames_radix(untyped_bytes: u64) -> u32 {
    let frames = chunks(untyped_bytes) + MEDIUM_FRAMES + SMALL_FRAMES;
    (TABLES + 3 * frames).next_power_of_two().trailing_zeros()
}

/// `vpa_areas`.
pub const fn vpa_areas_bytes(vcpus: u64) -> u64 {
    pages(vcpus * VCPU_AREAS_BYTES)
}

/// `vpa_views`.
pub const fn vpa_views_bytes(vcpus: u64) -> u64 {
    pages(vcpus * INSTANCE_VIEWS_BYTES)
}

/// `vm_state`: the guest's word, then the vCPUs', the terminals' rings, the interrupt sources'.
pub const fn vm_state_bytes(vcpus: u64) -> u64 {
    pages(
        VM_STATE_BYTES
            + vcpus * VCPU_STATE_BYTES
            + TERMINALS * INPUT_RING_BYTES
            + SOURCES * SOURCE_STATE_BYTES,
    )
}

/// The order of a hash page table that suits so much memory: 1/64 of it, at least 2^18 bytes.
pub const fn hpt_order(guest_bytes: u64) -> u32 {
    let order = (guest_bytes.div_ceil(64))
        .next_power_of_two()
        .trailing_zeros();
    if order < 18 { 18 } else { order }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_of_a_gibibyte() {
        let memory = 1 << 30;
        assert_eq!(hpt_order(memory), 24);
        let order = HptOrder::new(24).unwrap();
        assert_eq!(rev_bytes(order), 3 << 23);
        assert_eq!(rmap_bytes(memory), 2 << 20);
        assert_eq!(dirty_log_bytes(memory), 0x8000);
        assert_eq!(chunks(memory), 512);
        assert_eq!(frames_radix(memory), 13);
        assert_eq!(page_state_bytes(memory), 0x9000);
        assert_eq!(vm_state_bytes(1), 0x1000);
    }

    #[test]
    fn a_guest_larger_than_what_is_behind_it() {
        let small = page_state_bytes(256 << 20);
        assert_eq!(page_state_bytes_of(256 << 20, 256 << 20), small);
        // A word for each 2 MiB of 64 GiB.
        let large = page_state_bytes_of(256 << 20, 64 << 30);
        assert!((0x20000..0x20000 + small).contains(&large));
    }

    #[test]
    fn small_and_odd_sizes() {
        assert_eq!(hpt_order(16 << 20), 18);
        assert_eq!(hpt_order((1 << 30) + (16 << 20)), 25);
        assert_eq!(dirty_log_bytes(16 << 20), 0x1000);
        assert_eq!(vpa_areas_bytes(17), 0x2000);
    }

    /// Small frames and tables fit in the spare memory.
    #[test]
    fn spare_memory_suffices() {
        let small = MEDIUM_FRAMES * 0x1_0000 + SMALL_FRAMES * 0x1000;
        assert!(small + 2 * CHUNK_BYTES <= SPARE_BYTES);
    }
}
