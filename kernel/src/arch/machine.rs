// SPDX-License-Identifier: BSD-2-Clause
//! The machine under the object model: POWER9 and POWER10.

use super::{guest, mmu, opal, spr, xive};
use crate::board;
use crate::{percore, smp};
use core::arch::asm;
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Core, Object, Ref};
use partita_kernel_core::vcpu::Vcpu;

/// The processor and platform that the kernel runs on.
pub struct Power;

/// Message type of a hypervisor doorbell, bits 32:36 of the operand of msgsnd and msgclr.
const DOORBELL_HYPERVISOR: u64 = 5 << 27;

/// Interrupts another core that runs this kernel.
pub fn ring_doorbell(other: &Core) {
    // SAFETY: msgsnd r4: a doorbell to a core that runs this kernel, after the stores that it is about.
    unsafe {
        asm!("sync", ".long 0x7c00019c | 4<<11", in("r4") DOORBELL_HYPERVISOR | other.pir.get(), options(nostack, preserves_flags));
    }
}

/// Takes back a doorbell that is pending on this core.
pub fn clear_doorbell() {
    // SAFETY: msgclr r4; only affects this core's pending doorbell.
    unsafe {
        asm!(".long 0x7c0001dc | 4<<11", in("r4") DOORBELL_HYPERVISOR, options(nostack, preserves_flags));
    }
}

impl Power {
    /// The object of type `T` at real address `addr`: see [`Machine::object`], whose contract it has.
    #[inline(always)]
    pub fn at<T: Object>(addr: u64) -> &'static T {
        // SAFETY: an `Object` consists of cells of integers, so any bytes are a valid one and aliasing
        // is allowed; callers ask only for addresses of kernel memory that a capability or another
        // object names (trait contract), aligned to the object's size.
        unsafe { &*(addr as *const T) }
    }
}

/// Power goes away, or the machine restarts, a little after firmware was asked, and only while its events are
/// polled.
fn wait_for_firmware() -> ! {
    loop {
        opal::poll_events();
    }
}

impl Machine for Power {
    #[inline(always)]
    fn object<T: Object>(&self, addr: u64) -> &T {
        Power::at(addr)
    }

    fn clear(&self, addr: u64, size: u64) {
        // SAFETY: memory of the object model that it is about to make objects or frames of.
        unsafe { mmu::clear(addr, size) }
    }

    #[inline(always)]
    fn read_word(&self, addr: u64) -> u64 {
        // SAFETY: normal memory, aligned (trait contract). Volatile: a PD writes it at any time.
        unsafe { (addr as *const u64).read_volatile() }
    }

    #[inline(always)]
    fn write_word(&self, addr: u64, value: u64) {
        // SAFETY: as for `read_word`.
        unsafe { (addr as *mut u64).write_volatile(value) }
    }

    fn read_pte(&self, addr: u64) -> u64 {
        // SAFETY: an entry of a radix tree, aligned (trait contract). Volatile: hardware reads and
        // writes it.
        u64::from_be(unsafe { (addr as *const u64).read_volatile() })
    }

    fn write_pte(&self, addr: u64, value: u64) {
        if value >> 63 != 0 {
            // What the new entry leads to is written before it can be reached.
            mmu::sync_ptes();
        }
        // SAFETY: as for `read_pte`.
        unsafe { (addr as *mut u64).write_volatile(value.to_be()) }
    }

    fn sync_ptes(&self) {
        mmu::sync_ptes();
    }

    fn set_partition(&self, lpid: u64, dw0: u64) {
        mmu::set_partition(lpid, dw0);
    }

    #[inline(always)]
    fn write_hpte(&self, addr: u64, index: u64, value: u64) {
        // SAFETY: an entry of a hash page table, aligned (trait contract). Volatile: hardware reads it.
        unsafe { ((addr + 8 * index) as *mut u64).write_volatile(value.to_be()) }
    }

    #[inline(always)]
    fn publish_hpte(&self, addr: u64, dw0: u64, dw1: u64) {
        self.write_hpte(addr, 1, dw1);
        mmu::eieio();
        self.write_hpte(addr, 0, dw0);
        mmu::sync_ptes();
    }

