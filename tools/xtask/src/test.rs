// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask test`: everything that must be true of a commit.

use crate::build::{Builder, Image};
use crate::error::{Error, Result, make_folder, read, write};
use crate::guest;
use crate::guest::console;
use crate::overhead::Overhead;
use crate::plan::{self, Choice, CommandEnd, Dialogue, Job, Next, Progress, Subject};
use crate::process;
use crate::protocol::{self, Line, Verdict};
use crate::qemu::{self, Event, Machine, Session};
use crate::system::System;
use crate::toolchain::{self, Variant};
use crate::ui::Step;
use crate::workspace::Workspace;
use crate::{code_check, doc, reproduce, snapshot, tutorial};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long QEMU may take to end after the last line.
const END: Duration = Duration::from_secs(30);
/// How often a quiet console is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Lines of a failed host test run that are shown.
const LINES: usize = 60;
/// What the monitor prints when it stops a protection domain.
const PD_DOWN: &str = "MON|ERROR";
/// What the kernel prints when it cannot go on: no test survives it.
const KERNEL_DOWN: [&str; 2] = ["KERNEL|PANIC", "KERNEL|CRASH"];

/// What the user chose.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which QEMU jobs.
    pub choice: Choice,
    /// Leave QEMU out.
    pub no_qemu: bool,
    /// QEMUs at one time.
    pub parallel: usize,
    /// Whether the files of guests may be downloaded.
    pub download: bool,
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<String>,
}

impl Tally {
    fn check(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("  FAILED {name}: {error}");
                self.failures.push(format!("{name}: {error}"));
            }
        }
    }

    fn add(&mut self, name: &str, verdict: Verdict) {
        self.passed += verdict.passed;
        let named = |(test, why)| format!("{name}: {test}: {why}");
        self.failures
            .extend(verdict.failures.into_iter().map(named));
    }
}

/// Runs the checks. With a filter only the QEMU jobs it names.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut tally = Tally::default();
    if options.choice.filter.is_none() {
        static_checks(workspace, &mut tally);
    }
    if !options.no_qemu {
        let jobs = plan::jobs(workspace, &options.choice)?;
        let filter = options.choice.filter.as_deref();
        let with_tutorial = filter.is_none_or(|filter| "tutorial".contains(filter));
        if jobs.is_empty() && filter.is_some() && !with_tutorial {
            let all = plan::jobs(
                workspace,
                &Choice {
                    soak: true,
                    ..Choice::default()
                },
            )?;
            return Err(Error::Unknown {
                kind: "test",
                name: options.choice.filter.clone().unwrap_or_default(),
                known: all.into_iter().map(|job| job.name).collect(),
            });
        }
        let mut builder = Builder::new(workspace);
        boot_all(workspace, &mut builder, &jobs, options, &mut tally)?;
        if with_tutorial {
            let tutorial = boot_tutorial(workspace, options, &mut tally);
            tally.check("docs/TUTORIAL.md", tutorial);
        }
    }
    if !tally.failures.is_empty() {
        eprintln!("\nFailures:");
        tally.failures.iter().for_each(|f| eprintln!("  {f}"));
    }
    println!("{} passed, {} failed", tally.passed, tally.failures.len());
    if tally.failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Tests {
            passed: tally.passed,
            failed: tally.failures.len(),
        })
    }
}

/// Everything that needs no QEMU.
fn static_checks(workspace: &Workspace, tally: &mut Tally) {
    let host = |words: &[&str]| {
        let mut cargo = process::host_cargo(&workspace.root);
        cargo.args(words);
        cargo
    };
    tally.check(
        "format",
        step("format", &mut host(&["fmt", "--all", "--check"])),
    );
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    tally.check("clippy (host)", step("clippy (host)", &mut host(&clippy)));
    for config in ["debug", "release"] {
        let name = format!("clippy (ppc64, {config})");
        tally.check(&name, machine_clippy(workspace, config, &name));
    }
    tally.check("commands in the documents", tutorial::commands(workspace));
    tally.check("tables of docs/KERNEL.md", doc::tables(workspace, true));
    host_tests(workspace, tally);
    tally.check("model checks", model_checks(workspace));
    tally.check("no floating point in PDs", code_check::run(workspace));
    tally.check("reproducible image", reproduce::run(workspace));
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    let step = Step::new(name);
    process::quiet(command, name, &step)?;
    step.done("");
    Ok(())
}

