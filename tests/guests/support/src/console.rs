// SPDX-License-Identifier: BSD-2-Clause
//! The terminal (SPEC 2.7).

use crate::hypercall::hypercall;
use core::fmt::{self, Write};
use partita_papr::hcall::number::H_PUT_TERM_CHAR;
use partita_papr::hcall::status::H_BUSY;

/// Unit 0: the first terminal.
const UNIT: u64 = 0;

/// Writes bytes to the terminal, up to 16 at a time, and waits while it is full.
pub fn put(bytes: &[u8]) {
    for piece in bytes.chunks(16) {
        let mut chars = [0; 16];
        chars[..piece.len()].copy_from_slice(piece);
        let chars = u128::from_be_bytes(chars);
        let args = [UNIT, piece.len() as u64, (chars >> 64) as u64, chars as u64];
        while hypercall(H_PUT_TERM_CHAR, args).status == H_BUSY {}
    }
}

/// For `write!`: whole pieces of up to 16 characters.
#[derive(Default)]
pub struct Console {
    line: heapless::Vec<u8, 16>,
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if self.line.push(byte).is_err() {
                self.flush();
                let _ = self.line.push(byte);
            }
        }
        Ok(())
    }
}

impl Console {
    /// Sends what is held back.
    pub fn flush(&mut self) {
        put(&self.line);
        self.line.clear();
    }
}

/// Prints a line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut console = Console::default();
    let _ = writeln!(console, "{text}");
    console.flush();
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::console::line(format_args!($($text)*)) };
}
