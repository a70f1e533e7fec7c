// SPDX-License-Identifier: BSD-2-Clause
//! A machine over a host buffer: real addresses are host addresses.

use partita_kernel_core::kernel::Global;
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Object, Ref};
use partita_kernel_core::vcpu::Vcpu;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

/// What the object model asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    SetPidRoot(u64, u64),
    Flush(u64, u64, u32),
    IrqMask(u64),
    IrqAck(u64),
    IrqRoute(u64),
    Kick(usize),
    StopCore(usize),
    PowerOff,
    Reboot,
    SetClock(u64, u64),
    SyncInstructions(u64, u64),
    SetPartition(u64, u64),
    ClearR(u64),
    TlbieHpte(u64, u64),
    TlbieSync,
    Evict(u64),
}

/// The reference bit in dw1 of a hash page table entry.
const HPTE_R: u64 = 0x100;

/// Ticks per microsecond of the mock timebase.
pub const TICKS_PER_US: u64 = 512;

/// Largest interrupt source that the mock accepts.
pub const LAST_IRQ: u64 = 999;

/// The mock: a buffer of normal memory, and the kernel's global state beside it.
pub struct Mock {
    memory: NonNull<u8>,
    size: usize,
    global: NonNull<Global>,
    pub log: RefCell<Vec<Event>>,
    pub now: Cell<u64>,
    pub deadline: Cell<u64>,
    /// Every n-th query for a pending interrupt says yes; 0: none does.
    pub preempt_every: Cell<u64>,
    pub preemptions: Cell<u64>,
    queries: Cell<u64>,
    pub clock: Cell<Option<(u64, u64)>>,
    pub clock_accepts: Cell<bool>,
    /// How many more times the clock is too busy to be set.
    pub clock_busy: Cell<u64>,
    /// How often an object was looked at.
    pub looked: Cell<u64>,
}

fn memory_layout(size: usize) -> Layout {
    Layout::from_size_align(size, size).expect("size is a power of two")
}

fn global_layout() -> Layout {
    Layout::new::<Global>()
        .align_to(4096)
        .expect("4096 is an alignment")
}

impl Mock {
    /// A machine with `size` bytes of memory, naturally aligned.
    pub fn new(size: usize) -> Mock {
        // SAFETY: both layouts have a size that is not zero.
        let (memory, global) = unsafe {
            (
                alloc_zeroed(memory_layout(size)),
                alloc_zeroed(global_layout()),
            )
        };
        Mock {
            memory: NonNull::new(memory).expect("memory"),
            size,
            global: NonNull::new(global.cast()).expect("memory"),
            log: RefCell::default(),
            now: Cell::new(1_000_000),
            deadline: Cell::new(u64::MAX),
            preempt_every: Cell::new(0),
            preemptions: Cell::new(0),
            queries: Cell::new(0),
            clock: Cell::new(Some((0x2026_1120, 0x1122_3300))),
            clock_accepts: Cell::new(true),
            clock_busy: Cell::new(0),
            looked: Cell::new(0),
        }
    }

    /// First address of the memory.
    pub fn base(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// One past its last address.
    pub fn end(&self) -> u64 {
        self.base() + self.size as u64
    }

    /// The kernel's global state.
    pub fn global(&self) -> &Global {
        // SAFETY: allocated in `new` with zeros, which are a valid Global (cells of integers).
        unsafe { self.global.as_ref() }
    }

    fn word(&self, addr: u64) -> &Cell<u64> {
        assert!(
            addr.is_multiple_of(8),
            "word access at {addr:#x} is not aligned"
        );
        assert!(
            addr >= self.base() && addr + 8 <= self.end(),
            "word access at {addr:#x}"
        );
        // SAFETY: in range and aligned; cells may alias.
        unsafe { &*(addr as *const Cell<u64>) }
    }

    /// All memory and the global state, as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.size + size_of::<Global>());
        // SAFETY: nobody else has a reference into either while the copy is made by this thread.
        unsafe {
            copy.extend_from_slice(std::slice::from_raw_parts(self.memory.as_ptr(), self.size));
            copy.extend_from_slice(std::slice::from_raw_parts(
                self.global.as_ptr().cast::<u8>(),
                size_of::<Global>(),
            ));
        }
        copy
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with these layouts.
        unsafe {
            dealloc(self.memory.as_ptr(), memory_layout(self.size));
            dealloc(self.global.as_ptr().cast(), global_layout());
        }
    }
}

