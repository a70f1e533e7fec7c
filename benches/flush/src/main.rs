// SPDX-License-Identifier: BSD-2-Clause
//! For the benchmark of a guest: its priority is below the guest's, so it runs when the guest first
//! sleeps. It then makes the entries of one page ABSENT, and from there on faults are intercepted.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use partita_guest_protocol::hpt::{DONE, FLUSH, MORE};
    use sel4_microkit::{Channel, MessageInfo, NullHandler, protection_domain};

    const HPT: Channel = Channel::new(1);
    /// The page that the guest maps for this purpose: `FLUSHED` in bench-guest.
    const PAGE: u64 = (96 << 20) >> 12;

    #[protection_domain]
    fn init() -> NullHandler {
        let mut next = PAGE;
        loop {
            let (info, words) = HPT.pp_call_mrs(MessageInfo::new(FLUSH, 2), [next, PAGE + 1]);
            if info.label() != DONE || words[1] != MORE {
                // The guest notices if it did not help.
                break NullHandler::new();
            }
            next = words[0];
        }
    }
}
