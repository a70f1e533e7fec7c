// SPDX-License-Identifier: BSD-2-Clause
//! Interrupt presentation (SPEC 2.6) and its RTAS calls.

use core::sync::atomic::Ordering;
use guest_support::hypercall::hypercall;
use guest_support::machine::{timebase, with_interrupts};
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::trap::{EXTERNALS, LAST_SOURCE};
use guest_support::{Case, Guest, Outcome, check, check_eq, rtas};

pub const CASES: &[Case] = &[
    Case {
        name: "2.6 H_CPPR, H_XIRR: nothing is there",
        body: nothing,
    },
    Case {
        name: "2.6 H_IPI, H_IPOLL, H_XIRR, H_EOI: one interrupt from request to end",
        body: whole_way,
    },
    Case {
        name: "2.6 an interrupt that is not favoured enough waits for H_CPPR",
        body: waits,
    },
    Case {
        name: "2.6 H_IPI, H_IPOLL, H_EOI: unknown servers and sources are H_PARAMETER",
        body: unknown,
    },
    Case {
        name: "2.6 H_XIRR_X: the timebase too",
        body: with_time,
    },
    Case {
        name: "5.6 an interrupt is delivered when MSR[EE] is set",
        body: delivered,
    },
    Case {
        name: "4.4 ibm,set-xive, get-xive, int-on, int-off",
        body: sources,
    },
];

const IPI: u64 = 2;

fn status(number: u64, args: [u64; 2]) -> i64 {
    hypercall(number, args).status
}

fn xirr() -> u64 {
    hypercall(H_XIRR, [0xff]).words[0]
}

fn poll() -> [u64; 2] {
    let words = hypercall(H_IPOLL, [0]).words;
    [words[0], words[1]]
}

/// As the program begins: the bar open, no request.
fn quiet() {
    status(H_CPPR, [0xff, 0]);
    status(H_IPI, [0, 0xff]);
}

fn nothing(_: &'static Guest) -> Outcome {
    quiet();
    check_eq!(poll(), [0xff00_0000, 0xff]);
    for cppr in [0, 5, 0xff] {
        check_eq!(status(H_CPPR, [cppr, 0]), H_SUCCESS);
        check_eq!(xirr(), cppr << 24);
        check_eq!(poll(), [cppr << 24, 0xff]);
    }
    // Of an argument the last byte counts.
    check_eq!(status(H_CPPR, [0x1234_5607, 0]), H_SUCCESS);
    check_eq!(xirr(), 7 << 24);
    quiet();
    Ok(())
}

fn whole_way(_: &'static Guest) -> Outcome {
    quiet();
    check_eq!(status(H_IPI, [0, 5]), H_SUCCESS);
    check_eq!(poll(), [0xff00_0000 | IPI, 5]);
    check_eq!(xirr(), 0xff00_0000 | IPI);
    // Accepted: the bar is at its priority, nothing is pending.
    check_eq!(poll(), [5 << 24, 5]);
    check_eq!(xirr(), 5 << 24);
    // The request is still there: it comes again after the end of this one.
    check_eq!(status(H_EOI, [0xff00_0000 | IPI, 0]), H_SUCCESS);
    check_eq!(xirr(), 0xff00_0000 | IPI);
    check_eq!(status(H_IPI, [0, 0xff]), H_SUCCESS);
    check_eq!(status(H_EOI, [0xff00_0000 | IPI, 0]), H_SUCCESS);
    check_eq!(poll(), [0xff00_0000, 0xff]);
    check_eq!(xirr(), 0xff00_0000);
    Ok(())
}

fn waits(_: &'static Guest) -> Outcome {
    quiet();
    check_eq!(status(H_CPPR, [5, 0]), H_SUCCESS);
    check_eq!(status(H_IPI, [0, 5]), H_SUCCESS);
    check_eq!(poll(), [5 << 24, 5]);
    check_eq!(xirr(), 5 << 24);
    check_eq!(status(H_CPPR, [6, 0]), H_SUCCESS);
    check_eq!(poll(), [6 << 24 | IPI, 5]);
    // Raised again before it was accepted: it goes back.
    check_eq!(status(H_CPPR, [5, 0]), H_SUCCESS);
    check_eq!(poll(), [5 << 24, 5]);
    // A more favoured request.
    check_eq!(status(H_IPI, [0, 4]), H_SUCCESS);
    check_eq!(poll(), [5 << 24 | IPI, 4]);
    check_eq!(xirr(), 5 << 24 | IPI);
    check_eq!(status(H_IPI, [0, 0xff]), H_SUCCESS);
    check_eq!(status(H_EOI, [0xff00_0000 | IPI, 0]), H_SUCCESS);
    quiet();
    Ok(())
}

