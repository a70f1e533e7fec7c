// SPDX-License-Identifier: BSD-2-Clause
//! Systems with Linux guests: their kernel and first file system, and commands that run in them.

mod commands;
pub mod console;
mod cpio;
mod description;
mod fetch;
mod initramfs;
mod packages;
mod parser;
mod spread;
mod xml;

use crate::error::{Error, Result, copy, read, read_bytes, write};
use crate::plan::Alterations;
use crate::qemu::Machine;
use crate::system::System;
use crate::workspace::Workspace;
use clap::Args;
use fetch::{Cache, KERNELS};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a guest without a command runs where others have one.
const NOTHING: &str = ":";

/// Bound of a command's run, if the user names none.
const BOUND: Duration = Duration::from_secs(600);

/// What the guest is, and what it does.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// The guest's kernel: debian-6.1, debian-6.12, debian-6.12-64k (downloaded), a program
    /// package of this repository, or an ELF file.
    #[arg(long, value_name = "NAME|FILE")]
    guest_kernel: Option<String>,
    /// The guest's first file system, a cpio archive; made of busybox if none is named.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exec", "share"])]
    guest_initrd: Option<PathBuf>,
    /// More for the guest's command line.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = line)]
    guest_append: Option<String>,
    /// The guest's memory, such as 512M or 3G: a multiple of 16 MiB. The machine gets more of it if
    /// the guest needs that, unless `--memory` says how much.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    guest_memory: Option<u64>,
    /// The memory behind --guest-memory, if it is less: pages are found when they are touched.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "guest_memory")]
    guest_backing: Option<u64>,
    /// Where the addresses of its slots end, if some are added while it runs: a multiple of 16 MiB.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "guest_memory")]
    guest_max_memory: Option<u64>,
    /// The guest's processors: at most 14 on one core, 10 on two, 6 on three, 4 on four.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=14))]
    guest_vcpus: Option<u32>,
    /// Cores that they are spread over in turn, at most 4: as many as the machine has, if this is left
    /// out. The guest's servers get an instance on each.
    #[arg(long, value_name = "COUNT", requires = "guest_vcpus", value_parser = clap::value_parser!(u32).range(1..=4))]
    guest_cores: Option<u32>,
    /// Run a command in the guest: its output and its exit status are ours. Where there are several guests, a
    /// command is for the one that is named, or for all without a name; may be repeated, and the first says whose
    /// output and exit status it is. A guest without a command goes off as soon as it has booted.
    #[arg(long, value_name = "[GUEST:]COMMAND")]
    pub exec: Vec<String>,
    /// Programs of a Debian package for the guest; may be repeated.
    #[arg(long, value_name = "PACKAGE", conflicts_with = "guest_initrd")]
    guest_package: Vec<String>,
    /// Copy a folder's files, folders and links to /share of the guest.
    #[arg(long, value_name = "FOLDER")]
    share: Option<PathBuf>,
}

/// What a test puts into a system description.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Programs that take the places of others: `hpt` = `evil-hpt`.
    pub replace: BTreeMap<String, String>,
    /// XML texts: what is below the root element goes into the system, or below `<into pd="NAME">`
    /// into that protection domain.
    pub texts: Vec<String>,
    /// Kernels of the guests among them, as `--guest-kernel` takes them, by the name of their file without its
    /// extension.
    pub kernels: BTreeMap<String, String>,
}

impl Options {
    /// The same, with the guest's processors spread over the machine's cores unless the user has
    /// said over how many.
    pub fn on_cores(mut self, smp: u32) -> Self {
        if self.guest_vcpus.is_some() {
            let most = partita_guest_protocol::channel::INSTANCES as u32;
            self.guest_cores.get_or_insert(smp.min(most));
        }
        self
    }

    fn any(&self) -> bool {
        self.guest_kernel.is_some()
            || self.guest_initrd.is_some()
            || self.guest_append.is_some()
            || self.guest_memory.is_some()
            || self.guest_backing.is_some()
            || self.guest_vcpus.is_some()
            || !self.exec.is_empty()
            || self.share.is_some()
            || !self.guest_package.is_empty()
    }
}