    fn clear_hpte_r(&self, addr: u64) {
        const R_BYTE: u64 = 14;
        let at = (addr + R_BYTE) as *mut u8;
        // SAFETY: R is bit 0 of byte 14 of an entry (big-endian); hardware writes that byte and no
        // other when it sets R, and the kernel changes the other bits of it only in invalid entries.
        unsafe { at.write_volatile(at.read_volatile() & !1) }
    }

    #[inline(always)]
    fn tlbie_hpte(&self, lpid: u64, rb: u64) {
        mmu::tlbie_hpte(lpid, rb);
    }

    #[inline(always)]
    fn tlbie_sync(&self) {
        mmu::tlbie_sync();
    }

    #[inline(always)]
    fn read_half(&self, addr: u64) -> u32 {
        // SAFETY: as for `read_word`, aligned to 4.
        unsafe { (addr as *const u32).read_volatile() }
    }

    #[inline(always)]
    fn write_half(&self, addr: u64, value: u32) {
        // SAFETY: as for `read_half`.
        unsafe { (addr as *mut u32).write_volatile(value) }
    }

    fn evict_vcpu(&self, vcpu: Ref<Vcpu>) {
        let holder = Power.object::<Vcpu>(vcpu.addr()).resident.get();
        let Some(core) = percore::core((holder as usize).wrapping_sub(1)) else {
            return;
        };
        if spr::read::<{ spr::HSPRG0 }>() == core as *const Core as u64 {
            guest::evict(core, vcpu);
        } else {
            smp::evict(core, vcpu.addr());
        }
    }

    fn set_pid_root(&self, pid: u64, root: u64) {
        mmu::set_pid_root(pid, root);
    }

    fn flush_range(&self, pid: u64, vaddr: u64, bits: u32) {
        mmu::flush_range(pid, vaddr, bits);
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        spr::timebase()
    }

    #[inline(always)]
    fn set_deadline(&self, deadline: u64) {
        // One tick at least: HDEC interrupts when it passes from 0 to -1.
        spr::set_hdec(deadline.saturating_sub(spr::timebase()).max(1));
    }

    fn preemption_pending(&self) -> bool {
        spr::hdec_expired() || xive::pending() || smp::contended()
    }

    fn irq_configure(&self, irq: u64, core: usize, _level: bool) -> bool {
        // Level or edge is a property of the source, known to firmware.
        percore::core(core).is_some_and(|c| xive::configure(irq, c))
    }

    fn irq_route_here(&self, irq: u64) -> bool {
        let here = spr::read::<{ spr::HSPRG0 }>();
        percore::global()
            .cores
            .iter()
            .find(|core| core::ptr::from_ref(*core).addr() as u64 == here)
            .is_some_and(|core| xive::move_to(irq, core))
    }

    fn irq_mask(&self, irq: u64) {
        xive::mask(irq);
    }

    fn irq_ack(&self, irq: u64) {
        xive::acknowledge(irq);
    }

    fn kick(&self, core: usize) {
        if let Some(c) = percore::core(core)
            && c.online.get() != 0
        {
            ring_doorbell(c);
        }
    }

    fn stop_core(&self, core: usize) {
        if let Some(c) = percore::core(core) {
            smp::stop(c);
        }
    }

    fn power_off(&self) {
        // Firmware that refuses leaves the machine running; the caller goes on.
        if opal::power_down().is_ok() {
            wait_for_firmware();
        }
    }

    fn reboot(&self) {
        // As for `power_off`.
        if opal::reboot().is_ok() {
            wait_for_firmware();
        }
    }

    fn read_clock(&self) -> Option<(u64, u64)> {
        opal::rtc_read().ok()
    }

    fn write_clock(&self, year_month_day: u64, hour_minute_second_ms: u64) -> Option<bool> {
        match opal::rtc_write(year_month_day, hour_minute_second_ms) {
            Err(opal::Error::Busy) => None,
            answer => Some(answer.is_ok()),
        }
    }

    fn sync_instructions(&self, addr: u64, size: u64) {
        mmu::sync_instructions(addr, size);
    }

    fn timebase_hz(&self) -> u64 {
        board::TIMEBASE_HZ
    }
}
