// SPDX-License-Identifier: BSD-2-Clause
//! PAPR and the ISA as far as both the kernel and the servers of a guest need them: hypercall
//! numbers, hash page table entries, hashing, the layouts of the per-vCPU areas.
//!
//! Everything here is a pure function of its arguments: no state, no allocation, no panic for any
//! input. Numbers that come from a guest become checked types ([`Ptex`], [`GuestReal`], [`Gfn`],
//! [`HptOrder`], [`Lpid`]) before anything is computed from them.
#![no_std]
#![forbid(unsafe_code)]

pub mod areas;
pub mod hash;
pub mod hcall;
pub mod hpte;
pub mod onereg;
mod page_size;
pub mod pate;
pub mod protection;
pub mod tlbie;
mod types;

pub use page_size::PageSize;
pub use types::{Gfn, GuestReal, HptOrder, Lpid, PAGE_SHIFT, Ptex};

#[cfg(test)]
mod vectors;
