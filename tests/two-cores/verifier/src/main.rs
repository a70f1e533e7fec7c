// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `control`: it has `hpt` verify its table (I1 to I7) again and again, beside a guest that
//! works on it. The totals can differ while the guest does; everything else never may. After each pass in which
//! they agree it says so, but not more often than once in [`QUIET`].
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::fmt::{self, Write};
    use partita_guest_protocol::{answer, channel, hpt};
    use partita_serial::{Client, Console};
    use sel4_microkit::{
        Channel, MessageInfo, NullHandler, memory_region_symbol, protection_domain,
    };
    use sel4_shared_memory::SharedMemoryRef;

    /// Ticks between two lines: 2 s.
    const QUIET: u64 = 2 * sel4::TIMEBASE_HZ;

    /// The end of a pass.
    enum Pass {
        /// Valid entries; everything is right.
        Right(u64),
        /// Something was counted while it changed.
        Moved,
        /// What does not hold, as `hpt` says it.
        Wrong([u64; 4]),
    }

    fn pass() -> Pass {
        let mut words = [0; 5];
        loop {
            let info = MessageInfo::new(hpt::VERIFY, words.len());
            let (info, got) = Channel::new(channel::HPT).pp_call_mrs(info, words);
            words.copy_from_slice(&got[..5]);
            match info.label() {
                answer::OK if got[5] == hpt::DONE => return Pass::Right(words[1]),
                answer::OK => {}
                hpt::VIOLATION
                    if words[0] == hpt::Violation::Count as u64
                        || words[0] == hpt::Violation::FaultMode as u64 =>
                {
                    return Pass::Moved;
                }
                label => return Pass::Wrong([label, words[0], words[1], words[2]]),
            }
        }
    }

    #[protection_domain]
    fn init() -> NullHandler {
        let console = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server shares;
        // both access it with volatile and atomic accesses only.
        let console = unsafe { SharedMemoryRef::new(console) };
        let mut client = Client::new(console, || Channel::new(channel::SERIAL).notify());
        let mut line = |line: fmt::Arguments<'_>| {
            // Without its console nobody hears it, and the test fails.
            let _ = writeln!(client, "verifier: {line}");
        };
        let (mut passes, mut moved, mut shown) = (0, 0, 0);
        loop {
            match pass() {
                Pass::Right(valid) => {
                    passes += 1;
                    let now = sel4::arch::timebase();
                    if now - shown > QUIET {
                        shown = now;
                        line(format_args!(
                            "pass {passes}: everything is right, {valid} valid entries; {moved} passes while it changed"
                        ));
                    }
                }
                Pass::Moved => moved += 1,
                Pass::Wrong(words) => {
                    line(format_args!("WRONG: {words:x?}"));
                    return NullHandler::new();
                }
            }
        }
    }
}
