// SPDX-License-Identifier: BSD-2-Clause
//! Reads where nothing is mapped; its parent lets it try again, for ever.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{NullHandler, protection_domain};

    /// An address that no system maps.
    const NOWHERE: usize = 0x3000_0000_0000;

    #[protection_domain]
    fn init() -> NullHandler {
        let at = core::ptr::with_exposed_provenance::<u64>(NOWHERE);
        // SAFETY: the read never completes: the page is not mapped, and the fault is the purpose.
        let _ = unsafe { at.read_volatile() };
        NullHandler::new()
    }
}
