// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask bench`: instructions of one round trip of everything that has a bound.
//!
//! QEMU counts: with `-icount shift=0,sleep=off` one instruction is one nanosecond of virtual time,
//! so a figure repeats to a few instructions, whatever the load of this machine. With several cores it executes one after
//! the other then, so that this counts work and not time: other figures of several cores are by the host's clock, stand
//! apart, and mean something where nothing else runs.

use crate::build::{Builder, Image};
use crate::chart;
use crate::elf::Elf;
use crate::error::{At, Error, Result, make_folder, read_toml, write};
use crate::gdbstub::Stub;
use crate::guest;
use crate::outside;
use crate::plan::Alterations;
use crate::protocol::{self, Line};
use crate::qemu::{self, Event, Machine, Session};
use crate::reference::{self, Row};
use crate::spinning::{Waits, Watch};
use crate::system::System;
use crate::toolchain::Variant;
use crate::ui::Step;
use crate::workspace::{Board, Workspace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time that a machine without a monitor has to end.
const END: Duration = Duration::from_secs(5);
/// Longest wait for one stop of the guest.
pub const STOP: Duration = Duration::from_secs(300);

/// An entry of `benches/images.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchImage {
    system: Option<String>,
    root_task: Option<String>,
    /// How the system differs from its description.
    #[serde(default)]
    alter: Alterations,
    /// Group of the rows that it measures; rows of no group if it is left out.
    pub group: Option<String>,
    #[serde(default = "default_board")]
    board: String,
    #[serde(default = "default_config")]
    config: String,
    #[serde(default = "default_timeout")]
    timeout: u64,
    /// A program package that is the first program of the guest, whose kernel is Debian's.
    init: Option<String>,
    /// Cores; if there are several, the time is the host's.
    #[serde(default = "default_smp")]
    smp: u32,
    /// Whether time counts instructions, of all cores; default with one core.
    icount: Option<bool>,
    /// The rows that are taken from it; all if there are none here.
    #[serde(default)]
    rows: Vec<String>,
}

/// Board of the measurements.
pub fn default_board() -> String {
    "qemu_powernv9".into()
}
/// Configuration of the measurements: what ships.
pub fn default_config() -> String {
    "release".into()
}
fn default_timeout() -> u64 {
    300
}
fn default_smp() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImagesFile {
    #[serde(default)]
    image: Vec<BenchImage>,
}

/// A figure, as the JSON file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Row.
    pub name: String,
    /// Instructions of one round, or what the row's unit is.
    pub instructions: u64,
    /// Rounds measured.
    pub n: u64,
    /// Configuration.
    pub config: String,
    /// Board.
    pub board: String,
}

impl BenchImage {
    /// Every image there is.
    pub fn all(workspace: &Workspace) -> Result<Vec<Self>> {
        Ok(read_toml::<ImagesFile>(&workspace.root.join("benches/images.toml"))?.image)
    }

    /// Whether a row that it prints counts.
    fn takes(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|r| r == row)
    }

    /// Builds it.
    pub fn build(&self, workspace: &Workspace, builder: &mut Builder) -> Result<Image> {
        let variant = Variant {
            board: self.board.clone(),
            config: self.config.clone(),
        };
        workspace.config(&self.config)?;
        match (&self.system, &self.root_task) {
            (Some(system), None) => {
                let mut system = System::find(workspace, system)?;
                if let Some(init) = &self.init {
                    let kernel = self.alter.guest_kernel.as_deref().unwrap_or_default();
                    system.name = format!("{}-{init}-{kernel}", system.name);
                    let init = builder.programs(&variant, &[init])?;
                    let (system, _) = guest::with_init(workspace, system, kernel, None, &init)?;
                    return builder.system(&system, &variant);
                }
                let system = guest::altered(workspace, system, &self.alter, true)?;
                builder.system(&system, &variant)
            }
            (None, Some(package)) => builder.suite(package, &BTreeMap::new(), &variant),
            _ => Err(Error::Content {
                path: workspace.root.join("benches/images.toml"),
                why: "an image needs either system or root_task".into(),
            }),
        }
    }

    /// Its board.
    pub fn board(&self, workspace: &Workspace) -> Result<Board> {
        workspace.board(&self.board)
    }
}

