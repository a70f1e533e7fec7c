// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: two vCPUs watch their timebase while somebody outside moves it forward, twenty times by 2^40 ticks (SPEC 5.3,
//! 5.5, 6 row 33).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

guest_support::guest_cases!("guest-clock", program::CASES);

#[cfg(target_arch = "powerpc64")]
mod program {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use guest_support::hypercall::hypercall;
    use guest_support::machine::{mtspr, sleep, spr, timebase};
    use guest_support::papr::hcall::number::*;
    use guest_support::papr::hcall::status::H_SUCCESS;
    use guest_support::{Case, Guest, Outcome, check, check_eq, fail, println, trap};

    pub const CASES: &[Case] = &[
        Case {
            name: "5.3 the timebase jumps as far as it is moved",
            body: watch,
        },
        Case {
            name: "5.3 it is one on all vCPUs, and never goes back",
            body: forward,
        },
        Case {
            name: "2.6 H_XIRR_X answers it",
            body: answered,
        },
        Case {
            name: "5.5 who sleeps wakes, not before its time",
            body: woken,
        },
    ];

    const VCPUS: u64 = 2;
    /// As the one outside knows them.
    const JUMPS: u64 = 20;
    const JUMP: u64 = 1 << 40;
    const NAP: u64 = 100_000;

    static BEGIN: AtomicU64 = AtomicU64::new(0);
    static LATEST: AtomicU64 = AtomicU64::new(0);
    static BACKWARDS: AtomicU64 = AtomicU64::new(0);
    static TURNS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static ASKED: AtomicU64 = AtomicU64::new(0);
    static ANSWERED_WRONG: AtomicU64 = AtomicU64::new(0);
    static NAPS: AtomicU64 = AtomicU64::new(0);
    static EARLY: AtomicU64 = AtomicU64::new(0);
    static DONE: AtomicU64 = AtomicU64::new(0);

    /// A look at the time, which nobody may have seen later.
    fn look() -> u64 {
        let latest = LATEST.load(SeqCst);
        let now = timebase();
        if now < latest {
            BACKWARDS.fetch_add(1, SeqCst);
        }
        LATEST.fetch_max(now, SeqCst);
        now
    }

    fn until_the_last_jump(vcpu: usize) {
        let end = BEGIN.load(SeqCst) + JUMPS * JUMP;
        while look() < end {
            let turn = TURNS[vcpu].fetch_add(1, SeqCst);
            if turn.is_multiple_of(64) {
                let before = look();
                let told = hypercall(H_XIRR_X, [0]).words[1];
                ASKED.fetch_add(1, SeqCst);
                if !(before..=look()).contains(&told) {
                    ANSWERED_WRONG.fetch_add(1, SeqCst);
                }
            }
            if turn.is_multiple_of(512) {
                let before = look();
                sleep(NAP as u32);
                NAPS.fetch_add(1, SeqCst);
                if look() - before < NAP {
                    EARLY.fetch_add(1, SeqCst);
                }
            }
        }
        DONE.fetch_add(1, SeqCst);
    }

    extern "C" fn another(vcpu: u64) -> ! {
        trap::use_area(vcpu as usize);
        mtspr::<{ spr::DEC }>(i32::MAX as u64);
        hypercall(H_CPPR, [0xff]);
        until_the_last_jump(vcpu as usize);
        loop {
            hypercall(H_CEDE, []);
        }
    }

    fn watch(guest: &'static Guest) -> Outcome {
        check_eq!(guest.vcpus as u64, VCPUS);
        BEGIN.store(timebase(), SeqCst);
        check_eq!(guest.start_vcpu(1, another, 1), H_SUCCESS as i32);
        until_the_last_jump(0);
        while DONE.load(SeqCst) < VCPUS {
            hypercall(H_CONFER, [u64::MAX, 0]);
        }
        let [a, b] = [0, 1].map(|vcpu: usize| TURNS[vcpu].load(SeqCst));
        let naps = NAPS.load(SeqCst);
        println!("clock: {a} and {b} turns, {naps} naps");
        check!(a > 0 && b > 0);
        // And not further.
        if timebase() - BEGIN.load(SeqCst) > (JUMPS + 1) * JUMP {
            fail!("{:#x} ticks", timebase() - BEGIN.load(SeqCst));
        }
        Ok(())
    }

    fn forward(_: &'static Guest) -> Outcome {
        check_eq!(BACKWARDS.load(SeqCst), 0);
        Ok(())
    }

    fn answered(_: &'static Guest) -> Outcome {
        check!(ASKED.load(SeqCst) > 0);
        check_eq!(ANSWERED_WRONG.load(SeqCst), 0);
        Ok(())
    }

    fn woken(_: &'static Guest) -> Outcome {
        check!(NAPS.load(SeqCst) > 0);
        check_eq!(EARLY.load(SeqCst), 0);
        Ok(())
    }
}
