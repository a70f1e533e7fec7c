// SPDX-License-Identifier: BSD-2-Clause
//! The memory slot server of one guest (`partita-memslots`): it owns the guest's memory and its
//! GSpace, and publishes the slot table.
//!
//! What the system description sets: `partita_guest_protocol::symbol`. Calls:
//! `partita_guest_protocol::memslots`. This protection domain calls nobody and waits for nobody.
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