/// Measures, prints and judges. `names` are rows, groups or beginnings of rows (`h-*`); empty: every row, and whatever
/// else a program measures.
pub fn run(workspace: &Workspace, names: &[String], json: Option<&Path>) -> Result<()> {
    let rows = reference::rows(workspace)?;
    if let Some(name) = names.iter().find(|n| !rows.iter().any(|r| r.is_named(n))) {
        return Err(reference::unknown(&rows, name));
    }
    let chosen = |name: &str| {
        let row = rows.iter().find(|r| r.name == name);
        row.map_or(names.is_empty(), |row| row.is_chosen(names))
    };
    let mut builder = Builder::new(workspace);
    let mut figures = outside::measure(workspace, &mut builder, &rows, &chosen)?;
    let missing: Vec<&Row> = rows
        .iter()
        .filter(|r| r.is_chosen(names) && figures.iter().all(|f| f.name != r.name))
        .collect();
    for image in BenchImage::all(workspace)? {
        let measures = |row: &&Row| row.group == image.group && image.takes(&row.name);
        if missing.iter().any(measures) {
            figures.extend(boot(workspace, &mut builder, &image)?);
        }
    }
    figures.retain(|f| chosen(&f.name));
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&figures).map_err(|e| Error::Output {
            program: "bench".into(),
            why: e.to_string(),
        })?;
        write(path, text + "\n")?;
    }
    let (table, bad) = judge(&rows, &figures, chosen);
    print!("{table}");
    let figure = |name: &str| figures.iter().find(|f| f.name == name);
    let drawing = workspace.target.join("bench/figures.svg");
    write(
        &drawing,
        chart::svg(&rows, |name| figure(name).map(|f| f.instructions)),
    )?;
    println!("drawn: {}", drawing.display());
    if bad.is_empty() {
        Ok(())
    } else {
        Err(Error::Bound(format!(
            "over its bound or not measured: {}",
            bad.join(", ")
        )))
    }
}

/// The table, and the names of the rows that do not hold.
fn judge(rows: &[Row], figures: &[Figure], chosen: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut table = reference::head() + "\n";
    let mut by_clock = String::new();
    let mut bad = Vec::new();
    let mut add = |name: &str, measured: Option<u64>, row: Option<&Row>| {
        let (line, holds) = reference::line(name, measured, row);
        let table = match row {
            Some(row) if row.unit.is_wall_time() => &mut by_clock,
            _ => &mut table,
        };
        table.push_str(&line);
        table.push('\n');
        if !holds && row.is_none_or(|r| r.bound.or(r.least).is_some()) {
            bad.push(name.to_string());
        }
    };
    for row in rows.iter().filter(|r| chosen(&r.name)) {
        let measured = figures
            .iter()
            .find(|f| f.name == row.name)
            .map(|f| f.instructions);
        add(&row.name, measured, Some(row));
    }
    let known = |name: &str| rows.iter().any(|r| r.name == name);
    for figure in figures.iter().filter(|f| !known(&f.name)) {
        add(&figure.name, Some(figure.instructions), None);
    }
    if !by_clock.is_empty() {
        let head = "\nBy the host's clock, which means something only where its processors are free for it:\n";
        table.push_str(head);
        table.push_str(&by_clock);
    }
    (table, bad)
}

