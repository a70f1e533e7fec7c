// SPDX-License-Identifier: BSD-2-Clause
//! How long cores wait for the kernel's locks, seen from outside: QEMU's monitor reads the words of the locks again and
//! again while the machine runs, which the machine does not notice. A ticket lock shows how many stand in line.

use crate::elf::Elf;
use crate::error::{Error, Result};
use partita_abi::limits;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for the monitor.
const ANSWER: Duration = Duration::from_secs(20);
const PROMPT: &str = "(qemu) ";
/// High address bits that real mode ignores.
const REAL: u64 = 0x0fff_ffff_ffff_ffff;

/// A connection to a running QEMU's monitor (`-monitor unix:PATH,server=on,wait=off`).
pub struct Monitor<S = UnixStream> {
    stream: S,
}

impl Monitor {
    /// Connects to the socket, which may take a moment to appear.
    pub fn connect(path: &Path) -> Result<Self> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(e) if start.elapsed() > ANSWER => return Err(broken(&e)),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let bounded = stream.set_read_timeout(Some(ANSWER));
        bounded.map_err(|e| broken(&e))?;
        let mut monitor = Self { stream };
        monitor.answer()?;
        Ok(monitor)
    }
}

impl<S: Read + Write> Monitor<S> {
    /// What it says up to its prompt.
    fn answer(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !text.ends_with(PROMPT) {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Error::Qemu("its monitor is closed".into())),
                Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                Err(e) => return Err(broken(&e)),
            }
        }
        Ok(text)
    }

    /// Physical memory.
    pub fn memory(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let command = format!("xp /{length}bx {address:#x}\n");
        let written = self.stream.write_all(command.as_bytes());
        written.map_err(|e| broken(&e))?;
        let answer = self.answer()?;
        let bytes = memory_in(&answer);
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(Error::Qemu(format!("its monitor does not read: {answer}")))
        }
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::Qemu(format!("its monitor: {error}"))
}

/// The bytes in lines `ADDRESS: 0xXX 0xXX ...`; the echo of the command has no such line.
fn memory_in(answer: &str) -> Vec<u8> {
    let lines = answer.lines().filter_map(|line| line.split_once(": 0x"));
    let words = lines.flat_map(|(_, bytes)| bytes.split(" 0x"));
    words
        .filter_map(|word| u8::from_str_radix(word.trim(), 16).ok())
        .collect()
}

/// Tables that are looked at: LPIDs are given out in order.
const GUESTS: usize = 8;

/// Where the kernel has locks of one kind, each of which begins with a ticket lock.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Physical address.
    address: u64,
    /// How many.
    count: usize,
    /// Bytes from one to the next.
    stride: usize,
}

/// Where the kernel has its locks: those of cores, those of hash page tables.
#[derive(Clone, Copy, Debug)]
pub struct Locks([Row; 2]);

impl Locks {
    /// As the kernel's file says it, which is made for so many cores.
    pub fn of(kernel: &Elf, max_cores: u32) -> Result<Self> {
        let row = |name: &str, all: usize, count: usize| {
            let found = kernel.symbol_with(name);
            let (address, bytes) = found.ok_or_else(|| Error::Content {
                path: kernel.path.clone(),
                why: format!("no symbol {name}"),
            })?;
            Ok(Row {
                address: address & REAL,
                count,
                stride: bytes as usize / all,
            })
        };
        Ok(Self([
            row("smp::LOCKS", max_cores as usize, max_cores as usize)?,
            row("smp::TABLE_LOCKS", limits::MAX_LPIDS, GUESTS)?,
        ]))
    }

