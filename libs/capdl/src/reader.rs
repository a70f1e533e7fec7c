// SPDX-License-Identifier: BSD-2-Clause
//! Reading a specification from front to back.

use crate::{Command, Header, MAGIC, VERSION};
use core::fmt;
use serde::Serialize;

/// Why a specification cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// It does not begin with a header of this version.
    Header,
    /// Command number `n` (from 0) cannot be decoded.
    Command(u32),
    /// Bytes other than zero follow the last command.
    Trailing,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecError::Header => write!(f, "no specification of version {VERSION}"),
            SpecError::Command(n) => write!(f, "command {n} cannot be decoded"),
            SpecError::Trailing => write!(f, "bytes after the last command"),
        }
    }
}

impl core::error::Error for SpecError {}

/// The commands of a specification, in order.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    header: Header,
    rest: &'a [u8],
    next: u32,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`SpecError::Header`] if there is none, or one of another version.
    pub fn new(bytes: &'a [u8]) -> Result<Self, SpecError> {
        let (header, rest) =
            postcard::take_from_bytes::<Header>(bytes).map_err(|_| SpecError::Header)?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(SpecError::Header);
        }
        Ok(Reader {
            header,
            rest,
            next: 0,
        })
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Number of the command that comes next.
    pub const fn position(&self) -> u32 {
        self.next
    }

    /// The next command; `None` after the last.
    ///
    /// # Errors
    /// [`SpecError::Command`] and [`SpecError::Trailing`]; reading on is pointless then.
    pub fn next_command(&mut self) -> Result<Option<Command<'a>>, SpecError> {
        if self.next == self.header.commands {
            return match self.rest.iter().all(|&b| b == 0) {
                true => Ok(None),
                false => Err(SpecError::Trailing),
            };
        }
        let (command, rest) =
            postcard::take_from_bytes(self.rest).map_err(|_| SpecError::Command(self.next))?;
        self.rest = rest;
        self.next += 1;
        Ok(Some(command))
    }
}

/// Writes one value behind another: `append(bytes)` is called with each encoded piece. `scratch`
/// must be long enough for the longest command (a name and 64 bytes).
///
/// # Errors
/// The error of postcard when `scratch` is too short.
pub fn encode<T: Serialize>(
    value: &T,
    scratch: &mut [u8],
    append: &mut impl FnMut(&[u8]),
) -> Result<(), postcard::Error> {
    append(postcard::to_slice(value, scratch)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::CapRef;
    use std::vec::Vec;

    fn spec(commands: &[Command<'_>]) -> Vec<u8> {
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            slots: 7,
            split_slots: 3,
            image_frames: 2,
            commands: commands.len() as u32,
        };
        let mut out = Vec::new();
        let mut scratch = [0; 256];
        let mut append = |b: &[u8]| out.extend_from_slice(b);
        encode(&header, &mut scratch, &mut append).unwrap();
        for c in commands {
            encode(c, &mut scratch, &mut append).unwrap();
        }
        out
    }

    #[test]
    fn reads_back_what_was_written() {
        let commands = [
            Command::Create {
                first: 0,
                count: 300,
                object: 7,
                size_bits: 12,
                bytes_bits: 12,
                name: "mr_ring_000000000",
            },
            Command::Place {
                cnode: CapRef::Slot(4),
                index: 74,
                depth: 9,
                source: CapRef::Slot(1),
                rights: 9,
                badge: Some(1 << 63 | 5),
            },
            Command::DropBootCaps,
            Command::Resume {
                tcb: CapRef::Slot(2),
            },
        ];
        let mut bytes = spec(&commands);
        bytes.extend_from_slice(&[0; 100]);
        let mut reader = Reader::new(&bytes).unwrap();
        assert_eq!(reader.header().slots, 7);
        for (i, c) in commands.iter().enumerate() {
            assert_eq!(reader.position(), i as u32);
            assert_eq!(reader.next_command().unwrap().as_ref(), Some(c));
        }
        assert_eq!(reader.next_command(), Ok(None));
    }

    #[test]
    fn refuses_damage() {
        let bytes = spec(&[Command::DropBootCaps]);
        assert_eq!(Reader::new(&bytes[..3]).unwrap_err(), SpecError::Header);
        let mut other = bytes.clone();
        other[0] ^= 1;
        assert_eq!(Reader::new(&other).unwrap_err(), SpecError::Header);
        let mut reader = Reader::new(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(reader.next_command(), Err(SpecError::Command(0)));
        let mut long = bytes.clone();
        long.push(1);
        let mut reader = Reader::new(&long).unwrap();
        assert!(reader.next_command().unwrap().is_some());
        assert_eq!(reader.next_command(), Err(SpecError::Trailing));
    }

    proptest::proptest! {
        /// Arbitrary bytes give commands or an error, and never more commands than announced.
        #[test]
        fn arbitrary_bytes_are_harmless(bytes: Vec<u8>) {
            let mut all = spec(&[]);
            all.pop();
            all.push(9);
            all.extend_from_slice(&bytes);
            let mut reader = Reader::new(&all).unwrap();
            for _ in 0..10 {
                if !matches!(reader.next_command(), Ok(Some(_))) {
                    break;
                }
            }
            proptest::prop_assert!(reader.position() <= 9);
        }
    }
}
