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
//! smp = [1, 2]                      # default [1]: one job for each
//! memory = "2G"                     # default
//! timeout = 300                     # seconds in all, default 300
//! silence = 60                      # seconds without output, default 60
//! icount = true                     # time counted in instructions on one core, default true
//! environment = {}                  # environment variables to compile it with
//! repeat = 1                        # how often it runs, default 1
//! soak_only = false                 # true: only with --soak
//! soak = { timeout = 900, environment = { CALLS = "2000000", SEED = "{run}" } }
//! ```
//!
//! `soak` is what is different with `--soak`: its members replace those of the table; `repeat` is 10 there
//! unless `soak` says otherwise. In values of the environment, `{run}` is the number of the run, from 1; in a
//! guest's arguments, in a test's `guest_append` and in its `exec` too.
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
//! icount = true            # as above, default true; environment, repeat, soak_only and soak too
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
//! rounds = 1               # how often the steps are gone through
//! last = []                # steps after that
//! never = ["MON|ERROR"]    # output that fails the test
//! powers_off = false       # true: QEMU must end by itself, with status 0
//! icount = false           # true: time counted in instructions, all cores' on one host processor in turn
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
//!
//! Its long form may alter more of it: `soak = { repeat = 3, alter = { exec = "sh /share/long.sh" } }`.

mod dialogue;
mod tables;

pub use dialogue::{CommandEnd, Dialogue, Next, Progress, Watch};

use crate::error::{Error, Result, read_toml};
use crate::toolchain::Variant;
use crate::workspace::{Package, Workspace};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tables::{Forms, GuestTable, SuiteTable, SystemTest, SystemsFile, default_board};

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
    /// How often it is booted.
    pub repeat: u32,
}

impl Job {
    /// The same as it is in one of its runs, which are counted from 1.
    pub fn in_run(&self, run: u32) -> Job {
        let mut job = self.clone();
        let number = |text: &mut String| *text = text.replace("{run}", &run.to_string());
        let environment = match &mut job.subject {
            Subject::Suite { environment, .. } => environment,
            Subject::Guest { alterations, .. } | Subject::System { alterations, .. } => {
                number(&mut alterations.guest_append);
                alterations.exec.iter_mut().for_each(number);
                &mut alterations.environment
            }
        };
        environment.values_mut().for_each(number);
        job
    }
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
    /// Where the addresses of its slots end, as `--guest-max-memory` takes it.
    pub guest_max_memory: Option<String>,
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
    /// Commands that guests run instead of a shell, as of `--exec`.
    #[serde(deserialize_with = "tables::one_or_many")]
    pub exec: Vec<String>,
    /// Programs that take the places of others: `{ hpt = "evil-hpt" }`.
    pub replace: BTreeMap<String, String>,
    /// Files of the checkout with elements that are added ([`crate::guest::Additions`]).
    pub add: Vec<String>,
    /// Environment variables that its programs are compiled with.
    pub environment: BTreeMap<String, String>,
    /// Kernels of guests that are added so, by the name of their file without its extension.
    pub kernels: BTreeMap<String, String>,
}

impl Alterations {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// What the user wants of the plan.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only jobs whose name contains this.
    pub filter: Option<String>,
    /// The long forms, and those that have no other.
    pub soak: bool,
    /// Every job with this many cores.
    pub smp: Option<u32>,
    /// Every job so often.
    pub repeat: Option<u32>,
}

/// Every job that the checkout defines and the user wants, in a fixed order.
pub fn jobs(workspace: &Workspace, choice: &Choice) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for package in below(workspace, "tests/suites") {
        let table = metadata(package, "suite", Forms::<SuiteTable>::read)?.unwrap_or_default();
        let table = table.choose(choice.soak);
        if !table.soak_only || choice.soak {
            jobs.extend(suite_jobs(&package.name, &table, choice.smp));
        }
    }
    for package in below(workspace, "tests/guests") {
        let table = metadata(package, "guest", Forms::<GuestTable>::read)?;
        if let Some(table) = table.map(|t| t.choose(choice.soak))
            && (!table.soak_only || choice.soak)
        {
            jobs.extend(guest_jobs(&package.name, &table, choice.smp));
        }
    }
    let path = workspace.root.join("tests/systems.toml");
    if path.is_file() {
        let file: SystemsFile = read_toml(&path)?;
        for test in file.test {
            let test = system_test(test).map_err(|why| Error::Content {
                path: path.clone(),
                why,
            })?;
            let test = test.choose(choice.soak);
            if !test.soak_only || choice.soak {
                jobs.push(system_job(test, choice.smp));
            }
        }
    }
    jobs.retain(|job| {
        choice
            .filter
            .as_ref()
            .is_none_or(|f| job.name.contains(f.as_str()))
    });
    if let Some(repeat) = choice.repeat {
        jobs.iter_mut().for_each(|job| job.repeat = repeat);
    }
    Ok(jobs)
}

/// Environment variables that the packages want for the long form of their tests on the host.
pub fn host_soak(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        environment: BTreeMap<String, String>,
    }
    let mut environment = BTreeMap::new();
    for package in &workspace.packages {
        let read = |table| serde_json::from_value::<Table>(table).map_err(|e| e.to_string());
        if let Some(table) = metadata(package, "host_soak", read)? {
            environment.extend(table.environment);
        }
    }
    Ok(environment)
}