fn unknown(guest: &'static Guest) -> Outcome {
    for server in [guest.vcpus as u64, 64, 1 << 32, u64::MAX] {
        check_eq!(status(H_IPI, [server, 5]), H_PARAMETER);
        check_eq!(status(H_IPOLL, [server, 0]), H_PARAMETER);
    }
    for source in [1, 3, 0x10ff, 0x1101, 0xff_ffff] {
        check_eq!(status(H_EOI, [0xff00_0000 | source, 0]), H_PARAMETER);
    }
    // No source, the IPI and the terminal's may be ended though nothing was accepted.
    for source in [0, IPI, 0x1100] {
        check_eq!(status(H_EOI, [0xff00_0000 | source, 0]), H_SUCCESS);
    }
    quiet();
    Ok(())
}

fn with_time(_: &'static Guest) -> Outcome {
    quiet();
    status(H_IPI, [0, 3]);
    let before = timebase();
    let answer = hypercall(H_XIRR_X, [0xff]);
    let after = timebase();
    check_eq!(
        (answer.status, answer.words[0]),
        (H_SUCCESS, 0xff00_0000 | IPI)
    );
    check!((before..=after).contains(&answer.words[1]));
    status(H_IPI, [0, 0xff]);
    status(H_EOI, [0xff00_0000 | IPI, 0]);
    quiet();
    Ok(())
}

fn delivered(_: &'static Guest) -> Outcome {
    quiet();
    let before = EXTERNALS.load(Ordering::SeqCst);
    status(H_IPI, [0, 7]);
    for _ in 0..10 {
        hypercall(H_IPOLL, [0]);
    }
    check_eq!(EXTERNALS.load(Ordering::SeqCst), before);
    let waited = with_interrupts(|| {
        let from = timebase();
        while EXTERNALS.load(Ordering::SeqCst) == before && timebase() - from < 512_000_000 {
            core::hint::spin_loop();
        }
        timebase() - from
    });
    check_eq!(EXTERNALS.load(Ordering::SeqCst), before + 1);
    check_eq!(LAST_SOURCE.load(Ordering::SeqCst), IPI);
    // Within a time slice, also where LPCR[MER] has no effect (finding 1).
    check!(waited < 51_200_000);
    Ok(())
}

fn sources(guest: &'static Guest) -> Outcome {
    let token = |service| guest.token(service).unwrap_or(0);
    let (set, get) = (token("ibm,set-xive"), token("ibm,get-xive"));
    let (off, on) = (token("ibm,int-off"), token("ibm,int-on"));
    const SOURCE: u32 = 0x1100;
    const BAD: u32 = -3i32 as u32;
    check_eq!(rtas::service(set, &[SOURCE, 1, 4]), (0, [0]));
    check_eq!(rtas::service(get, &[SOURCE]), (0, [0, 1, 4]));
    check_eq!(rtas::service(off, &[SOURCE]), (0, [0]));
    check_eq!(rtas::service(get, &[SOURCE]), (0, [0, 1, 0xff]));
    check_eq!(rtas::service(on, &[SOURCE]), (0, [0]));
    check_eq!(rtas::service(get, &[SOURCE]), (0, [0, 1, 4]));
    for source in [0, 2, SOURCE + 1, u32::MAX] {
        check_eq!(rtas::service(set, &[source, 0, 4]), (0, [BAD]));
        let (status, [answer, _, _]) = rtas::service(get, &[source]);
        check_eq!((status, answer), (0, BAD));
        check_eq!(rtas::service(off, &[source]), (0, [BAD]));
        check_eq!(rtas::service(on, &[source]), (0, [BAD]));
    }
    check_eq!(
        rtas::service(set, &[SOURCE, guest.vcpus as u32, 4]),
        (0, [BAD])
    );
    check_eq!(rtas::service(set, &[SOURCE, 0, 0x100]), (0, [BAD]));
    check_eq!(rtas::service(get, &[SOURCE]), (0, [0, 1, 4]));
    check_eq!(rtas::service(set, &[SOURCE, 0, 0xff]), (0, [0]));
    Ok(())
}
