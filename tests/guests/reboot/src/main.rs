// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: restarts (SPEC S1.11, 6 rows 14 and 40). Before each the program leaves as much behind as it
//! can; after each nothing of it may be found but the contents of memory that the loader does not
//! write.
//!
//! It restarts itself (RTAS system-reboot) ten times, or as often as `restarts=` on the command line says. With
//! `by=outside` somebody else resets it at any time, until five seconds pass without that.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod program {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use guest_support::hypercall::hypercall;
    use guest_support::low::{ENTRY, ENTRY_WORDS};
    use guest_support::machine::{execute, mfmsr, mfspr, msr, mtmsrd, sleep};
    use guest_support::memory::{fill, is_filled, read, write, write_be32};
    use guest_support::mmu::{map_identity, segment, with_translation};
    use guest_support::papr::PageSize;
    use guest_support::papr::hash::{SLB_ESID_V, is_vrma};
    use guest_support::papr::hcall::number::*;
    use guest_support::papr::hcall::{flags, status::*};
    use guest_support::registers::{Registers, run, vectors};
    use guest_support::{Case, Guest, Outcome, check, check_eq, fail, println, rtas, runner};

    guest_support::guest_program!(main);

    /// Restarts, if the command line does not say how many.
    const RESTARTS: u64 = 10;
    /// Complete rounds that there must have been when the resets from outside end.
    const LEAST: u64 = 1;
    /// How long it waits for a reset, ticks.
    const PATIENCE: u64 = 5 * 512_000_000;
    /// Says that the count behind it is ours.
    const MAGIC: u64 = 0x7265_7374_6172_7421;

    const CASES: &[Case] = &[
        Case {
            name: "P4.1 registers at the entry: r3 is the device tree, all else is clean",
            body: registers,
        },
        Case {
            name: "6 row 40: the image is fresh",
            body: image,
        },
        Case {
            name: "6 row 14: the table holds the virtual real mode area and nothing else",
            body: table,
        },
        Case {
            name: "S1.11 areas of before are not written any more",
            body: areas,
        },
        Case {
            name: "2.6 the presenter is as after power-on",
            body: presenter,
        },
        Case {
            name: "P4.2 interrupts arrive with translation off",
            body: modes,
        },
        Case {
            name: "4.4 the other vCPU is stopped",
            body: other_vcpu,
        },
    ];

    /// Loaded data, and zeroed data: what they were is changed before each restart.
    static LOADED: AtomicU64 = AtomicU64::new(0x1122_3344_5566_7788);
    static ZEROED: AtomicU64 = AtomicU64::new(0);

    /// Free memory that restarts keep: magic number and count.
    fn count_place(guest: &Guest) -> u64 {
        guest.free[0] + 0x10_0000
    }

    /// Where the areas are; behind them a page that nobody names.
    fn areas_place(guest: &Guest) -> u64 {
        guest.free[0] + 0x2_0000
    }

    fn main(guest: &'static Guest) -> ! {
        runner::begin("guest-reboot");
        let place = count_place(guest);
        let first = read(place) != MAGIC;
        let count = if first { 0 } else { read(place + 8) };
        println!("reboot: start {count}");
        let outside = guest.argument("by") == Some("outside");
        let enough = match outside {
            true => !first && read(place + 16) == MAGIC,
            false => count == guest.number("restarts").unwrap_or(RESTARTS),
        };
        if enough {
            guest_support::run("guest-reboot", guest, &[CASES]);
        }
        // On the way only what fails is a result.
        for case in CASES {
            if first && case.name.starts_with("S1.11") {
                continue;
            }
            if let Err(why) = (case.body)(guest) {
                runner::abort(format_args!("start {count}: {}: {why}", case.name));
            }
        }
        write(place, MAGIC);
        write(place + 8, count + 1);
        if let Err(why) = leave_traces(guest) {
            runner::abort(format_args!("start {count}: {why}"));
        }
        if outside {
            work(guest);
            if count < LEAST {
                runner::abort(format_args!("only {count} complete rounds"));
            }
            write(place + 16, MAGIC);
        }
        let token = guest.token("system-reboot").unwrap_or(0);
        let status = rtas::call(token, &[], 1);
        runner::abort(format_args!("system-reboot answers {status}"))
    }

    fn registers(guest: &'static Guest) -> Outcome {
        let mut found = [0; ENTRY_WORDS];
        for (i, word) in found.iter_mut().enumerate() {
            *word = read(ENTRY as u64 + 8 * i as u64);
        }
        check_eq!(found[3], guest.tree_address);
        found[3] = 0;
        for (i, word) in found.into_iter().enumerate() {
            if word != 0 {
                fail!("word {i} of the entry state is {word:#x}");
            }
        }
        // No case before this one uses floating point: those registers are as they were.
        check!(vectors().iter().all(|half| *half == 0));
        for index in 0..32 {
            // slbmfee r3, r4
            let entry = execute(&[0x7c60_2726], [0, index, 0, 0]);
            check_eq!((entry.trap, entry.gpr[0] & SLB_ESID_V), (None, 0));
        }
        Ok(())
    }

    fn image(_: &'static Guest) -> Outcome {
        check_eq!(LOADED.load(SeqCst), 0x1122_3344_5566_7788);
        check_eq!(ZEROED.load(SeqCst), 0);
        Ok(())
    }

    fn table(guest: &'static Guest) -> Outcome {
        let mut own = 0;
        for index in (0..guest.hpt.entries()).step_by(4) {
            let words = hypercall(H_READ, [flags::READ_4, index]).words;
            for pair in words.as_chunks::<2>().0 {
                match pair[0] {
                    0 => {}
                    v if is_vrma(v) => own += 1,
                    v => fail!("entry {v:#x} near {index:#x}"),
                }
            }
        }
        check!(own > 0);
        Ok(())
    }

    fn areas(guest: &'static Guest) -> Outcome {
        let place = areas_place(guest);
        fill(place, 0x4000, 77);
        for _ in 0..5 {
            sleep(100_000);
        }
        check!(is_filled(place, 0x4000, 77));
        Ok(())
    }

    fn presenter(_: &'static Guest) -> Outcome {
        // The program's start has opened the bar; there is no request and nothing is pending.
        let words = hypercall(H_IPOLL, [0]).words;
        check_eq!([words[0], words[1]], [0xff00_0000, 0xff]);
        Ok(())
    }

    fn modes(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        let trap = with_translation(&[0x4400_0002], [0; 4]);
        check_eq!(trap.map(|t| t.msr & (msr::IR | msr::DR)), Some(0));
        check!(guest_support::mmu::clear_table());
        Ok(())
    }

    fn other_vcpu(guest: &'static Guest) -> Outcome {
        let query = guest.token("query-cpu-stopped-state").unwrap_or(0);
        check_eq!(rtas::service(query, &[1]), (0, [0, 0]));
        Ok(())
    }

    static SPINS: AtomicU64 = AtomicU64::new(0);

    /// The other vCPU: it has calls of all kinds in flight when the end comes.
    extern "C" fn spin(_: u64) -> ! {
        loop {
            SPINS.fetch_add(1, SeqCst);
            hypercall(H_READ, [0, 0]);
            hypercall(H_IPI, [0, 0xff]);
            hypercall(H_REGISTER_VPA, [2 << 45, 1, 0]);
            let _ = hypercall(H_PROD, [1]);
            hypercall(H_CEDE, []);
        }
    }

    /// Entries come and go until the reset does.
    fn work(guest: &'static Guest) {
        let page = segment(0xd000_0000_0000_0000, 0x7007, PageSize::Size64K);
        let from = guest_support::machine::timebase();
        while guest_support::machine::timebase() - from < PATIENCE {
            let answer = page.enter(guest, page.base, 0, PageSize::Size64K, 0);
            if answer.status == H_SUCCESS {
                hypercall(H_REMOVE, [0, answer.words[0]]);
            }
        }
    }

    /// Changes everything that can be changed.
    fn leave_traces(guest: &'static Guest) -> Outcome {
        LOADED.store(0, SeqCst);
        ZEROED.store(u64::MAX, SeqCst);
        // Entries, translation of interrupts.
        check!(map_identity(guest, guest.free[0]));
        let high = segment(0xc000_0000_0000_0000, 0x6006, PageSize::Size64K);
        high.load(2);
        let answer = high.enter(guest, high.base, 0, PageSize::Size64K, 0);
        check_eq!(answer.status, H_SUCCESS);
        check_eq!(hypercall(H_SET_MODE, [3, 3]).status, H_SUCCESS);
        // Areas of both vCPUs.
        let place = areas_place(guest);
        fill(place, 0x4000, 1);
        for vcpu in 0..2 {
            let vpa = place + 0x2000 * vcpu;
            write_be32(vpa + 4, 640 << 16);
            write_be32(vpa + 0x1004, 48 * 8);
            write_be32(vpa + 0x804, 128);
            for (function, area) in [(1, vpa), (2, vpa + 0x1000), (3, vpa + 0x800)] {
                let answer = hypercall(H_REGISTER_VPA, [function << 45, vcpu, area]);
                check_eq!(answer.status, H_SUCCESS);
            }
        }
        // The other vCPU runs, an interrupt waits.
        check_eq!(guest.start_vcpu(1, spin, 0), 0);
        let from = guest_support::machine::timebase();
        while SPINS.load(SeqCst) == 0 {
            check!(guest_support::machine::timebase() - from < 512_000_000);
            hypercall(H_CONFER, [u64::MAX, 0]);
        }
        check_eq!(hypercall(H_CPPR, [3]).status, H_SUCCESS);
        check_eq!(hypercall(H_IPI, [0, 4]).status, H_SUCCESS);
        // Registers of every kind.
        let mut all = Registers::ZERO;
        all.gpr = core::array::from_fn(|i| 0xbad0_0000 + i as u64);
        all.vsr = [[0xbad0_bad0; 2]; 64];
        all.fpscr = 3;
        all.vscr = 1;
        for value in &mut all.spr[..3] {
            *value = 0xbad0_1000;
        }
        all.spr[3] = mfspr::<275>();
        all.spr[13] = mfspr::<153>();
        let _ = run(&all, &[]);
        let _ = execute(&[0x6000_0000], [0xbad0_2000; 4]);
        check_eq!(mfmsr() & msr::EE, 0);
        // SAFETY: nothing changes.
        unsafe { mtmsrd(mfmsr()) };
        Ok(())
    }
}
