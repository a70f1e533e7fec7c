// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: four vCPUs that never rest share two cores, vCPUs 0 and 2 one of them, 1 and 3 the other (SPEC 2.4, 3.1).
//! For a second each counts its turns, and looks at its own yield count and at that of the vCPU on its core.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

guest_support::guest_cases!("guest-shares", program::CASES);

#[cfg(target_arch = "powerpc64")]
mod program {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use guest_support::hypercall::hypercall;
    use guest_support::machine::{mtspr, spr, timebase};
    use guest_support::memory::{fill, read_be32, read_be64, write_be32};
    use guest_support::papr::hcall::number::*;
    use guest_support::papr::hcall::status::H_SUCCESS;
    use guest_support::{Case, Guest, Outcome, check_eq, fail, println, trap};

    pub const CASES: &[Case] = &[
        Case {
            name: "four vCPUs on two cores are busy for a second",
            body: busy,
        },
        Case {
            name: "2.4 each does 45 to 55 % of the work of its core",
            body: work,
        },
        Case {
            name: "3.1 each is told that the other one had 45 to 55 % of the time",
            body: stolen,
        },
        Case {
            name: "3.1 the yield count of a vCPU that runs is never odd",
            body: own_count,
        },
        Case {
            name: "3.1 that of one without a processor is odd, 99 times of 100 at least",
            body: other_count,
        },
        Case {
            name: "5.3 all read one timebase",
            body: one_timebase,
        },
    ];

    const VCPUS: usize = 4;
    const SECOND: u64 = 512_000_000;
    const MILLISECOND: u64 = SECOND / 1000;

    /// What a vCPU saw.
    struct Seen {
        /// Turns around the loop.
        turns: AtomicU64,
        /// Turns in which its own yield count was odd.
        own_odd: AtomicU64,
        /// Turns in which the other one's was.
        other_odd: AtomicU64,
        /// Ticks that it did not have its processor, as its VPA says.
        stolen: AtomicU64,
        /// Ticks between its first turn and its last.
        elapsed: AtomicU64,
    }

    static SEEN: [Seen; VCPUS] = [const {
        Seen {
            turns: AtomicU64::new(0),
            own_odd: AtomicU64::new(0),
            other_odd: AtomicU64::new(0),
            stolen: AtomicU64::new(0),
            elapsed: AtomicU64::new(0),
        }
    }; VCPUS];
    /// When all begin; 0: not known yet.
    static BEGIN: AtomicU64 = AtomicU64::new(0);
    static READY: AtomicU64 = AtomicU64::new(0);
    static DONE: AtomicU64 = AtomicU64::new(0);
    /// The latest time that anybody has read.
    static LATEST: AtomicU64 = AtomicU64::new(0);
    /// How often somebody read an earlier one after that.
    static BACKWARDS: AtomicU64 = AtomicU64::new(0);
    /// Where vCPU 0's VPA is; the others' follow in pages of their own.
    static AREAS: AtomicU64 = AtomicU64::new(0);

    fn vpa(vcpu: usize) -> u64 {
        AREAS.load(SeqCst) + 0x1000 * vcpu as u64
    }

    fn is_odd(vcpu: usize) -> u64 {
        (read_be32(vpa(vcpu) + 0x100) & 1).into()
    }

    fn stolen_ticks(vcpu: usize) -> u64 {
        read_be64(vpa(vcpu) + 0x158)
    }

    fn register(vcpu: usize) -> i64 {
        fill(vpa(vcpu), 0x400, 0);
        write_be32(vpa(vcpu) + 4, 640 << 16);
        hypercall(H_REGISTER_VPA, [1 << 45, vcpu as u64, vpa(vcpu)]).status
    }

