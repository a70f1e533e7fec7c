// SPDX-License-Identifier: BSD-2-Clause
//! Output by polling to the UART behind the LPC bridge, whose page the root task maps from its
//! device untyped memory.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Offset of the first serial port's registers in the page of LPC I/O space (I/O port 0x3f8).
pub const UART_OFFSET: usize = 0x3f8;
/// 16550: transmit holding register.
const THR: usize = 0;
/// 16550: line status register.
const LSR: usize = 5;
/// Line status: the transmit holding register is empty.
const LSR_THRE: u8 = 0x20;

/// Virtual address of the registers; 0 before [`init`].
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Says where the UART's eight registers are mapped.
///
/// # Safety
/// They must stay mapped there, writable and cache-inhibited.
pub unsafe fn init(base: usize) {
    BASE.store(base, Ordering::Release);
}

fn put(byte: u8) {
    let base = BASE.load(Ordering::Acquire);
    if base == 0 {
        return;
    }
    // SAFETY: the registers are mapped (contract of `init`); byte access to these two has no effect
    // beyond sending the byte.
    unsafe {
        while ((base + LSR) as *const u8).read_volatile() & LSR_THRE == 0 {}
        ((base + THR) as *mut u8).write_volatile(byte);
    }
}

/// The console as a formatter.
struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

#[doc(hidden)]
pub fn print(args: fmt::Arguments<'_>) {
    // `Console` never fails, and an error of a Display in `args` has no better place to go.
    let _ = fmt::write(&mut Console, args);
}

/// Prints to the UART.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*)) };
}

/// Prints to the UART, with a newline.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($arg)*)))
    };
}
