// SPDX-License-Identifier: BSD-2-Clause
//! Calls of those who manage the guest (`partita_guest_protocol::hpt`).

use super::machine::*;
use super::std::vec::Vec;
use crate::*;
use partita_guest_protocol::channel::Peer;
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::{Answer, Words, answer, hpt as protocol};
use partita_instance::atomic::AtomicU64;
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
        let totals = until_done(hpt, protocol::VERIFY, words([]), 4).unwrap();
        let everything = hpt.state().entries() + GFNS;
        assert_eq!(totals[..4], [everything, 100, 0, 100]);

        let flushed = until_done(hpt, protocol::FLUSH, words([0, 50]), 1).unwrap();
        assert_eq!(flushed[0], 50);
        // 50 pages, of which those below 10 have two entries.
        let totals = until_done(hpt, protocol::VERIFY, words([]), 4).unwrap();
        assert_eq!(totals[1..4], [40, 60, 40]);
        let stats = hpt.manage(None, Peer::Control, protocol::STATS, &words([]));
        assert_eq!(stats, Answer::ok([18, 60, 1, 0]));

        // The count is wrong if something was counted that is not there.
        let wrong = until_done(hpt, protocol::VERIFY, words([0, 1]), 4).unwrap_err();
        let kind = protocol::Violation::Count as u64;
        assert_eq!(wrong, Answer::new(protocol::VIOLATION, [kind, 40, 41]));

        until_done(hpt, protocol::RESET, words([]), 1).unwrap();
        let totals = until_done(hpt, protocol::VERIFY, words([]), 4).unwrap();
        assert_eq!(totals[1..4], [0, 0, 0]);
        until_done(hpt, protocol::SET_UP_VRMA, words([0, 1 << 20]), 1).unwrap();
        let pages = GFNS >> 4;
        let totals = until_done(hpt, protocol::VERIFY, words([]), 4).unwrap();
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
        let answer = until_done(hpt, protocol::VERIFY, wrong, 4).unwrap_err();
        let kind = protocol::Violation::FaultMode as u64;
        assert_eq!(
            answer,
            Answer::new(protocol::VIOLATION, [kind, 0, u64::MAX])
        );
        let behind = words([u64::MAX, 0, 0, 0]);
        assert!(until_done(hpt, protocol::VERIFY, behind, 4).is_ok());
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