/// Boots a bench image and collects what it prints.
fn boot(workspace: &Workspace, builder: &mut Builder, image: &BenchImage) -> Result<Vec<Figure>> {
    let built = image.build(workspace, builder)?;
    let step = Step::new(format!("measure {}", built.name));
    let board = image.board(workspace)?;
    let mut machine = Machine::new(&board, &built);
    machine.smp = image.smp;
    machine.icount = image.icount.unwrap_or(image.smp == 1);
    // By the host's clock: processors that others use, too, would be measured else.
    machine.favoured = !machine.icount && qemu::may_favour();
    if !machine.icount && !machine.favoured {
        step.line("  no real-time priority: what else this host does is measured, too");
    }
    let bound = Duration::from_secs(image.timeout);
    let log = log_path(workspace, &built.name);
    let (mut session, mut watch) = match machine.icount {
        true => (machine.watched(&log)?, None),
        false => {
            let kernel = built.elfs.get("kernel").map(|file| Elf::read(file));
            let kernel = kernel.unwrap_or_else(|| Err(Error::Usage("no kernel".into())))?;
            let waits = Waits::of(&kernel, board.max_cores)?;
            let (session, watch) = waits_watched(machine, waits, &log)?;
            (session, Some(watch))
        }
    };
    while session.wait(Duration::from_millis(200)) != Event::End {
        if let Some(watch) = &mut watch
            && let Err(error) = watch.look(session.text())
        {
            // QEMU may have ended, and its monitor with it: how, is known below.
            if !session.ends_within(END) {
                return Err(error);
            }
            break;
        }
        step.detail(
            session
                .text()
                .lines()
                .last()
                .unwrap_or_default()
                .to_string(),
        );
        if let Some(why) = failure(session.text()) {
            return Err(Error::Output {
                program: built.name,
                why,
            });
        }
        if session.age() > bound {
            step.line(session.tail(15).trim_end());
            return Err(Error::Timeout {
                seconds: image.timeout,
            });
        }
    }
    let spinning = watch.iter().flat_map(Watch::shares);
    let spinning = spinning.map(|(name, looks, share)| Line::Bench {
        name: format!("{name}-spinning"),
        instructions: share,
        rounds: looks,
    });
    let figures: Vec<Figure> = session
        .text()
        .lines()
        .filter_map(protocol::parse)
        .chain(spinning)
        .filter_map(|line| match line {
            Line::Bench {
                name,
                instructions,
                rounds,
            } if image.takes(&name) => Some(Figure {
                name,
                instructions,
                n: rounds,
                config: image.config.clone(),
                board: image.board.clone(),
            }),
            _ => None,
        })
        .collect();
    let tail = session.tail(15);
    if let Err(error) = session.end(Duration::from_secs(30)) {
        step.line(tail.trim_end());
        return Err(error);
    }
    step.done(&format!("{} rows", figures.len()));
    Ok(figures)
}

/// Starts a machine whose cores' waiting for locks can be looked at.
fn waits_watched(mut machine: Machine, waits: Waits, log: &Path) -> Result<(Session, Watch)> {
    // The path of a Unix socket must be short; that of the checkout need not be.
    let folder = std::env::temp_dir().join(format!("partita-{}-monitor", std::process::id()));
    make_folder(&folder)?;
    let socket = folder.join("monitor");
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    machine.extra = vec!["-monitor".into(), listen];
    let mut session = machine.watched(log)?;
    if machine.favoured {
        session.favour_timers()?;
    }
    let watch = Watch::new(&socket, waits);
    // Both ends are open, or there is nothing to speak with: the name is not needed any more.
    std::fs::remove_dir_all(&folder).at(&folder)?;
    Ok((session, watch?))
}

/// Why a program that measures could not.
fn failure(text: &str) -> Option<String> {
    let complete = &text[..text.rfind('\n')?];
    complete.lines().find_map(|line| {
        if let Some(why) = line.strip_prefix("bench failed: ") {
            return Some(why.into());
        }
        match protocol::parse(line) {
            Some(Line::Test { failure, .. }) => failure,
            _ => None,
        }
    })
}

fn log_path(workspace: &Workspace, name: &str) -> PathBuf {
    workspace
        .target
        .join("bench-logs")
        .join(format!("{name}.log"))
}

/// What a stopped machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Counting: QEMU records, which makes it tell how many instructions it has executed (nothing is
    /// replayed). Virtual time goes on with real time while the guest stands still; with `sleep=off`
    /// it would jump to the next timer interrupt at every stop.
    Count,
    /// Looking: without a recording a single step is not disturbed by interrupts.
    Look,
}

