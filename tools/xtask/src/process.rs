// SPDX-License-Identifier: BSD-2-Clause
//! Child processes: every one is known by its process id and does not outlive this program.

use crate::error::{Error, Result};
use crate::ui::Step;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A child process that is killed, at the latest, when this value is dropped.
pub struct Running {
    child: Child,
    program: String,
}

impl Running {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Result<Self> {
        let program = name(command);
        let mut children = lock();
        let child = command.spawn().map_err(|source| Error::Start {
            program: program.clone(),
            source,
        })?;
        children.push(child.id());
        Ok(Self { child, program })
    }

    /// The process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has ended, and how.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|source| Error::Start {
            program: self.program.clone(),
            source,
        })
    }

    /// Waits until it ends or `bound` has passed.
    pub fn wait(&mut self, bound: Option<Duration>) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.poll()? {
                return Ok(Some(status));
            }
            if bound.is_some_and(|bound| start.elapsed() >= bound) {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, then ends it.
    pub fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::TERM);
            if !matches!(self.wait(Some(Duration::from_secs(2))), Ok(Some(_))) {
                // It can only have ended in the meantime: then there is nothing to do.
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        lock().retain(|&id| id != self.child.id());
    }
}

fn lock() -> std::sync::MutexGuard<'static, Vec<u32>> {
    CHILDREN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // The process may be gone already.
        let _ = kill_process(pid, signal);
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP end every child, then this program (status 130).
pub fn end_children_on_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|source| {
            Error::Start {
                program: "signal handler".into(),
                source,
            }
        })?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // The lock stays held: no child starts from here on.
            let children = lock();
            children.iter().for_each(|&id| signal(id, Signal::TERM));
            std::thread::sleep(Duration::from_millis(300));
            children.iter().for_each(|&id| signal(id, Signal::KILL));
            eprintln!("xtask: interrupted");
            std::process::exit(130);
        }
    });
    Ok(())
}

/// The last part of a command's program path.
pub fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// A command as a line for a shell.
pub fn shell_line(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The cargo that runs this program, in the checkout.
pub fn host_cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null());
    command
}

fn failed(command: &Command, what: &str, status: ExitStatus) -> Error {
    Error::Program {
        what: what.into(),
        program: name(command),
        status: status.to_string(),
    }
}

/// What a program says in one line; None unless it does and ends well.
pub fn said(command: &mut Command) -> Option<String> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_string()).filter(|line| !line.is_empty())
}

/// Runs a program and returns what it writes to standard output; its errors go to ours.
pub fn output(command: &mut Command, what: &str) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command)?;
    let errors = collect(running.child().stderr.take());
    let mut bytes = Vec::new();
    if let Some(mut pipe) = running.child().stdout.take() {
        pipe.read_to_end(&mut bytes)
            .map_err(|source| Error::Start {
                program: name(command),
                source,
            })?;
    }
    let status = running.wait(None)?.unwrap_or_default();
    if !status.success() {
        eprint!("{}", errors.join().unwrap_or_default());
        return Err(failed(command, what, status));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a program within a step: its last line of standard error is shown as the step's detail,
/// and all its output only if it fails. Returns standard output.
pub fn quiet(command: &mut Command, what: &str, step: &Step) -> Result<String> {
    let (text, status) = watched(command, step)?;
    if status.success() {
        return Ok(text.out);
    }
    step.line(text.err.trim_end());
    if !text.out.trim().is_empty() {
        step.line(text.out.trim_end());
    }
    Err(failed(command, what, status))
}

/// What a program printed.
pub struct Printed {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Like [`quiet`], but leaves the judgement to the caller.
pub fn watched(command: &mut Command, step: &Step) -> Result<(Printed, ExitStatus)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running::start(command)?;
    let out = collect(running.child().stdout.take());
    let mut err = String::new();
    if let Some(pipe) = running.child().stderr.take() {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            step.detail(line.trim());
            err.push_str(&line);
            err.push('\n');
        }
    }
    let status = running.wait(None)?.unwrap_or_default();
    let out = out.join().unwrap_or_default();
    Ok((Printed { out, err }, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_line_quotes_what_needs_it() {
        let mut command = Command::new("qemu");
        command.args(["-append", "a b", "it's", "-m", "2G", ""]);
        assert_eq!(
            shell_line(&command),
            r"qemu -append 'a b' 'it'\''s' -m 2G ''"
        );
    }

    #[test]
    fn a_bounded_child_is_killed() {
        let mut running = Running::start(Command::new("sleep").arg("60")).unwrap();
        assert!(
            running
                .wait(Some(Duration::from_millis(50)))
                .unwrap()
                .is_none()
        );
        running.stop();
        assert!(running.poll().unwrap().is_some());
    }

    #[test]
    fn failure_names_step_and_program() {
        let step = Step::new("t");
        let error = quiet(&mut Command::new("false"), "trying", &step).unwrap_err();
        assert!(
            error.to_string().starts_with("trying: false failed"),
            "{error}"
        );
    }
}
