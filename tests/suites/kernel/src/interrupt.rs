// SPDX-License-Identifier: BSD-2-Clause
//! INTERRUPT: handlers of device interrupts. The device is the console's UART, whose transmitter
//! interrupts when it is empty.

use crate::support::{refused, wait_once};
use partita_abi::{ErrorCode, InvocationLabel as L};
use sel4::init_thread::slot;
use sel4::{CapRights, Error, VmAttributes, cap};
use testkit::console::UART_OFFSET;
use testkit::kit::{CACHE_INHIBITED, WINDOW};
use testkit::{Case, Helper, Kit, Outcome, check, check_eq, invoke};

include!(concat!(env!("OUT_DIR"), "/board.rs"));

pub const CASES: &[Case] = &[
    Case {
        name: "INTERRUPT0001 a handler is made once",
        body: once,
    },
    Case {
        name: "INTERRUPT0002 an interrupt signals its notification",
        body: arrives,
    },
    Case {
        name: "INTERRUPT0003 it comes again only after the acknowledgement",
        body: acknowledged,
    },
    Case {
        name: "INTERRUPT0004 clearing and setting the notification",
        body: cleared,
    },
    Case {
        name: "INTERRUPT0005 sources that there are not",
        body: unknown,
    },
    Case {
        name: "INTERRUPT0006 deleting the handler frees the source",
        body: deleted,
    },
    Case {
        name: "INTERRUPT0007 wrong arguments",
        body: wrong,
    },
    Case {
        name: "INTERRUPT0008 an interrupt preempts a running thread",
        body: preempts,
    },
];

/// Interrupt enable register: the transmitter is empty.
pub(crate) const ENABLE_TRANSMITTER: u8 = 2;

/// The UART's interrupt enable register, on a page of our own.
pub(crate) struct Uart;

impl Uart {
    pub(crate) fn map(kit: &mut Kit) -> Outcome<Uart> {
        let twin = kit.copy(kit.uart(), CapRights::all())?;
        let attributes = VmAttributes::from_bits(CACHE_INHIBITED) | VmAttributes::EXECUTE_NEVER;
        twin.frame_map(
            slot::VSPACE.cap(),
            WINDOW,
            CapRights::read_write(),
            attributes,
        )?;
        // Firmware leaves interrupts enabled.
        Uart.enable(0);
        Uart.identify();
        Ok(Uart)
    }

    pub(crate) fn enable(&self, interrupts: u8) {
        // SAFETY: the device's page is mapped there; the register is the second byte.
        unsafe { ((WINDOW + UART_OFFSET + 1) as *mut u8).write_volatile(interrupts) };
    }

    /// Reads the interrupt identification register, which takes a transmitter interrupt back.
    pub(crate) fn identify(&self) -> u8 {
        // SAFETY: as above; the third byte.
        unsafe { ((WINDOW + UART_OFFSET + 2) as *const u8).read_volatile() }
    }
}

impl Drop for Uart {
    fn drop(&mut self) {
        self.enable(0);
    }
}

pub(crate) fn handler(kit: &mut Kit) -> Outcome<cap::IrqHandler> {
    let dest = kit.slot();
    slot::IRQ_CONTROL
        .cap()
        .irq_control_get(UART_IRQ, &kit.absolute(dest))?;
    Ok(dest.cast())
}

fn once(kit: &mut Kit) -> Outcome {
    let first = handler(kit)?;
    let dest = kit.slot();
    let again = slot::IRQ_CONTROL
        .cap()
        .irq_control_get(UART_IRQ, &kit.absolute(dest));
    check_eq!(again, Err(Error::RevokeFirst));
    check!(kit.is_empty(dest.bits()));
    // A copy of the handler is the same handler.
    let twin = kit.copy(first, CapRights::all())?;
    kit.delete(first)?;
    let again = slot::IRQ_CONTROL
        .cap()
        .irq_control_get(UART_IRQ, &kit.absolute(dest));
    check_eq!(again, Err(Error::RevokeFirst));
    twin.irq_handler_ack()?;
    Ok(())
}

/// Waits up to 50 ms for a signal; the word.
fn signalled(kit: &Kit, ntfn: cap::Notification) -> Outcome<u64> {
    for _ in 0..10 {
        let word = ntfn.poll().1;
        if word != 0 {
            return Ok(word);
        }
        kit.sleep(5000)?;
    }
    Ok(0)
}

fn arrives(kit: &mut Kit) -> Outcome {
    let uart = Uart::map(kit)?;
    let irq = handler(kit)?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x100)?;
    irq.irq_handler_set_notification(bell)?;
    check_eq!(ntfn.poll().1, 0);
    uart.enable(ENABLE_TRANSMITTER);
    check_eq!(signalled(kit, ntfn)?, 0x100);
    check_eq!(uart.identify() & 0xf, 2);
    Ok(())
}

