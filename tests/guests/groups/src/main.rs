// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: two vCPUs work on the same few groups of the hash page table and on the same few pages, whose
//! chains are long then, at the same time. `rounds=N` and `seed=N` on the command line.
//!
//! What a call answers must be an entry that somebody has entered, whole; each entry leaves the table as often as
//! it has come (S4.8 to S4.11); no access of one vCPU is lost to the calls of the other (I8). Then it stays at
//! rest for a while, so that somebody else may verify the chains (I1 to I7).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod accesses;
#[cfg(target_arch = "powerpc64")]
mod calls;
#[cfg(target_arch = "powerpc64")]
mod pair;

#[cfg(target_arch = "powerpc64")]
mod program {
    use crate::{accesses, calls, pair};
    use guest_support::machine::sleep;
    use guest_support::{Case, Guest, Outcome, check_eq, println, runner};

    guest_support::guest_program!(main);

    const SUITE: &str = "guest-groups";
    /// Seconds at rest.
    const REST: u32 = 12;

    const CASES: &[Case] = &[
        Case {
            name: "S4.8 to S4.11: calls of two vCPUs on the same groups each take effect once",
            body: calls::together,
        },
        Case {
            name: "I8: no access is lost to H_CLEAR_REF, H_CLEAR_MOD, H_PROTECT of another vCPU",
            body: accesses::cleared,
        },
        Case {
            name: "I8: no access is lost to H_REMOVE and H_ENTER of another vCPU",
            body: accesses::replaced,
        },
        Case {
            name: "I1 to I7: at rest, with entries in the groups",
            body: rest,
        },
    ];

    fn main(guest: &'static Guest) -> ! {
        runner::begin(SUITE);
        // On one line of a log, so that a failure can be had again.
        println!(
            "groups: seed={} rounds={}",
            pair::seed(guest),
            pair::rounds(guest)
        );
        if let Err(why) = pair::start(guest) {
            runner::abort(format_args!("{why}"));
        }
        guest_support::run(SUITE, guest, &[CASES])
    }

    fn rest(guest: &'static Guest) -> Outcome {
        let left = calls::fill(guest)?;
        println!("groups: at rest, {left} entries");
        for _ in 0..REST {
            sleep(512_000_000);
        }
        check_eq!(calls::valid(guest)?, left);
        Ok(())
    }
}
