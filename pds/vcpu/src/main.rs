// SPDX-License-Identifier: BSD-2-Clause
//! The platform of one guest: `partita-vcpu` over the kernel, `memslots`, `hpt`, `vpa` and `serial`.
//!
//! At the start it loads the guest and starts vCPU 0; then it answers hypercalls and exits. Symbols
//! and slots: see `partita_guest_protocol::symbol`.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
extern crate alloc;

#[cfg(target_arch = "powerpc64")]
mod boot;
#[cfg(target_arch = "powerpc64")]
mod machine;
#[cfg(target_arch = "powerpc64")]
mod memory;
#[cfg(target_arch = "powerpc64")]
mod pd;
#[cfg(target_arch = "powerpc64")]
mod regions;
#[cfg(target_arch = "powerpc64")]
mod reply;
#[cfg(target_arch = "powerpc64")]
mod servers;

#[cfg(target_arch = "powerpc64")]
#[sel4_microkit::protection_domain(heap_size = pd::TREE_HEAP)]
fn init() -> impl sel4_microkit::Handler {
    pd::start()
}
