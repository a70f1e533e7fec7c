// SPDX-License-Identifier: BSD-2-Clause
//! Driver of 16550 serial ports, with interrupts or polled.
//!
//! Registers are reached through the trait [`Registers`], so that the driver runs against a model
//! under test and against the LPC port of a POWER machine ([`Mmio`]) without a difference. The
//! speed of the port is firmware's business: the divisor is left alone.
#![cfg_attr(not(test), no_std)]

mod mmio;
#[cfg(test)]
mod model;

pub use mmio::Mmio;

use core::fmt;

/// Offset of the first serial port in its page of LPC I/O space.
pub const COM1_OFFSET: usize = 0x3f8;

/// A register, by its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Register {
    /// Receive buffer (read), transmit holding register (write).
    Data = 0,
    /// Interrupt enable.
    InterruptEnable = 1,
    /// Interrupt identification (read), FIFO control (write).
    Fifo = 2,
    /// Line control.
    LineControl = 3,
    /// Modem control.
    ModemControl = 4,
    /// Line status.
    LineStatus = 5,
    /// Modem status.
    ModemStatus = 6,
    /// Scratch.
    Scratch = 7,
}

/// Access to the eight byte-wide registers.
pub trait Registers {
    /// Reads a register; some reads have effects.
    fn read(&mut self, register: Register) -> u8;
    /// Writes a register.
    fn write(&mut self, register: Register, value: u8);
}

const IER_RECEIVE: u8 = 1 << 0;
const IER_TRANSMIT: u8 = 1 << 1;
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVE: u8 = 1 << 1;
const FCR_CLEAR_TRANSMIT: u8 = 1 << 2;
/// Receive interrupt at 8 of 16 bytes (or after a pause).
const FCR_TRIGGER_8: u8 = 2 << 6;
const LCR_8N1: u8 = 3;
const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
/// OUT2 lets the interrupt out of the chip.
const MCR_OUT2: u8 = 1 << 3;
const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_TRANSMIT_EMPTY: u8 = 1 << 5;

/// Bytes that the transmit FIFO takes when it is empty.
pub const FIFO_SIZE: usize = 16;

/// A serial port.
#[derive(Debug)]
pub struct Uart<R> {
    registers: R,
    enabled: u8,
    overruns: u32,
}

impl<R: Registers> Uart<R> {
    /// A port as firmware left it, for polled output beside an owner elsewhere: no register is
    /// written.
    pub const fn new(registers: R) -> Self {
        Uart {
            registers,
            enabled: 0,
            overruns: 0,
        }
    }

    /// Takes the port over: 8 bits, no parity, empty FIFOs, receive interrupts as `interrupts` says.
    pub fn initialise(&mut self, interrupts: bool) {
        let r = &mut self.registers;
        // No interrupt while the port changes; firmware may have left all of them on.
        r.write(Register::InterruptEnable, 0);
        r.write(Register::LineControl, LCR_8N1);
        let fifo = FCR_ENABLE | FCR_CLEAR_RECEIVE | FCR_CLEAR_TRANSMIT | FCR_TRIGGER_8;
        r.write(Register::Fifo, fifo);
        r.write(Register::ModemControl, MCR_DTR | MCR_RTS | MCR_OUT2);
        self.enabled = if interrupts { IER_RECEIVE } else { 0 };
        self.registers
            .write(Register::InterruptEnable, self.enabled);
    }

    /// The oldest byte received, if there is one.
    pub fn receive(&mut self) -> Option<u8> {
        let status = self.registers.read(Register::LineStatus);
        if status & LSR_OVERRUN != 0 {
            self.overruns = self.overruns.saturating_add(1);
        }
        (status & LSR_DATA_READY != 0).then(|| self.registers.read(Register::Data))
    }

    /// Whether [`FIFO_SIZE`] bytes may be written.
    pub fn can_transmit(&mut self) -> bool {
        self.registers.read(Register::LineStatus) & LSR_TRANSMIT_EMPTY != 0
    }

    /// Writes as many of `bytes` as the FIFO takes now, and says how many.
    pub fn transmit(&mut self, bytes: impl IntoIterator<Item = u8>) -> usize {
        if !self.can_transmit() {
            return 0;
        }
        let mut count = 0;
        for byte in bytes.into_iter().take(FIFO_SIZE) {
            self.registers.write(Register::Data, byte);
            count += 1;
        }
        count
    }

