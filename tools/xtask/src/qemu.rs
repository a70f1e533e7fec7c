// SPDX-License-Identifier: BSD-2-Clause
//! Running an image on QEMU: at the terminal, or watched.
//!
//! Every QEMU is started through `setpriv --pdeathsig`, so that it ends even if this program is killed.

use crate::build::Image;
use crate::error::{At, Error, Result, make_folder};
use crate::guest::console::Watch;
use crate::process::Running;
use crate::workspace::Board;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// QEMU's `-M`.
    pub machine: String,
    /// The image.
    pub image: PathBuf,
    /// Cores.
    pub smp: u32,
    /// Memory, as QEMU takes it ("2G").
    pub memory: String,
    /// Whether virtual time counts instructions (one is one nanosecond).
    pub icount: bool,
    /// Of several terminals, that of the guest whose output is wanted.
    pub terminal: Option<usize>,
    /// Whether the host runs it before everything else.
    pub favoured: bool,
    /// More arguments.
    pub extra: Vec<String>,
}

/// Default memory, as QEMU takes it.
pub const MEMORY: &str = "2G";

/// Bytes of memory in QEMU's words: a number of MiB, or with M or G behind it.
pub fn memory_bytes(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 20),
    };
    let number = digits.parse::<u32>();
    let bytes = number.ok().map(|number| u64::from(number) << shift);
    bytes
        .filter(|bytes| (1 << 30..=1 << 40).contains(bytes))
        .ok_or_else(|| "memory of the machine: from 1G to 1024G".into())
}

/// A console and a board controller, which powers the machine off, but none of the PCI host bridges that QEMU adds by
/// itself: nothing here uses them, and where several cores run at once, firmware that looks for them sometimes hangs or
/// runs into an assertion of QEMU's (`xive_source_esb_trigger`).
const BARE: [&str; 9] = [
    "-nodefaults",
    "-display",
    "none",
    "-serial",
    "mon:stdio",
    "-device",
    "ipmi-bmc-sim,id=bmc0",
    "-device",
    "isa-ipmi-bt,bmc=bmc0,irq=10",
];

/// How lines of QEMU's own begin.
const COMPLAINS: &str = "qemu-system-ppc64: ";

/// Real-time priority of the threads that are processors, where a machine is favoured, and of the one that has their
/// timers.
const PROCESSORS_FIRST: &str = "10";
const TIMERS_FIRST: &str = "20";

/// Whether this user may favour a machine ([`Machine::favoured`]).
pub fn may_favour() -> bool {
    let mut command = Command::new("chrt");
    command.args(["--fifo", TIMERS_FIRST, "true"]);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// How long QEMU may take to end after it has closed its console.
const END: Duration = Duration::from_secs(10);

/// Bound of a run without a terminal, where nobody can end it.
const UNATTENDED: Duration = Duration::from_secs(600);

impl Machine {
    /// A machine of a board with one core and the memory that the image is made for.
    pub fn new(board: &Board, image: &Image) -> Self {
        Self {
            machine: board.qemu_machine.clone(),
            image: image.file.clone(),
            smp: 1,
            memory: image.memory.clone(),
            icount: false,
            terminal: image.terminal,
            favoured: false,
            extra: Vec::new(),
        }
    }

    /// The arguments.
    fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-M", &self.machine, "-m", &self.memory, "-smp"]
            .map(String::from)
            .into();
        words.push(self.smp.to_string());
        words.extend(BARE.map(String::from));
        if self.icount {
            words.extend(["-icount".into(), "shift=0,sleep=off".into()]);
        }
        words.extend(["-kernel".into(), self.image.display().to_string()]);
        words.extend(self.extra.iter().cloned());
        words
    }

    /// The command as a user would type it.
    pub fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-ppc64");
        command.args(self.arguments());
        command
    }

    /// The same, bound to the life of this program.
    fn bound_command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.favoured {
            command.args(["chrt", "--fifo", PROCESSORS_FIRST]);
        }
        command.arg("qemu-system-ppc64").args(self.arguments());
        command
    }

    /// Runs it at this terminal (Ctrl-A X ends QEMU, Ctrl-A C shows its monitor). `bound` None: as long as
    /// the user likes, or [`UNATTENDED`] where there is no terminal. With a watch, a guest's bad end
    /// is an error; without a terminal it ends the machine too.
    pub fn interactive(&self, bound: Option<Duration>, watch: Option<Watch>) -> Result<()> {
        let attended = std::io::stdin().is_terminal();
        let bound = bound.or((!attended).then_some(UNATTENDED));
        let saved = Terminal::save();
        let mut command = self.bound_command();
        if watch.is_some() {
            command.stdout(Stdio::piped());
        }
        let mut running = Running::start(&mut command)?;
        let ended = match watch {
            Some(watch) => follow(&mut running, watch, bound, attended),
            None => running.wait(bound).map(|status| (status, None)),
        };
        drop(running);
        drop(saved);
        match ended? {
            (_, Some(why)) => Err(Error::Guest(why)),
            (Some(status), None) => check(status),
            (None, None) => Err(Error::Timeout {
                seconds: bound.unwrap_or_default().as_secs(),
            }),
        }
    }

    /// Starts it with its console in our hands and a copy of all output in `log`.
    pub fn watched(&self, log: &Path) -> Result<Session> {
        if let Some(folder) = log.parent() {
            make_folder(folder)?;
        }
        let mut command = self.bound_command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Session::start(command, log)
    }
}

