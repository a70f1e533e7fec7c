// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask bench explain ROW`: where the instructions of one round trip go.
//!
//! The bench image runs under QEMU's debugger stub up to the row's `bench_begin`; from there QEMU
//! logs every instruction. Out of the log comes one round in the middle of the measurement, which
//! is then given names: symbols of the kernel and of the PDs in the order of execution, and sums by
//! function as the compiler inlined them.

use crate::bench::{self, BenchImage, Purpose};
use crate::build::{Builder, Image};
use crate::elf::Elf;
use crate::error::{At, Error, Result, make_folder};
use crate::outside;
use crate::process::{self, Running};
use crate::reference;
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Function that a measuring program calls before each row: (name, length) in r3 and r4.
const MARKER: &str = "bench_begin";
/// Size of the log after which the guest is stopped: some 200,000 instructions.
const LOG_BYTES: u64 = 24 << 20;
/// Instructions of the log that are looked at.
const LOG_LINES: usize = 200_000;
/// Names every address of an ELF file.
const ADDR2LINE: &str = "powerpc64le-linux-gnu-addr2line";
/// `sc 0`, a system call, and `sc 1`, a hypercall.
const CALLS: [u32; 2] = [0x4400_0002, 0x4400_0022];
/// Flags of a line of QEMU's log: hypervisor state, problem state.
const HV: u32 = 1 << 1;
const PR: u32 = 1 << 14;
/// High address bits that real mode ignores.
const REAL: u64 = 0x0fff_ffff_ffff_ffff;

/// Prints the explanation of a row.
pub fn run(workspace: &Workspace, row: &str) -> Result<()> {
    let rows = reference::rows(workspace)?;
    let known = rows.iter().find(|r| r.name == row);
    let known = known.ok_or_else(|| reference::unknown(&rows, row))?;
    let mut builder = Builder::new(workspace);
    for entry in BenchImage::all(workspace)? {
        if known.group != entry.group {
            continue;
        }
        let image = entry.build(workspace, &mut builder)?;
        let programs = Programs::read(&image)?;
        if let Some((program, marker)) = programs.marker()
            && let Some(trace) = trace(workspace, &entry, &image, program, marker, row)?
        {
            let round = find_round(&programs, &trace).ok_or_else(|| {
                Error::Stub(format!(
                    "`{row}`: no repetition in {} instructions",
                    trace.len()
                ))
            })?;
            print!("{}", report(row, &programs, &round));
            print!("{}", by_function(&programs, &round)?);
            return Ok(());
        }
    }
    let why = format!("bench row `{row}` is not counted by a program that can be followed");
    Err(Error::Usage(why))
}

/// The ELF files of an image.
struct Programs {
    kernel: Elf,
    /// Name and file; the program that measures comes first.
    users: Vec<(String, Elf)>,
    /// Which of them is a guest's kernel.
    guest: Option<usize>,
}

/// An executed instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    pc: u64,
    flags: u32,
}

impl Step {
    fn in_guest(self) -> bool {
        self.flags & HV == 0
    }

    fn in_kernel(self) -> bool {
        self.flags & (HV | PR) == HV
    }
}

impl Programs {
    fn read(image: &Image) -> Result<Self> {
        let mut kernel = None;
        let mut users = Vec::new();
        for (name, path) in &image.elfs {
            let elf = Elf::read(path)?;
            if name == "kernel" {
                kernel = Some(elf);
            } else {
                users.push((name.clone(), elf));
            }
        }
        users.sort_by_key(|(name, elf)| (elf.symbol(MARKER).is_none(), name.clone()));
        let kernel = kernel.ok_or_else(|| Error::Content {
            path: image.file.clone(),
            why: "an image without a kernel".into(),
        })?;
        let guest = users
            .iter()
            .position(|(name, _)| image.guests.contains(name));
        Ok(Self {
            kernel,
            users,
            guest,
        })
    }

    /// The program that measures, and where its marker is.
    fn marker(&self) -> Option<(&Elf, u64)> {
        let (_, elf) = self.users.first()?;
        Some((elf, elf.symbol(MARKER)?))
    }

    /// The address as the kernel's ELF has it, if it is one of the kernel's. The block of vectors is
    /// executed where it was copied to, at real address 0.
    fn in_kernel(&self, pc: u64) -> Option<u64> {
        let real = pc & REAL;
        let block = self
            .kernel
            .symbol("__low_start")
            .zip(self.kernel.symbol("__low_end"));
        if let Some((start, end)) = block
            && real < end - start
        {
            return Some(start + real);
        }
        let candidates = [pc, real, real | 0xc000_0000_0000_0000];
        candidates.into_iter().find(|&a| self.kernel.is_text(a))
    }

