// SPDX-License-Identifier: BSD-2-Clause
//! The interrupt controller XIVE in exploitation mode: sources are configured by firmware calls,
//! delivery and acknowledgement are loads and stores of the kernel.
//!
//! A source has two bits, P and Q: 00 ready, 10 delivered and silent until the end of interrupt (EOI),
//! 11 delivered and one more has come, 01 off. A delivered source is therefore masked by itself until
//! the handler acknowledges it.
//!
//! The controller is reset and a core gets its event queue when the first source is routed there:
//! firmware's reset takes some 46 million instructions, which a system without interrupts never needs.

use super::{opal, spr};
use crate::percore::{self, MAX_CORES, Shared, arch_word};
use core::arch::asm;
use core::cell::Cell;
use partita_abi::limits;
use partita_kernel_core::object::Core;

/// Offsets in the hypervisor page of the thread interrupt management area: ring of the physical
/// hypervisor thread.
mod tima {
    /// Notification source: non-zero top bits while an interrupt is signalled (1 byte, but only loads
    /// of four or eight bytes give it).
    pub const NSR: u64 = 0x30;
    /// Current priority: interrupts less favoured are held back (1 byte).
    pub const CPPR: u64 = 0x31;
    /// Acknowledge: reads NSR and CPPR and raises the priority (2 bytes).
    pub const ACKNOWLEDGE: u64 = 0x830;
}

/// CPPR that lets all interrupts through.
const CPPR_ALL: u64 = 0xff;
/// NSR: an interrupt for the physical thread.
const NSR_PHYSICAL: u8 = 0x80;
/// Mask of that field.
const NSR_HE: u8 = 0xc0;

/// Offsets in a source's EOI page; a load performs the operation and gives the old P (2) and Q (1).
mod esb {
    /// End of interrupt; fires again if a level source is still asserted or Q was set.
    pub const EOI: u64 = 0;
    /// Only read P and Q.
    pub const GET: u64 = 0x800;
    /// P and Q to 00: ready.
    pub const SET_READY: u64 = 0xc00;
    /// P and Q to 01: off.
    pub const SET_OFF: u64 = SET_READY + STATE * PQ_OFF;
    /// Between the operations that set one value of P and Q and the next.
    pub const STATE: u64 = 0x100;
    /// P and Q of a source that is off.
    pub const PQ_OFF: u64 = 1;
}

/// Q.
const PQ_Q: u64 = 1;

/// Flag of [`opal::IrqInfo`]: level-sensitive.
const FLAG_LSI: u64 = 4;

/// Priority that all sources are delivered at.
const PRIORITY: u8 = 6;
/// log2 of the bytes of an event queue.
const QUEUE_BITS: u64 = 12;
const QUEUE_ENTRIES: usize = (1 << QUEUE_BITS) / 4;
/// Bit of a queue entry that flips each time round.
const GENERATION: u32 = 1 << 31;

#[repr(C, align(4096))]
struct Queue([Cell<u32>; QUEUE_ENTRIES]);

/// One event queue a core: 31 bits of data and the generation, big-endian, written by hardware.
static QUEUES: Shared<[Queue; MAX_CORES]> =
    Shared([const { Queue([const { Cell::new(0) }; QUEUE_ENTRIES]) }; MAX_CORES]);

/// What firmware said about a source, kept.
struct Source {
    /// Source number, [`NO_SOURCE`] if empty.
    irq: Cell<u64>,
    flags: Cell<u64>,
    eoi_page: Cell<u64>,
    trigger_page: Cell<u64>,
}

const NO_SOURCE: u64 = u64::MAX;

struct Xive {
    /// Real address of the TIMA's hypervisor page, 0 without one.
    tima: Cell<u64>,
    /// Whether it has been reset to exploitation mode.
    exploitation: Cell<bool>,
    /// The cores that have their event queue.
    joined: [Cell<bool>; MAX_CORES],
    /// A cache of sources; a source that fell out is asked for again.
    sources: [Source; limits::MAX_IRQS],
    /// Next place of the cache to give away.
    victim: Cell<usize>,
}

