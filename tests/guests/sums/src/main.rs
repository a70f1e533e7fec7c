// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: a guest that must not notice what becomes of others. For ever, it sums over its memory, by
//! its real address and through an entry of its table, enters and removes an entry, and sleeps; then all is
//! as ever, or it says that it is WRONG.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
guest_support::guest_program!(program::main);

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::hypercall::hypercall;
    use guest_support::machine::{sleep, timebase};
    use guest_support::memory::{fill, is_filled};
    use guest_support::mmu::{map_identity, segment, translated};
    use guest_support::papr::PageSize;
    use guest_support::papr::hcall::flags;
    use guest_support::papr::hcall::number::{H_READ, H_REMOVE};
    use guest_support::papr::hcall::status::H_SUCCESS;
    use guest_support::papr::hpte::{C, R};
    use guest_support::{Guest, Outcome, check, check_eq, println, runner};

    /// Memory that is summed, bytes.
    const BYTES: u64 = 0x10_0000;
    /// Where it is mapped.
    const EA: u64 = 6 << 40;
    /// Ticks between two sums: 10 ms.
    const PAUSE: u32 = 5_120_000;
    /// Ticks between two lines: 2 s.
    const LINE: u64 = 1_024_000_000;

    pub fn main(guest: &'static Guest) -> ! {
        runner::begin("guest-sums");
        let seed = timebase();
        match sums(guest, seed) {
            Ok(()) => println!("sums: WRONG: an endless loop has ended"),
            Err(why) => println!("sums: WRONG: seed {seed:#x}: {why}"),
        }
        loop {
            sleep(PAUSE);
        }
    }

    fn sums(guest: &'static Guest, seed: u64) -> Outcome {
        let memory = guest.free[0];
        let size = PageSize::Size64K;
        check!(map_identity(guest, memory));
        let map = segment(EA, 0x7abc, size);
        map.load(1);
        for offset in (0..BYTES).step_by(0x1_0000) {
            let answer = map.enter(guest, EA + offset, memory + offset, size, R | C | 2);
            check_eq!(answer.status, H_SUCCESS);
        }
        fill(memory, BYTES, seed);
        let (other, mut shown) = (memory + BYTES, timebase());
        for round in 1u64.. {
            check!(is_filled(memory, BYTES, seed));
            check!(translated(|| is_filled(EA, BYTES, seed)));
            let ea = EA + BYTES + (round & 0xff) * 0x1_0000;
            let (v, r) = map.entry(ea, other, size, 2);
            let answer = map.enter(guest, ea, other, size, 2);
            check_eq!(answer.status, H_SUCCESS);
            let ptex = answer.words[0];
            let read = hypercall(H_READ, [0, ptex]).words;
            check_eq!((read[0], read[1] & !(R | C)), (v, r));
            let answer = hypercall(H_REMOVE, [flags::AVPN, ptex, v & !0x7f]);
            check_eq!((answer.status, answer.words[0]), (H_SUCCESS, v));
            if timebase() - shown > LINE {
                shown = timebase();
                println!("sums: {round} rounds, all as ever");
            }
            sleep(PAUSE);
        }
        Ok(())
    }
}