    /// A name for an address.
    fn name(&self, place: Place, pc: u64) -> String {
        match place {
            Place::Kernel => {
                let address = self.in_kernel(pc).unwrap_or(pc);
                self.kernel
                    .symbol_at(address)
                    .map_or("?".into(), |(name, _)| name.into())
            }
            Place::User(n) => self.users[n]
                .1
                .symbol_at(pc)
                .map_or("?".into(), |(name, _)| name.into()),
            Place::Unknown => format!("{pc:#x}"),
        }
    }

    fn owner(&self, place: Place) -> &str {
        match place {
            Place::Kernel => "kernel",
            Place::User(n) => &self.users[n].0,
            Place::Unknown => "?",
        }
    }

    /// The user programs whose instructions can have been executed in this order.
    fn fitting(&self, run: &[u64]) -> Vec<usize> {
        let fits = |n: &usize| {
            let elf = &self.users[*n].1;
            run.iter().enumerate().all(|(i, &pc)| match elf.word(pc) {
                Some(word) => run
                    .get(i + 1)
                    .is_none_or(|&next| may_follow(word, pc, next)),
                None => false,
            })
        };
        (0..self.users.len())
            .filter(|n| Some(*n) != self.guest)
            .filter(fits)
            .collect()
    }
}

/// Whose instruction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Kernel,
    User(usize),
    Unknown,
}

/// Whether the instruction `word` at `pc` can be followed by one at `next`.
fn may_follow(word: u32, pc: u64, next: u64) -> bool {
    let relative = |displacement: i64| pc.wrapping_add_signed(displacement);
    let falls = next == pc.wrapping_add(4) || next == pc;
    match word >> 26 {
        18 => {
            // b: 24-bit displacement
            let displacement = i64::from(((word & 0x03ff_fffc) << 6) as i32 >> 6);
            next == if word & 2 == 0 {
                relative(displacement)
            } else {
                displacement as u64
            }
        }
        16 => {
            // bc: 14-bit displacement
            let displacement = i64::from((word & 0xfffc) as u16 as i16);
            falls || next == relative(displacement)
        }
        // bclr, bcctr
        19 => true,
        _ => falls,
    }
}

/// Runs to the row's marker and logs from there; None if the image does not measure this row.
fn trace(
    workspace: &Workspace,
    entry: &BenchImage,
    image: &Image,
    program: &Elf,
    marker: u64,
    row: &str,
) -> Result<Option<Vec<Step>>> {
    let (mut session, mut stub) =
        bench::stopped(workspace, &entry.board(workspace)?, image, Purpose::Look)?;
    // Another program may have hot code at the marker's address: nothing is looked for before the
    // right one starts.
    outside::run_to_program(&mut session, &mut stub, program, marker)?;
    loop {
        match stub.run_to(marker, bench::STOP) {
            Ok(()) => {}
            // The guest has powered off.
            Err(Error::Stub(_)) => return Ok(None),
            Err(other) => return Err(other),
        }
        session.drain();
        let registers = stub.registers()?;
        let length = usize::try_from(registers.gpr[4]).unwrap_or(usize::MAX);
        if length == row.len()
            && stub.memory(registers.gpr[3], length)?.as_deref() == Some(row.as_bytes())
        {
            break;
        }
        stub.step()?;
    }
    let log = workspace.target.join("bench-logs").join("trace.log");
    make_folder(log.parent().unwrap_or(&log))?;
    if log.exists() {
        std::fs::remove_file(&log).at(&log)?;
    }
    stub.monitor(&format!("logfile {}", log.display()))?;
    stub.monitor("one-insn-per-tb on")?;
    stub.monitor("log exec,nochain")?;
    let full = || std::fs::metadata(&log).is_ok_and(|m| m.len() > LOG_BYTES);
    stub.run_for(full, Duration::from_secs(120))?;
    stub.monitor("log none")?;
    let file = std::fs::File::open(&log).at(&log)?;
    let lines = BufReader::new(file)
        .lines()
        .map_while(std::result::Result::ok);
    Ok(Some(
        lines
            .filter_map(|line| trace_line(&line))
            .take(LOG_LINES)
            .collect(),
    ))
}

/// The address and the flags in a line `Trace 0: HOST [CS/PC/FLAGS/CFLAGS] SYMBOL`.
fn trace_line(line: &str) -> Option<Step> {
    let fields = line
        .strip_prefix("Trace ")?
        .split_once('[')?
        .1
        .split_once(']')?
        .0;
    let mut fields = fields.split('/').skip(1);
    Some(Step {
        pc: u64::from_str_radix(fields.next()?, 16).ok()?,
        flags: u32::from_str_radix(fields.next()?, 16).ok()?,
    })
}

