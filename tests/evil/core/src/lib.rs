// SPDX-License-Identifier: BSD-2-Clause
//! For protection domains that take the place of `hpt`, `memslots`, `vpa` or `vcpu` with exactly its
//! capabilities and use them against everybody else: random invocations of every capability, random
//! answers, random messages.
//!
//! Such a program has the handler of the real one inside and serves the guest with it, so that the guest
//! goes on to call; behind each event comes a burst of calls of its own, and some answers are lies. It
//! has two parts ([`Attack`]): in the first it leaves out what would end the guest, so that the guest
//! keeps calling; the second leaves out the machine's power switch and what would end the attacker itself.
//!
//! The kernel must live, and a bystander must not notice anything (DESIGN sections 4 and 8).
#![cfg_attr(target_os = "none", no_std)]

mod attack;
mod handler;
mod holding;
mod random_call;
mod report;

pub use attack::{Attack, Event, GENTLE, Stage, TARGET};
pub use handler::Evil;
pub use holding::{Holding, Kind, Place, target};
pub use random_call::{Call, Way};
pub use report::{Figures, OFFSET, Report, Reports, Slot};

/// Where the attack of the first instance starts; that of the next starts at the next number.
pub const SEED: u64 = 0x5eed_0f0e_e117_0001;