/// What several instances of a server do at one time, in every order that loom finds: the tests under
/// `cfg(loom)` of the packages that depend on it there.
fn model_checks(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::host_cargo(&workspace.root);
    cargo
        .args(["test", "--release", "--no-fail-fast"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", workspace.target.join("loom"));
    for package in &workspace.packages {
        if read(&package.folder.join("Cargo.toml"))?.contains("cfg(loom)") {
            cargo.args(["-p", &package.name]);
        }
    }
    step("model checks", &mut cargo)
}

fn machine_clippy(workspace: &Workspace, config: &str, name: &str) -> Result<()> {
    let variant = Variant {
        board: "qemu_powernv9".into(),
        config: config.into(),
    };
    let mut cargo = toolchain::cargo(workspace, &variant, "clippy")?;
    for package in workspace.machine_packages() {
        cargo.args(["-p", &package.name]);
    }
    cargo.args(["--keep-going", "--", "-D", "warnings"]);
    step(name, &mut cargo)
}

/// `cargo test`, each test counted.
fn host_tests(workspace: &Workspace, tally: &mut Tally) {
    let step = Step::new("host tests");
    let mut cargo = process::host_cargo(&workspace.root);
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    let (printed, status) = match process::watched(&mut cargo, &step) {
        Ok(done) => done,
        Err(error) => return tally.check("host tests", Err(error)),
    };
    let (passed, failed) = count_cargo_tests(&printed.out);
    tally.passed += passed;
    if status.success() && failed.is_empty() {
        return step.done(&format!("{passed} passed"));
    }
    let log = workspace.target.join("test-logs/host-tests.log");
    if let Err(error) = write(&log, format!("{}\n{}", printed.out, printed.err)) {
        step.line(&error.to_string());
    }
    if failed.is_empty() {
        step.line(&last_lines(&printed.err, LINES));
        tally
            .failures
            .push(format!("host tests: cargo test: {status}"));
    } else {
        step.line(&last_lines(&printed.out, LINES));
    }
    step.line(&format!("all of it: {}", log.display()));
    step.failed(&format!("{passed} passed, {} failed", failed.len()));
    tally
        .failures
        .extend(failed.iter().map(|name| format!("host test {name}")));
}

/// The end of a text.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// How many tests passed, and the names of those that did not, in cargo's output.
fn count_cargo_tests(text: &str) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let count = rest
                .split_once(". ")
                .and_then(|(_, r)| r.split(' ').next()?.parse().ok());
            passed += count.unwrap_or(0);
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            failed.push(name.to_string());
        }
    }
    (passed, failed)
}

/// The tutorial's own test, in a copy of the sources with the tutorial's files.
fn boot_tutorial(workspace: &Workspace, options: &Options, tally: &mut Tally) -> Result<()> {
    let (copy, jobs) = tutorial::prepare(workspace)?;
    let mut builder = tutorial::builder(workspace, &copy, &jobs)?;
    boot_all(&copy, &mut builder, &jobs, options, tally)
}

/// Builds the image of every job, then boots them, some at a time.
fn boot_all(
    workspace: &Workspace,
    builder: &mut Builder,
    jobs: &[Job],
    options: &Options,
    tally: &mut Tally,
) -> Result<()> {
    let logs = workspace.target.join("test-logs");
    make_folder(&logs)?;
    let mut images: BTreeMap<(String, Variant), std::result::Result<Image, String>> =
        BTreeMap::new();
    let mut ready: Vec<(&Job, Machine)> = Vec::new();
    for job in jobs {
        let key = (job.subject.image(&job.name), job.variant.clone());
        if !images.contains_key(&key) {
            let built = build(workspace, builder, job, options.download)
                .and_then(|image| check_memory(job, image));
            let image = built.map_err(|error| {
                eprintln!("  FAILED image of {}: {error}", job.name);
                error.to_string()
            });
            images.insert(key.clone(), image);
        }
        match images.get(&key) {
            Some(Ok(image)) => {
                let mut machine = Machine::new(&workspace.board(&job.variant.board)?, image);
                machine.smp = job.smp;
                if let Some(memory) = &job.memory {
                    machine.memory.clone_from(memory);
                }
                machine.icount = job.icount;
                ready.push((job, machine));
            }
            Some(Err(why)) => tally
                .failures
                .push(format!("{}: no image: {why}", job.name)),
            None => {}
        }
    }
    if ready.is_empty() {
        return Ok(());
    }
    let step = Step::new(format!("{} boots", ready.len()));
    let failures = tally.failures.len();
    let results = Mutex::new(&mut *tally);
    // Several cores run in wall time: such a machine needs host processors of its own.
    let (several, one): (Vec<_>, Vec<_>) = ready.iter().partition(|(job, _)| job.smp > 1);
    let parallel = options.parallel.max(1);
    for (boots, workers) in [(one, parallel), (several, (parallel / 2).max(1))] {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some((job, machine)) = boots.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        step.detail(job.name.clone());
                        let (verdict, tail) = boot(job, machine, &log_path(&logs, &job.name));
                        report(&step, job, &verdict, &tail);
                        results
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .add(&job.name, verdict);
                    }
                });
            }
        });
    }
    let note = format!("logs in {}", logs.display());
    if tally.failures.len() == failures {
        step.done(&note)
    } else {
        step.failed(&note)
    }
    Ok(())
}