/// Gives every instruction its place. Runs of a PD's instructions are judged as wholes, and a thread
/// goes on where it left user mode, or after that instruction.
fn places(programs: &Programs, trace: &[Step]) -> Vec<Place> {
    let mut places = vec![Place::Kernel; trace.len()];
    // Program of each thread that is not running, and its last address.
    let mut threads: Vec<(usize, u64)> = Vec::new();
    let mut at = 0;
    while at < trace.len() {
        if trace[at].in_kernel() {
            at += 1;
            continue;
        }
        if trace[at].in_guest() {
            places[at] = programs.guest.map_or(Place::Unknown, Place::User);
            at += 1;
            continue;
        }
        let in_pd = |step: &&Step| !step.in_kernel() && !step.in_guest();
        let run: Vec<u64> = trace[at..].iter().take_while(in_pd).map(|s| s.pc).collect();
        let fitting = programs.fitting(&run);
        let goes_on = |(n, last): &(usize, u64)| {
            fitting.contains(n) && (run[0] == *last || run[0] == last.wrapping_add(4))
        };
        let owner = match threads.iter().position(goes_on) {
            Some(i) => Some(threads.swap_remove(i).0),
            // A thread that has not run so far, of a program without one if possible.
            None => {
                let new = fitting
                    .iter()
                    .find(|n| threads.iter().all(|(m, _)| m != *n));
                new.or(fitting.first()).copied()
            }
        };
        threads.extend(owner.map(|n| (n, run[run.len() - 1])));
        places[at..at + run.len()].fill(owner.map_or(Place::Unknown, Place::User));
        at += run.len();
    }
    places
}

/// One round: addresses with their places.
type Round = Vec<(Place, u64)>;

/// The round: from one call of the measuring program to the next at the same address. A
/// program that makes none (it faults) is known by where it goes on.
fn find_round(programs: &Programs, trace: &[Step]) -> Option<Round> {
    let places = places(programs, trace);
    let mut ends: BTreeMap<(bool, u64), Vec<usize>> = BTreeMap::new();
    for at in 0..trace.len().saturating_sub(1) {
        if matches!(places[at], Place::User(_)) && places[at + 1] == Place::Kernel {
            let measuring = places[at] == Place::User(0);
            let word = programs.users[0].1.word(trace[at].pc);
            let call = measuring && word.is_some_and(|word| CALLS.contains(&word));
            ends.entry((call, trace[at].pc)).or_default().push(at);
        }
    }
    // The calls of the measuring program before everything else, then the most frequent.
    let (_, ends) = ends
        .into_iter()
        .max_by_key(|((call, _), ends)| (*call && ends.len() > 3, ends.len()))?;
    let lengths: Vec<usize> = ends.windows(2).map(|w| w[1] - w[0]).collect();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    lengths
        .iter()
        .for_each(|l| *counts.entry(*l).or_default() += 1);
    let (&usual, _) = counts.iter().max_by_key(|(_, count)| **count)?;
    let usual_rounds: Vec<usize> = (0..lengths.len())
        .filter(|&i| lengths[i] == usual)
        .collect();
    let start = ends[*usual_rounds.get(usual_rounds.len() / 2)?];
    Some(
        (start..start + usual)
            .map(|at| (places[at], trace[at].pc))
            .collect(),
    )
}

/// The round in its order, one line for each stretch within a symbol.
fn report(row: &str, programs: &Programs, round: &Round) -> String {
    let kernel = round
        .iter()
        .filter(|(place, _)| *place == Place::Kernel)
        .count();
    let in_guest =
        |(place, _): &&(Place, u64)| matches!(place, Place::User(n) if Some(*n) == programs.guest);
    let guest = round.iter().filter(in_guest).count();
    let mut out = format!(
        "{row}: {} instructions a round, {kernel} in the kernel, {} in PDs{}\n\nin order:\n",
        round.len(),
        round.len() - kernel - guest,
        if guest == 0 {
            String::new()
        } else {
            format!(", {guest} in the guest")
        }
    );
    let mut at = 0;
    while at < round.len() {
        let (place, pc) = round[at];
        let name = programs.name(place, pc);
        let same = |(p, a): &&(Place, u64)| *p == place && programs.name(*p, *a) == name;
        let length = round[at..].iter().take_while(same).count();
        let _ = writeln!(out, "{length:>6}  {:<16} {name}", programs.owner(place));
        at += length;
    }
    out
}

