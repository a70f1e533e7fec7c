// SPDX-License-Identifier: BSD-2-Clause
//! What can go wrong. `main` prints one of these as the last line and exits with status 1.

use std::path::{Path, PathBuf};

/// A failure with its place and name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written or made.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("{what}: {program} failed ({status})")]
    Program {
        /// The step that needed it.
        what: String,
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
    },
    /// A file's contents are not what they should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        why: String,
    },
    /// A program printed something that could not be understood.
    #[error("{program}: {why}")]
    Output {
        /// The program.
        program: String,
        /// What is wrong.
        why: String,
    },
    /// A name that the user gave does not exist.
    #[error("no {kind} `{name}` (there are: {})", known.join(", "))]
    Unknown {
        /// What kind of thing it names.
        kind: &'static str,
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A system names an image that can't be built or found.
    #[error("{}: program image `{image}`: no such package in the workspace, and no such file in {}",
        system.display(), searched.join(", "))]
    NoImage {
        /// The system description.
        system: PathBuf,
        /// The path in it.
        image: String,
        /// Folders that were searched.
        searched: Vec<String>,
    },
    /// Packages are missing and `--no-install` was given, or can't be had.
    #[error("missing: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// QEMU ran longer than it may.
    #[error("timeout: QEMU still ran after {seconds} s and was killed")]
    Timeout {
        /// The bound, seconds.
        seconds: u64,
    },
    /// QEMU ended with a failure.
    #[error("QEMU failed ({0})")]
    Qemu(String),
    /// A guest did not do what it was started for.
    #[error("guest: {0}")]
    Guest(String),
    /// The command in the guest ended with a failure: its exit status is ours.
    #[error("guest: the command ended with status {0}")]
    GuestStatus(u8),
    /// The conversation with QEMU's debugger stub failed.
    #[error("QEMU's gdb stub: {0}")]
    Stub(String),
    /// Tests failed.
    #[error("{failed} of {} failed", passed + failed)]
    Tests {
        /// How many passed.
        passed: usize,
        /// How many did not.
        failed: usize,
    },
    /// A measured figure is over its bound, or missing.
    #[error("{0}")]
    Bound(String),
    /// Something in the command line does not go together.
    #[error("{0}")]
    Usage(String),
}

/// Everything here returns this.
pub type Result<T> = std::result::Result<T, Error>;

/// Gives an I/O result the path that it is about.
pub trait At<T> {
    /// Names the file.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File {
            path: path.into(),
            source,
        })
    }
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).at(path)
}

/// Reads a file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).at(path)
}

/// Writes a file, and the folders above it.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    std::fs::write(path, bytes).at(path)
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).at(path)
}

/// Copies a file if the contents differ, so that an unchanged one keeps its time stamp.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = read_bytes(from)?;
    if std::fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    write(to, bytes)
}

/// Reads a TOML file into a type.
pub fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    toml::from_str(&read(path)?).map_err(|e| Error::Content {
        path: path.into(),
        why: e.to_string().trim().into(),
    })
}
