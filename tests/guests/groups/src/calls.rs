// SPDX-License-Identifier: BSD-2-Clause
//! Calls by chance on the same groups. Each entry carries a stamp from which its page follows, so that one that
//! is put together of two is found.

use crate::pair;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use guest_support::hypercall::hypercall;
use guest_support::mmu::clear_table;
use guest_support::papr::PageSize;
use guest_support::papr::hcall::flags;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::papr::hpte::{C, M, R, RPN, VALID};
use guest_support::{Guest, Outcome, Random, check, check_eq, fail, println};

/// Groups, in the middle of the table where no entry of the virtual real mode area is.
const GROUPS: u64 = 3;
/// Pages of 4 KiB; one more has 64 KiB, of which they are the first.
const PAGES: u64 = 5;

/// Entries that have come and not gone, as the calls answered.
static ENTRIES: AtomicI64 = AtomicI64::new(0);
/// Calls that succeeded.
static SUCCEEDED: AtomicU64 = AtomicU64::new(0);

/// First index of a group.
fn group(guest: &Guest, number: u64) -> u64 {
    guest.hpt.entries() / 2 + 8 * number
}

fn any_index(guest: &Guest, random: &mut Random) -> u64 {
    group(guest, random.below(GROUPS)) + random.below(8)
}

/// dw0 and dw1 of an entry for page `page`, with a stamp.
fn entry(guest: &Guest, page: u64, salt: u64) -> (u64, u64) {
    let salt = salt & 0xffff;
    let check = mix(page, salt);
    let size = match page {
        PAGES => PageSize::Size64K,
        _ => PageSize::Size4K,
    };
    let address = match page {
        PAGES => guest.free[0],
        _ => guest.free[0] + (page << 12),
    };
    let v = salt << 12 | check << 28 | size.large() | VALID;
    (v, address | size.lp() | M)
}

fn mix(page: u64, salt: u64) -> u64 {
    (salt.wrapping_mul(0x9e37_79b9) ^ (page + 1).wrapping_mul(0x85eb_ca6b)) >> 8 & 0xffff
}

/// Whether somebody may have entered that.
fn is_whole(guest: &Guest, v: u64, r: u64) -> bool {
    let salt = v >> 12 & 0xffff;
    (0..=PAGES).any(|page| {
        let (expected_v, expected_r) = entry(guest, page, salt);
        v == expected_v && r & RPN == expected_r & RPN
    })
}

/// Both vCPUs make calls.
pub fn together(guest: &'static Guest) -> Outcome {
    ENTRIES.store(0, SeqCst);
    empty(guest)?;
    pair::both(guest, calls, calls)?;
    let (entries, succeeded) = (ENTRIES.load(SeqCst), SUCCEEDED.load(SeqCst));
    println!("groups: {succeeded} calls succeeded, {entries} entries are left");
    check_eq!(valid(guest)?, entries as u64);
    check!(succeeded > pair::rounds(guest) / 4);
    // What is there can be removed, once.
    check_eq!(empty(guest)?, entries as u64);
    check_eq!(valid(guest)?, 0);
    Ok(())
}

/// Removes what is in the groups; how many entries that were.
fn empty(guest: &Guest) -> Outcome<u64> {
    let mut count = 0;
    for number in 0..GROUPS {
        for i in 0..8 {
            match hypercall(H_REMOVE, [0, group(guest, number) + i, 0]).status {
                H_SUCCESS => count += 1,
                H_NOT_FOUND => {}
                status => fail!("H_REMOVE answers {status}"),
            }
        }
    }
    Ok(count)
}