/// Sums by function, with inlined functions apart.
fn by_function(programs: &Programs, round: &Round) -> Result<String> {
    let mut sums: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut by_file: BTreeMap<Place, Vec<u64>> = BTreeMap::new();
    for (place, pc) in round {
        by_file.entry(*place).or_default().push(*pc);
    }
    for (place, pcs) in by_file {
        let (elf, addresses): (Option<&Elf>, Vec<u64>) = match place {
            Place::Kernel => (
                Some(&programs.kernel),
                pcs.iter()
                    .map(|pc| programs.in_kernel(*pc).unwrap_or(*pc))
                    .collect(),
            ),
            Place::User(n) => (Some(&programs.users[n].1), pcs.clone()),
            Place::Unknown => (None, pcs.clone()),
        };
        let names = match elf {
            Some(elf) => addr2line(&elf.path, &addresses)?,
            None => vec!["?".into(); addresses.len()],
        };
        for (name, pc) in names.into_iter().zip(&pcs) {
            let name = if name == "??" {
                programs.name(place, *pc)
            } else {
                name
            };
            *sums
                .entry((programs.owner(place).to_string(), name))
                .or_default() += 1;
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut out = String::from("\nby function (as inlined):\n");
    for ((owner, name), count) in sums {
        let _ = writeln!(out, "{count:>6}  {owner:<16} {name}");
    }
    Ok(out)
}

/// The innermost function at each address.
fn addr2line(elf: &Path, addresses: &[u64]) -> Result<Vec<String>> {
    let mut command = Command::new(ADDR2LINE);
    command.args(["-a", "-f", "-i", "-C", "-e"]).arg(elf);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command)?;
    let input: String = addresses.iter().map(|a| format!("{a:#x}\n")).collect();
    let writer = running.child().stdin.take().map(|mut pipe| {
        std::thread::spawn(move || {
            // If it ends early the names are missing, and that is seen below.
            let _ = pipe.write_all(input.as_bytes());
        })
    });
    let mut text = String::new();
    if let Some(mut pipe) = running.child().stdout.take() {
        pipe.read_to_string(&mut text)
            .map_err(|source| Error::Start {
                program: process::name(&command),
                source,
            })?;
    }
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    let names = innermost(&text);
    if names.len() == addresses.len() {
        Ok(names)
    } else {
        Err(Error::Output {
            program: process::name(&command),
            why: format!("{} names for {} addresses", names.len(), addresses.len()),
        })
    }
}

/// The first function after each address line.
fn innermost(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            names.push(lines.next().unwrap_or("??").to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::sample;

    #[test]
    fn trace_lines_are_read() {
        let line =
            "Trace 0: 0x7f12ac000100 [0000000000000000/c000000020003f00/06000003/ff000200] f";
        let step = Step {
            pc: 0xc000_0000_2000_3f00,
            flags: 0x0600_0003,
        };
        assert_eq!(trace_line(line), Some(step));
        assert!(step.in_kernel() && !step.in_guest());
        assert_eq!(
            trace_line("Stopped execution of TB chain before 0x7f [0000] f"),
            None
        );
    }

    #[test]
    fn branches_limit_what_follows() {
        let nop = 0x6000_0000;
        assert!(may_follow(nop, 0x100, 0x104) && !may_follow(nop, 0x100, 0x108));
        let b_plus_8 = 0x4800_0008;
        assert!(may_follow(b_plus_8, 0x100, 0x108) && !may_follow(b_plus_8, 0x100, 0x104));
        let b_minus_4 = 0x4bff_fffc;
        assert!(may_follow(b_minus_4, 0x100, 0xfc));
        let bne_plus_16 = 0x4082_0010;
        assert!(may_follow(bne_plus_16, 0x100, 0x110) && may_follow(bne_plus_16, 0x100, 0x104));
        assert!(!may_follow(bne_plus_16, 0x100, 0x114));
        let blr = 0x4e80_0020;
        assert!(may_follow(blr, 0x100, 0x9000));
    }

    #[test]
    fn innermost_functions_are_taken() {
        let text =
            "0x0000000000000010\ninner\na.rs:1\nouter\nb.rs:2\n0x0000000000000014\n??\n??:0\n";
        assert_eq!(innermost(text), ["inner", "??"]);
    }

    #[test]
    fn the_round_is_found_between_two_calls() {
        // The kernel is one function at 0; the PD loops: nop, sc, b -8.
        let programs = Programs {
            kernel: sample("entry", &[0x6000_0000; 4]),
            users: vec![("pd".into(), {
                let mut words = vec![0x6000_0000; 0x8000 / 4];
                words.extend([0x6000_0000, CALLS[0], 0x4bff_fff8]);
                sample("main", &words)
            })],
            guest: None,
        };
        let step = |pc| Step {
            pc,
            flags: if pc < 0x8000 { HV } else { HV | PR },
        };
        let round = [0x8000, 0x8004, 0, 4, 0x8008].map(step);
        let trace: Vec<Step> = round.iter().copied().cycle().take(50).collect();
        let found = find_round(&programs, &trace).unwrap();
        assert_eq!(found.len(), 5);
        assert_eq!(found[0], (Place::User(0), 0x8004));
        let text = report("row", &programs, &found);
        assert!(
            text.starts_with("row: 5 instructions a round, 2 in the kernel, 3 in PDs"),
            "{text}"
        );
        assert!(text.contains("     2  kernel           entry"), "{text}");
    }
}
