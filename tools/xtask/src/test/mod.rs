// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask test`: everything that must be true of a commit.

mod boots;
mod judge;
pub mod soak;

use crate::build::Builder;
use crate::error::{Error, Result, read, write};
use crate::plan::{self, Choice};
use crate::process;
use crate::protocol::Verdict;
use crate::toolchain::{self, Variant};
use crate::ui::Step;
use crate::workspace::Workspace;
use crate::{code_check, doc, reproduce, tutorial};
use boots::Boots;
use std::process::Command;
use std::time::Duration;

/// Name of the tutorial's test.
const TUTORIAL: &str = "docs/TUTORIAL.md";
/// Lines of a failed host test run that are shown.
const LINES: usize = 60;

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
    /// How long to go round; once if there is none.
    pub length: Option<Duration>,
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

/// Runs the checks; with a filter those whose names contain it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut tally = Tally::default();
    let wanted = |name: &str| {
        let filter = options.choice.filter.as_deref();
        filter.is_none_or(|filter| name.contains(filter))
    };
    let mut checks = static_checks(options.choice.soak);
    checks.retain(|check| wanted(&check.name));
    let mut jobs = Vec::new();
    if !options.no_qemu {
        jobs = plan::jobs(workspace, &options.choice)?;
    }
    let with_tutorial = !options.no_qemu && wanted(TUTORIAL);
    if checks.is_empty() && jobs.is_empty() && !with_tutorial {
        return Err(unknown(workspace, options)?);
    }
    for check in checks {
        (check.run)(workspace, &check.name, &mut tally);
    }
    let mut builder = Builder::new(workspace);
    let record = Boots::new(workspace, &mut builder, options)?.run(&jobs, &mut tally)?;
    if with_tutorial {
        let tutorial = boot_tutorial(workspace, options, &mut tally);
        tally.check(TUTORIAL, tutorial);
    }
    if options.choice.soak || record.has_repeated() {
        print!("{}", record.summary());
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

/// The filter names nothing.
fn unknown(workspace: &Workspace, options: &Options) -> Result<Error> {
    let every = Choice {
        soak: true,
        ..Choice::default()
    };
    let checks = static_checks(true);
    let jobs = plan::jobs(workspace, &every)?;
    let known = checks.into_iter().map(|check| check.name);
    Ok(Error::Unknown {
        kind: "test",
        name: options.choice.filter.clone().unwrap_or_default(),
        known: known.chain(jobs.into_iter().map(|job| job.name)).collect(),
    })
}

/// Does a check of a name.
type Run = dyn Fn(&Workspace, &str, &mut Tally);

/// A check that needs no QEMU.
struct Check {
    name: String,
    run: Box<Run>,
}

impl Check {
    fn new(name: &str, run: impl Fn(&Workspace, &str) -> Result<()> + 'static) -> Self {
        Self {
            name: name.into(),
            run: Box::new(move |workspace, name, tally| tally.check(name, run(workspace, name))),
        }
    }
}

/// Everything that needs no QEMU.
fn static_checks(soak: bool) -> Vec<Check> {
    let cargo = |name: &str, words: &'static [&str]| {
        Check::new(name, move |workspace, name| {
            let mut cargo = process::host_cargo(&workspace.root);
            cargo.args(words);
            step(name, &mut cargo)
        })
    };
    let clippy = |config: &'static str| {
        Check::new(
            &format!("clippy (ppc64, {config})"),
            move |workspace, name| machine_clippy(workspace, config, name),
        )
    };
    let everything = &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    vec![
        cargo("format", &["fmt", "--all", "--check"]),
        cargo("clippy (host)", everything),
        clippy("debug"),
        clippy("release"),
        Check::new("commands in the documents", |w, _| tutorial::commands(w)),
        Check::new("tables of docs/KERNEL.md", |w, _| doc::tables(w, true)),
        Check {
            name: "host tests".into(),
            run: Box::new(move |w, _, tally| host_tests(w, soak, tally)),
        },
        Check::new("model checks", |w, _| model_checks(w)),
        Check::new("no floating point in PDs", |w, _| code_check::run(w)),
        Check::new("reproducible image", |w, _| reproduce::run(w)),
    ]
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
fn host_tests(workspace: &Workspace, soak: bool, tally: &mut Tally) {
    let step = Step::new("host tests");
    let mut cargo = process::host_cargo(&workspace.root);
    if soak {
        match plan::host_soak(workspace) {
            Ok(environment) => drop(cargo.envs(environment)),
            Err(error) => return tally.check("host tests", Err(error)),
        }
    }
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

/// The tutorial's own test, in a copy of the sources with the tutorial's files; it is booted once.
fn boot_tutorial(workspace: &Workspace, options: &Options, tally: &mut Tally) -> Result<()> {
    let (copy, jobs) = tutorial::prepare(workspace)?;
    let mut builder = tutorial::builder(workspace, &copy, &jobs)?;
    let options = Options {
        length: None,
        ..options.clone()
    };
    Boots::new(&copy, &mut builder, &options)?
        .run(&jobs, tally)
        .map(drop)
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
    fn checks_have_names_of_their_own() {
        let names: Vec<String> = static_checks(false).into_iter().map(|c| c.name).collect();
        assert!(names.iter().any(|name| name == "host tests"));
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