/// Valid entries in the groups; each must be whole.
pub fn valid(guest: &Guest) -> Outcome<u64> {
    let mut count = 0;
    for number in 0..GROUPS {
        for i in 0..8 {
            let answer = hypercall(H_READ, [0, group(guest, number) + i]);
            check_eq!(answer.status, H_SUCCESS);
            if answer.words[0] != 0 {
                check!(is_whole(guest, answer.words[0], answer.words[1]));
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Empties the table and fills the groups; how many entries these have then.
pub fn fill(guest: &Guest) -> Outcome<u64> {
    check!(clear_table());
    let mut random = Random::new(1);
    for number in 0..GROUPS {
        for _ in 0..8 {
            let (v, r) = entry(guest, random.below(PAGES + 1), random.word());
            let answer = hypercall(H_ENTER, [0, group(guest, number), v, r]);
            check_eq!(answer.status, H_SUCCESS);
        }
    }
    valid(guest)
}

/// The calls of one vCPU.
fn calls(guest: &'static Guest, mut random: Random) -> Outcome {
    for _ in 0..pair::rounds(guest) {
        let index = any_index(guest, &mut random);
        match random.below(16) {
            0..=5 => enter(guest, &mut random, index)?,
            6..=8 => remove(guest, &mut random, index)?,
            9 => bulk_remove(guest, &mut random)?,
            10 | 11 => {
                let pp = random.pick(&[0, 1, 2, 3, 4 | 2, 0x200 | 2]);
                found(hypercall(H_PROTECT, [pp, index, 0]).status)?;
            }
            12 | 13 => {
                let call = random.pick(&[H_CLEAR_REF, H_CLEAR_MOD]);
                found(hypercall(call, [0, index]).status)?;
            }
            _ => {
                let answer = hypercall(H_READ, [0, index]);
                check_eq!(answer.status, H_SUCCESS);
                let [v, r, ..] = answer.words;
                if v != 0 && !is_whole(guest, v, r) {
                    fail!("H_READ {index:#x}: {v:#x}, {r:#x}");
                }
            }
        }
    }
    Ok(())
}

/// A call on an entry has found one, or none.
fn found(status: i64) -> Outcome {
    match status {
        H_SUCCESS => SUCCEEDED.fetch_add(1, Relaxed),
        H_NOT_FOUND => 0,
        status => fail!("it answers {status}"),
    };
    Ok(())
}

fn enter(guest: &'static Guest, random: &mut Random, index: u64) -> Outcome {
    let (v, r) = entry(guest, random.below(PAGES + 1), random.word());
    let (how, index) = match random.below(4) {
        0 => (flags::EXACT, index),
        _ => (0, index & !7),
    };
    let answer = hypercall(H_ENTER, [how, index, v, r | random.pick(&[0, 2, R, R | C])]);
    match answer.status {
        H_SUCCESS => {
            let got = answer.words[0];
            check!(got == index || how == 0 && got & !7 == index);
            ENTRIES.fetch_add(1, Relaxed);
            found(H_SUCCESS)
        }
        H_PTEG_FULL => Ok(()),
        status => fail!("H_ENTER answers {status}"),
    }
}

fn remove(guest: &'static Guest, random: &mut Random, index: u64) -> Outcome {
    // Some by what they are, which another one may be by now.
    let (how, avpn) = match random.below(3) {
        0 => (flags::AVPN, hypercall(H_READ, [0, index]).words[0] & !0x7f),
        _ => (0, 0),
    };
    let answer = hypercall(H_REMOVE, [how, index, avpn]);
    if answer.status == H_SUCCESS {
        let [v, r, ..] = answer.words;
        if !is_whole(guest, v, r) || how != 0 && v & !0x7f != avpn {
            fail!("H_REMOVE {index:#x}: {v:#x}, {r:#x}, AVPN {avpn:#x}");
        }
        ENTRIES.fetch_sub(1, Relaxed);
    }
    found(answer.status)
}

fn bulk_remove(guest: &'static Guest, random: &mut Random) -> Outcome {
    const REQUEST: u64 = 1 << 62;
    let mut words = [0; 8];
    for pair in words.chunks_exact_mut(2) {
        pair[0] = REQUEST | any_index(guest, random);
    }
    let answer = hypercall(H_BULK_REMOVE, words);
    check_eq!(answer.status, H_SUCCESS);
    for (asked, got) in words.chunks_exact(2).zip(answer.words.chunks_exact(2)) {
        check_eq!(got[0] & ((1 << 56) - 1), asked[0] & ((1 << 56) - 1));
        match got[0] >> 60 {
            0x8 => {
                ENTRIES.fetch_sub(1, Relaxed);
                found(H_SUCCESS)?;
            }
            0x9 => {}
            code => fail!("H_BULK_REMOVE answers {code:#x}"),
        }
    }
    Ok(())
}
