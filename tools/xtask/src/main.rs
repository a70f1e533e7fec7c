// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask`: everything that a developer or CI does with this repository.
//!
//! | verb | what it does |
//! |---|---|
//! | `run` | builds a system and boots it on QEMU |
//! | `build` | builds images without running them |
//! | `test` | format, lints, host tests, suites and systems on QEMU |
//! | `bench` | instruction counts against their bounds; `bench explain ROW` shows where they go |
//! | `sizes` | sizes of kernel and PDs against their bounds |
//! | `doc` | rustdoc, and the generated tables of docs/KERNEL.md |
//! | `clean` | removes build products |

mod bench;
mod build;
mod chart;
mod clean;
mod code_check;
mod deps;
mod doc;
mod elf;
mod error;
mod explain;
mod gdbstub;
mod guest;
mod outside;
mod overhead;
mod plan;
mod process;
mod protocol;
mod qemu;
mod reference;
mod reproduce;
mod requirements;
mod sizes;
mod snapshot;
mod spinning;
mod system;
mod test;
mod toolchain;
mod tutorial;
mod ui;
mod workspace;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use deps::Need;
use error::{Error, Result};
use guest::console::Watch;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;
use toolchain::Variant;
use workspace::Workspace;

/// Builds, runs, tests and measures Partita.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Only say which packages are missing on this machine; install nothing.
    #[arg(long, global = true)]
    no_install: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Build a system and boot it on QEMU.
    ///
    /// Ctrl-A X ends QEMU, Ctrl-A C shows and hides its monitor. Where there are several guests, Ctrl-] and a digit
    /// choose whose terminal is shown, and Ctrl-] ? lists them.
    Run(Box<RunArgs>),
    /// Build bootable images.
    Build(BuildArgs),
    /// Check everything: format, lints, host tests, suites and systems on QEMU.
    Test(TestArgs),
    /// Count instructions, against the bounds of benches/reference.toml.
    Bench(BenchArgs),
    /// Measure kernel and PDs, against the bounds of benches/reference.toml.
    #[command(mut_arg("config", |config| config.default_value("release")))]
    Sizes(VariantArgs),
    /// Make the rustdoc pages and the tables of docs/KERNEL.md.
    Doc {
        /// Only check that the tables are up to date.
        #[arg(long)]
        check: bool,
    },
    /// Remove images, logs and ppc64 products.
    Clean {
        /// Remove cargo's host products too.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args)]
struct TestArgs {
    /// Only checks and tests whose name contains this, such as `host tests`, `linux`, `suite-kernel`.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Everything but QEMU.
    #[arg(long)]
    no_qemu: bool,
    /// The long forms of all tests, and with a LENGTH such as 90m or 8h, round after round until that is
    /// over. What has come of each test is in target/test-logs/soak.json, too.
    #[arg(long, value_name = "LENGTH", num_args = 0..=1, value_parser = test::soak::length)]
    soak: Option<Option<Duration>>,
    /// Run every QEMU test so often.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Run every QEMU test with this many cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    smp: Option<u32>,
    /// QEMUs at one time.
    #[arg(long, default_value_t = 2)]
    parallel: usize,
}

#[derive(Args)]
#[command(subcommand_precedence_over_arg = true)]
struct BenchArgs {
    /// Rows, groups, or beginnings of rows such as `h-*`; all rows if none is named.
    name: Vec<String>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    #[command(subcommand)]
    verb: Option<BenchVerb>,
}

impl BenchArgs {
    /// Whether it says what to measure, or where the figures go.
    fn measures(&self) -> bool {
        !self.name.is_empty() || self.json.is_some()
    }
}

#[derive(Subcommand)]
enum BenchVerb {
    /// Show where the instructions of one round of a row go.
    Explain {
        /// The row.
        row: String,
    },
}

/// What to build for.
#[derive(Args, Clone)]
struct VariantArgs {
    /// Board: a file of kernel-config/boards.
    #[arg(long, default_value = "qemu_powernv9")]
    board: String,
    /// Configuration: a file of kernel-config/configs.
    #[arg(long, default_value = "debug")]
    config: String,
}

impl VariantArgs {
    fn variant(&self) -> Variant {
        Variant {
            board: self.board.clone(),
            config: self.config.clone(),
        }
    }
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    variant: VariantArgs,
    /// System: a folder of systems/, or the path of a .system file.
    #[arg(long, default_value = system::DEFAULT)]
    system: String,
    /// Cores.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    smp: u32,
    /// Memory of the machine, such as 4G; 2G, or what the guest needs, if it is left out.
    #[arg(long, value_name = "SIZE", value_parser = qemu::memory_bytes)]
    memory: Option<u64>,
    /// End QEMU, and fail, after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Let virtual time count instructions (needs --smp 1).
    #[arg(long)]
    icount: bool,
    /// Wait for a debugger on TCP port 1234 before the first instruction.
    #[arg(long)]
    gdb: bool,
    /// One more argument for QEMU; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// Build, print the QEMU command and stop.
    #[arg(long)]
    print_command: bool,
    #[command(flatten)]
    guest: guest::Options,
}

#[derive(Args)]
struct BuildArgs {
    #[command(flatten)]
    variant: VariantArgs,
    /// Systems to build; all of systems/ if none is named.
    #[arg(long)]
    system: Vec<String>,
}

/// Reads a command line. `bench explain` takes nothing of what `bench` does; clap's `args_conflicts_with_subcommands`
/// would take `explain` for a row where a global option stands before it.
fn parse(words: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(words)?;
    match &cli.verb {
        Verb::Bench(args) if args.verb.is_some() && args.measures() => {
            let why = "`explain ROW` goes without other rows and without --json";
            Err(Cli::command().error(ErrorKind::ArgumentConflict, why))
        }
        _ => Ok(cli),
    }
}

fn main() -> ExitCode {
    let cli = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match go(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            match error {
                Error::GuestStatus(status) => ExitCode::from(status),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn go(cli: &Cli) -> Result<()> {
    process::end_children_on_signals()?;
    let workspace = Workspace::find()?;
    let need = |needs: &[Need]| deps::ensure(needs, !cli.no_install, &workspace.target);
    match &cli.verb {
        Verb::Run(args) => {
            need(&[Need::Build, Need::Run])?;
            run(&workspace, args, !cli.no_install)
        }
        Verb::Build(args) => {
            need(&[Need::Build])?;
            build_systems(&workspace, args, !cli.no_install)
        }
        Verb::Test(args) => {
            need(&[Need::Build, Need::Run, Need::Test])?;
            let choice = plan::Choice {
                filter: args.filter.clone(),
                soak: args.soak.is_some(),
                smp: args.smp,
                repeat: args.repeat,
            };
            let options = test::Options {
                choice,
                no_qemu: args.no_qemu,
                parallel: args.parallel,
                download: !cli.no_install,
                length: args.soak.flatten(),
            };
            test::run(&workspace, &options)
        }
        Verb::Bench(BenchArgs {
            verb: Some(BenchVerb::Explain { row }),
            ..
        }) => {
            need(&[Need::Build, Need::Run, Need::Test])?;
            explain::run(&workspace, row)
        }
        Verb::Bench(args) => {
            need(&[Need::Build, Need::Run])?;
            bench::run(&workspace, &args.name, args.json.as_deref())
        }
        Verb::Sizes(args) => {
            need(&[Need::Build])?;
            workspace.board(&args.board)?;
            workspace.config(&args.config)?;
            sizes::run(&workspace, &args.variant(), !cli.no_install)
        }
        Verb::Doc { check: true } => doc::tables(&workspace, true),
        Verb::Doc { check: false } => doc::run(&workspace),
        Verb::Clean { all } => clean::run(&workspace, *all),
    }
}

fn run(workspace: &Workspace, args: &RunArgs, download: bool) -> Result<()> {
    let board = workspace.board(&args.variant.board)?;
    workspace.config(&args.variant.config)?;
    if args.smp > board.max_cores {
        let why = format!(
            "--smp {}: {} has at most {}",
            args.smp, board.name, board.max_cores
        );
        return Err(Error::Usage(why));
    }
    if args.icount && args.smp != 1 {
        return Err(Error::Usage("--icount needs --smp 1".into()));
    }
    let mut system = system::System::find(workspace, &args.system)?;
    system.memory = args.memory;
    let system = guest::prepare(
        workspace,
        system,
        &args.guest.clone().on_cores(args.smp),
        &guest::Additions::default(),
        download,
    )?;
    let image = build::Builder::new(workspace).system(&system, &args.variant.variant())?;
    let mut machine = qemu::Machine::new(&board, &image);
    machine.smp = args.smp;
    machine.icount = args.icount;
    machine.extra.clone_from(&args.qemu_arg);
    if args.gdb {
        machine
            .extra
            .extend(["-S".into(), "-gdb".into(), "tcp:127.0.0.1:1234".into()]);
        eprintln!("QEMU waits for gdb before the first instruction. The programs are");
        for (name, file) in &image.elfs {
            eprintln!("  {name}: {}", file.display());
        }
        if let Some(kernel) = image.elfs.get("kernel") {
            let gdb = ["gdb-multiarch", "-ex", "target remote :1234"];
            let mut command = std::process::Command::new(gdb[0]);
            command.args(&gdb[1..]).arg(kernel);
            eprintln!("To attach: {}", process::shell_line(&command));
        }
    }
    if args.print_command {
        println!("{}", process::shell_line(&machine.command()));
        return Ok(());
    }
    let bound = args.timeout.map(Duration::from_secs);
    if !args.guest.exec.is_empty() {
        guest::exec(workspace, &machine, bound)
    } else {
        let watch = system
            .has_guest
            .then(|| Watch::new(machine.terminal.is_some()));
        machine.interactive(bound, watch)
    }
}

fn build_systems(workspace: &Workspace, args: &BuildArgs, download: bool) -> Result<()> {
    let variant = args.variant.variant();
    workspace.board(&variant.board)?;
    workspace.config(&variant.config)?;
    let names = if args.system.is_empty() {
        system::System::names(workspace)
    } else {
        args.system.clone()
    };
    // A wrong name is said before anything is compiled.
    let systems = names
        .iter()
        .map(|name| system::System::find(workspace, name))
        .collect::<Result<Vec<_>>>()?;
    let mut builder = build::Builder::new(workspace);
    builder.sdk(&variant)?;
    for system in systems {
        let system = guest::prepare(
            workspace,
            system,
            &guest::Options::default(),
            &guest::Additions::default(),
            download,
        )?;
        builder.system(&system, &variant)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(line: &str) -> std::result::Result<BenchArgs, ErrorKind> {
        let words = ["xtask", "bench"]
            .into_iter()
            .chain(line.split_whitespace());
        match parse(words.map(OsString::from))
            .map_err(|error| error.kind())?
            .verb
        {
            Verb::Bench(args) => Ok(args),
            _ => unreachable!("the verb is `bench`"),
        }
    }

    #[test]
    fn explain_is_known_wherever_options_stand() {
        for line in [
            "explain h-read",
            "--no-install explain h-read",
            "explain --no-install h-read",
            "explain h-read --no-install",
        ] {
            let args = bench(line).unwrap();
            let Some(BenchVerb::Explain { row }) = args.verb else {
                panic!("{line}: not explained");
            };
            assert_eq!(row, "h-read", "{line}");
        }
        for line in ["h-read explain h-enter-4k", "--json x explain h-read"] {
            assert_eq!(
                bench(line).err(),
                Some(ErrorKind::ArgumentConflict),
                "{line}"
            );
        }
    }

    #[test]
    fn sizes_are_those_of_what_ships() {
        let cli = parse(["xtask", "sizes"].map(OsString::from)).unwrap();
        let Verb::Sizes(args) = cli.verb else {
            unreachable!("the verb is `sizes`");
        };
        assert_eq!(args.config, "release");
    }

    #[test]
    fn rows_are_listed() {
        let args = bench("h-read --no-install cores --json x").unwrap();
        assert_eq!(args.name, ["h-read", "cores"]);
        assert!(args.json.is_some() && args.verb.is_none());
    }
}
