// SPDX-License-Identifier: BSD-2-Clause
//! What the object model needs of the machine. The arch shell implements it for POWER; the tests
//! implement it over a buffer.

use crate::object::{Object, Ref};

/// The machine under the object model. All addresses are real addresses of normal memory that the
/// kernel owns, unless it says otherwise. Methods take `&self`: a core uses only what the locks that it holds
/// protect (docs/KERNEL.md, locking).
pub trait Machine {
    /// The object of type `T` at real address `addr`. `T` consists of cells of integers, so that any
    /// bytes are a valid `T`; the object model only asks for addresses that a capability or another
    /// object names.
    fn object<T: Object>(&self, addr: u64) -> &T;

    /// The real address of an object of the kernel's own (global state).
    fn address_of<T: Object>(&self, object: &T) -> Option<Ref<T>> {
        Ref::new(core::ptr::from_ref(object).addr() as u64)
    }

    /// Fills `[addr, addr + size)` with zeros; both are multiples of 64.
    fn clear(&self, addr: u64, size: u64);

    /// Reads a native-endian word of normal memory (IPC buffers). `addr` is a multiple of 8.
    fn read_word(&self, addr: u64) -> u64;

    /// Writes a native-endian word of normal memory (IPC buffers). `addr` is a multiple of 8.
    fn write_word(&self, addr: u64, value: u64);

    /// Reads a big-endian doubleword of a radix tree.
    fn read_pte(&self, addr: u64) -> u64;

    /// Writes a big-endian doubleword of a radix tree with a single store, ordered after earlier
    /// stores (ptesync where it makes an entry valid).
    fn write_pte(&self, addr: u64, value: u64);

    /// Makes the new entries visible to table walks (ptesync).
    fn sync_ptes(&self);

    /// Installs (`root` = real address of a radix root) or removes (0) the process-table entry of
    /// `pid`; after a removal no translation of that PID is left on any core.
    fn set_pid_root(&self, pid: u64, root: u64);

    /// Removes the translations of `[vaddr, vaddr + 2^bits)` in `pid` on all cores.
    fn flush_range(&self, pid: u64, vaddr: u64, bits: u32);

    /// The timebase.
    fn now(&self) -> u64;

    /// Asks for a timer interrupt on this core at timebase `deadline` (HDEC).
    fn set_deadline(&self, deadline: u64);

    /// Whether an interrupt or this core's deadline is pending, so that a long operation should stop
    /// at its next preemption point.
    fn preemption_pending(&self) -> bool;

    /// Whether `irq` is a source that can be handed to a PD, and routes it to `core`, masked.
    /// `level` is true for a level-sensitive source.
    fn irq_configure(&self, irq: u64, core: usize, level: bool) -> bool;

    /// Routes a configured source to this core, as it is (masked, pending or ready). False if that is not
    /// possible: then it stays where it was.
    fn irq_route_here(&self, irq: u64) -> bool;

    /// Masks a source.
    fn irq_mask(&self, irq: u64);

    /// Ends the interrupt at the source and unmasks it: a level source that is still asserted
    /// fires again.
    fn irq_ack(&self, irq: u64);

    /// Makes another core enter the kernel soon (doorbell): its run queue changed, or what its thread runs
    /// with.
    fn kick(&self, core: usize);

    /// Gets another core out of user mode or its guest. Afterwards the registers of the thread that it runs
    /// are in its TCB (and its VCPU), and stay there until this core leaves the kernel.
    fn stop_core(&self, core: usize);

    /// Turns the machine off; does not come back if firmware obeys.
    fn power_off(&self);

    /// Restarts the machine.
    fn reboot(&self);

    /// OPAL real-time clock: (year_month_day, hour_minute_second_ms), BCD as OPAL_RTC_READ gives it.
    fn read_clock(&self) -> Option<(u64, u64)>;

    /// Sets the real-time clock, arguments as `read_clock` returns them. False if firmware refuses, `None` if it
    /// is busy.
    fn write_clock(&self, year_month_day: u64, hour_minute_second_ms: u64) -> Option<bool>;

    /// The instruction storage of `[addr, addr + size)` was written: make it fetchable (dcbst, icbi).
    fn sync_instructions(&self, addr: u64, size: u64);

    /// Timebase ticks per second.
    fn timebase_hz(&self) -> u64;

    /// Sets the partition-table entry of `lpid` to an HPT (`dw0`), or, with 0, to the all-zero dummy
    /// table; afterwards no translation of that LPID is left on any core.
    fn set_partition(&self, lpid: u64, dw0: u64);

    /// Reads doubleword `index` (0 or 1) of the hash page table entry at `addr` (big-endian in
    /// memory, volatile: hardware writes R and C).
    fn read_hpte(&self, addr: u64, index: u64) -> u64 {
        self.read_pte(addr + 8 * index)
    }

    /// Writes doubleword `index` of an entry, big-endian, with one store and no barrier.
    fn write_hpte(&self, addr: u64, index: u64, value: u64) {
        self.write_pte(addr + 8 * index, value);
    }

    /// Writes an entry that is invalid so far: dw1, eieio, dw0, ptesync (S4.9).
    fn publish_hpte(&self, addr: u64, dw0: u64, dw1: u64) {
        self.write_hpte(addr, 1, dw1);
        self.write_hpte(addr, 0, dw0);
        self.sync_ptes();
    }

    /// Stores dw0 without V, so that hardware finds the entry no more; ptesync (S4.11).
    fn invalidate_hpte(&self, addr: u64, dw0: u64) {
        self.write_hpte(addr, 0, dw0);
        self.sync_ptes();
    }

    /// Reads 4 bytes of normal memory, native-endian.
    fn read_half(&self, addr: u64) -> u32 {
        let word = self.read_word(addr & !7);
        if addr & 4 == 0 {
            word as u32
        } else {
            (word >> 32) as u32
        }
    }

    /// Writes 4 bytes of normal memory, native-endian.
    fn write_half(&self, addr: u64, value: u32) {
        let old = self.read_word(addr & !7);
        let new = if addr & 4 == 0 {
            (old & !0xffff_ffff) | u64::from(value)
        } else {
            (old & 0xffff_ffff) | (u64::from(value) << 32)
        };
        self.write_word(addr & !7, new);
    }

    /// Clears R of a valid entry with a single byte store.
    fn clear_hpte_r(&self, addr: u64);

    /// tlbie of one hash page table entry of `lpid`; takes effect with `tlbie_sync`.
    fn tlbie_hpte(&self, lpid: u64, rb: u64);

    /// eieio; tlbsync; ptesync.
    fn tlbie_sync(&self);

    /// Saves what a core, this one or another, still holds of a vCPU in registers (residency) to its object.
    fn evict_vcpu(&self, vcpu: Ref<crate::vcpu::Vcpu>);
}
