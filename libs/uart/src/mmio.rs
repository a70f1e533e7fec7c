// SPDX-License-Identifier: BSD-2-Clause
//! Registers in memory.

use crate::{Register, Registers};
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

/// Eight byte-wide registers at consecutive addresses of a cache-inhibited mapping.
#[derive(Debug)]
pub struct Mmio(NonNull<u8>);

impl Mmio {
    /// Registers at `base`.
    ///
    /// # Safety
    ///
    /// `base` must be the address of a serial port's registers, mapped cache-inhibited for reading
    /// and writing for as long as the value lives, and nobody else may drive the port.
    pub const unsafe fn new(base: NonNull<u8>) -> Self {
        Mmio(base)
    }
}

impl Registers for Mmio {
    fn read(&mut self, register: Register) -> u8 {
        // Caching-inhibited loads and stores are not ordered among each other without a barrier.
        fence(Ordering::SeqCst);
        // SAFETY: one of the eight registers that the constructor's caller vouches for.
        unsafe { self.0.add(register as usize).read_volatile() }
    }

    fn write(&mut self, register: Register, value: u8) {
        fence(Ordering::SeqCst);
        // SAFETY: as in `read`.
        unsafe { self.0.add(register as usize).write_volatile(value) }
    }
}
