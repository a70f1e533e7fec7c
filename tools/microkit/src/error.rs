// SPDX-License-Identifier: BSD-2-Clause
//! Everything that can go wrong, each with its place and name.

use crate::elf::ElfProblem;
use crate::sdf::{Place, SdfError};
use std::path::PathBuf;
use thiserror::Error;

/// An error of the tool; its text is one line for the user.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's text says what it means")]
pub enum Error {
    #[error("unknown board '{name}' (known: {known})")]
    UnknownBoard { name: String, known: String },
    #[error("unknown configuration '{name}' (known: {known})")]
    UnknownConfig { name: String, known: String },
    #[error("kernel-config file of '{name}': {source}")]
    Config {
        name: String,
        source: toml::de::Error,
    },
    #[error("{}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: named for two outputs", .0.display())]
    SameOutput(PathBuf),
    #[error("{}: named for an output, but it is an input", .0.display())]
    OutputIsInput(PathBuf),
    #[error("no SDK: give --sdk DIR or set MICROKIT_SDK")]
    NoSdk,
    #[error("{place}{what} '{name}' is in none of the search paths ({searched})")]
    NotFound {
        place: Place,
        what: String,
        name: String,
        searched: String,
    },
    #[error(transparent)]
    Sdf(#[from] SdfError),
    #[error("{}{file}: {problem}", place.as_ref().map(Place::to_string).unwrap_or_default())]
    Elf {
        /// Where the system description asks for the program or what it lacks.
        place: Option<Place>,
        file: String,
        problem: ElfProblem,
    },
    #[error(
        "the system needs more memory than the board has: no room for {name} ({count} of {bytes:#x} bytes each); {needed:#x} bytes are needed, {free:#x} are free"
    )]
    DoesNotFit {
        name: String,
        count: u64,
        bytes: u64,
        needed: u64,
        free: u64,
    },
    #[error("memory at {paddr:#x} for {name} is not free at boot")]
    AddressNotFree { name: String, paddr: u64 },
    #[error("no contiguous {size:#x} bytes of free memory for region '{name}'")]
    NoContiguous { name: String, size: u64 },
    #[error("the regions at fixed addresses split memory into more than {0} pieces")]
    TooManyPieces(usize),
    #[error("the image has {size:#x} bytes, the board loads at most {limit:#x}")]
    ImageTooLarge { size: u64, limit: u64 },
    #[error("the image has {count} runs of frames, the kernel takes at most {limit}")]
    TooManyFrameRuns { count: usize, limit: usize },
    #[error("{file}: {count} segments, the kernel takes at most {limit}")]
    TooManySegments {
        file: String,
        count: usize,
        limit: usize,
    },
    #[error(
        "the system needs {slots} capabilities at boot, the root task has room for {limit} (use larger pages)"
    )]
    TooManySlots { slots: u64, limit: u64 },
    #[error("two objects would have the name '{0}': a name in the description must change")]
    NameClash(String),
    #[error("the specification cannot be encoded: {0}")]
    Encode(String),
}

impl Error {
    /// The same error of a program, with the place that asks for what is wrong.
    #[must_use]
    pub fn at(self, place: &Place) -> Error {
        match self {
            Error::Elf { file, problem, .. } => Error::Elf {
                place: Some(place.clone()),
                file,
                problem,
            },
            other => other,
        }
    }
}