/// Hands on what QEMU prints until it ends: its status (none if it did not), and the guest's bad end.
fn follow(
    running: &mut Running,
    mut watch: Watch,
    bound: Option<Duration>,
    attended: bool,
) -> Result<(Option<ExitStatus>, Option<String>)> {
    let output = read_all(running.child().stdout.take());
    let started = Instant::now();
    let mut told = false;
    loop {
        match output.recv_timeout(Duration::from_millis(100)) {
            Ok(bytes) => {
                let mut out = std::io::stdout();
                // Without somebody who reads, the machine goes on.
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
                watch.feed(&bytes);
            }
            Err(RecvTimeoutError::Timeout) => match watch.end() {
                Some(why) if !attended => return Ok((None, Some(why.into()))),
                Some(why) if !told => {
                    eprint!("\r\nxtask: {why}\r\nxtask: Ctrl-A X ends QEMU\r\n");
                    told = true;
                }
                _ => {}
            },
            Err(RecvTimeoutError::Disconnected) => {
                return Ok((running.wait(Some(END))?, watch.last_words()));
            }
        }
        if bound.is_some_and(|bound| started.elapsed() >= bound) {
            return Ok((None, None));
        }
    }
}

/// What comes out of a pipe, piece by piece, until it is closed.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, output) = channel();
    if let Some(mut pipe) = pipe {
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    output
}

/// Fails unless QEMU ended well.
fn check(status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(Error::Qemu(status.to_string()))
    }
}

/// The terminal's settings, put back when dropped: QEMU does so itself unless it is killed.
struct Terminal(Option<rustix::termios::Termios>);

impl Terminal {
    fn save() -> Self {
        let stdin = std::io::stdin();
        Self(
            stdin
                .is_terminal()
                .then(|| rustix::termios::tcgetattr(&stdin).ok())
                .flatten(),
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let stdin = std::io::stdin();
            // Nothing more can be done if the terminal is gone.
            let _ =
                rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, settings);
        }
    }
}

/// What a wait for output brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// New text has come.
    Output,
    /// None within the time given.
    Quiet,
    /// QEMU has closed its console: it ends.
    End,
}

/// A watched QEMU.
pub struct Session {
    running: Running,
    output: Receiver<Vec<u8>>,
    log: File,
    /// What QEMU prints of its own.
    errors: PathBuf,
    text: String,
    started: Instant,
    last_output: Instant,
}