/// Text for a command line: control characters do not belong there, and XML cannot hold most of them.
fn line(text: &str) -> std::result::Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err("no control characters".into()),
        false => Ok(text.into()),
    }
}

/// Bytes in a size with an optional suffix M or G (binary).
fn size(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number with M or G after it".to_string())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0 && bytes.is_multiple_of(description::MEMORY_UNIT))
        .ok_or_else(|| "a multiple of 16 MiB".to_string())
}

/// Memory of a machine whose guest has so much, bytes: the default, or the guest's and 2 GiB, as the
/// guest's large aligned pieces do not come together with what else lies in low memory.
fn machine_memory(guest: u64) -> u64 {
    if guest <= 1 << 30 {
        2 << 30
    } else {
        (guest + (2 << 30)).next_multiple_of(512 << 20)
    }
}

fn optional_size(text: Option<&str>) -> Result<Option<u64>> {
    text.map(size).transpose().map_err(Error::Usage)
}

/// Gets the files of a system's guests and makes a description for them; a system without guests
/// stays as it is. `download`: whether files may be downloaded.
pub fn prepare(
    workspace: &Workspace,
    system: System,
    options: &Options,
    additions: &Additions,
    download: bool,
) -> Result<System> {
    let path = system.file.clone();
    let content = |why| Error::Content {
        path: path.clone(),
        why,
    };
    let text = read(&path)?;
    let Some(own) = description::files(&text).map_err(content)? else {
        if options.any() {
            let why = format!("system {} has no guest to take such options", system.name);
            return Err(Error::Usage(why));
        }
        if additions.replace.is_empty() && additions.texts.is_empty() {
            return Ok(system);
        }
        let text = description::add(&text, additions).map_err(content)?;
        return system.changed(&workspace.target.join("guest").join(&system.name), &text);
    };
    let mut system = system;
    system.has_guest = true;
    if let Some(bytes) = options.guest_memory {
        system.memory.get_or_insert(machine_memory(bytes));
    }
    let choice = options.guest_kernel.as_deref();
    if let Some(payload) = choice.and_then(|name| payload(workspace, name)) {
        // Products of its own: the system's stay those of its own guest.
        system.name = format!("{}-{payload}", system.name);
    }
    let folder = workspace.target.join("guest").join(&system.name);
    let cache = Cache::new(&workspace.target, download);
    let changes = description::Changes {
        memory: options.guest_memory,
        backing: options.guest_backing,
        max_memory: options.guest_max_memory,
        vcpus: options.guest_vcpus,
        cores: options.guest_cores,
        append: options.guest_append.clone().unwrap_or_default(),
        ..description::Changes::default()
    };
    // The options are about the system's own guests, not about those that are added.
    let text = description::change(&text, &changes)
        .and_then(|text| description::add(&text, additions))
        .map_err(content)?;
    let files = description::files(&text).map_err(content)?;
    let files = files.unwrap_or_default();
    let mut needs_files = false;
    for name in &files.kernels {
        let stem = Path::new(name).file_stem().unwrap_or_default();
        let stem = stem.to_str().unwrap_or_default();
        let choice = match own.kernels.contains(name) {
            true => choice,
            false => additions.kernels.get(stem).map(String::as_str),
        };
        match payload(workspace, choice.unwrap_or(stem)) {
            Some(package) => system.guests.push((name.clone(), package.into())),
            None => {
                needs_files = true;
                copy(&kernel(&cache, choice)?, &folder.join(name))?;
            }
        }
    }
    let mut programs = Vec::new();
    for package in &options.guest_package {
        programs.extend(packages::programs(&cache, package)?);
    }
    let guests = description::guests(&text).map_err(content)?;
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    let commands = commands::divide(&options.exec, &names).map_err(Error::Usage)?;
    let watched = guests.iter().find(|guest| guest.name == commands.watched);
    system.terminal = watched.or(guests.first()).and_then(|guest| guest.terminal);
    let archive = |command| match &options.guest_initrd {
        Some(file) => read_bytes(file),
        None if !needs_files => Ok(cpio::Archive::default().finish()),
        None => {
            let busybox = read_bytes(&cache.busybox()?)?;
            initramfs::make(&busybox, command, options.share.as_deref(), &programs)
        }
    };
    let mut initrds = BTreeMap::new();
    if options.exec.is_empty() || guests.len() == 1 {
        let command = commands.by_guest.values().next();
        for name in &files.initrds {
            write(&folder.join(name), archive(command.map(String::as_str))?)?;
        }
    } else {
        for guest in guests.iter().filter(|guest| guest.initrd.is_some()) {
            let command = commands.by_guest.get(&guest.name);
            let file = format!("initrd-{}.cpio", guest.name);
            let archive = archive(Some(command.map_or(NOTHING, String::as_str)))?;
            write(&folder.join(&file), archive)?;
            initrds.insert(guest.name.clone(), file);
        }
    }
    let changes = description::Changes {
        initrds,
        ..description::Changes::default()
    };
    let text = description::change(&text, &changes).map_err(content)?;
    system.changed(&folder, &text)
}

