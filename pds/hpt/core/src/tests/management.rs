// SPDX-License-Identifier: BSD-2-Clause
//! Calls of those who manage the guest (`partita_guest_protocol::hpt`).

use super::machine::*;
use super::std::vec::Vec;
use crate::*;
use partita_guest_protocol::channel::Peer;
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::{Answer, Words, answer, hpt as protocol};
use partita_instance::atomic::AtomicU64;
use partita_papr::hcall::number;
use partita_papr::hpte::*;

fn words<const N: usize>(given: [u64; N]) -> Words {
    Answer::ok(given).words
}

type Server<'a, 'k> = Hpt<'a, &'a Kernel<'k>, &'a Kernel<'k>>;

/// Calls until the answer says that it is complete; the words of the last answer but the flag.
fn until_done(
    hpt: &Server<'_, '_>,
    label: u64,
    mut given: Words,
    results: usize,
) -> Result<Words, Answer> {
    loop {
        let answer = hpt.manage(None, Peer::Vcpu, label, &given);
        if answer.label != answer::OK {
            return Err(answer);
        }
        given[..results].copy_from_slice(&answer.words[..results]);
        if answer.words[results] == protocol::DONE {
            return Ok(given);
        }
    }
}

/// Only those who manage the guest.
#[test]
fn servers_have_no_say() {
    with(|_, _, hpt| {
        for peer in [Peer::Hpt(0), Peer::Vpa(0), Peer::Memslots, Peer::Serial] {
            for label in 0..10 {
                let answer = hpt.manage(None, peer, label, &words([]));
                assert_eq!(answer, Answer::label(answer::INVALID));
            }
        }
        let unknown = hpt.manage(None, Peer::Control, 99, &words([]));
        assert_eq!(unknown, Answer::label(answer::INVALID));
    });
}

/// A table is filled, verified, flushed, verified, reset, in bounded steps.
#[test]
fn verify_flush_reset() {
    with(|_, kernel, hpt| {
        for i in 0..100 {
            assert_eq!(enter(hpt, i * 8, V | i << 7, (i % 90) << 12 | 2).status, 0);
        }
        let totals = until_done(hpt, protocol::VERIFY, words([]), 5).unwrap();
        let everything = hpt.state().entries() + GFNS;
        assert_eq!(totals[..4], [everything, 100, 0, 100]);

        let flushed = until_done(hpt, protocol::FLUSH, words([0, 50]), 1).unwrap();
        assert_eq!(flushed[0], 50);
        // 50 pages, of which those below 10 have two entries.
        let totals = until_done(hpt, protocol::VERIFY, words([]), 5).unwrap();
        assert_eq!(totals[1..4], [40, 60, 40]);
        let stats = hpt.manage(None, Peer::Control, protocol::STATS, &words([]));
        assert_eq!(stats, Answer::ok([18, 60, 1, 0]));

        // The count is wrong if something was counted that is not there.
        let wrong = until_done(hpt, protocol::VERIFY, words([0, 1]), 5).unwrap_err();
        let kind = protocol::Violation::Count as u64;
        assert_eq!(wrong, Answer::new(protocol::VIOLATION, [kind, 40, 41]));

        until_done(hpt, protocol::RESET, words([]), 1).unwrap();
        let totals = until_done(hpt, protocol::VERIFY, words([]), 5).unwrap();
        assert_eq!(totals[1..4], [0, 0, 0]);
        until_done(hpt, protocol::SET_UP_VRMA, words([0, 1 << 20]), 1).unwrap();
        let pages = GFNS >> 4;
        let totals = until_done(hpt, protocol::VERIFY, words([]), 5).unwrap();
        assert_eq!(totals[1..4], [pages, 0, pages]);
        assert!(!kernel.poisoned.get());
    });
}

/// Counts that no verification has made are answered, not believed.
#[test]
fn verify_with_counts_that_cannot_be() {
    with(|_, _, hpt| {
        assert_eq!(enter(hpt, 0, V, 3 << 12 | 2).status, 0);
        let wrong = words([0, u64::MAX, u64::MAX, u64::MAX]);
        let answer = until_done(hpt, protocol::VERIFY, wrong, 5).unwrap_err();
        let kind = protocol::Violation::FaultMode as u64;
        assert_eq!(
            answer,
            Answer::new(protocol::VIOLATION, [kind, 0, u64::MAX])
        );
        let behind = words([u64::MAX, 0, 0, 0]);
        assert!(until_done(hpt, protocol::VERIFY, behind, 5).is_ok());
    });
}

