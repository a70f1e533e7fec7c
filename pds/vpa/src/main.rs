// SPDX-License-Identifier: BSD-2-Clause
//! Per-vCPU areas of a guest: `partita-vpa` over the kernel and shared memory.
//!
//! Hypercalls and `Entry` exits come by routes (`partita_guest_protocol::channel::ROUTE`), calls of
//! `vcpu` and `control` as in `partita_guest_protocol::vpa`. Symbols and slots: see
//! `partita_guest_protocol::symbol`.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod calls;
#[cfg(target_arch = "powerpc64")]
mod kernel;
#[cfg(target_arch = "powerpc64")]
mod memory;

#[cfg(target_arch = "powerpc64")]
mod pd;

#[cfg(target_arch = "powerpc64")]
#[sel4_microkit::protection_domain]
fn init() -> pd::HandlerImpl {
    pd::HandlerImpl::new()
}
