// SPDX-License-Identifier: BSD-2-Clause
//! The debug console: the board's 16550 UART by byte-wide cache-inhibited accesses, polled. OPAL's own
//! console is not used: it would drive the same UART as the serial PD.

/// Line status register.
const LSR: u64 = 5;
/// LSR: the transmitter takes a byte.
const LSR_THRE: u8 = 0x20;
/// A stuck UART costs this many polls for each byte, and the byte.
const MAX_POLLS: u32 = 100_000;

/// Sends one byte.
pub fn put(byte: u8) {
    use crate::board::UART_BASE;
    for _ in 0..MAX_POLLS {
        let status: u64;
        // SAFETY: reads a register of the UART, byte-wide and cache-inhibited (PLATFORM 7).
        unsafe {
            core::arch::asm!("lbzcix {}, 0, {}", out(reg) status, in(reg_nonzero) UART_BASE + LSR, options(nostack, preserves_flags));
        }
        if status as u8 & LSR_THRE != 0 {
            break;
        }
    }
    // SAFETY: writes the transmit register of the UART.
    unsafe {
        core::arch::asm!("stbcix {}, 0, {}", in(reg) u64::from(byte), in(reg_nonzero) UART_BASE, options(nostack, preserves_flags));
    }
}

/// Writer for `core::fmt`.
pub struct Console;

impl core::fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        for byte in s.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Prints a line on the debug console; nothing in a configuration that does not print.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {
        if cfg!(printing) {
            use ::core::fmt::Write;
            // The console never fails.
            let _ = ::core::writeln!($crate::arch::uart::Console, $($arg)*);
        }
    };
}