/// What the kernel refuses arrives as such, and the cursor stays.
#[test]
fn refusals() {
    with(|memory, kernel, hpt| {
        assert_eq!(enter(hpt, 8, V, 3 << 12 | 2).status, 0);
        kernel.reject.set(true);
        let refused = hpt.manage(None, Peer::Control, protocol::FLUSH, &words([0, 50]));
        assert_eq!(refused, Answer::new(protocol::TABLE, [3]));
        let unlogged = hpt.manage(None, Peer::Control, protocol::COLLECT_DIRTY, &words([0, 1]));
        assert_eq!(unlogged, Answer::label(protocol::NO_LOG));
        until_done(hpt, protocol::RESET, words([]), 1).unwrap();
        memory.publish(&[]);
        let vrma = until_done(hpt, protocol::SET_UP_VRMA, words([0, 1 << 20]), 1).unwrap_err();
        let kind = protocol::VrmaError::NoMemory as u64;
        assert_eq!(vrma, Answer::new(protocol::VRMA_FAILED, [kind]));
    });
}

/// Changed pages arrive in the log, each once.
#[test]
fn dirty_log() {
    with(|_, kernel, hpt| {
        for i in 0..70 {
            assert_eq!(enter(hpt, i * 8, V | i << 7, i << 12 | 2).status, 0);
            kernel.access(i * 8, i % 3 == 0);
        }
        let bits: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
        let log = DirtyLog::new(&bits);
        let mut given = words([0, GFNS, 0]);
        while given[0] < GFNS {
            let answer = hpt.manage(Some(log), Peer::Control, protocol::COLLECT_DIRTY, &given);
            assert_eq!(answer.label, answer::OK);
            given[0] = answer.words[0];
        }
        for gfn in 0..GFNS {
            kernel.forget_touched(gfn, C);
        }
        let every_third = |first: u64, end: u64| {
            (first..end)
                .filter(|i| i % 3 == 0)
                .fold(0, |bits, i| bits | 1 << (i % 64))
        };
        assert_eq!(log.take(0), every_third(0, 64));
        assert_eq!(log.take(1), every_third(64, 70));
    });
}

/// Entries of one page, as many as a guest likes: dw0 of the i-th.
fn same_page(hpt: &Server<'_, '_>, count: u64, r: u64) {
    for i in 0..count {
        assert_eq!(enter(hpt, i, V | (i & 0x1ff) << 12, r).status, 0);
    }
}

const PAGE: u64 = 5;

/// A chain of thousands is verified in pieces, and the totals are right (I1, I3). A call looks at fewer than
/// 2 * SCAN words.
#[test]
fn long_chains_are_verified_in_pieces() {
    with(|_, _, hpt| {
        let count = 3 * SCAN + 7;
        same_page(hpt, count, PAGE << 12 | 2);
        let entries = hpt.state().entries();
        let mut checked = Checked::default();
        let (mut calls, mut before) = (0, checked);
        while hpt.verify_some(&mut checked).unwrap() == Progress::More {
            let looked_at = checked.cursor - before.cursor + checked.members - before.members;
            assert!((SCAN..2 * SCAN).contains(&looked_at), "{looked_at}");
            (calls, before) = (calls + 1, checked);
        }
        assert_eq!((checked.valid, checked.members), (count, count));
        assert_eq!((checked.cursor, checked.chain), (entries + GFNS, 0));
        assert_eq!(calls, entries / SCAN + 3);
        let totals = until_done(hpt, protocol::VERIFY, words([]), 5).unwrap();
        assert_eq!(totals[..5], [entries + GFNS, count, 0, count, 0]);
        // Exactly one piece, and one more.
        let mut place = 0;
        let gfn = partita_papr::Gfn::new(PAGE).unwrap();
        for left in [SCAN + 1, SCAN] {
            for index in left..count {
                hpt.hypercall(number::H_REMOVE, [0, index, 0, 0, 0, 0, 0, 0]);
            }
            assert_eq!(hpt.verify_chain(gfn, &mut place), Ok(SCAN));
            assert_eq!(place != 0, left > SCAN);
            if place != 0 {
                assert_eq!((hpt.verify_chain(gfn, &mut place), place), (Ok(1), 0));
            }
        }
    });
}

