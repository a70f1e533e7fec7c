// SPDX-License-Identifier: BSD-2-Clause
//! The hash page table server of one guest (`partita-hpt`): H_ENTER and its family, and storage
//! faults, which come straight from the guest.
//!
//! What the system description sets: `partita_guest_protocol::symbol`. Calls:
//! `partita_guest_protocol::hpt`. It calls `memslots`.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod adapter;

#[cfg(target_arch = "powerpc64")]
mod pd;

#[cfg(target_arch = "powerpc64")]
#[sel4_microkit::protection_domain]
fn init() -> pd::HandlerImpl {
    pd::HandlerImpl::new()
}