static XIVE: Shared<Xive> = Shared(Xive {
    tima: Cell::new(0),
    exploitation: Cell::new(false),
    joined: [const { Cell::new(false) }; MAX_CORES],
    sources: [const {
        Source {
            irq: Cell::new(NO_SOURCE),
            flags: Cell::new(0),
            eoi_page: Cell::new(0),
            trigger_page: Cell::new(0),
        }
    }; limits::MAX_IRQS],
    victim: Cell::new(0),
});

/// Loads a doubleword of the controller, which is big-endian.
fn load64(addr: u64) -> u64 {
    let value: u64;
    // SAFETY: `addr` lies in a page of the interrupt controller that firmware named; loads there act on
    // one interrupt source only.
    unsafe {
        asm!("ldcix {}, 0, {}", out(reg) value, in(reg_nonzero) addr, options(nostack, preserves_flags))
    }
    value.swap_bytes()
}

/// Loads two bytes, the first of them in bits 15:8.
fn load16(addr: u64) -> u16 {
    let value: u64;
    // SAFETY: as for `load64`, in the TIMA.
    unsafe {
        asm!("lhzcix {}, 0, {}", out(reg) value, in(reg_nonzero) addr, options(nostack, preserves_flags))
    }
    (value as u16).swap_bytes()
}

/// Loads four bytes, the first of them in bits 31:24.
fn load32(addr: u64) -> u32 {
    let value: u64;
    // SAFETY: as for `load64`, in the TIMA.
    unsafe {
        asm!("lwzcix {}, 0, {}", out(reg) value, in(reg_nonzero) addr, options(nostack, preserves_flags))
    }
    (value as u32).swap_bytes()
}

fn store8(addr: u64, value: u64) {
    // SAFETY: as for `load64`, in the TIMA.
    unsafe {
        asm!("stbcix {}, 0, {}", in(reg) value, in(reg_nonzero) addr, options(nostack, preserves_flags))
    }
}

fn store64(addr: u64, value: u64) {
    // SAFETY: as for `load64`; the trigger page of a source.
    unsafe {
        asm!("stdcix {}, 0, {}", in(reg) value, in(reg_nonzero) addr, options(nostack, preserves_flags))
    }
}

/// Orders accesses to the controller and to memory.
fn sync() {
    // SAFETY: only orders.
    unsafe { asm!("sync", options(nostack, preserves_flags)) }
}

/// Notes where the hypervisor page of the TIMA is (real address).
pub fn init(tima: u64) {
    XIVE.0.tima.set(tima);
}

/// Resets the controller on first use, after which all sources are off, and gives `core` its event
/// queue on its first use. Only a core itself can let interrupts through to it: False for another
/// core that has not done so yet, or if firmware refuses.
fn join(core: &Core) -> bool {
    let xive = &XIVE.0;
    let tima = xive.tima.get();
    let id = core.id.get() as usize;
    let (Some(joined), Some(queue)) = (xive.joined.get(id), QUEUES.0.get(id)) else {
        return false;
    };
    if joined.get() {
        return true;
    }
    if tima == 0 || spr::read::<{ spr::HSPRG0 }>() != core as *const Core as u64 {
        return false;
    }
    if !xive.exploitation.get() {
        if opal::xive_reset().is_err() {
            return false;
        }
        xive.exploitation.set(true);
    }
    percore::set(core, arch_word::EQ_INDEX, 0);
    percore::set(core, arch_word::EQ_GENERATION, 0);
    let entries = queue.0.as_ptr() as u64;
    // SAFETY: the queue is a static that only this module reads.
    if unsafe { opal::xive_set_queue(core.pir.get(), PRIORITY, entries, QUEUE_BITS) }.is_err() {
        return false;
    }
    store8(tima + tima::CPPR, CPPR_ALL);
    joined.set(true);
    true
}

/// Whether an interrupt is signalled to this core.
pub fn pending() -> bool {
    let tima = XIVE.0.tima.get();
    tima != 0 && (load32(tima + tima::NSR) >> 24) as u8 & NSR_HE != 0
}

