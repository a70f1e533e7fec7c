// SPDX-License-Identifier: BSD-2-Clause
//! The guest's terminal.

use crate::arch::hcall;
use core::fmt::{Arguments, Write};
use partita_papr::hcall::{number, status};

/// Characters of one call.
const CHARS: usize = 16;

struct Terminal;

impl Write for Terminal {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for piece in text.as_bytes().chunks(CHARS) {
            put(piece);
        }
        Ok(())
    }
}

/// Writes at most 16 characters; waits while there is no room.
fn put(chars: &[u8]) {
    let mut bytes = [0; CHARS];
    bytes[..chars.len()].copy_from_slice(chars);
    let words = u128::from_be_bytes(bytes);
    let arguments = [0, chars.len() as u64, (words >> 64) as u64, words as u64];
    while hcall(number::H_PUT_TERM_CHAR, arguments).0 == status::H_BUSY {}
}

/// Writes a line.
pub fn line(text: Arguments<'_>) {
    // It never fails.
    let _ = write!(Terminal, "{text}\r\n");
}

/// The end of a run that is of no use.
pub fn fail(text: Arguments<'_>) -> ! {
    line(format_args!("bench failed: {text}"));
    loop {
        hcall(number::H_CEDE, []);
    }
}
