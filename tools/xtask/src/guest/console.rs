// SPDX-License-Identifier: BSD-2-Clause
//! A guest's console while it runs a command: what the command writes, how it ends, and what goes
//! wrong on the way.

use super::parser::{Parser, Piece};
use crate::error::{Error, Result};
use crate::qemu::{Event, Session};
use crate::ui::Step;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How the serial driver begins, if there are several terminals. Ctrl-] and a digit select one; it answers
/// `[console N: NAME]`.
const CONSOLES: &str = "[consoles:";

/// QEMU's own last line when the user ends it.
const QEMU_QUITS: &str = "QEMU: Terminated";

/// Longest silence of the console before the command starts: booting prints all the time.
const SILENCE: Duration = Duration::from_secs(240);
/// How long the guest may take from the command's end to power-off.
const POWER_OFF: Duration = Duration::from_secs(60);
/// How long to wait for more after a panic's first line.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Silence after which a command's machine is looked at for a panic.
const STILL: Duration = Duration::from_secs(10);
/// Lines of the console that a panic's report has at most.
const REPORT: usize = 100;
/// Lines of the console that a failure shows.
const TAIL: usize = 25;

/// Lines that a machine does not go on after, and what they mean.
const PANICS: &[(&str, &str)] = &[
    ("Kernel panic - not syncing", "its kernel panicked"),
    ("vcpu: the guest has crashed", "it crashed"),
    ("vcpu: the guest cannot start", "it did not start"),
    ("KERNEL|PANIC", "the kernel under it panicked"),
    ("KERNEL|CRASH", "the kernel under it crashed"),
    ("MON|ERROR", "a protection domain faulted"),
];

/// What is wrong according to a line.
fn trouble(line: &str) -> Option<String> {
    PANICS
        .iter()
        .find(|(text, _)| line.contains(text))
        .map(|(_, meaning)| format!("{meaning}: {}", line.trim()))
}

/// The same of what concerns every guest.
fn trouble_of_all(line: &str) -> Option<String> {
    trouble(line).filter(|_| line.contains("KERNEL|"))
}

/// Looks for a guest's end in the output of a machine that somebody uses.
#[derive(Debug, Default)]
pub struct Watch {
    line: String,
    trouble: Option<(String, Instant)>,
    /// Others may go on when one guest has ended.
    several: bool,
}

impl Watch {
    /// Nothing has been seen. `several`: whether the machine has several guests; then it has not ended with
    /// one of them.
    pub fn new(several: bool) -> Self {
        Self {
            several,
            ..Self::default()
        }
    }

    /// Takes in output that has come now.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(char::from(byte));
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if line.trim().is_empty() || line.trim() == QEMU_QUITS {
                continue;
            }
            match &self.trouble {
                // What is shown of an old log looks the same, but the machine goes on after it.
                Some((_, seen)) if seen.elapsed() > LAST_WORDS => self.trouble = None,
                Some(_) => {}
                None => self.trouble = trouble(&line).map(|why| (why, Instant::now())),
            }
        }
    }

    /// What the guest has ended with, if nothing has come since then for a while.
    pub fn end(&self) -> Option<&str> {
        let (why, seen) = self.trouble.as_ref()?;
        let ended = !self.several || trouble_of_all(why).is_some();
        (ended && seen.elapsed() > LAST_WORDS).then_some(why)
    }

    /// The same at the machine's end.
    pub fn last_words(self) -> Option<String> {
        self.trouble.map(|(why, _)| why)
    }
}

/// Follows a machine whose guest runs a command; its output goes to `out`. Returns the command's exit
/// status. `terminal`: the number of the guest's, if there are several; the machine then goes off with the
/// last guest. `log`: where the whole console goes, for messages.
pub fn follow(
    mut session: Session,
    terminal: Option<usize>,
    log: &Path,
    bound: Duration,
    out: &mut dyn Write,
) -> Result<u8> {
    let mut step = Some(Step::new("boot the guest"));
    let result = watch(&mut session, terminal, bound, SILENCE, out, &mut step);
    if let Some(step) = step {
        step.failed("");
    }
    match result.and_then(|status| power_off(&mut session, terminal, bound).map(|()| status)) {
        Ok(status) => {
            session.end(POWER_OFF)?;
            Ok(status)
        }
        Err(failure) => {
            eprint!("{}", session.tail(TAIL));
            eprintln!("    the whole console: {}", log.display());
            Err(failure)
        }
    }
}