/// The same for a system that is altered.
pub fn altered(
    workspace: &Workspace,
    system: System,
    alterations: &Alterations,
    download: bool,
) -> Result<System> {
    let mut system = system;
    system.environment.clone_from(&alterations.environment);
    let options = Options {
        guest_kernel: alterations.guest_kernel.clone(),
        guest_memory: optional_size(alterations.guest_memory.as_deref())?,
        guest_backing: optional_size(alterations.guest_backing.as_deref())?,
        guest_max_memory: optional_size(alterations.guest_max_memory.as_deref())?,
        guest_vcpus: alterations.guest_vcpus,
        guest_cores: alterations.guest_cores,
        guest_package: alterations.guest_packages.clone(),
        exec: alterations.exec.clone(),
        share: alterations.share.as_ref().map(|f| workspace.root.join(f)),
        guest_append: Some(alterations.guest_append.clone()).filter(|text| !text.is_empty()),
        ..Options::default()
    };
    let mut additions = Additions {
        replace: alterations.replace.clone(),
        kernels: alterations.kernels.clone(),
        ..Additions::default()
    };
    for file in &alterations.add {
        additions.texts.push(read(&workspace.root.join(file))?);
    }
    prepare(workspace, system, &options, &additions, download)
}

/// The system with a kernel of Debian's, so many processors if it is said, and a first file system that has one
/// program, `init`; the kernel's file too.
pub fn with_init(
    workspace: &Workspace,
    system: System,
    kernel_name: &str,
    vcpus: Option<u32>,
    init: &[PathBuf],
) -> Result<(System, PathBuf)> {
    let file = workspace.target.join("guest").join(&system.name);
    let file = file.join("init.cpio");
    let [init] = init else {
        return Err(Error::Usage("a guest has one first program".into()));
    };
    write(&file, initramfs::bare(&read_bytes(init)?))?;
    let options = Options {
        guest_kernel: Some(kernel_name.into()),
        guest_initrd: Some(file),
        guest_vcpus: vcpus,
        // As the reference was measured.
        guest_append: Some("quiet cryptomgr.notests".into()),
        ..Options::default()
    };
    let system = prepare(workspace, system, &options, &Additions::default(), true)?;
    let cache = Cache::new(&workspace.target, true);
    Ok((system, kernel(&cache, Some(kernel_name))?))
}

/// Memory of each guest of a description, bytes.
pub fn memory_sizes(text: &str) -> std::result::Result<Vec<u64>, String> {
    description::memory_sizes(text)
}

/// The program package of this name: a guest's kernel of our own, which needs no other files.
fn payload<'a>(workspace: &'a Workspace, name: &str) -> Option<&'a str> {
    workspace.program(name).map(|package| package.name.as_str())
}

