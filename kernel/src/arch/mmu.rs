// SPDX-License-Identifier: BSD-2-Clause
//! Radix translation for PDs: partition table, process table, invalidation (ISA 3.0B Book III 5.7).
//! The kernel itself runs untranslated.

use super::spr;
use crate::board;
use crate::percore::Shared;
use core::arch::asm;
use core::cell::Cell;
use partita_abi::limits;

/// PIDs that can have an address space; 0 never has one.
const PIDS: usize = limits::MAX_ASID_POOLS * limits::ASIDS_PER_POOL;
/// Bytes of the process table: 16 for each PID. A power of two, at least 4 KiB.
const PROCESS_TABLE_BYTES: usize = PIDS * 16;
const _: () = assert!(PROCESS_TABLE_BYTES.is_power_of_two() && PROCESS_TABLE_BYTES == 16384);
/// Entries of the partition table: the smallest one, 4 KiB.
const PARTITIONS: usize = 256;
const _: () = assert!(limits::MAX_LPIDS <= PARTITIONS);

/// Radix tree size: 52 bits of effective address.
const RTS: u64 = 2 << 61 | 5 << 5;
/// Bits that a radix root translates.
const ROOT_BITS: u64 = 13;
/// Bits that the next level translates.
const TABLE_BITS: u64 = 9;
/// Partition table entry: the host uses radix trees.
const PATE_HR: u64 = 1 << 63;
/// Radix entry: valid.
const VALID: u64 = 1 << 63;
/// Radix entry: a leaf.
const LEAF: u64 = 1 << 62;
/// Leaf: referenced and changed, read and write.
const LEAF_RW: u64 = 0x100 | 0x80 | 0x4 | 0x2;

#[repr(C, align(16384))]
struct ProcessTable([[Cell<u64>; 2]; PIDS]);
#[repr(C, align(4096))]
struct PartitionTable([[Cell<u64>; 2]; PARTITIONS]);
#[repr(C, align(65536))]
struct Root([Cell<u64>; 1 << ROOT_BITS]);
#[repr(C, align(4096))]
struct Table([Cell<u64>; 1 << TABLE_BITS]);

/// Entry n: root of the address space with PID n (dword 0).
static PROCESS_TABLE: Shared<ProcessTable> =
    Shared(ProcessTable([const { [const { Cell::new(0) }; 2] }; PIDS]));
/// Entry 0 is the host's; the others are guests'.
static PARTITION_TABLE: Shared<PartitionTable> = Shared(PartitionTable(
    [const { [const { Cell::new(0) }; 2] }; PARTITIONS],
));
/// Tree of LPID 0. Hardware uses it only to find the process table's real address.
static HOST_ROOT: Shared<Root> = Shared(Root([const { Cell::new(0) }; 1 << ROOT_BITS]));
static HOST_TABLE: Shared<Table> = Shared(Table([const { Cell::new(0) }; 1 << TABLE_BITS]));

/// Fills in the tables that never change: the host's partition with an empty process table.
pub fn init_tables() {
    let process_table = PROCESS_TABLE.0.0.as_ptr() as u64;
    let table = HOST_TABLE.0.0.as_ptr() as u64;
    let root = HOST_ROOT.0.0.as_ptr() as u64;
    // One leaf of 1 GiB, which contains the kernel's image: 52 = 13 + 9 + 30 bits.
    let gib = process_table >> 30;
    HOST_TABLE.0.0[gib as usize % (1 << TABLE_BITS)]
        .set((VALID | LEAF | gib << 30 | LEAF_RW).to_be());
    HOST_ROOT.0.0[(gib >> TABLE_BITS) as usize % (1 << ROOT_BITS)]
        .set((VALID | table | TABLE_BITS).to_be());
    let size = u64::from(PROCESS_TABLE_BYTES.trailing_zeros()) - 12;
    let host = &PARTITION_TABLE.0.0[0];
    host[1].set((process_table | size).to_be());
    host[0].set((PATE_HR | RTS | root | ROOT_BITS).to_be());
}

/// Points this core at the tables and drops whatever firmware translated.
pub fn init_core() {
    let patb = PARTITION_TABLE.0.0.as_ptr() as u64;
    // SAFETY: the kernel runs untranslated, so none of this changes what it executes or accesses. The
    // tables are complete (`init_tables`).
    unsafe {
        asm!("ptesync", options(nostack, preserves_flags));
        spr::write::<{ spr::PTCR }>(patb);
        spr::write::<{ spr::LPIDR }>(0);
        spr::write::<{ spr::PIDR }>(0);
        spr::write::<{ spr::LPCR }>(board::LPCR_HOST);
    }
    spr::isync();
    flush_core();
}

/// Sets of a POWER9 TLB in radix mode.
const TLB_SETS: u64 = 128;

