// SPDX-License-Identifier: BSD-2-Clause
//! What rings of buffers carry.

use core::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A buffer: where it is, in whatever way both sides agree on, and its length in bytes.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Descriptor {
    encoded_addr: usize,
    len: u32,
    padding: [u8; 4],
    cookie: usize,
}

impl Descriptor {
    /// A buffer of `len` bytes; `cookie` is for the side that provides it.
    pub fn new(encoded_addr: usize, len: u32, cookie: usize) -> Self {
        Descriptor {
            encoded_addr,
            len,
            padding: [0; 4],
            cookie,
        }
    }

    /// Where it is.
    pub fn encoded_addr(&self) -> usize {
        self.encoded_addr
    }

    /// Sets where it is.
    pub fn set_encoded_addr(&mut self, encoded_addr: usize) {
        self.encoded_addr = encoded_addr;
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty, reason = "upstream's shape")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Sets the bytes.
    pub fn set_len(&mut self, len: u32) {
        self.len = len;
    }

    /// What the provider gave with it.
    pub fn cookie(&self) -> usize {
        self.cookie
    }

    /// Sets what the provider gives with it.
    pub fn set_cookie(&mut self, cookie: usize) {
        self.cookie = cookie;
    }

    /// From its address to its end; `None` if that is no range.
    pub fn encoded_addr_range(&self) -> Option<Range<usize>> {
        let end = self
            .encoded_addr
            .checked_add(usize::try_from(self.len).ok()?)?;
        Some(self.encoded_addr..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_wrap() {
        assert_eq!(Descriptor::new(16, 4, 0).encoded_addr_range(), Some(16..20));
        assert_eq!(Descriptor::new(usize::MAX, 4, 0).encoded_addr_range(), None);
        assert_eq!(size_of::<Descriptor>(), 24);
    }
}
