// SPDX-License-Identifier: BSD-2-Clause
//! The capability specification that the image tool writes and the initialiser executes.
//!
//! A specification is a [`Header`] followed by [`Header::commands`] values of [`Command`], all in
//! postcard's encoding, one after the other. It is read once from front to back ([`Reader`]) in
//! constant memory: names are borrowed from the specification, and a command never refers to a
//! later one.
//!
//! The tool decides which capability goes to which slot and in what order things happen; the
//! initialiser is an interpreter. One thing is left for run time: which piece of untyped memory an
//! object comes from, because the machine's memory is only known then. Both sides use
//! [`untyped::Pool`] for it, so what the tool proves for the board's memory holds on the machine.
#![no_std]
#![forbid(unsafe_code)]

mod command;
mod reader;
pub mod untyped;

pub use command::{CapRef, Command, Fault, Header, Trigger};
pub use reader::{Reader, SpecError, encode};

/// First field of a [`Header`] ("PCDL").
pub const MAGIC: u32 = u32::from_be_bytes(*b"PCDL");
/// Changes with every change of [`Header`] or [`Command`] that old readers would misread.
pub const VERSION: u16 = 2;