fn system_test(table: serde_json::Value) -> std::result::Result<Forms<SystemTest>, String> {
    let name = table["name"].as_str().unwrap_or("?").to_string();
    Forms::read(table).map_err(|why| format!("test `{name}`: {why}"))
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
fn metadata<T>(
    package: &Package,
    name: &str,
    read: impl FnOnce(serde_json::Value) -> std::result::Result<T, String>,
) -> Result<Option<T>> {
    let table = package.metadata.get(name).cloned();
    table.map(read).transpose().map_err(|why| Error::Content {
        path: package.folder.join("Cargo.toml"),
        why: format!("package.metadata.{name}: {why}"),
    })
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
                environment: table.environment.clone(),
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
        repeat: table.repeat,
    };
    table.configs.iter().map(job).collect()
}

fn suite_jobs(package: &str, table: &SuiteTable, smp: Option<u32>) -> Vec<Job> {
    let cores = smp.map_or_else(|| table.smp.clone(), |n| vec![n]);
    let mut jobs = Vec::new();
    for board in &table.boards {
        for config in &table.configs {
            for &smp in &cores {
                jobs.push(Job {
                    name: format!("{package}/{board}-{config}-{smp}"),
                    subject: Subject::Suite {
                        package: package.into(),
                        environment: table.environment.clone(),
                    },
                    variant: Variant {
                        board: board.clone(),
                        config: config.clone(),
                    },
                    smp,
                    memory: Some(table.memory.clone()),
                    // Counted time does not depend on the load of this machine.
                    icount: smp == 1 && table.icount,
                    timeout: Duration::from_secs(table.timeout),
                    silence: Duration::from_secs(table.silence),
                    repeat: table.repeat,
                });
            }
        }
    }
    jobs
}

fn system_job(test: SystemTest, smp: Option<u32>) -> Job {
    let smp = smp.unwrap_or(test.smp);
    let dialogue = Dialogue {
        steps: std::iter::repeat_n(test.steps, test.rounds as usize)
            .flatten()
            .chain(test.last)
            .collect(),
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
        icount: test.icount,
        timeout: Duration::from_secs(test.timeout),
        silence: Duration::from_secs(test.silence),
        repeat: test.repeat,
    }
}

#[cfg(test)]
mod tests {
    use super::dialogue::Step;
    use super::*;

    fn json(text: &str) -> serde_json::Value {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn packages_name_their_long_host_tests() {
        let workspace = Workspace::find().unwrap();
        let environment = host_soak(&workspace).unwrap();
        assert!(environment.contains_key("KERNEL_MODEL_CASES"));
    }

    #[test]
    fn systems_file_is_read() {
        let text = r#"
            name = "shell"
            system = "shell"
            steps = [{ expect = "> " }, { send = "help\r" }, { expect = "commands" }]
            last = [{ send = "exit\r" }]
            never = ["MON|ERROR"]
            alter = { guest_memory = "64M", replace = { hpt = "other" } }
            soak = { rounds = 3, alter = { guest_memory = "128M" } }
            "#;
        let [plain, soak] = [false, true].map(|soak| {
            let job = system_job(system_test(json(text)).unwrap().choose(soak), None);
            assert_eq!(job.name, "system shell/qemu_powernv9-debug-1");
            let Subject::System {
                dialogue,
                alterations,
                ..
            } = job.subject
            else {
                panic!("a system")
            };
            assert_eq!(dialogue.steps[1], Step::Send("help\r".into()));
            assert_eq!(alterations.replace["hpt"], "other");
            assert_eq!(dialogue.steps.last(), Some(&Step::Send("exit\r".into())));
            (job.repeat, dialogue.steps.len(), alterations.guest_memory)
        });
        assert_eq!(plain, (1, 3 + 1, Some("64M".into())));
        assert_eq!(soak, (10, 3 * 3 + 1, Some("128M".into())));
        let wrong = system_test(json("name='x'\nsystem='x'\nstep=[]")).unwrap_err();
        assert!(
            wrong.starts_with("test `x`: unknown field `step`"),
            "{wrong}"
        );
    }

    #[test]
    fn suites_run_on_every_combination() {
        let table: SuiteTable =
            toml::from_str("boards = ['a', 'b']\nconfigs = ['release']\nsmp = [1, 2]").unwrap();
        let jobs = suite_jobs("k", &table, None);
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
        assert_eq!(suite_jobs("k", &table, Some(4)).len(), 2);
    }

    #[test]
    fn a_run_has_its_number() {
        let table = json("environment = { SEED = 'x{run}' }");
        let table = Forms::<SuiteTable>::read(table).unwrap().plain;
        let job = suite_jobs("k", &table, None).remove(0);
        let Subject::Suite { environment, .. } = job.in_run(12).subject else {
            panic!("a suite")
        };
        assert_eq!(environment["SEED"], "x12");
        let table = json("arguments = 'seed={run}'");
        let table = Forms::<GuestTable>::read(table).unwrap().plain;
        let job = guest_jobs("g", &table, None).remove(0);
        let Subject::Guest { alterations, .. } = job.in_run(3).subject else {
            panic!("a guest program")
        };
        assert_eq!(alterations.guest_append, "seed=3");
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
}