/// The same without a word to the user, and with no other patience than `bound`: large memory is mapped in
/// silence.
pub fn run(
    session: &mut Session,
    terminal: Option<usize>,
    bound: Duration,
    out: &mut dyn Write,
) -> Result<u8> {
    let status = watch(session, terminal, bound, bound, out, &mut None)?;
    power_off(session, terminal, bound).map(|()| status)
}

/// Waits for the machine's end after the command's, or after those of other guests too.
fn power_off(session: &mut Session, terminal: Option<usize>, bound: Duration) -> Result<()> {
    let start = session.age();
    while session.wait(Duration::from_millis(200)) != Event::End {
        if terminal.is_some() {
            if session.age() >= bound {
                let seconds = bound.as_secs();
                let why = format!("another guest has not ended after {seconds} s");
                return Err(Error::Guest(why));
            }
        } else if session.age() - start >= POWER_OFF {
            let seconds = POWER_OFF.as_secs();
            let why = format!("no power-off {seconds} s after the command's end");
            return Err(Error::Guest(why));
        }
    }
    Ok(())
}

/// Reads the console up to the command's exit status.
fn watch(
    session: &mut Session,
    terminal: Option<usize>,
    bound: Duration,
    silence: Duration,
    out: &mut dyn Write,
    step: &mut Option<Step>,
) -> Result<u8> {
    let mut parser = Parser::of(terminal);
    let mut seen = 0;
    let mut to_select = terminal;
    loop {
        let event = session.wait(Duration::from_millis(200));
        let pieces = parser.feed(&session.text()[seen..]);
        seen = session.text().len();
        if parser.started()
            && let Some(step) = step.take()
        {
            step.done("");
        }
        let mut wrong = None;
        for piece in pieces {
            match piece {
                Piece::OtherLine(line) => {
                    // From now on the serial driver takes keys.
                    if line.starts_with(CONSOLES)
                        && let Some(number) = to_select.take()
                    {
                        session.send(&format!("\u{1d}{number}"))?;
                    }
                    wrong = wrong.or_else(|| trouble_of_all(&line));
                }
                Piece::Output(text) => write(out, &text)?,
                Piece::Line(line) => {
                    if let Some(step) = step.as_ref() {
                        step.detail(line.trim());
                    }
                    wrong = wrong.or_else(|| trouble(&line));
                }
            }
        }
        if let Some(status) = parser.status() {
            return Ok(status);
        }
        if let Some(wrong) = wrong {
            // The lines after a panic's first say more.
            while session.age() < bound && session.wait(LAST_WORDS) == Event::Output {}
            return Err(Error::Guest(wrong));
        }
        if event == Event::End {
            let when = if parser.started() { "ended" } else { "started" };
            let why = session.complaint();
            let why = format!("the machine ended before the command {when}{why}");
            return Err(Error::Guest(why));
        }
        if session.age() >= bound {
            let seconds = bound.as_secs();
            return Err(Error::Timeout { seconds });
        }
        if parser.started() && session.silence() >= STILL {
            // A command may write what looks like a panic; a machine that panicked writes no more.
            let last = session.text().lines().rev().take(REPORT);
            if let Some(wrong) = last.filter_map(trouble).last() {
                return Err(Error::Guest(wrong));
            }
        }
        if !parser.started() && session.silence() >= silence {
            let seconds = silence.as_secs();
            let why = format!("it hangs: no output for {seconds} s while it boots");
            return Err(Error::Guest(why));
        }
    }
}