/// Drops all translations of this core (tlbiel, IS=3).
fn flush_core() {
    for set in 0..TLB_SETS {
        let rb = set << 12 | 3 << 10;
        // SAFETY: only drops cached translations. tlbiel RIC=2, PRS=0 and 1, R=1.
        unsafe {
            asm!(
                ".long 0x7c000224 | 5<<21 | 2<<18 | 0<<17 | 1<<16 | 4<<11",
                ".long 0x7c000224 | 5<<21 | 2<<18 | 1<<17 | 1<<16 | 4<<11",
                in("r4") rb, in("r5") 0u64, options(nostack, preserves_flags)
            );
        }
    }
    // SAFETY: only orders.
    unsafe { asm!("ptesync", "isync", options(nostack, preserves_flags)) }
}

/// Invalidation selector of tlbie: everything of an LPID.
const IS_LPID: u64 = 2 << 10;
/// Invalidation selector of tlbie: everything of a PID.
const IS_PID: u64 = 1 << 10;

/// Drops the translations of one PID on all cores, with the walk cache.
pub fn flush_pid(pid: u64) {
    // SAFETY: only drops cached translations. tlbie RIC=2 PRS=1 R=1, RS = PID || LPID 0.
    unsafe {
        asm!(
            "ptesync",
            ".long 0x7c000264 | 5<<21 | 2<<18 | 1<<17 | 1<<16 | 4<<11",
            "eieio", "tlbsync", "ptesync",
            in("r4") IS_PID, in("r5") pid << 32, options(nostack, preserves_flags)
        );
    }
}

/// Drops the translations of `count` pages of 4 KiB from `vaddr` on, on all cores.
fn flush_pages(pid: u64, vaddr: u64, count: u64) {
    // SAFETY: only orders.
    unsafe { asm!("ptesync", options(nostack, preserves_flags)) }
    for page in 0..count {
        // SAFETY: only drops cached translations. tlbie RIC=0 PRS=1 R=1, AP=0 (4 KiB).
        unsafe {
            asm!(
                ".long 0x7c000264 | 5<<21 | 0<<18 | 1<<17 | 1<<16 | 4<<11",
                in("r4") (vaddr & !0xfff) + (page << 12), in("r5") pid << 32,
                options(nostack, preserves_flags)
            );
        }
    }
    // SAFETY: only orders.
    unsafe {
        asm!(
            "eieio",
            "tlbsync",
            "ptesync",
            options(nostack, preserves_flags)
        )
    }
}

/// Drops the translations of `[vaddr, vaddr + 2^bits)` in `pid` on all cores. A frame of 64 KiB (16 bits)
/// is mapped by sixteen entries of 4 KiB, each with translations of its own; from 2 MiB on, where a table of smaller pages may have gone, all of the PID
/// goes with the walk cache.
pub fn flush_range(pid: u64, vaddr: u64, bits: u32) {
    match bits {
        12 => flush_pages(pid, vaddr, 1),
        16 => flush_pages(pid, vaddr, 16),
        _ => flush_pid(pid),
    }
}

/// Installs (`root` = real address of a radix root of 2^13 entries) or removes (0) the address space
/// of `pid`. PIDs that the table doesn't hold are ignored; PID 0 never has an address space.
pub fn set_pid_root(pid: u64, root: u64) {
    let Some(entry) = PROCESS_TABLE.0.0.get(pid as usize) else {
        return;
    };
    if pid == 0 {
        return;
    }
    let value = if root == 0 { 0 } else { RTS | root | ROOT_BITS };
    let had_root = entry[0].replace(value.to_be()) != 0;
    if had_root || root == 0 {
        flush_pid(pid);
    } else {
        sync_ptes();
    }
}

/// Bytes of the table that an LPID without a guest has: the smallest hash page table. An entry of 0 would
/// be a table at real address 0.
const DUMMY_BYTES: usize = 1 << 18;

#[repr(C, align(262144))]
struct DummyTable([Cell<u64>; DUMMY_BYTES / 8]);
static DUMMY_TABLE: Shared<DummyTable> =
    Shared(DummyTable([const { Cell::new(0) }; DUMMY_BYTES / 8]));

/// Sets the partition-table entry of a guest's LPID to a hash page table (`dw0`), or with 0 to the all-zero
/// dummy table, and drops every translation of that LPID on all cores (S5.7). No vCPU of it is in the
/// guest.
pub fn set_partition(lpid: u64, dw0: u64) {
    let Some(entry) = PARTITION_TABLE.0.0.get(lpid as usize) else {
        return;
    };
    if lpid == 0 {
        return;
    }
    let dw0 = if dw0 == 0 {
        DUMMY_TABLE.0.0.as_ptr() as u64
    } else {
        dw0
    };
    entry[1].set(0);
    entry[0].set(dw0.to_be());
    // SAFETY: only drops cached translations. tlbie RIC=2 PRS=0 R=0 IS=2 (all of an LPID).
    unsafe {
        asm!(
            "ptesync",
            ".long 0x7c000264 | 5<<21 | 2<<18 | 0<<17 | 0<<16 | 4<<11",
            "eieio", "tlbsync", "ptesync",
            in("r4") IS_LPID, in("r5") lpid, options(nostack, preserves_flags)
        );
    }
}

