// SPDX-License-Identifier: BSD-2-Clause
//! Which images the tests boot, and what each must print.
//!
//! A package below `tests/suites` is a root task of its own; it says in its `Cargo.toml` how it
//! wants to be run:
//!
//! ```toml
//! [package.metadata.suite]
//! boards = ["qemu_powernv9"]        # default
//! configs = ["release", "debug"]    # default
//! smp = [1, 2]                      # default [1]: one run for each
//! memory = "2G"                     # default
//! timeout = 300                     # seconds in all, default 300
//! silence = 60                      # seconds without output, default 60
//! icount = true                     # time counted in instructions on one core, default true
//! soak = false                      # true: only with --soak
//! soak_timeout = 300                # seconds in all with --soak, default: timeout
//! soak_environment = {}             # environment variables to compile it with for --soak
//! ```
//!
//! A program package below `tests/guests` is the kernel of a guest of the default system, and prints as
//! a suite does:
//!
//! ```toml
//! [package.metadata.guest]
//! configs = ["release"]    # default
//! memory = "64M"           # the guest's, default
//! backing = "16M"          # memory behind it, if it is less
//! vcpus = 1                # the guest's, default
//! arguments = "seed=1"     # on its command line, default none
//! machine_memory = "2G"    # default
//! timeout = 300            # seconds in all, default 300
//! silence = 60             # seconds without output, default 60
//! icount = true            # as above, default true
//! soak = false             # true: only with --soak
//! ```
//!
//! `tests/systems.toml` holds the tests of whole systems in the same words, with one board, one
//! configuration and one core count each, and the console dialogue:
//!
//! ```toml
//! [[test]]
//! name = "hello"
//! system = "hello"
//! config = "debug"
//! steps = [{ expect = "hello, world" }, { send = "help\r" }]
//! never = ["MON|ERROR"]    # output that fails the test
//! powers_off = false       # true: QEMU must end by itself, with status 0
//! snapshot = false         # true: what the kernel printed of its capabilities is compared with capdl.json
//! ```
//!
//! A test may alter its system: `[test.alter]` with the members of [`Alterations`]. If these have a command
//! for the guest, `steps` and `never` are about its output, and
//!
//! ```toml
//! status = 7                 # exit status that the command must have, default 0
//! fails = "kernel panicked"  # or: what is said of a guest that does not get so far
//! ```

use crate::error::{Error, Result, read_toml};
use crate::qemu;
use crate::toolchain::Variant;
use crate::workspace::{Package, Workspace};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The system whose guest a guest program is.
pub const GUEST_SYSTEM: &str = "linux";

/// One boot and what is expected of it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Unique name, with what it runs on.
    pub name: String,
    /// What is booted.
    pub subject: Subject,
    /// Board and configuration.
    pub variant: Variant,
    /// Cores.
    pub smp: u32,
    /// Memory, as QEMU takes it, if it is not what the image is made for.
    pub memory: Option<String>,
    /// Whether virtual time counts instructions.
    pub icount: bool,
    /// Longest time in all.
    pub timeout: Duration,
    /// Longest time without output.
    pub silence: Duration,
}

/// What is booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A suite.
    Suite {
        /// The package that is the root task.
        package: String,
        /// Environment variables for its compilation.
        environment: BTreeMap<String, String>,
    },
    /// A program that is the kernel of a guest: the package, and how its system differs from
    /// [`GUEST_SYSTEM`].
    Guest {
        /// The package.
        package: String,
        /// Its guest.
        alterations: Alterations,
    },
    /// A system and its dialogue.
    System {
        /// Its name.
        system: String,
        /// What is different in this test.
        alterations: Alterations,
        /// The dialogue.
        dialogue: Dialogue,
    },
}

/// How a test's system differs from the description in its file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Alterations {
    /// The guest's kernel: a program package of the checkout, or what `--guest-kernel` takes.
    pub guest_kernel: Option<String>,
    /// The guest's memory, as `--guest-memory` takes it.
    pub guest_memory: Option<String>,
    /// The memory behind it, as `--guest-backing` takes it.
    pub guest_backing: Option<String>,
    /// The guest's processors.
    pub guest_vcpus: Option<u32>,
    /// Cores that they are spread over.
    pub guest_cores: Option<u32>,
    /// More for the guest's command line.
    pub guest_append: String,
    /// Debian packages whose programs the guest gets.
    pub guest_packages: Vec<String>,
    /// A folder of the checkout that the guest finds as /share.
    pub share: Option<PathBuf>,
    /// A command that the guest runs instead of a shell, as of `--exec`.
    pub exec: Option<String>,
    /// Programs that take the places of others: `{ hpt = "evil-hpt" }`.
    pub replace: BTreeMap<String, String>,
    /// Files of the checkout with elements that are added ([`crate::guest::Additions`]).
    pub add: Vec<String>,
}

