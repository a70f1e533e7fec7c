// SPDX-License-Identifier: BSD-2-Clause
//! Driver of the LPC serial port with several clients (`partita-serial`).
//!
//! What the system description sets: `uart_vaddr` (where the port's page is mapped), `uart_irq`
//! (identifier of its interrupt), and for client n `console_n` (where its region is mapped), `client_n`
//! (identifier of the channel to it) and `name_n` (its name, a guest's). A client is a terminal if it has
//! `backlog_n` (where a region of this program's own is mapped) and `backlog_size_n` (its bytes).
//!
//! This protection domain calls nobody and waits for nobody.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd;

#[cfg(target_arch = "powerpc64")]
#[sel4_microkit::protection_domain]
fn init() -> pd::HandlerImpl {
    pd::HandlerImpl::new()
}