/// A machine that stands before its first instruction and obeys a debugger stub.
pub fn stopped(
    workspace: &Workspace,
    board: &Board,
    image: &Image,
    purpose: Purpose,
) -> Result<(Session, Stub)> {
    let log = log_path(workspace, &format!("{}-stub", image.name));
    // The path of a Unix socket must be short; that of the checkout need not be.
    let folder = std::env::temp_dir().join(format!("partita-{}", std::process::id()));
    make_folder(&folder)?;
    let socket = folder.join("gdb");
    if socket.exists() {
        std::fs::remove_file(&socket).at(&socket)?;
    }
    let mut machine = Machine::new(board, image);
    machine.extra = vec![
        "-icount".into(),
        match purpose {
            Purpose::Count => {
                format!(
                    "shift=0,rr=record,rrfile={}",
                    log.with_extension("rr").display()
                )
            }
            Purpose::Look => "shift=0,sleep=off".into(),
        },
        "-S".into(),
        "-gdb".into(),
        format!("unix:{},server=on,wait=off", socket.display()),
    ];
    let session = machine.watched(&log)?;
    let stub = Stub::connect(&socket);
    // Both ends are open, or there is nothing to speak with: the name is not needed any more.
    std::fs::remove_dir_all(&folder).at(&folder)?;
    Ok((session, stub?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Unit;

    fn figure(name: &str, instructions: u64) -> Figure {
        Figure {
            name: name.into(),
            instructions,
            n: 100,
            config: "release".into(),
            board: "b".into(),
        }
    }

    fn row(name: &str, bound: Option<u64>) -> Row {
        Row {
            name: name.into(),
            group: None,
            what: "x".into(),
            reference: None,
            floor: None,
            bound,
            least: None,
            unit: Unit::Instructions,
        }
    }

    #[test]
    fn a_program_says_why_it_could_not() {
        assert_eq!(failure("bench failed: no memory\n").unwrap(), "no memory");
        let trap = "bench a 1 2\ntest start ... FAILED: trap 0x700\nsuite x: 0 passed, 1 failed\n";
        assert_eq!(failure(trap).unwrap(), "trap 0x700");
        assert_eq!(failure("bench a 1 2\nbench fai"), None);
    }

    #[test]
    fn figures_by_the_clock_stand_apart() {
        let percent = Row {
            least: Some(160),
            unit: Unit::Percent,
            ..row("b", None)
        };
        let rows = [row("a", Some(10)), percent, row("c", Some(10))];
        let figures = [figure("a", 1), figure("b", 150), figure("c", 2)];
        let (table, bad) = judge(&rows, &figures, |_| true);
        assert_eq!(bad, ["b"]);
        let at = |text: &str| table.find(text).unwrap();
        assert!(at("\nc ") < at("clock") && at("clock") < at("150 %"));
    }

    #[test]
    fn rows_over_or_without_a_figure_are_bad() {
        let rows = [
            row("a", Some(10)),
            row("b", Some(10)),
            row("c", Some(10)),
            row("d", None),
        ];
        let figures = [figure("a", 10), figure("b", 11), figure("extra", 5)];
        let (table, bad) = judge(&rows, &figures, |_| true);
        assert_eq!(bad, ["b", "c"], "d has no bound");
        assert!(table.contains("extra"));
        let (_, bad) = judge(&rows, &figures[..1], |n| n == "a");
        assert!(bad.is_empty());
    }

    #[test]
    fn json_has_the_agreed_members() {
        let json = serde_json::to_value([figure("a", 7)]).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{"name":"a","instructions":7,"n":100,"config":"release","board":"b"}])
        );
    }

    #[test]
    fn the_images_file_is_well_formed() {
        let text = include_str!("../../../benches/images.toml");
        let file: ImagesFile = toml::from_str(text).unwrap();
        assert!(
            file.image
                .iter()
                .all(|i| i.system.is_some() != i.root_task.is_some())
        );
    }
}