impl Alterations {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// What a system must say, and what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialogue {
    /// In order.
    pub steps: Vec<Step>,
    /// Output that fails the test.
    pub never: Vec<String>,
    /// Whether QEMU must end by itself.
    pub powers_off: bool,
    /// What must become of the alterations' command; the steps are then about its output.
    pub end: CommandEnd,
    /// Whether the kernel's snapshot in the output must be the image's capability distribution.
    pub snapshot: bool,
}

/// How the guest's command must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// With this exit status.
    Status(u8),
    /// Not at all: what is said of the guest has this text in it.
    Fails(String),
}

impl Default for CommandEnd {
    fn default() -> Self {
        Self::Status(0)
    }
}

/// A step of a dialogue.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Wait for this text after that of the step before.
    Expect(String),
    /// Type this.
    Send(String),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SuiteTable {
    boards: Vec<String>,
    configs: Vec<String>,
    smp: Vec<u32>,
    memory: String,
    timeout: u64,
    /// Count time in instructions when there is one core.
    icount: bool,
    silence: u64,
    soak: bool,
    soak_timeout: Option<u64>,
    soak_environment: BTreeMap<String, String>,
}

impl Default for SuiteTable {
    fn default() -> Self {
        Self {
            boards: vec!["qemu_powernv9".into()],
            configs: vec!["release".into(), "debug".into()],
            smp: vec![1],
            memory: qemu::MEMORY.into(),
            timeout: 300,
            icount: true,
            silence: 60,
            soak: false,
            soak_timeout: None,
            soak_environment: BTreeMap::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GuestTable {
    configs: Vec<String>,
    memory: String,
    backing: Option<String>,
    vcpus: u32,
    arguments: String,
    machine_memory: String,
    timeout: u64,
    silence: u64,
    icount: bool,
    soak: bool,
}

impl Default for GuestTable {
    fn default() -> Self {
        Self {
            configs: vec!["release".into()],
            memory: "64M".into(),
            backing: None,
            vcpus: 1,
            arguments: String::new(),
            machine_memory: qemu::MEMORY.into(),
            timeout: 300,
            silence: 60,
            icount: true,
            soak: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemsFile {
    #[serde(default)]
    test: Vec<SystemTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemTest {
    name: String,
    system: String,
    #[serde(default = "default_board")]
    board: String,
    #[serde(default = "default_config")]
    config: String,
    #[serde(default = "default_smp")]
    smp: u32,
    memory: Option<String>,
    #[serde(default = "default_timeout")]
    timeout: u64,
    #[serde(default = "default_silence")]
    silence: u64,
    #[serde(default)]
    soak: bool,
    steps: Vec<Step>,
    #[serde(default)]
    never: Vec<String>,
    /// Exit status of the alterations' command.
    #[serde(default)]
    status: u8,
    /// What is said of a guest that does not get to the end of the command.
    fails: Option<String>,
    #[serde(default)]
    powers_off: bool,
    #[serde(default)]
    snapshot: bool,
    #[serde(default)]
    alter: Alterations,
}

fn default_board() -> String {
    "qemu_powernv9".into()
}
fn default_config() -> String {
    "debug".into()
}
fn default_smp() -> u32 {
    1
}
fn default_timeout() -> u64 {
    120
}
fn default_silence() -> u64 {
    60
}

/// What the user wants of the plan.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only jobs whose name contains this.
    pub filter: Option<String>,
    /// The long ones too.
    pub soak: bool,
    /// Every job with this many cores.
    pub smp: Option<u32>,
}

/// Every job that the checkout defines and the user wants, in a fixed order.
pub fn jobs(workspace: &Workspace, choice: &Choice) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for package in below(workspace, "tests/suites") {
        let table: SuiteTable = metadata(package, "suite")?.unwrap_or_default();
        if !table.soak || choice.soak {
            jobs.extend(suite_jobs(&package.name, &table, choice));
        }
    }
    for package in below(workspace, "tests/guests") {
        if let Some(table) = metadata::<GuestTable>(package, "guest")?
            && (!table.soak || choice.soak)
        {
            jobs.extend(guest_jobs(&package.name, &table, choice.smp));
        }
    }
    let path = workspace.root.join("tests/systems.toml");
    if path.is_file() {
        let file: SystemsFile = read_toml(&path)?;
        let wanted = file.test.into_iter().filter(|t| !t.soak || choice.soak);
        jobs.extend(wanted.map(|t| system_job(t, choice.smp)));
    }
    jobs.retain(|job| {
        choice
            .filter
            .as_ref()
            .is_none_or(|f| job.name.contains(f.as_str()))
    });
    Ok(jobs)
}

/// The packages below a folder of the checkout.
fn below<'a>(workspace: &'a Workspace, folder: &str) -> impl Iterator<Item = &'a Package> {
    let folder = workspace.root.join(folder);
    workspace
        .packages
        .iter()
        .filter(move |p| p.folder.starts_with(&folder))
}

/// A table of a package's `[package.metadata]`.
fn metadata<T: DeserializeOwned>(package: &Package, name: &str) -> Result<Option<T>> {
    let Some(table) = package.metadata.get(name) else {
        return Ok(None);
    };
    match serde_json::from_value(table.clone()) {
        Ok(table) => Ok(Some(table)),
        Err(e) => Err(Error::Content {
            path: package.folder.join("Cargo.toml"),
            why: format!("package.metadata.{name}: {e}"),
        }),
    }
}

fn guest_jobs(package: &str, table: &GuestTable, smp: Option<u32>) -> Vec<Job> {
    let board = default_board();
    let smp = smp.unwrap_or(1);
    let job = |config: &String| Job {
        name: format!("{package}/{board}-{config}-{smp}"),
        subject: Subject::Guest {
            package: package.into(),
            alterations: Alterations {
                guest_kernel: Some(package.into()),
                guest_memory: Some(table.memory.clone()),
                guest_backing: table.backing.clone(),
                guest_vcpus: Some(table.vcpus),
                guest_append: table.arguments.clone(),
                ..Alterations::default()
            },
        },
        variant: Variant {
            board: board.clone(),
            config: config.clone(),
        },
        smp,
        memory: Some(table.machine_memory.clone()),
        icount: smp == 1 && table.icount,
        timeout: Duration::from_secs(table.timeout),
        silence: Duration::from_secs(table.silence),
    };
    table.configs.iter().map(job).collect()
}

fn suite_jobs(package: &str, table: &SuiteTable, choice: &Choice) -> Vec<Job> {
    let cores = choice.smp.map_or_else(|| table.smp.clone(), |n| vec![n]);
    let (timeout, environment) = if choice.soak {
        let timeout = table.soak_timeout.unwrap_or(table.timeout);
        (timeout, table.soak_environment.clone())
    } else {
        (table.timeout, BTreeMap::new())
    };
    let mut jobs = Vec::new();
    for board in &table.boards {
        for config in &table.configs {
            for &smp in &cores {
                jobs.push(Job {
                    name: format!("{package}/{board}-{config}-{smp}"),
                    subject: Subject::Suite {
                        package: package.into(),
                        environment: environment.clone(),
                    },
                    variant: Variant {
                        board: board.clone(),
                        config: config.clone(),
                    },
                    smp,
                    memory: Some(table.memory.clone()),
                    // Counted time does not depend on the load of this machine.
                    icount: smp == 1 && table.icount,
                    timeout: Duration::from_secs(timeout),
                    silence: Duration::from_secs(table.silence),
                });
            }
        }
    }
    jobs
}

fn system_job(test: SystemTest, smp: Option<u32>) -> Job {
    let smp = smp.unwrap_or(test.smp);
    let dialogue = Dialogue {
        steps: test.steps,
        never: test.never,
        powers_off: test.powers_off,
        end: match test.fails {
            Some(text) => CommandEnd::Fails(text),
            None => CommandEnd::Status(test.status),
        },
        snapshot: test.snapshot,
    };
    Job {
        name: format!("system {}/{}-{}-{smp}", test.name, test.board, test.config),
        subject: Subject::System {
            system: test.system,
            alterations: test.alter,
            dialogue,
        },
        variant: Variant {
            board: test.board,
            config: test.config,
        },
        smp,
        memory: test.memory,
        icount: false,
        timeout: Duration::from_secs(test.timeout),
        silence: Duration::from_secs(test.silence),
    }
}

/// How far a dialogue has come.
#[derive(Debug, Default)]
pub struct Progress {
    step: usize,
    position: usize,
}

/// What is to be done next in a dialogue.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Wait for more output.
    Wait,
    /// Type this.
    Send(&'a str),
    /// All steps are done.
    Done,
    /// This must not have been printed.
    Forbidden(&'a str),
}

impl Progress {
    /// Goes on as far as the console's `text` allows.
    pub fn next<'a>(&mut self, dialogue: &'a Dialogue, text: &str) -> Next<'a> {
        if let Some(found) = dialogue.never.iter().find(|n| text.contains(n.as_str())) {
            return Next::Forbidden(found);
        }
        while let Some(step) = dialogue.steps.get(self.step) {
            match step {
                Step::Expect(wanted) => match text[self.position..].find(wanted.as_str()) {
                    Some(at) => {
                        self.position += at + wanted.len();
                        self.step += 1;
                    }
                    None => return Next::Wait,
                },
                Step::Send(typed) => {
                    self.step += 1;
                    return Next::Send(typed);
                }
            }
        }
        Next::Done
    }

    /// What is being waited for.
    pub fn waiting_for(&self, dialogue: &Dialogue) -> String {
        match dialogue.steps.get(self.step) {
            Some(Step::Expect(text)) => format!("`{text}` (step {})", self.step + 1),
            _ => "the end".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_file_is_read() {
        let file: SystemsFile = toml::from_str(
            r#"
            [[test]]
            name = "shell"
            system = "shell"
            steps = [{ expect = "> " }, { send = "help\r" }, { expect = "commands" }]
            never = ["MON|ERROR"]
            alter = { guest_memory = "64M", replace = { hpt = "other" } }
            "#,
        )
        .unwrap();
        let job = system_job(file.test.into_iter().next().unwrap(), None);
        assert_eq!(job.name, "system shell/qemu_powernv9-debug-1");
        let Subject::System {
            dialogue,
            alterations,
            ..
        } = job.subject
        else {
            panic!("a system")
        };
        assert!(alterations.any() && alterations.replace["hpt"] == "other");
        assert_eq!(dialogue.steps[1], Step::Send("help\r".into()));
        assert!(toml::from_str::<SystemsFile>("[[test]]\nname='x'\nsystem='x'\nstep=[]").is_err());
    }

    #[test]
    fn suites_run_on_every_combination() {
        let table: SuiteTable =
            toml::from_str("boards = ['a', 'b']\nconfigs = ['release']\nsmp = [1, 2]").unwrap();
        let jobs = suite_jobs("k", &table, &Choice::default());
        let names: Vec<_> = jobs.iter().map(|j| j.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "k/a-release-1",
                "k/a-release-2",
                "k/b-release-1",
                "k/b-release-2"
            ]
        );
        assert!(jobs[0].icount && !jobs[1].icount);
        let four = Choice {
            smp: Some(4),
            ..Choice::default()
        };
        assert_eq!(suite_jobs("k", &table, &four).len(), 2);
    }

    #[test]
    fn soaking_compiles_and_waits_differently() {
        let table: SuiteTable =
            toml::from_str("timeout = 9\nsoak_timeout = 99\nsoak_environment = { N = '1' }")
                .unwrap();
        let job = |soak| {
            let choice = Choice {
                soak,
                ..Choice::default()
            };
            let job = suite_jobs("k", &table, &choice).remove(0);
            let Subject::Suite { environment, .. } = job.subject else {
                panic!("a suite")
            };
            (job.timeout.as_secs(), environment.get("N").cloned())
        };
        assert_eq!(job(false), (9, None));
        assert_eq!(job(true), (99, Some("1".into())));
    }

    #[test]
    fn guest_programs_have_their_own_guest() {
        let table: GuestTable =
            toml::from_str("memory = '1G'\nconfigs = ['debug', 'release']").unwrap();
        let jobs = guest_jobs("g", &table, None);
        let names: Vec<_> = jobs.iter().map(|j| j.name.as_str()).collect();
        assert_eq!(
            names,
            ["g/qemu_powernv9-debug-1", "g/qemu_powernv9-release-1"]
        );
        let Subject::Guest { alterations, .. } = &jobs[0].subject else {
            panic!("a guest program")
        };
        assert_eq!(alterations.guest_memory.as_deref(), Some("1G"));
        assert!(jobs[0].icount);
        assert!(toml::from_str::<GuestTable>("boards = []").is_err());
    }

    #[test]
    fn dialogue_goes_in_order() {
        let dialogue = Dialogue {
            steps: vec![
                Step::Expect("one".into()),
                Step::Send("x".into()),
                Step::Expect("one".into()),
            ],
            never: vec!["PANIC".into()],
            ..Dialogue::default()
        };
        let mut progress = Progress::default();
        assert_eq!(progress.next(&dialogue, "o"), Next::Wait);
        assert_eq!(progress.next(&dialogue, "one"), Next::Send("x"));
        assert_eq!(
            progress.next(&dialogue, "one"),
            Next::Wait,
            "the same text counts once"
        );
        assert_eq!(progress.waiting_for(&dialogue), "`one` (step 3)");
        assert_eq!(progress.next(&dialogue, "one one"), Next::Done);
        assert_eq!(
            progress.next(&dialogue, "one one PANIC"),
            Next::Forbidden("PANIC")
        );
    }
}
