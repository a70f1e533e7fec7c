// SPDX-License-Identifier: BSD-2-Clause
//! The terminal calls (SPEC 2.7). What is printed is seen by whoever reads the results.

use guest_support::hypercall::hypercall;
use guest_support::papr::hcall::number::{H_GET_TERM_CHAR, H_PUT_TERM_CHAR};
use guest_support::papr::hcall::status::*;
use guest_support::{Case, Guest, Outcome, check_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "2.7 H_PUT_TERM_CHAR: lengths and units",
        body: put,
    },
    Case {
        name: "2.7 H_GET_TERM_CHAR: nothing was typed; units",
        body: get,
    },
];

const UNIT: u64 = 0x7100_0000;

fn put(_: &'static Guest) -> Outcome {
    let call = |unit, length| hypercall(H_PUT_TERM_CHAR, [unit, length, 0, 0]).status;
    for unit in [0, UNIT] {
        check_eq!(call(unit, 0), H_SUCCESS);
        for length in [17, 255, 1 << 32, u64::MAX] {
            check_eq!(call(unit, length), H_PARAMETER);
        }
        let newline = [unit, 1, 0x0a << 56, 0];
        let mut status = H_BUSY;
        while status == H_BUSY {
            status = hypercall(H_PUT_TERM_CHAR, newline).status;
        }
        check_eq!(status, H_SUCCESS);
    }
    for unit in [1, UNIT + 1, UNIT | 1 << 32, u64::MAX] {
        check_eq!(call(unit, 0), H_PARAMETER);
        check_eq!(call(unit, 1), H_PARAMETER);
    }
    Ok(())
}

fn get(_: &'static Guest) -> Outcome {
    for unit in [0, UNIT] {
        let answer = hypercall(H_GET_TERM_CHAR, [unit]);
        check_eq!((answer.status, answer.words[0]), (H_SUCCESS, 0));
    }
    for unit in [1, UNIT + 1, UNIT | 1 << 32, u64::MAX] {
        check_eq!(hypercall(H_GET_TERM_CHAR, [unit]).status, H_PARAMETER);
    }
    Ok(())
}
