// SPDX-License-Identifier: BSD-2-Clause
//! The few words of the GDB remote protocol that measuring needs, spoken with QEMU over a Unix
//! socket: stop at an address, read memory, give a monitor command.

use crate::error::{Error, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for an answer that does not depend on the guest.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection to a QEMU that stands still.
pub struct Stub<S = UnixStream> {
    stream: S,
    buffer: Vec<u8>,
}

impl Stub {
    /// Connects to the socket that QEMU was told to listen on (`-gdb unix:PATH,server=on`),
    /// which may take a moment to appear.
    pub fn connect(path: &Path) -> Result<Self> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(e) if start.elapsed() > ANSWER => return Err(stub(&e)),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .map_err(|e| stub(&e))?;
        let mut stub = Self {
            stream,
            buffer: Vec::new(),
        };
        stub.ask("?")?;
        Ok(stub)
    }

    /// Interrupts the guest after `time`, or when it stops by itself before.
    pub fn run_for(&mut self, stop_when: impl Fn() -> bool, bound: Duration) -> Result<()> {
        self.send("c")?;
        let start = Instant::now();
        while start.elapsed() < bound && !stop_when() {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stream.write_all(&[3]).map_err(|e| stub(&e))?;
        self.receive(ANSWER).map(drop)
    }
}

impl<S: Read + Write> Stub<S> {
    /// Lets the guest run until `address` is reached.
    pub fn run_to(&mut self, address: u64, bound: Duration) -> Result<()> {
        self.expect_ok(&format!("Z1,{address:x},4"))?;
        self.send("c")?;
        self.receive(bound)?;
        self.expect_ok(&format!("z1,{address:x},4"))
    }

    /// Runs one instruction: from a stop where the next stop shall be at the same address.
    pub fn step(&mut self) -> Result<()> {
        self.ask("s").map(drop)
    }

    /// Reads memory as the stopped core sees it; None if it is not mapped.
    pub fn memory(&mut self, address: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let answer = self.ask(&format!("m{address:x},{length:x}"))?;
        Ok(unhex(&answer).filter(|bytes| bytes.len() == length))
    }

    /// Gives QEMU's monitor a command and returns what it prints.
    pub fn monitor(&mut self, command: &str) -> Result<String> {
        let hex: String = command.bytes().map(|b| format!("{b:02x}")).collect();
        self.send(&format!("qRcmd,{hex}"))?;
        let mut text = String::new();
        loop {
            let answer = self.receive(ANSWER)?;
            match answer.strip_prefix('O') {
                Some("K") => return Ok(text),
                Some(hex) => {
                    let bytes = unhex(hex).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
                None if answer.is_empty() || answer.starts_with('E') => {
                    return Err(Error::Stub(format!("monitor command `{command}` refused")));
                }
                None => {
                    let bytes = unhex(&answer).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(&bytes));
                    return Ok(text);
                }
            }
        }
    }

    /// The registers of the stopped core.
    pub fn registers(&mut self) -> Result<Registers> {
        let text = self.monitor("info registers")?;
        Registers::parse(&text)
            .ok_or_else(|| Error::Stub("`info registers` was not understood".into()))
    }

    /// Instructions executed so far, if QEMU records. (Its virtual clock is no measure here: it jumps
    /// to the next timer's time when the guest is stopped.)
    pub fn instructions(&mut self) -> Result<u64> {
        let text = self.monitor("info replay")?;
        instruction_count(&text)
            .ok_or_else(|| Error::Stub(format!("`info replay` says `{}`", text.trim())))
    }

    fn expect_ok(&mut self, packet: &str) -> Result<()> {
        match self.ask(packet)?.as_str() {
            "OK" => Ok(()),
            other => Err(Error::Stub(format!("`{packet}` answered `{other}`"))),
        }
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.receive(ANSWER)
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        self.stream
            .write_all(frame(packet).as_bytes())
            .map_err(|e| stub(&e))
    }

    /// The next packet's contents.
    fn receive(&mut self, bound: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            if let Some((packet, used)) = unframe(&self.buffer) {
                self.buffer.drain(..used);
                self.stream.write_all(b"+").map_err(|e| stub(&e))?;
                return Ok(packet);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Error::Stub("QEMU has ended".into())),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(e) => return Err(stub(&e)),
            }
            if start.elapsed() > bound {
                return Err(Error::Stub(format!("no stop within {} s", bound.as_secs())));
            }
        }
    }
}

