// SPDX-License-Identifier: BSD-2-Clause
//! Firmware calls (OPAL). OPAL runs big-endian in real mode; its out-parameters are big-endian real
//! addresses. A call loses SRR0, SRR1, HSRR0 and HSRR1, which belong to nobody while the kernel runs.

use super::{spr, start};
use crate::percore::Shared;
use core::cell::Cell;

/// Call numbers (skiboot, `include/opal-api.h`).
mod token {
    pub const RTC_READ: u64 = 3;
    pub const RTC_WRITE: u64 = 4;
    pub const CEC_POWER_DOWN: u64 = 5;
    pub const CEC_REBOOT: u64 = 6;
    pub const POLL_EVENTS: u64 = 10;
    pub const START_CPU: u64 = 41;
    pub const REINIT_CPUS: u64 = 70;
    pub const HANDLE_HMI: u64 = 98;
    pub const XIVE_RESET: u64 = 128;
    pub const XIVE_GET_IRQ_INFO: u64 = 129;
    pub const XIVE_SET_IRQ_CONFIG: u64 = 131;
    pub const XIVE_SET_QUEUE_INFO: u64 = 133;
}

/// An error of OPAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The call is not possible now (OPAL_BUSY, OPAL_BUSY_EVENT) and stayed so.
    Busy,
    /// Any other answer than OPAL_SUCCESS.
    Code(i64),
}

const BUSY: i64 = -2;
const BUSY_EVENT: i64 = -12;
/// How often a busy call is tried again.
const BUSY_RETRIES: u32 = 1000;

/// OPAL_REINIT_CPUS: interrupts are taken little-endian (HILE).
const REINIT_HILE_LE: u64 = 2;
/// OPAL_REINIT_CPUS: the host uses radix trees.
const REINIT_RADIX: u64 = 8;
/// OPAL_XIVE_RESET: exploitation mode.
const XIVE_MODE_EXPLOITATION: u64 = 1;
/// OPAL_XIVE_SET_QUEUE_INFO: enabled, notify always.
const XIVE_QUEUE_FLAGS: u64 = 1 | 2;

struct Entry {
    base: Cell<u64>,
    entry: Cell<u64>,
}

static ENTRY: Shared<Entry> = Shared(Entry {
    base: Cell::new(0),
    entry: Cell::new(0),
});

core::arch::global_asm!(
    r#"
    .section .text.opal, "ax", @progbits
    .p2align 2
// r3 = address of eight arguments, r4 = token, r5 = base, r6 = entry.
opal_call:
    mflr 0
    std 0, 16(1)
    mfcr 0
    std 0, 8(1)
    stdu 1, -64(1)
    std 2, 24(1)
    mr 0, 4
    mr 2, 5
    mr 11, 3
    mtspr {HSRR0}, 6
    mfmsr 12
    rldicr 12, 12, 0, 62
    mtspr {HSRR1}, 12
    lis 12, 1f@ha
    addi 12, 12, 1f@l
    mtlr 12
    .irp n, 10,9,8,7,6,5,4,3
    ld \n, 8*(\n-3)(11)
    .endr
    hrfid
// Big-endian here: the same turn as at _start.
1:  .long 0xa600607d
    .long 0x01006b61
    .long 0x05009f42
    .long 0xa602487d
    .long 0x14004a39
    .long 0xa64b5a7d
    .long 0xa64b7b7d
    .long 0x2402004c
    ld 2, 24(1)
    addi 1, 1, 64
    ld 0, 8(1)
    mtcr 0
    ld 0, 16(1)
    mtlr 0
    blr
"#,
    HSRR0 = const spr::HSRR0,
    HSRR1 = const spr::HSRR1,
);

unsafe extern "C" {
    fn opal_call(args: *const [u64; 8], token: u64, base: u64, entry: u64) -> i64;
}

/// Notes where OPAL is, as firmware said at entry.
pub fn init(base: u64, entry: u64) {
    ENTRY.0.base.set(base);
    ENTRY.0.entry.set(entry);
}

/// Calls OPAL once and gives its answer.
///
/// # Safety
/// Arguments that are addresses must name memory that OPAL may write.
unsafe fn call_once(token: u64, args: [u64; 8]) -> i64 {
    // SAFETY: the kernel runs with EE=0 and HV=1 as OPAL demands; the stub keeps what ELFv2 wants
    // kept, and OPAL keeps r1, r13..r31. Addresses are the caller's promise.
    let result = unsafe { opal_call(&args, token, ENTRY.0.base.get(), ENTRY.0.entry.get()) };
    // OPAL returns with its own MSR; machine checks and RI come back here.
    start::set_kernel_msr();
    result
}

/// Calls OPAL; if it is busy, it gets to work on its events.
///
/// # Safety
/// As [`call_once`].
unsafe fn try_call(token: u64, args: [u64; 8]) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    match unsafe { call_once(token, args) } {
        0 => Ok(()),
        BUSY => Err(Error::Busy),
        BUSY_EVENT => {
            poll_events();
            Err(Error::Busy)
        }
        code => Err(Error::Code(code)),
    }
}

/// Calls OPAL, again while it is busy: what takes long is only called while booting, or by [`try_call`].
///
/// # Safety
/// As [`call_once`].
unsafe fn call(token: u64, args: [u64; 8]) -> Result<(), Error> {
    for _ in 0..BUSY_RETRIES {
        // SAFETY: the caller's promise.
        match unsafe { try_call(token, args) } {
            Err(Error::Busy) => {}
            answer => return answer,
        }
    }
    Err(Error::Busy)
}

