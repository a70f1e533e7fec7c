// SPDX-License-Identifier: BSD-2-Clause
//! Executes a specification ([`partita_capdl`]): creates every object of a system, distributes the
//! capabilities, starts the threads and gives all authority up.
//!
//! What is here knows no system calls: it drives a [`Kernel`], so that it can run on a host against
//! a model of one. It uses no heap; memory use does not depend on the size of the system.
//!
//! It never decides anything about rights, slots or order: those are in the specification, which is
//! what was reviewed. It chooses only which untyped memory an object comes from, by the rule that
//! the tool simulated ([`partita_capdl::untyped`]).
#![no_std]
#![forbid(unsafe_code)]

mod execute;
mod kernel;

pub use execute::{Failure, Reason, execute, finish};
pub use kernel::{Destination, Kernel, ThreadSpaces};
