// SPDX-License-Identifier: BSD-2-Clause
//! How long cores wait for the kernel's locks: the kernel counts the ticks, QEMU's monitor reads them while the program
//! that measures pauses, so that nobody's time is taken.

use crate::elf::Elf;
use crate::error::{Error, Result};
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

/// Where the kernel counts the ticks for which each core has waited for locks (`smp::WAITED`, 64 bits for each).
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Physical address.
    address: u64,
    /// Cores that the kernel is made for.
    count: usize,
    /// Bytes from one core's to the next one's.
    stride: usize,
}

impl Waits {
    /// As the kernel's file says it, which is made for so many cores.
    pub fn of(kernel: &Elf, max_cores: u32) -> Result<Self> {
        let name = "smp::WAITED";
        let found = kernel.symbol_with(name);
        let (address, bytes) = found.ok_or_else(|| Error::Content {
            path: kernel.path.clone(),
            why: format!("no symbol {name}"),
        })?;
        let count = max_cores as usize;
        Ok(Self {
            address: address & REAL,
            count,
            stride: bytes as usize / count,
        })
    }

    /// Ticks of all cores until now.
    fn ticks<S: Read + Write>(&self, monitor: &mut Monitor<S>) -> Result<u64> {
        let bytes = monitor.memory(self.address, self.count * self.stride)?;
        let first = |core: &[u8]| core.first_chunk().copied().map_or(0, u64::from_le_bytes);
        Ok(bytes.chunks(self.stride).map(first).sum())
    }
}

/// What a program says about the time in which waiting counts. It gives us [`PAUSE`] after each before it goes on.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    /// `watch NAME: begins`
    Begins,
    /// `watch NAME: ended: TICKS ticks of N`, N cores at work.
    Ended(&'a str, u64),
}

/// How long a program pauses at a [`Mark`]; who reads later reads something else, too.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads how long cores have waited, at the beginning and at the end of what a program wants to know it of.
pub struct Watch {
    monitor: Monitor,
    waits: Waits,
    /// Lines of the program that are known.
    lines: usize,
    begun: Option<u64>,
    /// By what the program does: how often, ticks waited, ticks of all cores.
    seen: BTreeMap<String, [u64; 3]>,
}

impl Watch {
    /// Of the machine whose monitor listens at `socket`.
    pub fn new(socket: &Path, waits: Waits) -> Result<Self> {
        Ok(Self {
            monitor: Monitor::connect(socket)?,
            waits,
            lines: 0,
            begun: None,
            seen: BTreeMap::new(),
        })
    }

    /// Looks if the last line of what the program printed, which came just now, is a mark.
    pub fn look(&mut self, text: &str) -> Result<()> {
        let complete = &text[..text.rfind('\n').unwrap_or(0)];
        let lines = complete.lines().count();
        if lines == self.lines {
            return Ok(());
        }
        self.lines = lines;
        let Some(mark) = complete.lines().next_back().and_then(mark) else {
            // Whatever has begun is not known to have ended in time.
            self.begun = None;
            return Ok(());
        };
        let start = Instant::now();
        let now = self.waits.ticks(&mut self.monitor)?;
        let in_time = start.elapsed() < PAUSE / 2;
        match mark {
            Mark::Begins => self.begun = in_time.then_some(now),
            Mark::Ended(name, ticks) => {
                if let Some(before) = self.begun.take().filter(|_| in_time) {
                    let seen = self.seen.entry(name.into()).or_default();
                    seen[0] += 1;
                    seen[1] += now.saturating_sub(before);
                    seen[2] += ticks;
                }
            }
        }
        Ok(())
    }

    /// For each, how often it was seen, and how much of the cores' time (in a hundred, rounded up) they waited.
    pub fn shares(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let share = |[_, waited, of]: [u64; 3]| (100 * waited).div_ceil(of.max(1));
        let seen = self.seen.iter();
        seen.map(move |(name, all)| (name.as_str(), all[0], share(*all)))
    }
}

fn mark(line: &str) -> Option<Mark<'_>> {
    let (name, what) = line.strip_prefix("watch ")?.split_once(": ")?;
    if what == "begins" {
        return Some(Mark::Begins);
    }
    let (ticks, cores) = what.strip_prefix("ended: ")?.split_once(" ticks of ")?;
    let all = ticks
        .parse::<u64>()
        .ok()?
        .checked_mul(cores.parse().ok()?)?;
    Some(Mark::Ended(name, all))
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
    fn what_cores_waited_is_added() {
        let waits = Waits {
            address: 0x100,
            count: 2,
            stride: 16,
        };
        let said = "0100: 0x05 0x01 0x00 0x00 0x00 0x00 0x00 0x00\r\n\
                    0108: 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff\r\n\
                    0110: 0x02 0x00 0x00 0x00 0x00 0x00 0x00 0x00\r\n\
                    0118: 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff\r\n(qemu) ";
        assert_eq!(waits.ticks(&mut monitor(said)).unwrap(), 0x107);
    }

    #[test]
    fn marks_are_known() {
        assert_eq!(mark("watch h-enter-2: begins"), Some(Mark::Begins));
        assert_eq!(
            mark("watch h-enter-2: ended: 700 ticks of 2"),
            Some(Mark::Ended("h-enter-2", 1400))
        );
        for other in [
            "bench h-enter-2 190 5",
            "watch a: ended",
            "watch a: ended: x ticks of 2",
        ] {
            assert_eq!(mark(other), None);
        }
    }
}
