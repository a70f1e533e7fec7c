// SPDX-License-Identifier: BSD-2-Clause
//! Writing what came out: all files, or none.

use crate::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file and its bytes.
pub type Output<'a> = (&'a Path, &'a [u8]);

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Write {
        path: path.into(),
        source,
    }
}

/// Where a file is written before it is moved to its place.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    name.into()
}

/// Not a file that can be replaced: a device, a pipe or a link, which is written in place.
fn is_special(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// The file that a path names, however it is spelt; the last part may be one that does not exist yet.
fn identity(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    folder.join(path.file_name().unwrap_or_default())
}

/// Refuses what would fail after the first file is in its place, and what would overwrite an input.
fn check(list: &[Output<'_>], inputs: &[PathBuf]) -> Result<(), Error> {
    for (i, (path, _)) in list.iter().enumerate() {
        if path.is_dir() {
            return Err(failed(path, ErrorKind::IsADirectory.into()));
        }
        let is_output = |input: &PathBuf| match (input.canonicalize(), path.canonicalize()) {
            (Ok(input), Ok(path)) => input == path && path.is_file(),
            _ => false,
        };
        if inputs.iter().any(is_output) {
            return Err(Error::OutputIsInput((*path).into()));
        }
        let same = |(other, _): &Output<'_>| identity(other) == identity(path);
        if list[..i].iter().any(same) && !is_special(path) {
            return Err(Error::SameOutput((*path).into()));
        }
    }
    Ok(())
}

/// Writes each file beside its place, then moves all of them there: no half-written output, and what
/// was there before stays if anything fails. Devices, pipes and links are written last. None may be
/// one of `inputs`.
///
/// # Errors
/// [`Error::Write`], [`Error::SameOutput`], [`Error::OutputIsInput`].
pub fn write_all(list: &[Output<'_>], inputs: &[PathBuf]) -> Result<(), Error> {
    check(list, inputs)?;
    let (special, files): (Vec<_>, Vec<_>) = list.iter().partition(|(path, _)| is_special(path));
    let write = |(path, bytes): &Output<'_>| std::fs::write(temporary(path), bytes);
    let place = |(path, _): &Output<'_>| std::fs::rename(temporary(path), path);
    let each = |f: &dyn Fn(&Output<'_>) -> std::io::Result<()>| {
        files
            .iter()
            .try_for_each(|output| f(output).map_err(|e| failed(output.0, e)))
    };
    let result = each(&write).and_then(|()| each(&place));
    if result.is_err() {
        for (path, _) in &files {
            // Nothing more can be done if the half-written file cannot be removed either; the
            // first error is the one that counts.
            let _ = std::fs::remove_file(temporary(path));
        }
    }
    result?;
    special
        .iter()
        .try_for_each(|(path, bytes)| std::fs::write(path, bytes).map_err(|e| failed(path, e)))
}