fn acknowledged(kit: &mut Kit) -> Outcome {
    let uart = Uart::map(kit)?;
    let irq = handler(kit)?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 1)?;
    irq.irq_handler_set_notification(bell)?;
    uart.enable(ENABLE_TRANSMITTER);
    check_eq!(signalled(kit, ntfn)?, 1);
    // The line is still asserted, but the source is masked.
    kit.sleep(10_000)?;
    check_eq!(ntfn.poll().1, 0);
    // Acknowledged while asserted: it comes again.
    irq.irq_handler_ack()?;
    check_eq!(signalled(kit, ntfn)?, 1);
    // Quiet at the device, then acknowledged: nothing.
    uart.enable(0);
    uart.identify();
    irq.irq_handler_ack()?;
    kit.sleep(10_000)?;
    check_eq!(ntfn.poll().1, 0);
    // And again, many times.
    for _ in 0..20 {
        uart.enable(ENABLE_TRANSMITTER);
        check_eq!(signalled(kit, ntfn)?, 1);
        uart.enable(0);
        uart.identify();
        irq.irq_handler_ack()?;
    }
    Ok(())
}

fn cleared(kit: &mut Kit) -> Outcome {
    let uart = Uart::map(kit)?;
    let irq = handler(kit)?;
    let (one, two) = (kit.notification()?, kit.notification()?);
    let bell = kit.mint(one, CapRights::all(), 1)?;
    irq.irq_handler_set_notification(bell)?;
    irq.irq_handler_clear()?;
    irq.irq_handler_clear()?;
    uart.enable(ENABLE_TRANSMITTER);
    kit.sleep(10_000)?;
    check_eq!(one.poll().1, 0);
    // Set again, to another one: what waits arrives there.
    let bell = kit.mint(two, CapRights::all(), 2)?;
    irq.irq_handler_set_notification(bell)?;
    check_eq!(signalled(kit, two)?, 2);
    check_eq!(one.poll().1, 0);
    // A notification that is deleted is no trap for the next interrupt.
    kit.revoke(two)?;
    kit.delete(two)?;
    irq.irq_handler_ack()?;
    kit.sleep(10_000)?;
    uart.enable(0);
    Ok(())
}

fn unknown(kit: &mut Kit) -> Outcome {
    let dest = kit.slot();
    for source in [u64::MAX, 1 << 63, 0xffff_ffff, 0x7fff_ffff, 0xf000_0000] {
        for trigger in [0, 1] {
            let made = slot::IRQ_CONTROL.cap().irq_control_get_trigger(
                source,
                trigger,
                &kit.absolute(dest),
            );
            check_eq!(made, Err(Error::InvalidArgument));
            check!(kit.is_empty(dest.bits()));
        }
    }
    Ok(())
}

fn deleted(kit: &mut Kit) -> Outcome {
    let uart = Uart::map(kit)?;
    for round in 1..=3 {
        let irq = handler(kit)?;
        let ntfn = kit.notification()?;
        let bell = kit.mint(ntfn, CapRights::all(), round)?;
        irq.irq_handler_set_notification(bell)?;
        uart.enable(ENABLE_TRANSMITTER);
        check_eq!(signalled(kit, ntfn)?, round);
        // Deleted in the middle of an interrupt; nothing more arrives.
        kit.delete(irq)?;
        kit.sleep(10_000)?;
        check_eq!(ntfn.poll().1, 0);
        uart.enable(0);
        uart.identify();
    }
    Ok(())
}

fn wrong(kit: &mut Kit) -> Outcome {
    let control = slot::IRQ_CONTROL.cap();
    let used = kit.endpoint()?;
    let made = control.irq_control_get(UART_IRQ, &kit.absolute(used));
    check_eq!(made, Err(Error::DeleteFirst));
    let root = slot::CNODE.cptr().bits();
    let dest = kit.slot().bits();
    let args = [UART_IRQ, dest, 0];
    let answer = invoke(control.bits(), L::IRQIssueIRQHandler, &args, &[root]);
    refused(answer, ErrorCode::RangeError)?;
    let args = [UART_IRQ, dest, 64];
    let answer = invoke(control.bits(), L::IRQIssueIRQHandler, &args, &[used.bits()]);
    refused(answer, ErrorCode::FailedLookup)?;
    // The refusals left the source free.
    let irq = handler(kit)?;
    let wrong: cap::Notification = used.cast();
    check_eq!(
        irq.irq_handler_set_notification(wrong),
        Err(Error::InvalidCapability)
    );
    let ntfn = kit.notification()?;
    let mute = kit.mint(ntfn, CapRights::read_only(), 0)?;
    check_eq!(
        irq.irq_handler_set_notification(mute),
        Err(Error::InvalidCapability)
    );
    Ok(())
}

fn preempts(kit: &mut Kit) -> Outcome {
    let uart = Uart::map(kit)?;
    let irq = handler(kit)?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 9)?;
    irq.irq_handler_set_notification(bell)?;
    let waiter = Helper::new(wait_once)
        .args([ntfn.bits()])
        .priority(150)
        .start(kit)?;
    kit.settle()?;
    uart.enable(ENABLE_TRANSMITTER);
    // This thread makes no system call; the interrupt comes all the same.
    let until = testkit::timebase() + testkit::kit::microseconds(200_000);
    while !waiter.finished() && testkit::timebase() < until {}
    check_eq!(waiter.result(), Some(9));
    Ok(())
}
