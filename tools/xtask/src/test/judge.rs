// SPDX-License-Identifier: BSD-2-Clause
//! One boot of a test, and the judgement of what it printed.

use super::last_lines;
use crate::error::{Error, Result, read};
use crate::guest::console;
use crate::plan::{CommandEnd, Dialogue, Job, Next, Progress, Subject, Watch};
use crate::protocol::{self, Line, Verdict};
use crate::qemu::{Event, Machine, Session};
use crate::snapshot;
use std::path::Path;
use std::time::Duration;

/// How long QEMU may take to end after the last line.
const END: Duration = Duration::from_secs(30);
/// How often a quiet console is looked at.
const TICK: Duration = Duration::from_millis(200);
/// What the monitor prints when it stops a protection domain.
const PD_DOWN: &str = "MON|ERROR";
/// What the kernel prints when it cannot go on: no test survives it.
const KERNEL_DOWN: [&str; 2] = ["KERNEL|PANIC", "KERNEL|CRASH"];

/// Boots one job and judges it; also gives the end of its output.
pub fn boot(job: &Job, machine: &Machine, log: &Path) -> (Verdict, String) {
    let broken = |error: Error| {
        let failures = vec![("QEMU".to_string(), error.to_string())];
        (
            Verdict {
                passed: 0,
                failures,
            },
            String::new(),
        )
    };
    let mut session = match machine.watched(log) {
        Ok(session) => session,
        Err(error) => return broken(error),
    };
    match &job.subject {
        Subject::Suite { .. } | Subject::Guest { .. } => {
            let mut end = watch_suite(&mut session, job);
            let (text, tail) = (session.text().to_string(), session.tail(15));
            if end.is_none() {
                end = session.end(END).err().map(|e| e.to_string());
            }
            let mut verdict = protocol::judge(&text, end.as_deref());
            // A guest that goes on although a server of its own was stopped.
            if text.contains(PD_DOWN) {
                let why = "a protection domain was stopped";
                verdict.failures.push(("the system".into(), why.into()));
            }
            (verdict, tail)
        }
        Subject::System {
            dialogue,
            alterations,
            ..
        } if !alterations.exec.is_empty() => {
            let mut output = Vec::new();
            let end = console::run(&mut session, machine.terminal, job.timeout, &mut output);
            let tail = session.tail(15);
            let output: String = output.into_iter().map(char::from).collect();
            (verdict(judge_command(dialogue, end, &output)), tail)
        }
        Subject::System { dialogue, .. } => {
            let end = watch_system(&mut session, job, dialogue);
            let tail = session.tail(15);
            let end = end.and_then(|()| match dialogue.snapshot {
                true => {
                    let json = read(&machine.image.with_file_name("capdl.json"));
                    let json = json.map_err(|e| e.to_string())?;
                    snapshot::compare(session.text(), &json).map(drop)
                }
                false => Ok(()),
            });
            let end = end.and_then(|()| match dialogue.powers_off {
                true => session.end(END).map_err(|e| e.to_string()),
                false => Ok(()),
            });
            (verdict(end), tail)
        }
    }
}

fn verdict(end: std::result::Result<(), String>) -> Verdict {
    match end {
        Ok(()) => Verdict {
            passed: 1,
            failures: vec![],
        },
        Err(why) => Verdict {
            passed: 0,
            failures: vec![("dialogue".into(), why)],
        },
    }
}

/// Whether the guest's command has ended as it must, with what it must print.
fn judge_command(
    dialogue: &Dialogue,
    end: Result<u8>,
    output: &str,
) -> std::result::Result<(), String> {
    match (&dialogue.end, end) {
        (CommandEnd::Status(expected), Ok(status)) if status == *expected => {}
        (CommandEnd::Status(expected), Ok(status)) => {
            return Err(format!(
                "exit status {status}, not {expected}: {}",
                last_lines(output, 5)
            ));
        }
        (CommandEnd::Status(_), Err(error)) => return Err(error.to_string()),
        (CommandEnd::Fails(text), Err(error)) if error.to_string().contains(text.as_str()) => {}
        (CommandEnd::Fails(_), Err(error)) => return Err(error.to_string()),
        (CommandEnd::Fails(text), Ok(status)) => {
            return Err(format!("exit status {status}, and not `{text}`"));
        }
    }
    let mut progress = Progress::default();
    match progress.next(dialogue, output) {
        Next::Done => Ok(()),
        Next::Forbidden(text) => Err(format!("it printed `{text}`")),
        Next::Wait | Next::Send(_) => Err(format!(
            "no {} in its output: {}",
            progress.waiting_for(dialogue),
            last_lines(output, 5)
        )),
    }
}

/// Why the watch over a console must end, if it must.
fn overdue(session: &Session, job: &Job, down: &mut Watch) -> Option<String> {
    let text = session.text();
    if let Some((at, _)) = down.find(&KERNEL_DOWN, text) {
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        Some(format!("the kernel is down: {}", line.trim()))
    } else if session.age() > job.timeout {
        Some(format!(
            "timeout: not done after {} s",
            job.timeout.as_secs()
        ))
    } else if session.silence() > job.silence {
        Some(format!("hang: no output for {} s", job.silence.as_secs()))
    } else {
        None
    }
}

/// Reads a suite's output up to the end of QEMU; says why, if that does not come.
fn watch_suite(session: &mut Session, job: &Job) -> Option<String> {
    let mut down = Watch::default();
    loop {
        if session.wait(TICK) == Event::End {
            return None;
        }
        if let Some(why) = overdue(session, job, &mut down) {
            return Some(why);
        }
        let summary = |l: &str| matches!(protocol::parse(l), Some(Line::Suite { .. }));
        if session.silence() > END && session.text().lines().any(summary) {
            return Some("it did not power off after its summary".into());
        }
    }
}

/// Holds a dialogue.
fn watch_system(
    session: &mut Session,
    job: &Job,
    dialogue: &Dialogue,
) -> std::result::Result<(), String> {
    let (mut progress, mut down) = (Progress::default(), Watch::default());
    loop {
        let event = session.wait(TICK);
        if let Some(why) = overdue(session, job, &mut down) {
            return Err(format!(
                "{why}, waiting for {}",
                progress.waiting_for(dialogue)
            ));
        }
        loop {
            match progress.next(dialogue, session.text()) {
                Next::Wait => break,
                Next::Send(text) => session.send(text).map_err(|e| e.to_string())?,
                Next::Done if !dialogue.powers_off || event == Event::End => return Ok(()),
                Next::Done => break,
                Next::Forbidden(text) => return Err(format!("it printed `{text}`")),
            }
        }
        if event == Event::End {
            let (waiting, why) = (progress.waiting_for(dialogue), session.complaint());
            return Err(format!("QEMU ended while waiting for {waiting}{why}"));
        }
    }
}