impl Session {
    /// Starts a command whose standard input and output are pipes. `log` gets its output, and the file of that name
    /// that ends in `.err` what it complains of.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let errors = log.with_extension("err");
        command.stderr(File::create(&errors).at(&errors)?);
        let log = File::create(log).at(log)?;
        let mut running = Running::start(&mut command)?;
        let output = read_all(running.child().stdout.take());
        let now = Instant::now();
        Ok(Self {
            running,
            output,
            log,
            errors,
            text: String::new(),
            started: now,
            last_output: now,
        })
    }

    /// Waits for output, at most for `patience`.
    pub fn wait(&mut self, patience: Duration) -> Event {
        match self.output.recv_timeout(patience) {
            Ok(bytes) => {
                // The log is a copy: the test goes on without it.
                let _ = self.log.write_all(&bytes);
                self.text
                    .extend(bytes.iter().map(|&b| char::from(b)).filter(|&c| c != '\r'));
                self.last_output = Instant::now();
                Event::Output
            }
            Err(RecvTimeoutError::Timeout) => Event::Quiet,
            Err(RecvTimeoutError::Disconnected) => Event::End,
        }
    }

    /// Whether QEMU closes its console within this time.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.wait(Duration::from_millis(50)) == Event::End {
                return true;
            }
        }
        false
    }

    /// Of a favoured machine, puts the thread with the timers before the processors, whom it must interrupt.
    pub fn favour_timers(&mut self) -> Result<()> {
        let id = self.running.child().id().to_string();
        let mut command = Command::new("chrt");
        command.args(["--fifo", "--pid", TIMERS_FIRST, &id]);
        crate::process::output(&mut command, "put QEMU's timers first").map(drop)
    }

    /// Types into the console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let typed = |pipe: &mut std::process::ChildStdin| {
            pipe.write_all(text.as_bytes()).and_then(|()| pipe.flush())
        };
        match self.running.child().stdin.as_mut().map(typed) {
            Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(Error::Qemu(format!("its console takes no input: {e}"))),
            None => Err(Error::Qemu("it has no console input".into())),
        }
    }

    /// All console output so far, without carriage returns; a byte is a character.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Time since the start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time since the last output.
    pub fn silence(&self) -> Duration {
        self.last_output.elapsed()
    }

    /// Takes in all output that has come.
    pub fn drain(&mut self) {
        while self.wait(Duration::from_millis(1)) == Event::Output {}
    }

    /// Waits for QEMU's end; fails unless it is a good one.
    pub fn end(mut self, patience: Duration) -> Result<()> {
        let status = self.running.wait(Some(patience))?;
        let status = status.ok_or(Error::Timeout {
            seconds: patience.as_secs(),
        })?;
        check(status).map_err(|_| Error::Qemu(format!("{status}{}", self.complaint())))
    }

    /// The last of what QEMU itself has to say, to be added to a message.
    pub fn complaint(&self) -> String {
        let all = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let last = all.lines().rfind(|line| line.starts_with(COMPLAINS));
        last.map(|line| format!(": {line}")).unwrap_or_default()
    }

    /// The last lines, for a failure's report.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<&str> = self.text.lines().collect();
        let from = all.len().saturating_sub(lines);
        all[from..].iter().map(|l| format!("    | {l}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            machine: "powernv9".into(),
            image: "/i/loader.img".into(),
            smp: 2,
            memory: "4G".into(),
            icount: false,
            terminal: None,
            favoured: false,
            extra: vec!["-s".into()],
        }
    }

    #[test]
    fn memory_in_qemus_words() {
        assert_eq!(memory_bytes("2G"), Ok(2 << 30));
        assert_eq!(memory_bytes("5120M"), Ok(5 << 30));
        assert_eq!(memory_bytes("2048"), Ok(2 << 30));
        for wrong in ["", "G", "512M", "2T", "-2G", "4096G"] {
            assert!(memory_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn command_line() {
        let mut m = machine();
        let line = crate::process::shell_line(&m.command());
        assert_eq!(
            line,
            "qemu-system-ppc64 -M powernv9 -m 4G -smp 2 -nodefaults -display none -serial mon:stdio \
             -device ipmi-bmc-sim,id=bmc0 -device isa-ipmi-bt,bmc=bmc0,irq=10 -kernel /i/loader.img -s"
        );
        m.icount = true;
        assert!(crate::process::shell_line(&m.command()).contains("-icount shift=0,sleep=off"));
    }

    #[test]
    fn session_reads_writes_and_ends() {
        let folder = std::env::temp_dir().join(format!("xtask-session-{}", std::process::id()));
        make_folder(&folder).unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "printf 'a\\r\\nb\\r\\n'; read x; echo got $x; sleep 0.1; echo 'qemu-system-ppc64: no' >&2; exit 3",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut session = Session::start(command, &folder.join("log")).unwrap();
        while !session.text().contains("b\n") {
            assert_ne!(session.wait(Duration::from_secs(5)), Event::End);
        }
        assert_eq!(session.wait(Duration::from_millis(20)), Event::Quiet);
        session.send("it\n").unwrap();
        while session.wait(Duration::from_secs(5)) != Event::End {}
        assert_eq!(session.text(), "a\nb\ngot it\n");
        assert_eq!(session.tail(1), "    | got it\n");
        let end = session.end(Duration::from_secs(5)).unwrap_err();
        assert!(
            end.to_string()
                .ends_with("exit status: 3: qemu-system-ppc64: no)"),
            "{end}"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