/// tlbie of one hash page table entry; see [`tlbie_sync`].
#[inline(always)]
pub fn tlbie_hpte(lpid: u64, rb: u64) {
    // SAFETY: only drops cached translations. tlbie RIC=0 PRS=0 R=0.
    unsafe {
        asm!(
            ".long 0x7c000264 | 5<<21 | 4<<11",
            in("r4") rb, in("r5") lpid, options(nostack, preserves_flags)
        );
    }
}

/// Waits until the tlbies before it are done on all cores, and R and C are final.
#[inline(always)]
pub fn tlbie_sync() {
    // SAFETY: only orders.
    unsafe {
        asm!(
            "eieio",
            "tlbsync",
            "ptesync",
            options(nostack, preserves_flags)
        )
    }
}

/// Orders stores to a hash page table entry.
#[inline(always)]
pub fn eieio() {
    // SAFETY: only orders.
    unsafe { asm!("eieio", options(nostack, preserves_flags)) }
}

/// Makes stores to radix trees visible to table walks.
pub fn sync_ptes() {
    // SAFETY: only orders.
    unsafe { asm!("ptesync", options(nostack, preserves_flags)) }
}

/// Bytes of a cache line and of what `dcbz` clears.
const LINE: u64 = 128;

/// Makes stores to instructions visible to fetches on all cores.
pub fn sync_instructions(addr: u64, size: u64) {
    let lines = || (addr & !(LINE - 1)..addr + size).step_by(LINE as usize);
    for line in lines() {
        // SAFETY: writes a line back to memory; no value changes.
        unsafe { asm!("dcbst 0, {}", in(reg_nonzero) line, options(nostack, preserves_flags)) }
    }
    // SAFETY: only orders.
    unsafe { asm!("sync", options(nostack, preserves_flags)) }
    for line in lines() {
        // SAFETY: drops a line of the instruction caches; memory is up to date.
        unsafe { asm!("icbi 0, {}", in(reg_nonzero) line, options(nostack, preserves_flags)) }
    }
    // SAFETY: only orders.
    unsafe { asm!("sync", "isync", options(nostack, preserves_flags)) }
}

/// Lines that one turn of the loop in [`clear_lines`] clears.
const LINES: u64 = 8;

/// Clears as many whole lines from `at` on as are a multiple of [`LINES`]; answers where they end. Nearly all
/// time that a new frame takes goes here.
///
/// # Safety
/// As of [`clear`] for `[at, end)`; `at` is a multiple of [`LINE`].
unsafe fn clear_lines(at: u64, end: u64) -> u64 {
    let turns = (end - at) / (LINE * LINES);
    if turns == 0 {
        return at;
    }
    let next: u64;
    // SAFETY: whole lines inside the caller's range.
    unsafe {
        asm!(
            "mtctr {turns}",
            "2: dcbz 0, {at}",
            "dcbz {a}, {at}",
            "dcbz {b}, {at}",
            "dcbz {c}, {at}",
            "dcbz {d}, {at}",
            "dcbz {e}, {at}",
            "dcbz {f}, {at}",
            "dcbz {g}, {at}",
            "addi {at}, {at}, 8 * 128",
            "bdnz 2b",
            turns = in(reg) turns,
            at = inout(reg_nonzero) at => next,
            a = in(reg_nonzero) LINE,
            b = in(reg_nonzero) 2 * LINE,
            c = in(reg_nonzero) 3 * LINE,
            d = in(reg_nonzero) 4 * LINE,
            e = in(reg_nonzero) 5 * LINE,
            f = in(reg_nonzero) 6 * LINE,
            g = in(reg_nonzero) 7 * LINE,
            out("ctr") _,
            options(nostack, preserves_flags),
        );
    }
    next
}

/// Fills `[addr, addr + size)` with zeros. Both are multiples of 64.
///
/// # Safety
/// The range must be normal memory in which no Rust value lives but cells of integers.
pub unsafe fn clear(addr: u64, size: u64) {
    let end = addr + size;
    let mut at = addr;
    while at < end {
        if at.is_multiple_of(LINE) && end - at >= LINE * LINES {
            // SAFETY: a part of the caller's range.
            at = unsafe { clear_lines(at, end) };
        } else if at.is_multiple_of(LINE) && end - at >= LINE {
            // SAFETY: a whole line inside the caller's range.
            unsafe { asm!("dcbz 0, {}", in(reg_nonzero) at, options(nostack, preserves_flags)) }
            at += LINE;
        } else {
            // SAFETY: 64 bytes inside the caller's range, aligned to 64.
            unsafe { (at as *mut [u64; 8]).write_volatile([0; 8]) };
            at += 64;
        }
    }
}