    /// Whether somebody waits for any of them.
    fn are_waited_for<S: Read + Write>(&self, monitor: &mut Monitor<S>) -> Result<bool> {
        for row in self.0 {
            let bytes = monitor.memory(row.address, row.count * row.stride)?;
            if bytes.chunks(row.stride).any(is_waited_for) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether somebody stands in line behind the holder of the lock with these bytes.
fn is_waited_for(lock: &[u8]) -> bool {
    let word = |at: usize| Some(u32::from_le_bytes(*lock.get(at..)?.first_chunk()?));
    matches!((word(0), word(4)), (Some(next), Some(serving)) if next.wrapping_sub(serving) > 1)
}

/// Looks at the locks while a program says what it does.
pub struct Watch {
    monitor: Monitor,
    locks: Locks,
    /// By what the program does: looks, and those at which somebody waited.
    seen: BTreeMap<String, [u64; 2]>,
}

/// Looks that a figure needs.
const ENOUGH: u64 = 100;

impl Watch {
    /// Of the machine whose monitor listens at `socket`.
    pub fn new(socket: &Path, locks: Locks) -> Result<Self> {
        Ok(Self {
            monitor: Monitor::connect(socket)?,
            locks,
            seen: BTreeMap::new(),
        })
    }

    /// Looks once, if the last line of what the program printed is `measuring NAME: two`.
    pub fn look(&mut self, text: &str) -> Result<()> {
        let Some(name) = measured(text) else {
            return Ok(());
        };
        let waits = self.locks.are_waited_for(&mut self.monitor)?;
        let seen = self.seen.entry(name.into()).or_default();
        seen[0] += 1;
        seen[1] += u64::from(waits);
        Ok(())
    }

    /// For each that was looked at often enough, how many looks there were, and how many in a hundred (rounded up)
    /// found that somebody waits.
    pub fn shares(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let enough = self.seen.iter().filter(|(_, [looks, _])| *looks >= ENOUGH);
        enough.map(|(name, [looks, waits])| (name.as_str(), *looks, (100 * waits).div_ceil(*looks)))
    }
}

/// What two vCPUs do at this moment.
fn measured(text: &str) -> Option<&str> {
    let complete = &text[..text.rfind('\n')?];
    let last = complete.lines().next_back()?;
    last.strip_prefix("measuring ")?.strip_suffix(": two")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A monitor that has said what it will say.
    struct Said(Cursor<Vec<u8>>);

    impl Read for Said {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Said {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn monitor(said: &str) -> Monitor<Said> {
        Monitor {
            stream: Said(Cursor::new(said.as_bytes().to_vec())),
        }
    }

    #[test]
    fn memory_is_read() {
        let said = "xp /10bx 0x10\r\n0000000000000010: 0x00 0x01 0x02 0x03 0x04 0x05 0x06 0xff\r\n\
                    0000000000000018: 0x10 0x11\r\n(qemu) ";
        let bytes = monitor(said).memory(0x10, 10).unwrap();
        assert_eq!(bytes, [0, 1, 2, 3, 4, 5, 6, 0xff, 0x10, 0x11]);
        assert!(
            monitor("Cannot access memory\r\n(qemu) ")
                .memory(0, 8)
                .is_err()
        );
        assert!(monitor("").memory(0, 8).is_err());
    }

    #[test]
    fn a_line_at_a_lock_is_seen() {
        let lock = |next: u32, serving: u32| {
            let words = [next, serving].map(u32::to_le_bytes);
            is_waited_for(words.as_flattened())
        };
        assert!(!lock(5, 5), "free");
        assert!(!lock(6, 5), "held");
        assert!(lock(7, 5));
        assert!(lock(0, u32::MAX - 1), "tickets begin anew");
        assert!(!lock(0, u32::MAX));
    }

    #[test]
    fn what_is_measured_is_known() {
        assert_eq!(measured("a\nmeasuring h-enter-2: two\n"), Some("h-enter-2"));
        assert_eq!(
            measured("measuring h-enter-2: two\nmeasuring h-enter-2: done\n"),
            None
        );
        assert_eq!(measured("measuring h-enter-2: one\n"), None);
        assert_eq!(measured("measuring h-enter-2: tw"), None);
    }
}