/// Writes output: a character is a byte of the console.
fn write(out: &mut dyn Write, text: &str) -> Result<()> {
    let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
    out.write_all(&bytes)
        .and_then(|()| out.flush())
        .map_err(|e| Error::Guest(format!("its output can't be written: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn panics_are_told_apart() {
        let linux = trouble("[ 1.0] Kernel panic - not syncing: VFS").unwrap();
        assert!(linux.starts_with("its kernel panicked"), "{linux}");
        assert!(trouble("KERNEL|PANIC: x").unwrap().contains("under it"));
        assert!(trouble("MON|ERROR: y").unwrap().contains("domain"));
        assert_eq!(trouble("[ 0.0] Linux version 6.1"), None);
    }

    #[test]
    fn an_end_is_one_if_nothing_follows() {
        let mut watch = Watch::default();
        watch.feed(b"all is well\r\nKernel panic - not sync");
        assert_eq!(watch.end(), None);
        watch.feed(b"ing: x\r\nregisters\n");
        assert_eq!(watch.end(), None, "more may come");
        std::thread::sleep(LAST_WORDS + Duration::from_millis(10));
        assert!(watch.end().is_some_and(|why| why.contains("panicked")));
        watch.feed(b"\r\nQEMU: Terminated\r\n# ");
        assert!(watch.end().is_some(), "no line");
        watch.feed(b"ls\n");
        assert_eq!(watch.end(), None, "it goes on");
        watch.feed(b"vcpu: the guest has crashed; it is stopped\n");
        assert!(watch.last_words().is_some());
    }

    /// Follows a program that behaves like a machine with a guest.
    fn pretend(name: &str, script: &str) -> (Result<u8>, String) {
        pretend_terminal(name, None, script)
    }

    fn pretend_terminal(name: &str, terminal: Option<usize>, script: &str) -> (Result<u8>, String) {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let session = Session::start(command, &log).unwrap();
        let mut out = Vec::new();
        let result = follow(session, terminal, &log, Duration::from_secs(20), &mut out);
        std::fs::remove_dir_all(folder).unwrap();
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_command_in_a_machine() {
        let script = "printf 'a\\nPARTITA-GUEST-BEGIN\\nb\\n\\nPARTITA-GUEST-END 7\\nc\\n'";
        let (result, out) = pretend("command", script);
        assert_eq!((result.unwrap(), out.as_str()), (7, "b\n"));
    }

    #[test]
    fn a_machine_that_ends_early() {
        let (result, out) = pretend("early", "echo a; echo PARTITA-GUEST-BEGIN; echo b");
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "guest: the machine ended before the command ended");
        assert_eq!(out, "b");
    }

    #[test]
    fn a_machine_that_panics_is_not_waited_for() {
        let script = "echo 'Kernel panic - not syncing: x'; exec sleep 15";
        let error = pretend("panic", script).0.unwrap_err().to_string();
        assert!(error.starts_with("guest: its kernel panicked"), "{error}");
    }

    #[test]
    fn one_of_several_terminals() {
        // Guest 0 runs a command too, and crashes; its terminal is shown at first.
        let script = "stty -icanon -echo 2>/dev/null
            echo 'firmware'; echo '[consoles: 0* a 1 b; Ctrl-] and a digit selects one]'
            echo PARTITA-GUEST-BEGIN; echo wrong; echo; echo PARTITA-GUEST-END 1
            echo 'vcpu: the guest has crashed; it is stopped'
            key=$(head -c 2 | od -An -tx1); [ \"$key\" = ' 1d 31' ] || exit 9
            echo; echo '[console 1: b]'; echo booting
            echo PARTITA-GUEST-BEGIN; echo right; echo; echo PARTITA-GUEST-END 5
            sleep 0.3; echo 'vcpu: the guest is off'";
        let (result, out) = pretend_terminal("terminals", Some(1), script);
        assert_eq!((result.unwrap(), out.as_str()), (5, "right\n"));
    }

    #[test]
    fn one_guests_end_is_not_that_of_all() {
        for (several, ended) in [(false, true), (true, false)] {
            let mut watch = Watch::new(several);
            watch.feed(b"vcpu: the guest has crashed; it is stopped\n");
            std::thread::sleep(LAST_WORDS + Duration::from_millis(10));
            assert_eq!(watch.end().is_some(), ended);
            assert!(watch.last_words().is_some());
        }
        let mut watch = Watch::new(true);
        watch.feed(b"KERNEL|PANIC: x\n");
        std::thread::sleep(LAST_WORDS + Duration::from_millis(10));
        assert!(watch.end().is_some());
    }
}