    /// The second of one vCPU.
    fn spend(vcpu: usize) {
        let seen = &SEEN[vcpu];
        let other = vcpu ^ 2;
        READY.fetch_add(1, SeqCst);
        while BEGIN.load(SeqCst) == 0 || timebase() < BEGIN.load(SeqCst) {
            core::hint::spin_loop();
        }
        let (from, stolen_before) = (timebase(), stolen_ticks(vcpu));
        let end = BEGIN.load(SeqCst) + SECOND;
        let mut now = from;
        while now < end {
            seen.turns.fetch_add(1, SeqCst);
            seen.own_odd.fetch_add(is_odd(vcpu), SeqCst);
            // This one runs, so the other one of this core does not.
            seen.other_odd.fetch_add(is_odd(other), SeqCst);
            let latest = LATEST.load(SeqCst);
            now = timebase();
            if now < latest {
                BACKWARDS.fetch_add(1, SeqCst);
            }
            LATEST.fetch_max(now, SeqCst);
        }
        seen.elapsed.store(now - from, SeqCst);
        seen.stolen
            .store(stolen_ticks(vcpu) - stolen_before, SeqCst);
        DONE.fetch_add(1, SeqCst);
    }

    extern "C" fn another(vcpu: u64) -> ! {
        trap::use_area(vcpu as usize);
        mtspr::<{ spr::DEC }>(i32::MAX as u64);
        hypercall(H_CPPR, [0xff]);
        if register(vcpu as usize) == H_SUCCESS {
            spend(vcpu as usize);
        }
        loop {
            hypercall(H_CEDE, []);
        }
    }

    fn busy(guest: &'static Guest) -> Outcome {
        check_eq!(guest.vcpus, VCPUS);
        AREAS.store(guest.free[0], SeqCst);
        check_eq!(register(0), H_SUCCESS);
        for vcpu in 1..VCPUS {
            check_eq!(guest.start_vcpu(vcpu, another, vcpu as u64), 0);
        }
        let from = timebase();
        while READY.load(SeqCst) < VCPUS as u64 - 1 {
            if timebase() - from > 10 * SECOND {
                fail!("{} vCPUs have started", READY.load(SeqCst));
            }
        }
        BEGIN.store(timebase() + MILLISECOND, SeqCst);
        spend(0);
        let from = timebase();
        while DONE.load(SeqCst) < VCPUS as u64 {
            if timebase() - from > 10 * SECOND {
                fail!("{} vCPUs are done", DONE.load(SeqCst));
            }
            hypercall(H_CONFER, [u64::MAX, 0]);
        }
        for (vcpu, seen) in SEEN.iter().enumerate() {
            let [turns, stolen, elapsed] =
                [&seen.turns, &seen.stolen, &seen.elapsed].map(|word| word.load(SeqCst));
            println!("shares: vCPU {vcpu}: {turns} turns, {stolen} of {elapsed} ticks stolen");
        }
        Ok(())
    }

    /// Whether `part` of `whole` is 45 to 55 %.
    fn is_half(part: u64, whole: u64) -> bool {
        (45..=55).contains(&(100 * part / whole.max(1)))
    }

    fn work(_: &'static Guest) -> Outcome {
        for vcpu in 0..VCPUS {
            let [own, other] = [vcpu, vcpu ^ 2].map(|v| SEEN[v].turns.load(SeqCst));
            if !is_half(own, own + other) {
                fail!("vCPU {vcpu}: {own} turns, the other one {other}");
            }
        }
        Ok(())
    }

    fn stolen(_: &'static Guest) -> Outcome {
        for (vcpu, seen) in SEEN.iter().enumerate() {
            let (stolen, elapsed) = (seen.stolen.load(SeqCst), seen.elapsed.load(SeqCst));
            if !is_half(stolen, elapsed) {
                fail!("vCPU {vcpu}: {stolen} of {elapsed} ticks");
            }
        }
        Ok(())
    }

    fn own_count(_: &'static Guest) -> Outcome {
        for seen in &SEEN {
            check_eq!(seen.own_odd.load(SeqCst), 0);
        }
        Ok(())
    }

    fn other_count(_: &'static Guest) -> Outcome {
        for (vcpu, seen) in SEEN.iter().enumerate() {
            let (odd, turns) = (seen.other_odd.load(SeqCst), seen.turns.load(SeqCst));
            // In its first turns the other one may have no VPA yet that counts.
            if odd * 100 < turns * 99 {
                fail!("vCPU {vcpu}: {odd} of {turns} times");
            }
        }
        Ok(())
    }

    fn one_timebase(_: &'static Guest) -> Outcome {
        check_eq!(BACKWARDS.load(SeqCst), 0);
        Ok(())
    }
}
