// SPDX-License-Identifier: BSD-2-Clause
//! What every test program has, whether it is a root task (`testkit`) or a guest (`guest-support`): checks that report
//! instead of panicking, and numbers that a seed determines.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

mod check;
mod random;

pub use check::{Failure, Outcome};
pub use random::Random;
