// SPDX-License-Identifier: BSD-2-Clause
//! What the object model needs of the machine. The arch shell implements it for POWER; the tests
//! implement it over a buffer.

use crate::object::{Object, Ref};

/// The machine under the object model. All addresses are real addresses of normal memory that the
/// kernel owns, unless it says otherwise. Methods take `&self`: one core runs the object model at a
/// time (docs/KERNEL.md, locking).
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

    /// Masks a source.
    fn irq_mask(&self, irq: u64);

    /// Ends the interrupt at the source and unmasks it: a level source that is still asserted
    /// fires again.
    fn irq_ack(&self, irq: u64);

    /// Tells another core that its run queue changed (doorbell).
    fn kick(&self, core: usize);

    /// Turns the machine off; does not come back if firmware obeys.
    fn power_off(&self);

    /// Restarts the machine.
    fn reboot(&self);

    /// OPAL real-time clock: (year_month_day, hour_minute_second_ms), BCD as OPAL_RTC_READ gives it.
    fn read_clock(&self) -> Option<(u64, u64)>;

    /// Sets the real-time clock, arguments as `read_clock` returns them. False if firmware refuses.
    fn write_clock(&self, year_month_day: u64, hour_minute_second_ms: u64) -> bool;

    /// Debug console. Does nothing unless the configuration prints.
    fn debug_put_char(&self, byte: u8);

    /// The instruction storage of `[addr, addr + size)` was written: make it fetchable (dcbst, icbi).
    fn sync_instructions(&self, addr: u64, size: u64);

    /// A name for debug output of the thread at `tcb`; may be dropped.
    fn debug_name_thread(&self, _tcb: u64, _name: &[u8]) {}

    /// Timebase ticks per second.
    fn timebase_hz(&self) -> u64;
}
