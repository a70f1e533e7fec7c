// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: enters and removes entries of its hash page table for ever, and checks each answer. A call
//! that took effect twice would find its own first effect: an H_ENTER a full place, an H_REMOVE an empty
//! one. One that took none would leave the opposite behind. Now and then it sleeps with no end of its
//! own: somebody must kick it.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
guest_support::guest_program!(program::main);

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::Guest;
    use guest_support::console::line;
    use guest_support::hypercall::hypercall;
    use guest_support::machine::{mtspr, spr};
    use guest_support::memory::{write_be32, write_byte};
    use guest_support::papr::hcall::number::{H_CEDE, H_ENTER, H_REGISTER_VPA, H_REMOVE};
    use guest_support::papr::hcall::status::{H_NOT_FOUND, H_PTEG_FULL, H_SUCCESS};

    /// H_ENTER: this entry and no other (SPEC 2.2).
    const EXACT: u64 = 1 << 39;
    /// Rounds between two lines, and between two sleeps.
    const LINE: u64 = 4000;
    const SLEEP: u64 = 1000;

    /// VPA and SLB shadow, so that dispatches are counted and told.
    fn register(guest: &Guest) {
        let vpa = guest.free[0] + 0x1_0000;
        let slb = vpa + 0x1000;
        write_be32(vpa + 4, 640 << 16);
        write_byte(vpa + 0xb8, 7);
        write_be32(slb + 4, 128);
        for (function, area) in [(1, vpa), (3, slb)] {
            let status = hypercall(H_REGISTER_VPA, [function << 45, 0, area]).status;
            if status != H_SUCCESS {
                line(format_args!("steady: no area {function}: {status}: WRONG"));
            }
        }
    }

    pub fn main(guest: &'static Guest) -> ! {
        register(guest);
        let entries = guest.hpt.entries();
        for round in 0u64.. {
            // Neither of the groups that entries of the virtual real mode area can be in: the last and
            // the first of the table, as many as there are pages of memory.
            let pages = guest.memory >> 16;
            let groups = entries / 8 - 2 * pages;
            let group = pages + round.wrapping_mul(0x9e37_79b9) % groups;
            let ptex = group * 8 + round % 8;
            let v = (round & 0xff_ffff) << 12 | 1;
            let r = guest.free[0] | 0x190 | 2;
            let first = hypercall(H_ENTER, [EXACT, ptex, v, r]);
            let again = hypercall(H_ENTER, [EXACT, ptex, v, r]);
            let removed = hypercall(H_REMOVE, [0, ptex, 0]);
            let gone = hypercall(H_REMOVE, [0, ptex, 0]);
            let status = [first.status, again.status, removed.status, gone.status];
            let right = [H_SUCCESS, H_PTEG_FULL, H_SUCCESS, H_NOT_FOUND];
            let same = removed.words[0] == v && removed.words[1] & !0x180 == r & !0x180;
            if status != right || first.words[0] != ptex || !same {
                line(format_args!(
                    "steady: WRONG in round {round}: {status:?}, {:x?}, {:x?}",
                    first.words[0], removed.words
                ));
                guest_support::runner::end()
            }
            if round % SLEEP == SLEEP - 1 {
                mtspr::<{ spr::DEC }>(i32::MAX as u64);
                hypercall(H_CEDE, []);
            }
            if round % LINE == LINE - 1 {
                line(format_args!("steady: {} rounds, each call once", round + 1));
            }
        }
        guest_support::runner::end()
    }
}