/// The file of the chosen kernel.
fn kernel(cache: &Cache, choice: Option<&str>) -> Result<PathBuf> {
    let name = choice.unwrap_or(KERNELS[0].name);
    if let Some(kernel) = KERNELS.iter().find(|k| k.name == name) {
        return cache.kernel(kernel);
    }
    let file = Path::new(name);
    if !file.is_file() {
        return Err(Error::Unknown {
            kind: "guest kernel",
            name: name.into(),
            known: KERNELS
                .iter()
                .map(|k| k.name.to_string())
                .chain(["an ELF file".to_string()])
                .collect(),
        });
    }
    check_kernel(&read_bytes(file)?).map_err(|why| Error::Content {
        path: file.into(),
        why: why.into(),
    })?;
    Ok(file.into())
}

/// Refuses a file that cannot be a guest's kernel: it would be found out when the guest is started.
fn check_kernel(bytes: &[u8]) -> std::result::Result<(), &'static str> {
    const NEEDED: &str = "the guest needs the vmlinux of a 64-bit PowerPC kernel";
    const EM_PPC64: u16 = 21;
    if !bytes.starts_with(b"\x7fELF") {
        return Err("no ELF file: the guest needs vmlinux, not a boot wrapper");
    }
    // Class, byte order; type and machine follow the identification, which has 16 bytes.
    let (class, order) = (bytes.get(4), bytes.get(5));
    let (Some(2), Some(machine)) = (class, bytes.get(18..20)) else {
        return Err(NEEDED);
    };
    let machine = match order {
        Some(2) => u16::from_be_bytes([machine[0], machine[1]]),
        _ => u16::from_le_bytes([machine[0], machine[1]]),
    };
    match machine {
        EM_PPC64 => Ok(()),
        _ => Err(NEEDED),
    }
}

/// Boots a machine whose guest runs the command of `--exec`: its output goes to standard output.
/// Fails with [`Error::GuestStatus`] unless it ends with 0.
pub fn exec(workspace: &Workspace, machine: &Machine, bound: Option<Duration>) -> Result<()> {
    let log = workspace.target.join("guest/console.log");
    let session = machine.watched(&log)?;
    let bound = bound.unwrap_or(BOUND);
    match console::follow(
        session,
        machine.terminal,
        &log,
        bound,
        &mut std::io::stdout(),
    )? {
        0 => Ok(()),
        status => Err(Error::GuestStatus(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_of_this_machine() {
        let header = |class, order, machine: [u8; 2]| {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend([class, order, 1]);
            bytes.resize(18, 0);
            bytes.extend(machine);
            bytes
        };
        let little = header(2, 1, [21, 0]);
        assert_eq!(check_kernel(&little), Ok(()));
        assert_eq!(check_kernel(&header(2, 2, [0, 21])), Ok(()));
        let x86 = header(2, 1, [62, 0]);
        let of_32_bits = header(1, 2, [0, 20]);
        for wrong in [&x86, &of_32_bits, &little[..19].to_vec()] {
            assert!(check_kernel(wrong).unwrap_err().contains("64-bit PowerPC"));
        }
        for wrong in [&b""[..], b"\x7fEL", b"bzImage"] {
            assert!(check_kernel(wrong).unwrap_err().contains("no ELF file"));
        }
    }

    #[test]
    fn command_lines_have_no_control_characters() {
        assert_eq!(line("quiet a=\"b\" é"), Ok("quiet a=\"b\" é".into()));
        for wrong in ["a\nb", "\u{1}", "a\tb", "\u{7f}"] {
            assert!(line(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("16777216"), Ok(16 << 20));
        for wrong in ["", "M", "1", "17M", "0", "1T", "99999999999999G", "-1G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kernels_have_names_or_are_files() {
        let folder = std::env::temp_dir().join(format!("xtask-kernel-{}", std::process::id()));
        let cache = Cache::new(&folder, false);
        let unknown = kernel(&cache, Some("debian-5")).unwrap_err().to_string();
        assert!(unknown.contains("debian-6.1, debian-6.12"), "{unknown}");
        let file = folder.join("k");
        write(&file, "gzip").unwrap();
        let name = file.to_str().unwrap();
        assert!(
            kernel(&cache, Some(name))
                .unwrap_err()
                .to_string()
                .contains("no ELF file")
        );
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(18, 0);
        header.extend([21, 0]);
        write(&file, header).unwrap();
        assert_eq!(kernel(&cache, Some(name)).unwrap(), file);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