impl Subject {
    /// Name of the image: a system that the test alters has one of its own, named after the test.
    fn image(&self, job: &str) -> String {
        match self {
            Subject::Suite { package, .. } | Subject::Guest { package, .. } => package.clone(),
            Subject::System { alterations, .. } if alterations.any() => plain(job),
            Subject::System { system, .. } => system.clone(),
        }
    }
}

/// A system takes little memory beside its guests', where they have what they say.
fn check_memory(job: &Job, image: Image) -> Result<Image> {
    let bounded = match &job.subject {
        Subject::Suite { .. } => false,
        Subject::Guest { alterations, .. } | Subject::System { alterations, .. } => {
            alterations.guest_backing.is_none()
        }
    };
    if bounded && let Some(overhead) = Overhead::of(&image)? {
        overhead.check()?;
    }
    Ok(image)
}

fn build(workspace: &Workspace, builder: &mut Builder, job: &Job, download: bool) -> Result<Image> {
    workspace.config(&job.variant.config)?;
    let memory = job.memory.as_deref().map(qemu::memory_bytes);
    let memory = memory.transpose().map_err(Error::Usage)?;
    match &job.subject {
        Subject::Suite {
            package,
            environment,
        } => builder.suite(package, environment, &job.variant),
        Subject::Guest { alterations, .. } => {
            let mut system = System::find(workspace, plan::GUEST_SYSTEM)?;
            system.memory = memory;
            let system = guest::altered(workspace, system, alterations, download)?;
            builder.system(&system, &job.variant)
        }
        Subject::System {
            system,
            alterations,
            ..
        } => {
            let mut system = System::find(workspace, system)?;
            system.name = job.subject.image(&job.name);
            system.memory = memory;
            let system = guest::altered(workspace, system, alterations, download)?;
            builder.system(&system, &job.variant)
        }
    }
}

/// The name in characters that every file name may have.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    name.chars().map(plain).collect()
}

fn log_path(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{}.log", plain(name)))
}

fn report(step: &Step, job: &Job, verdict: &Verdict, tail: &str) {
    if verdict.failures.is_empty() {
        step.line(&format!(
            "      ok {} ({} passed)",
            job.name, verdict.passed
        ));
        return;
    }
    step.line(&format!("  FAILED {}", job.name));
    for (test, why) in &verdict.failures {
        step.line(&format!("         {test}: {why}"));
    }
    step.line(tail.trim_end());
}

/// Boots one job and judges it; also gives the end of its output.
fn boot(job: &Job, machine: &Machine, log: &Path) -> (Verdict, String) {
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
                end = session
                    .end(END)
                    .and_then(crate::qemu::check)
                    .err()
                    .map(|e| e.to_string());
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
        } if alterations.exec.is_some() => {
            let mut output = Vec::new();
            let end = console::run(&mut session, job.timeout, &mut output);
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
                true => session
                    .end(END)
                    .and_then(crate::qemu::check)
                    .map_err(|e| e.to_string()),
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
fn overdue(session: &Session, job: &Job) -> Option<String> {
    if let Some(line) = session
        .text()
        .lines()
        .find(|line| KERNEL_DOWN.iter().any(|down| line.contains(down)))
    {
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
    loop {
        if session.wait(TICK) == Event::End {
            return None;
        }
        if let Some(why) = overdue(session, job) {
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
    let mut progress = Progress::default();
    loop {
        let event = session.wait(TICK);
        if let Some(why) = overdue(session, job) {
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
            let waiting = progress.waiting_for(dialogue);
            return Err(format!("QEMU ended while waiting for {waiting}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tests_are_counted() {
        let text = "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n\
                    test result: ok. 41 passed; 0 failed; 0 ignored\n";
        assert_eq!(count_cargo_tests(text), (42, vec!["c".to_string()]));
        assert_eq!(count_cargo_tests(""), (0, vec![]));
    }

    #[test]
    fn the_end_of_a_text_is_shown() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }

    #[test]
    fn log_names_are_file_names() {
        let path = log_path(Path::new("/l"), "system a/b-debug-1");
        assert_eq!(path, Path::new("/l/system-a-b-debug-1.log"));
    }
}
