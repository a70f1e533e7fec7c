// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask sizes`: what kernel and PDs weigh.

use crate::build::{Builder, SDK};
use crate::elf::{Elf, Kind};
use crate::error::{Error, Result};
use crate::guest;
use crate::overhead::Overhead;
use crate::reference::{self, Unit};
use crate::system::{self, System};
use crate::toolchain::Variant;
use crate::workspace::Workspace;

/// Sizes of one program, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Its name.
    pub name: String,
    /// Instructions.
    pub text: u64,
    /// Read-only data.
    pub rodata: u64,
    /// Data with contents.
    pub data: u64,
    /// Zeros.
    pub bss: u64,
}

/// Measures the kernel, the initialiser, the monitor and every PD, in that order.
pub fn measure(workspace: &Workspace, variant: &Variant, all: bool) -> Result<Vec<Sizes>> {
    let sdk: Vec<&str> = SDK.iter().map(|(_, package)| *package).collect();
    let mut packages = sdk.clone();
    if all {
        let suites = workspace.root.join("tests");
        let others = workspace
            .machine_packages()
            .filter(|p| p.program.is_some() && !p.folder.starts_with(&suites))
            .map(|p| p.name.as_str());
        packages.extend(others.filter(|name| !sdk.contains(name)));
    }
    let files = Builder::new(workspace).programs(variant, &packages)?;
    packages
        .iter()
        .zip(files)
        .map(|(name, file)| {
            let elf = Elf::read(&file)?;
            Ok(Sizes {
                name: name.trim_start_matches("partita-").into(),
                text: elf.size(Kind::Text),
                rodata: elf.size(Kind::Rodata),
                data: elf.size(Kind::Data),
                bss: elf.size(Kind::Bss),
            })
        })
        .collect()
}

/// The figure of `benches/reference.toml` that is a size.
pub fn figure(name: &str, sizes: &[Sizes]) -> Option<u64> {
    let program = name.strip_suffix("-text-rodata")?;
    sizes
        .iter()
        .find(|s| s.name == program)
        .map(|s| s.text + s.rodata)
}

/// Prints the table; of the configuration that ships, judges the bounds.
pub fn run(workspace: &Workspace, variant: &Variant, download: bool) -> Result<()> {
    let sizes = measure(workspace, variant, true)?;
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9}",
        "bytes", "text", "rodata", "data", "bss"
    );
    for s in &sizes {
        println!(
            "{:<28} {:>9} {:>9} {:>9} {:>9}",
            s.name, s.text, s.rodata, s.data, s.bss
        );
    }
    let system = System::find(workspace, system::DEFAULT)?;
    let options = guest::Options::default();
    let system = guest::prepare(
        workspace,
        system,
        &options,
        &guest::Additions::default(),
        download,
    )?;
    let image = Builder::new(workspace).system(&system, variant)?;
    let overhead = Overhead::of(&image)?;
    if let Some(overhead) = &overhead {
        println!("\nmemory of the default system:\n{}", overhead.table());
    }
    let mut over = Vec::new();
    // The bounds are set on what ships.
    if variant.config == "release" {
        println!("{}", reference::head());
        let rows = reference::rows(workspace)?;
        for row in rows.iter().filter(|r| r.unit == Unit::Bytes) {
            let (line, holds) = reference::line(&row.name, figure(&row.name, &sizes), Some(row));
            println!("{line}");
            if !holds {
                over.push(row.name.clone());
            }
        }
    }
    if over.is_empty() {
        overhead.map_or(Ok(()), |overhead| overhead.check())
    } else {
        Err(Error::Bound(format!("over its bound: {}", over.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_rows_are_found_by_program() {
        let kernel = [Sizes {
            name: "kernel".into(),
            text: 100,
            rodata: 20,
            data: 3,
            bss: 4,
        }];
        assert_eq!(figure("kernel-text-rodata", &kernel), Some(120));
        assert_eq!(figure("monitor-text-rodata", &kernel), None);
        assert_eq!(figure("null-syscall", &kernel), None);
    }
}
