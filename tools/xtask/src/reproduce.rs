// SPDX-License-Identifier: BSD-2-Clause
//! The same sources give the same image, wherever the checkout lies: `hello` is built here and in
//! a copy with another path, and the images are compared.

use crate::build::Builder;
use crate::elf::Elf;
use crate::error::{Error, Result, copy, make_folder, read_bytes};
use crate::process;
use crate::system::System;
use crate::toolchain::Variant;
use crate::workspace::Workspace;
use std::path::Path;
use std::process::Command;

/// The system that is built twice.
const SYSTEM: &str = "hello";

/// Builds both and compares.
pub fn run(workspace: &Workspace) -> Result<()> {
    let variant = Variant {
        board: "qemu_powernv9".into(),
        config: "release".into(),
    };
    let mut builder = Builder::new(workspace);
    let here = builder.system(&System::find(workspace, SYSTEM)?, &variant)?;
    let folder = workspace
        .target
        .join("reproduce/a-folder-with-another-name");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|source| Error::File {
            path: folder.clone(),
            source,
        })?;
    }
    copy_sources(&workspace.root, &folder)?;
    let other = workspace.moved(&folder, &workspace.target.join("reproduce/target"));
    let there = Builder::with_tool(&other, builder.tool()?)
        .system(&System::find(&other, SYSTEM)?, &variant)?;
    for (name, file) in &here.elfs {
        if let Some(twin) = there.elfs.get(name)
            && !loaded_alike(file, twin)?
        {
            let why = format!("{name}.elf has other contents than {}", file.display());
            return Err(Error::Content {
                path: twin.clone(),
                why,
            });
        }
    }
    same(&here.file, &there.file, "loader.img")
}

/// Whether the same bytes are loaded from both (debug information is not).
fn loaded_alike(a: &Path, b: &Path) -> Result<bool> {
    let (a, b) = (Elf::read(a)?, Elf::read(b)?);
    let alike = a.sections == b.sections && a.entry == b.entry;
    Ok(alike
        && a.sections.iter().all(|s| {
            let length = usize::try_from(s.size).unwrap_or(usize::MAX);
            a.bytes(s.address, length) == b.bytes(s.address, length)
        }))
}

fn same(a: &Path, b: &Path, what: &str) -> Result<()> {
    let (left, right) = (read_bytes(a)?, read_bytes(b)?);
    match difference(&left, &right) {
        None => Ok(()),
        Some(at) => Err(Error::Content {
            path: b.into(),
            why: format!("{what} differs from {} at byte {at:#x}", a.display()),
        }),
    }
}

/// The first byte that differs.
fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (common < a.len() || common < b.len()).then_some(common)
}

/// Copies what git tracks, and what it would track, and the lock file.
/// Copies what git knows or would know of.
pub fn copy_sources(root: &Path, folder: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["ls-files", "-z", "-co", "--exclude-standard"]);
    let listed = process::output(&mut git, "listing the sources")?;
    make_folder(folder)?;
    for name in listed
        .split('\0')
        .filter(|n| !n.is_empty())
        .chain(["Cargo.lock"])
    {
        let from = root.join(name);
        if from.is_file() {
            copy(&from, &folder.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_a_place() {
        assert_eq!(difference(b"abc", b"abc"), None);
        assert_eq!(difference(b"abc", b"abd"), Some(2));
        assert_eq!(difference(b"abc", b"abcd"), Some(3));
        assert_eq!(difference(b"", b"x"), Some(0));
    }
}
