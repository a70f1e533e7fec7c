// SPDX-License-Identifier: BSD-2-Clause
//! A 16550 for the tests.

use crate::{
    FCR_CLEAR_RECEIVE, FCR_CLEAR_TRANSMIT, FCR_ENABLE, FIFO_SIZE, IER_RECEIVE, IER_TRANSMIT,
    LSR_DATA_READY, LSR_OVERRUN, LSR_TRANSMIT_EMPTY, MCR_OUT2, Register, Registers,
};
use std::collections::VecDeque;

/// The chip and what is on its lines.
#[derive(Debug, Default)]
pub struct Model {
    pub input: VecDeque<u8>,
    pub output: Vec<u8>,
    pub interrupt_enable: u8,
    pub line_control: u8,
    pub modem_control: u8,
    pub fifo_enabled: bool,
    pub overrun: bool,
    /// Bytes written to a full FIFO.
    pub lost: usize,
    /// Bytes leave at once.
    pub instant: bool,
    pub fifo: VecDeque<u8>,
    pub transmit_pending: bool,
    pub scratch: u8,
}

impl Model {
    /// Sends all that is in the FIFO.
    pub fn drain(&mut self) {
        self.output.extend(self.fifo.drain(..));
        self.transmit_pending = true;
    }

    /// Whether the interrupt line is asserted.
    pub fn interrupt(&self) -> bool {
        let receive = self.interrupt_enable & IER_RECEIVE != 0 && !self.input.is_empty();
        let transmit = self.interrupt_enable & IER_TRANSMIT != 0 && self.transmit_pending;
        self.modem_control & MCR_OUT2 != 0 && (receive || transmit)
    }
}

impl Registers for Model {
    fn read(&mut self, register: Register) -> u8 {
        match register {
            Register::Data => self.input.pop_front().unwrap_or(0),
            Register::InterruptEnable => self.interrupt_enable,
            Register::Fifo => {
                if self.interrupt_enable & IER_RECEIVE != 0 && !self.input.is_empty() {
                    return 4;
                }
                if core::mem::take(&mut self.transmit_pending) {
                    2
                } else {
                    1
                }
            }
            Register::LineControl => self.line_control,
            Register::ModemControl => self.modem_control,
            Register::LineStatus => {
                let mut status = 0;
                if !self.input.is_empty() {
                    status |= LSR_DATA_READY;
                }
                if self.fifo.is_empty() {
                    status |= LSR_TRANSMIT_EMPTY;
                }
                if core::mem::take(&mut self.overrun) {
                    status |= LSR_OVERRUN;
                }
                status
            }
            Register::ModemStatus => 0,
            Register::Scratch => self.scratch,
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        match register {
            Register::Data => {
                let room = if self.fifo_enabled { FIFO_SIZE } else { 1 };
                if self.instant {
                    self.output.push(value);
                } else if self.fifo.len() == room {
                    self.lost += 1;
                } else {
                    self.fifo.push_back(value);
                    self.transmit_pending = false;
                }
            }
            Register::InterruptEnable => self.interrupt_enable = value,
            Register::Fifo => {
                self.fifo_enabled = value & FCR_ENABLE != 0;
                if value & FCR_CLEAR_RECEIVE != 0 {
                    self.input.clear();
                }
                if value & FCR_CLEAR_TRANSMIT != 0 {
                    self.fifo.clear();
                }
            }
            Register::LineControl => self.line_control = value,
            Register::ModemControl => self.modem_control = value,
            Register::LineStatus | Register::ModemStatus => {}
            Register::Scratch => self.scratch = value,
        }
    }
}
