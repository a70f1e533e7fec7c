// SPDX-License-Identifier: BSD-2-Clause
//! A child that tells its parent where it starts, and then reads where nothing is.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::sync::atomic::{AtomicU32, Ordering};
    use sel4_microkit::{Channel, MessageInfo, NullHandler, debug_println, protection_domain, var};

    /// Data stay as they are over a restart.
    static STARTS: AtomicU32 = AtomicU32::new(0);

    unsafe extern "C" {
        fn _start();
    }

    #[protection_domain]
    fn init() -> NullHandler {
        let starts = STARTS.fetch_add(1, Ordering::Relaxed) + 1;
        debug_println!("hierarchy-child: start {starts}");
        let parent = Channel::new(*var!(parent: usize = 0));
        let entry = _start as *const () as usize;
        parent.pp_call(MessageInfo::new(entry as u64, 0));
        // SAFETY: the address is mapped in no protection domain: the read ends in a fault and
        // nothing is read.
        let value = unsafe { core::ptr::with_exposed_provenance::<u64>(0x10_0000).read_volatile() };
        unreachable!("the read gave {value:#x}")
    }
}
