// SPDX-License-Identifier: BSD-2-Clause
//! A PD that does nothing but random system calls, and a supervisor that sees that they harm nobody.
//!
//! * The *fuzz thread* has an address space and a CSpace of its own, filled with one or more
//!   capabilities of every kind. It makes calls from a seeded generator ([`generator`]) and counts
//!   every label and every answer on a page that it shares with the supervisor.
//! * A *bystander* in a third address space computes a checksum over its memory, over and over.
//! * The *supervisor* (the root task) gets the fuzz thread going again when a call has blocked it,
//!   stopped it or taken something from it, refills its CSpace, builds everything anew at intervals,
//!   and checks the bystander, its own memory and its own capabilities.
//!
//! `FUZZ_CALLS` (a number) and `FUZZ_SEED` (a number), set when the suite is built, choose how long
//! and which calls.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(any(target_arch = "powerpc64", test))]
mod generator;
#[cfg(any(target_arch = "powerpc64", test))]
mod layout;
#[cfg(target_arch = "powerpc64")]
mod shared;
#[cfg(target_arch = "powerpc64")]
mod suite;
#[cfg(target_arch = "powerpc64")]
mod threads;
#[cfg(target_arch = "powerpc64")]
mod world;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
