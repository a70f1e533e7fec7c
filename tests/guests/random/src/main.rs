// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: a million hypercalls by chance, by each vCPU. `seed=N` and `calls=N` on the command line;
//! `trace=N` prints the calls from number N on (one vCPU).
//!
//! The guest may harm itself by documented means only, and here it does not: calls that would turn
//! it off, and those whose effect would be on the program's own memory and entries, are bent aside
//! ([`generator`]). So it must survive, everything must work afterwards, and memory that no call
//! names must be unchanged. With several vCPUs ([`together`]) each changes the memory that calls of the other
//! name while they are served, and the program ends with a fresh boot.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod after;
#[cfg(target_arch = "powerpc64")]
mod generator;
#[cfg(target_arch = "powerpc64")]
mod together;

#[cfg(target_arch = "powerpc64")]
mod program {
    use crate::generator::Generator;
    use guest_support::hypercall::hypercall;
    use guest_support::memory::{fill, is_filled};
    use guest_support::papr::hash;
    use guest_support::papr::hcall::number::{H_CEDE, H_PROTECT, H_READ, H_SET_MODE};
    use guest_support::papr::hcall::status;
    use guest_support::{Case, Guest, Outcome, check, fail, println};

    guest_support::guest_program!(main);

    /// Calls, if the command line names no count.
    pub const CALLS: u64 = 1_000_000;
    /// Seed, if the command line names none.
    pub const SEED: u64 = 20_261_120;
    /// Calls between two looks at the canaries.
    pub const ROUND: u64 = 50_000;

    const CASES: &[Case] = &[
        Case {
            name: "5 issue c: a million hypercalls by chance",
            body: calls,
        },
        Case {
            name: "5 issue c: afterwards everything works",
            body: crate::after::everything,
        },
    ];

    fn main(guest: &'static Guest) -> ! {
        if guest.vcpus > 1 {
            crate::together::run(guest);
        }
        guest_support::run("guest-random", guest, &[CASES])
    }

    /// Whether a hypercall can answer that.
    pub fn is_known(status: i64) -> bool {
        status::name(status).is_some() || (-511..=-256).contains(&status)
    }

    fn calls(guest: &'static Guest) -> Outcome {
        let count = guest.number("calls").unwrap_or(CALLS);
        let seed = guest.number("seed").unwrap_or(SEED);
        let trace = guest.number("trace").unwrap_or(u64::MAX);
        println!("random: seed={seed} calls={count}");
        let mut generator = Generator::new(guest, seed);
        let [start, end] = generator.canary();
        fill(start, end - start, seed);
        let mut made = 0;
        let mut succeeded = 0u64;
        while made < count {
            let call = generator.next_call();
            if call.number == H_PROTECT
                && hash::is_vrma(hypercall(H_READ, [0, call.args[1]]).words[0])
            {
                // It would take the program's own memory away.
                continue;
            }
            if made >= trace {
                println!("random: {made}: {:#x} {:x?}", call.number, call.args);
            }
            if call.number == H_CEDE {
                guest_support::machine::sleep(2000);
            } else {
                let answer = hypercall(call.number, call.args);
                if !is_known(answer.status) {
                    fail!(
                        "call {made}: {:#x} {:x?}: status {}",
                        call.number,
                        call.args,
                        answer.status
                    );
                }
                succeeded += u64::from(answer.status == status::H_SUCCESS);
            }
            if call.number == H_SET_MODE {
                // Interrupts in the program's byte order.
                hypercall(H_SET_MODE, [1, 4]);
            }
            made += 1;
            if made % ROUND == 0 {
                println!("random: {made} calls, {succeeded} succeeded");
                check!(is_filled(start, end - start, seed));
            }
        }
        // Not only refusals were tested.
        check!(succeeded > count / 10);
        check!(is_filled(start, end - start, seed));
        Ok(())
    }
}
