// SPDX-License-Identifier: BSD-2-Clause
//! What a terminal needs beside its rings: output that nobody saw yet, and lines about terminals.

use core::fmt;

/// The last bytes that a terminal has written while another was shown.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes: &'static mut [u8],
    start: usize,
    len: usize,
    /// Older ones are lost.
    overrun: bool,
}

impl Backlog {
    pub(crate) fn new(bytes: &'static mut [u8]) -> Self {
        Backlog {
            bytes,
            start: 0,
            len: 0,
            overrun: false,
        }
    }

    /// Keeps a byte; the oldest goes if there is no room.
    pub(crate) fn push(&mut self, byte: u8) {
        if self.len == self.bytes.len() {
            self.overrun = true;
            if self.pop().is_none() {
                return;
            }
        }
        let at = self.start + self.len;
        let at = if at < self.bytes.len() {
            at
        } else {
            at - self.bytes.len()
        };
        self.bytes[at] = byte;
        self.len += 1;
    }

    /// The oldest byte.
    pub(crate) fn pop(&mut self) -> Option<u8> {
        if self.len == 0 {
            return None;
        }
        let byte = self.bytes[self.start];
        self.start += 1;
        if self.start == self.bytes.len() {
            self.start = 0;
        }
        self.len -= 1;
        Some(byte)
    }

    /// Before it is shown: a line whose start is lost goes.
    pub(crate) fn skip_broken_line(&mut self) {
        if core::mem::take(&mut self.overrun) {
            while self.pop().is_some_and(|byte| byte != b'\n') {}
        }
    }
}

/// A line of the server's own that is to be sent. What does not fit is cut off.
#[derive(Debug)]
pub(crate) struct Notice {
    bytes: [u8; Self::SIZE],
    len: usize,
    sent: usize,
}

impl Notice {
    /// All ten terminals with their names.
    const SIZE: usize = 192;

    /// Nothing to send.
    pub(crate) const NONE: Notice = Notice {
        bytes: [0; Self::SIZE],
        len: 0,
        sent: 0,
    };

    /// A line.
    pub(crate) fn line(text: impl fmt::Display) -> Notice {
        let mut notice = Self::NONE;
        // It has no errors.
        let _ = fmt::write(&mut notice, format_args!("\r\n[{text}]\r\n"));
        notice
    }

    pub(crate) fn pop(&mut self) -> Option<u8> {
        let byte = *self.bytes[..self.len].get(self.sent)?;
        self.sent += 1;
        Some(byte)
    }
}

impl fmt::Write for Notice {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// A name as the system description gives it: up to eight characters, then zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Name(pub [u8; 8]);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take_while(|byte| **byte != 0) {
            let shown = if byte.is_ascii_graphic() { byte } else { b'?' };
            fmt::Write::write_char(f, shown.into())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(size: usize) -> Backlog {
        Backlog::new(Box::leak(vec![0; size].into_boxed_slice()))
    }

    fn all(backlog: &mut Backlog) -> String {
        std::iter::from_fn(|| backlog.pop().map(char::from)).collect()
    }

    #[test]
    fn what_fits_is_kept() {
        let mut kept = backlog(8);
        for round in 0..5 {
            "ab\ncd".bytes().for_each(|byte| kept.push(byte));
            kept.skip_broken_line();
            assert_eq!(all(&mut kept), "ab\ncd", "{round}");
        }
    }

    #[test]
    fn the_oldest_goes_first_and_by_whole_lines() {
        let mut kept = backlog(8);
        "first\nsecond\n3".bytes().for_each(|byte| kept.push(byte));
        kept.skip_broken_line();
        assert_eq!(all(&mut kept), "3");
        "a\nb\n".bytes().for_each(|byte| kept.push(byte));
        kept.skip_broken_line();
        assert_eq!(all(&mut kept), "a\nb\n");
        let mut none = backlog(0);
        none.push(b'x');
        assert_eq!(none.pop(), None);
    }

    #[test]
    fn notices_are_lines_and_have_an_end() {
        let text = |mut notice: Notice| -> String {
            std::iter::from_fn(|| notice.pop().map(char::from)).collect()
        };
        assert_eq!(text(Notice::line(Name(*b"a\x1b\0bcdef"))), "\r\n[a?]\r\n");
        assert_eq!(text(Notice::line("x".repeat(500))).len(), Notice::SIZE);
        assert_eq!(text(Notice::NONE), "");
    }
}