/// Lets OPAL work on its events.
pub fn poll_events() {
    // SAFETY: the one address is null, which OPAL accepts as "not wanted".
    let _ = unsafe { call_once(token::POLL_EVENTS, [0; 8]) };
}

/// Lets firmware recover from a hypervisor maintenance interrupt.
pub fn handle_hmi() {
    // SAFETY: no addresses. What it can't recover is reported by a machine check.
    let _ = unsafe { call_once(token::HANDLE_HMI, [0; 8]) };
}

/// Interrupts little-endian, translation by radix trees, on all cores.
pub fn reinit_cpus() -> Result<(), Error> {
    // SAFETY: no addresses. It changes HID0 and flushes translations, of which none is in use.
    unsafe {
        call(
            token::REINIT_CPUS,
            [REINIT_HILE_LE | REINIT_RADIX, 0, 0, 0, 0, 0, 0, 0],
        )
    }
}

/// Starts the processor `pir` at real address `entry`, in the state in which firmware enters the kernel.
pub fn start_cpu(pir: u64, entry: u64) -> Result<(), Error> {
    // SAFETY: no addresses that OPAL writes; the code at `entry` takes over that processor.
    unsafe { call(token::START_CPU, [pir, entry, 0, 0, 0, 0, 0, 0]) }
}

/// Turns the machine off. Returns if firmware refuses; else power goes away a little later.
pub fn power_down() -> Result<(), Error> {
    // SAFETY: no addresses.
    unsafe { call(token::CEC_POWER_DOWN, [0; 8]) }
}

/// Restarts the machine, as [`power_down`].
pub fn reboot() -> Result<(), Error> {
    // SAFETY: no addresses.
    unsafe { call(token::CEC_REBOOT, [0; 8]) }
}

/// The real-time clock: year, month, day (BCD in 32 bits) and hour, minute, second, milliseconds (BCD
/// in 64 bits). Busy: ask again later.
pub fn rtc_read() -> Result<(u64, u64), Error> {
    let date = Cell::new(0u32);
    let time = Cell::new(0u64);
    let args = [date.as_ptr() as u64, time.as_ptr() as u64, 0, 0, 0, 0, 0, 0];
    // SAFETY: both addresses are of live variables of the size that OPAL writes.
    unsafe { try_call(token::RTC_READ, args) }?;
    Ok((
        u64::from(u32::from_be(date.get())),
        u64::from_be(time.get()),
    ))
}

/// Sets the real-time clock; arguments as [`rtc_read`] gives them. Busy: ask again later.
pub fn rtc_write(date: u64, time: u64) -> Result<(), Error> {
    // SAFETY: no addresses.
    unsafe { try_call(token::RTC_WRITE, [date, time, 0, 0, 0, 0, 0, 0]) }
}

/// Puts the interrupt controller into exploitation mode: all sources masked, no queues.
pub fn xive_reset() -> Result<(), Error> {
    // SAFETY: no addresses.
    unsafe {
        call(
            token::XIVE_RESET,
            [XIVE_MODE_EXPLOITATION, 0, 0, 0, 0, 0, 0, 0],
        )
    }
}

/// What firmware knows about an interrupt source.
#[derive(Clone, Copy, Debug, Default)]
pub struct IrqInfo {
    /// Bit 0 trigger page, 1 EOI by store, 2 level-sensitive (skiboot, OPAL_XIVE_IRQ_*).
    pub flags: u64,
    /// Real address of the EOI page.
    pub eoi_page: u64,
    /// Real address of the trigger page.
    pub trigger_page: u64,
}

/// Asks for a source; an error if firmware doesn't know it.
pub fn xive_irq_info(irq: u32) -> Result<IrqInfo, Error> {
    let words: [Cell<u64>; 3] = Default::default();
    let halves: [Cell<u32>; 2] = Default::default();
    let args = [
        u64::from(irq),
        words[0].as_ptr() as u64,
        words[1].as_ptr() as u64,
        words[2].as_ptr() as u64,
        halves[0].as_ptr() as u64,
        halves[1].as_ptr() as u64,
        0,
        0,
    ];
    // SAFETY: all addresses are of live variables of the sizes that OPAL writes (three doublewords,
    // two words).
    unsafe { call(token::XIVE_GET_IRQ_INFO, args) }?;
    let word = |i: usize| u64::from_be(words[i].get());
    Ok(IrqInfo {
        flags: word(0),
        eoi_page: word(1),
        trigger_page: word(2),
    })
}

/// Routes a source to the processor `pir` at `priority`; its queue entries carry `data` (31 bits).
pub fn xive_route(irq: u32, pir: u64, priority: u8, data: u32) -> Result<(), Error> {
    let args = [
        u64::from(irq),
        pir,
        u64::from(priority),
        u64::from(data),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: no addresses.
    unsafe { call(token::XIVE_SET_IRQ_CONFIG, args) }
}

/// Gives the processor `pir` an event queue of 2^`bits` bytes for `priority`.
///
/// # Safety
/// The interrupt controller writes into the queue from now on: it must be the kernel's for ever.
pub unsafe fn xive_set_queue(pir: u64, priority: u8, queue: u64, bits: u64) -> Result<(), Error> {
    let args = [
        pir,
        u64::from(priority),
        queue,
        bits,
        XIVE_QUEUE_FLAGS,
        0,
        0,
        0,
    ];
    // SAFETY: the caller's promise.
    unsafe { call(token::XIVE_SET_QUEUE_INFO, args) }
}