impl Machine for Mock {
    fn object<T: Object>(&self, addr: u64) -> &T {
        self.looked.set(self.looked.get() + 1);
        let size = size_of::<T>() as u64;
        let global = self.global.as_ptr() as u64;
        let inside = |from: u64, bytes: u64| addr >= from && addr + size <= from + bytes;
        assert!(
            inside(self.base(), self.size as u64) || inside(global, size_of::<Global>() as u64),
            "{} at {addr:#x} is outside of memory",
            std::any::type_name::<T>()
        );
        assert!(
            addr.is_multiple_of(align_of::<T>() as u64) && addr.is_multiple_of(32),
            "{addr:#x} is not aligned"
        );
        // SAFETY: in range and aligned; an Object is made of cells of integers, for which any bytes
        // are valid and which may alias.
        unsafe { &*(addr as *const T) }
    }

    fn clear(&self, addr: u64, size: u64) {
        assert!(
            addr.is_multiple_of(64) && size.is_multiple_of(64),
            "clear({addr:#x}, {size:#x})"
        );
        assert!(
            addr >= self.base() && addr + size <= self.end(),
            "clear({addr:#x}, {size:#x})"
        );
        // SAFETY: in range; references into the memory are to cells, which may be written.
        unsafe { std::ptr::write_bytes(addr as *mut u8, 0, size as usize) };
    }

    fn read_word(&self, addr: u64) -> u64 {
        self.word(addr).get()
    }

    fn write_word(&self, addr: u64, value: u64) {
        self.word(addr).set(value);
    }

    fn read_pte(&self, addr: u64) -> u64 {
        u64::from_be(self.word(addr).get())
    }

    fn write_pte(&self, addr: u64, value: u64) {
        self.word(addr).set(value.to_be());
    }

    fn sync_ptes(&self) {}

    fn set_pid_root(&self, pid: u64, root: u64) {
        self.log.borrow_mut().push(Event::SetPidRoot(pid, root));
    }

    fn flush_range(&self, pid: u64, vaddr: u64, bits: u32) {
        self.log.borrow_mut().push(Event::Flush(pid, vaddr, bits));
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn set_deadline(&self, deadline: u64) {
        self.deadline.set(deadline);
    }

    fn preemption_pending(&self) -> bool {
        let n = self.queries.get() + 1;
        self.queries.set(n);
        let yes = self.preempt_every.get() != 0 && n.is_multiple_of(self.preempt_every.get());
        if yes {
            self.preemptions.set(self.preemptions.get() + 1);
        }
        yes
    }

    fn irq_configure(&self, irq: u64, _core: usize, _level: bool) -> bool {
        irq <= LAST_IRQ
    }

    fn irq_route_here(&self, irq: u64) -> bool {
        self.log.borrow_mut().push(Event::IrqRoute(irq));
        true
    }

    fn irq_mask(&self, irq: u64) {
        self.log.borrow_mut().push(Event::IrqMask(irq));
    }

    fn irq_ack(&self, irq: u64) {
        self.log.borrow_mut().push(Event::IrqAck(irq));
    }

    fn kick(&self, core: usize) {
        self.log.borrow_mut().push(Event::Kick(core));
    }

    fn stop_core(&self, core: usize) {
        self.log.borrow_mut().push(Event::StopCore(core));
    }

    fn set_partition(&self, lpid: u64, dw0: u64) {
        self.log.borrow_mut().push(Event::SetPartition(lpid, dw0));
    }

    fn clear_hpte_r(&self, addr: u64) {
        let word = addr + 8;
        self.write_pte(word, self.read_pte(word) & !HPTE_R);
        self.log.borrow_mut().push(Event::ClearR(addr));
    }

    fn tlbie_hpte(&self, lpid: u64, rb: u64) {
        self.log.borrow_mut().push(Event::TlbieHpte(lpid, rb));
    }

    fn tlbie_sync(&self) {
        self.log.borrow_mut().push(Event::TlbieSync);
    }

    fn evict_vcpu(&self, vcpu: Ref<Vcpu>) {
        self.log.borrow_mut().push(Event::Evict(vcpu.addr()));
    }

    fn power_off(&self) {
        self.log.borrow_mut().push(Event::PowerOff);
    }

    fn reboot(&self) {
        self.log.borrow_mut().push(Event::Reboot);
    }

    fn read_clock(&self) -> Option<(u64, u64)> {
        self.clock.get()
    }

    fn write_clock(&self, date: u64, time: u64) -> Option<bool> {
        if let Some(left) = self.clock_busy.get().checked_sub(1) {
            self.clock_busy.set(left);
            return None;
        }
        if self.clock_accepts.get() {
            self.log.borrow_mut().push(Event::SetClock(date, time));
        }
        Some(self.clock_accepts.get())
    }

    fn sync_instructions(&self, addr: u64, size: u64) {
        self.log
            .borrow_mut()
            .push(Event::SyncInstructions(addr, size));
    }

    fn timebase_hz(&self) -> u64 {
        TICKS_PER_US * 1_000_000
    }
}
