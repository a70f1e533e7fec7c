// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `control`: twenty times it pauses a guest of two vCPUs and moves its timebase forward (SPEC 5.3, 6
//! row 33, KVM_REG_PPC_TB_OFFSET). Its own stays what it is.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::fmt::Write;
    use partita_abi::{microkit, syscall};
    use partita_guest_protocol::{answer, channel, symbol, vcpu};
    use partita_papr::onereg::{TB_OFFSET, VPA_ADDR};
    use partita_serial::{Client, Console};
    use sel4::{TIMEBASE_HZ, cap, cap_type};
    use sel4_microkit::{
        Channel, MessageInfo, NullHandler, cspace_cap, memory_region_symbol, protection_domain,
    };
    use sel4_shared_memory::SharedMemoryRef;

    const TIMER: cap::Timer = cspace_cap::<cap_type::Timer>(symbol::TIMER_SLOT);
    const VCPUS: u64 = 2;
    /// As guest-clock knows them.
    const JUMPS: u64 = 20;
    const JUMP: u64 = 1 << 40;
    /// Offsets are multiples of this.
    const UNIT: u64 = 1 << 24;
    const MILLISECOND: u64 = TIMEBASE_HZ / 1000;
    /// Longer than all of it takes; less than a jump.
    const LONG: u64 = 1000 * TIMEBASE_HZ;

    #[protection_domain]
    fn init() -> NullHandler {
        let console = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server shares;
        // both access it with volatile and atomic accesses only.
        let console = unsafe { SharedMemoryRef::new(console) };
        let mut client = Client::new(console, || Channel::new(channel::SERIAL).notify());
        // If all is well the guest says so, which waits for the last jump.
        if let Err((what, value)) = jumps() {
            let _ = writeln!(client, "clockmaker: {what}: {value:#x}: WRONG");
        }
        NullHandler::new()
    }

    fn jumps() -> Result<(), (&'static str, u64)> {
        let from = sel4::arch::timebase();
        // Both are on their way.
        for number in 0..VCPUS {
            while call(vcpu::TIMES, [number, 0]).1[1] < 5 {
                sleep(20);
            }
        }
        for jump in 1..=JUMPS {
            sleep(30);
            for number in 0..VCPUS {
                while call(vcpu::PAUSE, [number, 0]).1[0] != vcpu::PAUSED {
                    sleep(1);
                }
            }
            let offset = jump * JUMP;
            let (label, words) = call(vcpu::SET_REGISTER, [TB_OFFSET, offset + 1]);
            if label != answer::OK || words[0] != offset + UNIT {
                return Err(("set", words[0]));
            }
            let (label, words) = call(vcpu::GET_REGISTER, [TB_OFFSET, 0]);
            if label != answer::OK || words[0] != offset + UNIT {
                return Err(("get", words[0]));
            }
            if call(vcpu::GET_REGISTER, [VPA_ADDR, 0]).0 != answer::INVALID {
                return Err(("a register of a vCPU", jump));
            }
            for number in 0..VCPUS {
                call(vcpu::RESUME, [number, 0]);
            }
            let elapsed = sel4::arch::timebase() - from;
            if elapsed > LONG {
                return Err(("our own time", elapsed));
            }
        }
        Ok(())
    }

    fn call(label: u64, words: [u64; 2]) -> (u64, [u64; 8]) {
        let (info, answer) =
            Channel::new(channel::VCPU).pp_call_mrs(MessageInfo::new(label, 2), words);
        (info.label(), answer)
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