fn stub(error: &std::io::Error) -> Error {
    Error::Stub(error.to_string())
}

/// `$packet#checksum`.
fn frame(packet: &str) -> String {
    let sum = packet.bytes().fold(0u8, u8::wrapping_add);
    format!("${packet}#{sum:02x}")
}

/// The first whole packet in a buffer, and how many bytes it ends at.
fn unframe(buffer: &[u8]) -> Option<(String, usize)> {
    let start = buffer.iter().position(|&b| b == b'$')?;
    let end = start + buffer[start..].iter().position(|&b| b == b'#')?;
    (buffer.len() >= end + 3).then(|| {
        (
            String::from_utf8_lossy(&buffer[start + 1..end]).into_owned(),
            end + 3,
        )
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The figure in `... instruction count = N`.
fn instruction_count(text: &str) -> Option<u64> {
    text.rsplit_once("instruction count = ")?
        .1
        .trim()
        .parse()
        .ok()
}

/// Registers, as QEMU's `info registers` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Program counter.
    pub nip: u64,
    /// General registers.
    pub gpr: Vec<u64>,
}

impl Registers {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let after = |name: &str| {
            words
                .iter()
                .position(|w| *w == name)
                .map(|at| &words[at + 1..])
        };
        let nip = hex(after("NIP")?.first()?)?;
        let mut gpr = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let wanted = format!("GPR{:02}", gpr.len());
            if *word == wanted {
                for value in words[at + 1..].iter().take(4) {
                    gpr.push(hex(value)?);
                }
            }
        }
        (gpr.len() == 32).then_some(Self { nip, gpr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_framed() {
        assert_eq!(frame("OK"), "$OK#9a");
        assert_eq!(unframe(b"+$OK#9a$x"), Some(("OK".into(), 7)));
        assert_eq!(unframe(b"+$OK#9"), None);
        assert_eq!(unhex("4869"), Some(b"Hi".to_vec()));
        assert_eq!(unhex("4"), None);
    }

    #[test]
    fn registers_are_read() {
        let mut text = String::from(
            "NIP 0000000020001234   LR 0000000000000000 CTR 0 XER 0 CPU#0\n\
             MSR 9000000000000001 HID0 0 HF 0 iidx 3 didx 3\n\
             TB 00000000 358400000 DECR 4266327042\n",
        );
        for row in 0..8u64 {
            let n = row * 4;
            text += &format!(
                "GPR{n:02} {:016x} {:016x} {:016x} {:016x}\n",
                n,
                n + 1,
                n + 2,
                n + 3
            );
        }
        let registers = Registers::parse(&text).unwrap();
        assert_eq!(registers.nip, 0x2000_1234);
        assert_eq!(registers.gpr[31], 31);
        assert_eq!(Registers::parse("NIP 0"), None);
    }

    #[test]
    fn instructions_are_read() {
        let text = "Recording execution '/tmp/r': instruction count = 94643046\r\n";
        assert_eq!(instruction_count(text), Some(94_643_046));
        assert_eq!(instruction_count("Record/replay is not active"), None);
    }

    /// A stub that has been told its answers.
    struct Script {
        input: std::io::Cursor<Vec<u8>>,
        output: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.input.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.output.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn run_to_sets_and_clears_its_stop() {
        let input = ["OK", "T05", "OK"].map(frame).concat().into_bytes();
        let stream = Script {
            input: std::io::Cursor::new(input),
            output: Vec::new(),
        };
        let mut stub = Stub {
            stream,
            buffer: Vec::new(),
        };
        stub.run_to(0x1000, Duration::from_secs(1)).unwrap();
        let said = String::from_utf8(stub.stream.output).unwrap();
        assert_eq!(
            said.replace('+', ""),
            ["Z1,1000,4", "c", "z1,1000,4"].map(frame).concat()
        );
    }
}