/// Between two pieces anything may happen to the chain, and the place is the caller's word: nothing is
/// wrong because of that, and the verification ends.
#[test]
fn long_chains_that_change_meanwhile() {
    with(|_, _, hpt| {
        let entries = hpt.state().entries();
        let gfn = partita_papr::Gfn::new(PAGE).unwrap();
        let remove = |index| {
            let reply = hpt.hypercall(number::H_REMOVE, [0, index, 0, 0, 0, 0, 0, 0]);
            assert_eq!(reply.status, 0);
        };
        same_page(hpt, 2 * SCAN, PAGE << 12 | 2);
        let mut place = 0;
        assert_eq!(hpt.verify_chain(gfn, &mut place), Ok(SCAN));
        let next = place & 0xffff_ffff;
        assert_eq!((next, place >> 32), (SCAN, 1));
        // The head goes: the walk ends at the new one.
        remove(0);
        let mut head_gone = place;
        assert_eq!(
            (hpt.verify_chain(gfn, &mut head_gone), head_gone),
            (Ok(SCAN), 0)
        );
        // The next one goes; then it comes back on another chain; then the whole chain goes.
        remove(next);
        let mut gone = place;
        assert_eq!((hpt.verify_chain(gfn, &mut gone), gone), (Ok(0), 0));
        enter(hpt, next, V, (PAGE + 1) << 12 | 2);
        let mut elsewhere = place;
        assert_eq!(
            (hpt.verify_chain(gfn, &mut elsewhere), elsewhere),
            (Ok(0), 0)
        );
        hpt.verify_all().unwrap();
        for index in (1..2 * SCAN).filter(|index| *index != next) {
            remove(index);
        }
        assert_eq!((hpt.verify_chain(gfn, &mut place), place), (Ok(0), 0));
        // Any word ends.
        same_page(hpt, 1, PAGE << 12 | 2);
        for word in [1, u64::MAX, 1 << 32, entries << 32, 0xffff_ffff, 1 << 63] {
            let mut place = word;
            assert!(hpt.verify_chain(gfn, &mut place).is_ok());
            assert_eq!(place, 0);
        }
        // A walk that never meets the head, as on a chain to which entries are added faster than it goes,
        // ends with as many members as there are entries.
        for index in (1..2 * SCAN).filter(|index| *index != next) {
            enter(hpt, index, V | (index & 0x1ff) << 12, PAGE << 12 | 2);
        }
        let mut last = (entries / SCAN - 1) << 32 | 2;
        assert_eq!((hpt.verify_chain(gfn, &mut last), last), (Ok(SCAN), 0));
    });
}

/// Of a page that is mapped more than SCAN times only the first SCAN entries are gone through, and it is
/// reported whether something has changed or not: never missed (I8).
#[test]
fn dirty_pages_with_long_chains() {
    for size in [0, LARGE | 0x1000] {
        with(|_, kernel, hpt| {
            // The page of 4 KiB, or of 64 KiB; both begin at 16.
            let first = 16;
            for i in 0..2 * SCAN {
                let v = V | (i & 0x1ff) << 12 | size & LARGE;
                let r = first << 12 | size & 0x1000 | 2;
                assert_eq!(enter(hpt, i, v, r).status, 0);
            }
            enter(hpt, 4 * SCAN, V, 3 << 12 | 2);
            let collect = |range: &mut GfnRange| {
                let mut pages = Vec::new();
                let done = hpt.collect_dirty(range, false, |gfn, n| {
                    kernel.forget_touched(gfn.get(), C);
                    pages.push((gfn.get(), n));
                });
                (done, pages)
            };
            let all = || GfnRange { next: 0, end: GFNS };
            kernel.access(2 * SCAN - 1, true);
            kernel.access(4 * SCAN, true);
            let mut range = all();
            // Any page that may begin there: 64 KiB is the largest of this slot.
            let expected = Vec::from([(3, 1), (first, 16)]);
            assert_eq!(collect(&mut range), (Ok(Progress::More), expected));
            assert_eq!(range.next, first + 1, "it was enough for one call");
            assert_eq!(collect(&mut range), (Ok(Progress::Done), Vec::new()));
            assert_eq!(collect(&mut all()).1, [(first, 16)], "without cause");
            // With SCAN entries there is nothing special about it.
            for i in SCAN..2 * SCAN {
                hpt.hypercall(number::H_REMOVE, [0, i, 0, 0, 0, 0, 0, 0]);
            }
            let pages = if size == 0 { 1 } else { 16 };
            assert_eq!(
                collect(&mut all()).1,
                [(first, pages)],
                "of an entry that is gone"
            );
            assert_eq!(collect(&mut all()).1, []);
            // All of them change: few calls.
            (0..SCAN).for_each(|i| assert!(kernel.access(i, true)));
            assert_eq!(
                collect(&mut all()),
                (Ok(Progress::More), Vec::from([(first, pages)]))
            );
            assert_eq!(collect(&mut all()).1, []);
        });
    }
}

/// The longest reset is as long as those who wait for it expect.
#[test]
fn a_reset_needs_the_calls_that_its_sizes_say() {
    with(|memory, _, hpt| {
        let words = (memory.rev.len() + memory.rmap.len()) as u64;
        let (mut cursor, mut calls) = (0, 1);
        while hpt.reset(&mut cursor).unwrap() == Progress::More {
            assert_eq!(cursor, calls * protocol::SCAN);
            calls += 1;
        }
        assert_eq!(calls, words / protocol::SCAN + 1);
    });
}
