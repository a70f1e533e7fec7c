// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `control`: it resets a running guest fifty times, whatever that is doing (SPEC S1.10, S1.11, 6
//! rows 14 and 40). The first few times it lets the guest come to rest before.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::fmt::Write;
    use partita_abi::{microkit, syscall};
    use partita_guest_protocol::{answer, channel, symbol, vcpu};
    use partita_serial::{Client, Console};
    use sel4::{TIMEBASE_HZ, cap, cap_type};
    use sel4_microkit::{
        Channel, MessageInfo, NullHandler, cspace_cap, memory_region_symbol, protection_domain,
    };
    use sel4_shared_memory::SharedMemoryRef;

    const TIMER: cap::Timer = cspace_cap::<cap_type::Timer>(symbol::TIMER_SLOT);
    const RESETS: u64 = 50;
    /// How many of them wait for a guest that is at rest.
    const PATIENT: u64 = 4;
    const MILLISECOND: u64 = TIMEBASE_HZ / 1000;

    #[protection_domain]
    fn init() -> NullHandler {
        let console = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server shares;
        // both access it with volatile and atomic accesses only.
        let console = unsafe { SharedMemoryRef::new(console) };
        let mut client = Client::new(console, || Channel::new(channel::SERIAL).notify());
        let mut later = 0;
        let mut chance = 1u64;
        for number in 0..RESETS {
            sleep(if number < PATIENT {
                2000
            } else {
                chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                // Mostly soon, sometimes when it has got further.
                (chance >> 33) % 10 * ((chance >> 40) % 30) + 1
            });
            let (info, [done, ..]) =
                Channel::new(channel::VCPU).pp_call_mrs(MessageInfo::new(vcpu::RESET, 0), [0; 0]);
            if info.label() != answer::OK {
                let _ = writeln!(
                    client,
                    "resetter: {number}: answer {:#x}: WRONG",
                    info.label()
                );
                return NullHandler::new();
            }
            later += u64::from(done == vcpu::NOT_YET);
        }
        // Without its console nobody hears it, and the test fails.
        let _ = writeln!(
            client,
            "resetter: {RESETS} resets, {later} waited for a call's end"
        );
        NullHandler::new()
    }

    fn sleep(milliseconds: u64) {
        let deadline = sel4::arch::timebase() + milliseconds * MILLISECOND;
        while sel4::arch::timebase() < deadline {
            // Its own timer: the kernel has no reason to refuse.
            let _ = TIMER.timer_set(deadline);
            sel4::arch::recv(
                syscall::RECV,
                microkit::INPUT_SLOT as u64,
                microkit::REPLY_SLOT as u64,
            );
        }
    }
}