    /// Writes a byte, one of at most [`FIFO_SIZE`] after [`Self::can_transmit`] has said yes.
    #[inline]
    pub fn put(&mut self, byte: u8) {
        self.registers.write(Register::Data, byte);
    }

    /// Writes `bytes`, at most [`FIFO_SIZE`], after [`Self::can_transmit`] has said yes.
    pub fn fill(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().take(FIFO_SIZE) {
            self.put(byte);
        }
    }

    /// Whether an interrupt shall come when the transmit FIFO is empty.
    pub fn set_transmit_interrupt(&mut self, on: bool) {
        let enabled = if on {
            self.enabled | IER_TRANSMIT
        } else {
            self.enabled & !IER_TRANSMIT
        };
        if enabled != self.enabled {
            self.enabled = enabled;
            self.registers.write(Register::InterruptEnable, enabled);
        }
    }

    /// Reads the interrupt identification, which ends a transmit interrupt.
    pub fn acknowledge(&mut self) -> u8 {
        self.registers.read(Register::Fifo)
    }

    /// Times that bytes were lost because nobody read them.
    pub fn overruns(&self) -> u32 {
        self.overruns
    }

    /// Writes a byte as soon as the FIFO is empty.
    pub fn put_polled(&mut self, byte: u8) {
        while !self.can_transmit() {
            core::hint::spin_loop();
        }
        self.registers.write(Register::Data, byte);
    }
}

/// Polled output; a newline becomes carriage return and newline.
impl<R: Registers> fmt::Write for Uart<R> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if byte == b'\n' {
                self.put_polled(b'\r');
            }
            self.put_polled(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use core::fmt::Write;

    fn uart() -> Uart<Model> {
        let mut uart = Uart::new(Model::default());
        uart.initialise(true);
        uart
    }

    #[test]
    fn firmware_settings_are_replaced() {
        let mut uart = Uart::new(Model {
            interrupt_enable: 0xf,
            ..Model::default()
        });
        uart.registers.input.push_back(b'x');
        uart.initialise(true);
        assert_eq!(uart.registers.interrupt_enable, IER_RECEIVE);
        assert_eq!(uart.registers.line_control, LCR_8N1);
        assert!(uart.registers.fifo_enabled);
        assert_eq!(uart.receive(), None, "the FIFO was cleared");
    }

    #[test]
    fn bytes_come_in_order() {
        let mut uart = uart();
        assert!(!uart.registers.interrupt());
        uart.registers.input.extend(b"ab");
        assert!(uart.registers.interrupt());
        assert_eq!(
            (uart.receive(), uart.receive(), uart.receive()),
            (Some(b'a'), Some(b'b'), None)
        );
        assert!(!uart.registers.interrupt());
    }

    #[test]
    fn no_more_than_the_fifo_takes() {
        let mut uart = uart();
        assert_eq!(uart.transmit([b'.'; 40]), FIFO_SIZE);
        assert_eq!(uart.transmit([b'.'; 40]), 0);
        uart.registers.drain();
        assert_eq!(uart.transmit(*b"rest"), 4);
        uart.registers.drain();
        assert_eq!(uart.registers.output.len(), 20);
        assert_eq!(uart.registers.lost, 0);
    }

    #[test]
    fn transmit_interrupt_only_while_wanted() {
        let mut uart = uart();
        uart.transmit(*b"x");
        uart.set_transmit_interrupt(true);
        assert!(!uart.registers.interrupt(), "still sending");
        uart.registers.drain();
        assert!(uart.registers.interrupt());
        uart.acknowledge();
        assert!(!uart.registers.interrupt());
        uart.set_transmit_interrupt(false);
        assert_eq!(uart.registers.interrupt_enable, IER_RECEIVE);
    }

    #[test]
    fn polled_text() {
        let mut uart = Uart::new(Model {
            instant: true,
            ..Model::default()
        });
        writeln!(uart, "n={}", 5).unwrap();
        assert_eq!(uart.registers.output, b"n=5\r\n");
        assert_eq!(uart.registers.interrupt_enable, 0);
    }

    #[test]
    fn overruns_are_counted() {
        let mut uart = uart();
        uart.registers.overrun = true;
        assert_eq!(uart.receive(), None);
        assert_eq!(uart.overruns(), 1);
    }
}
