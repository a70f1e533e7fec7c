// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `control`: it manages a running guest through the calls that `control` has, and checks
//! what comes of it. Checks name the requirement.
//!
//! Where slots can lie behind the guest's memory (`max_memory`) it makes some come and go under the running guest.
//! With the dirty log mapped (`dirty_log`) it goes through everything, for which the guest is Linux; with the
//! chain heads mapped (`rmap`) it takes the guest's memory away; without either it
//! only pauses, kicks and resumes the guest, as fast as it can.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod calls;
#[cfg(target_arch = "powerpc64")]
mod running;
#[cfg(target_arch = "powerpc64")]
mod script;

#[cfg(target_arch = "powerpc64")]
mod pd {
    use crate::running::running;
    use crate::script::{self, Out};
    use core::fmt::Write;
    use core::sync::atomic::AtomicU64;
    use partita_guest_protocol::dirty::DirtyLog;
    use partita_guest_protocol::{channel, layout};
    use partita_serial::{Client, Console};
    use sel4_microkit::{Channel, NullHandler, memory_region_symbol, protection_domain, var};
    use sel4_shared_memory::SharedMemoryRef;

    #[protection_domain]
    fn init() -> NullHandler {
        let console = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server shares;
        // both access it with volatile and atomic accesses only.
        let console = unsafe { SharedMemoryRef::new(console) };
        let mut client = Client::new(console, || Channel::new(channel::SERIAL).notify());
        // Without its console nobody hears it, and the test fails.
        let mut out: Out<'_> = &mut |line| {
            let _ = writeln!(client, "control: {line}");
        };
        let memory = *var!(guest_memory: u64 = 0);
        let log = *var!(dirty_log: usize = 0);
        let result = if *var!(max_memory: u64 = 0) > memory {
            running(memory, &mut out)
        } else if *var!(rmap: usize = 0) != 0 {
            script::poison(&mut out)
        } else if log == 0 {
            script::pauses(*var!(core: u64 = 0), &mut out)
        } else {
            let words = (layout::dirty_log_bytes(memory) / 8) as usize;
            let first = core::ptr::with_exposed_provenance::<AtomicU64>(log);
            // SAFETY: the system description maps a region of this size there, which everybody accesses
            // with atomic operations.
            let log = unsafe { core::slice::from_raw_parts(first, words) };
            script::everything(memory, DirtyLog::new(log), words, &mut out)
        };
        match result {
            Ok(()) => out(format_args!("done")),
            Err(wrong) => out(format_args!("{wrong}: WRONG")),
        }
        NullHandler::new()
    }
}