/// Takes the interrupts that are signalled to this core and gives each source number to `handle`. One
/// that has arrived when the last is taken is signalled anew.
pub fn take(core: &Core, mut handle: impl FnMut(u64)) {
    let tima = XIVE.0.tima.get();
    if tima == 0 {
        return;
    }
    let nsr = (load16(tima + tima::ACKNOWLEDGE) >> 8) as u8;
    sync();
    if nsr & NSR_HE == NSR_PHYSICAL {
        // More entries than the queue has can't be fresh in one pass.
        for _ in 0..QUEUE_ENTRIES {
            let Some(irq) = next(core) else { break };
            handle(u64::from(irq));
        }
    }
    store8(tima + tima::CPPR, CPPR_ALL);
}

/// The next fresh entry of this core's event queue.
fn next(core: &Core) -> Option<u32> {
    let queue = QUEUES.0.get(core.id.get() as usize)?;
    let index = percore::get(core, arch_word::EQ_INDEX) as usize;
    let generation = percore::get(core, arch_word::EQ_GENERATION);
    // SAFETY: an entry of the static queue; volatile because hardware writes it.
    let entry = u32::from_be(unsafe { queue.0.get(index)?.as_ptr().read_volatile() });
    if u64::from(entry >> 31) == generation {
        return None;
    }
    let following = (index + 1) % QUEUE_ENTRIES;
    percore::set(core, arch_word::EQ_INDEX, following as u64);
    if following == 0 {
        percore::set(core, arch_word::EQ_GENERATION, generation ^ 1);
    }
    Some(entry & !GENERATION)
}

/// The source `irq`, from the cache or from firmware.
fn source(irq: u64) -> Option<&'static Source> {
    let xive = &XIVE.0;
    if !xive.exploitation.get() {
        return None;
    }
    if let Some(known) = xive.sources.iter().find(|s| s.irq.get() == irq) {
        return Some(known);
    }
    // The generation bit is not part of a number.
    let number = u32::try_from(irq).ok().filter(|n| n & GENERATION == 0)?;
    let info = opal::xive_irq_info(number).ok()?;
    if info.eoi_page == 0 {
        return None;
    }
    let place = xive.victim.get() % limits::MAX_IRQS;
    xive.victim.set(place + 1);
    let entry = xive.sources.get(place)?;
    entry.irq.set(irq);
    entry.flags.set(info.flags);
    entry.eoi_page.set(info.eoi_page);
    entry.trigger_page.set(info.trigger_page);
    Some(entry)
}

/// Routes `irq` to `core`, off. False if firmware doesn't know the source or refuses, and for a core
/// that has never run this for a source of its own.
pub fn configure(irq: u64, core: &Core) -> bool {
    if !join(core) {
        return false;
    }
    let Some(s) = source(irq) else { return false };
    load64(s.eoi_page.get() + esb::SET_OFF);
    let routed = opal::xive_route(irq as u32, core.pir.get(), PRIORITY, irq as u32).is_ok();
    // Firmware may have put it on.
    load64(s.eoi_page.get() + esb::SET_OFF);
    routed
}

/// Routes a source that [`configure`] knows to `core`, which is this one. It is as it was then: off, ready, or
/// delivered to the old core. False if this core or firmware refuses.
pub fn move_to(irq: u64, core: &Core) -> bool {
    if !join(core) {
        return false;
    }
    let Some(s) = source(irq) else { return false };
    let page = s.eoi_page.get();
    let state = load64(page + esb::SET_OFF) & 3;
    let routed = opal::xive_route(irq as u32, core.pir.get(), PRIORITY, irq as u32).is_ok();
    load64(page + esb::SET_READY + esb::STATE * state);
    routed
}

/// Turns a source off.
pub fn mask(irq: u64) {
    if let Some(s) = source(irq) {
        load64(s.eoi_page.get() + esb::SET_OFF);
    }
}

/// Ends an interrupt and turns the source on. A level source that is still asserted fires again; so
/// does an edge that has come in between.
pub fn acknowledge(irq: u64) {
    let Some(s) = source(irq) else { return };
    let page = s.eoi_page.get();
    let was_off = load64(page + esb::GET) & 3 == esb::PQ_OFF;
    if s.flags.get() & FLAG_LSI != 0 {
        if was_off {
            load64(page + esb::SET_READY);
        }
        load64(page + esb::EOI);
    } else {
        let old = load64(page + esb::SET_READY);
        if !was_off && old & PQ_Q != 0 && s.trigger_page.get() != 0 {
            store64(s.trigger_page.get(), 0);
        }
    }
}
