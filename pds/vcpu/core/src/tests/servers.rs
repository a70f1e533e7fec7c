// SPDX-License-Identifier: BSD-2-Clause
//! Calls to the other servers: what they are asked, and servers that never come to an end.

use crate::servers::*;
use partita_guest_protocol::memslots::{Source, Step};
use partita_guest_protocol::{Words, answer, channel, hpt, layout, memslots, vpa};
use partita_papr::HptOrder;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

/// Servers that answer as a function says, and a clock that each call moves on.
struct Model<F> {
    answer: RefCell<F>,
    calls: Cell<u64>,
    /// Ticks that a call takes.
    ticks: u64,
    now: Cell<u64>,
}

/// Channel, label and words of a call.
type Call = (usize, u64, Words);

impl<F: FnMut(Call) -> (u64, Words)> Calls for &Model<F> {
    fn call<const N: usize>(&self, channel: usize, label: u64, words: [u64; N]) -> (u64, Words) {
        let mut all = [0; 8];
        all[..N].copy_from_slice(&words);
        self.calls.set(self.calls.get() + 1);
        self.now.set(self.now.get().wrapping_add(self.ticks));
        self.answer.borrow_mut()((channel, label, all))
    }

    fn now(&self) -> u64 {
        self.now.get()
    }
}

fn model<F: FnMut(Call) -> (u64, Words)>(ticks: u64, answer: F) -> Model<F> {
    Model {
        answer: RefCell::new(answer),
        calls: Cell::new(0),
        ticks,
        // The timebase may wrap.
        now: Cell::new(u64::MAX - 5),
    }
}

fn ok<const N: usize>(words: [u64; N]) -> (u64, Words) {
    let mut all = [0; 8];
    all[..N].copy_from_slice(&words);
    (answer::OK, all)
}

fn why<T: core::fmt::Debug>(result: Result<T, Failed>) -> Why {
    result.unwrap_err().why
}

/// A table of 2^30 bytes beside the largest guest real address space is emptied: the limit has
/// room for all that a server that keeps to the protocol can need, and no more than one call.
#[test]
fn longest_reset_fits() {
    let end = 256 << 30;
    for (order, end) in [(18, 16 << 20), (24, 1 << 30), (30, end), (36, end), (20, 0)] {
        let entries = HptOrder::new(order).unwrap().entries();
        let total = entries + layout::rmap_bytes(end) / 8;
        let servers = model(1, |(channel, label, words)| {
            assert_eq!((channel, label), (channel::HPT, hpt::RESET));
            let next = words[0] + hpt::SCAN;
            // As the server does: a last call is needed to see that nothing is left.
            match next > total {
                true => ok([total, hpt::DONE]),
                false => ok([next, hpt::MORE]),
            }
        });
        assert_eq!(Servers(&servers).reset_table(order, end), Ok(()));
        assert_eq!(servers.calls.get(), total / hpt::SCAN + 1);
    }
}

#[test]
fn virtual_real_mode_area() {
    for (bytes, calls) in [(0, 1), (1 << 20, 5), ((1 << 30) + 1, 4097)] {
        let servers = model(1, |(channel, label, words)| {
            let pages = bytes >> 12;
            assert_eq!((channel, label), (channel::HPT, hpt::SET_UP_VRMA));
            assert_eq!(words[1], bytes);
            match words[0] + hpt::BATCH > pages {
                true => ok([pages, hpt::DONE]),
                false => ok([words[0] + hpt::BATCH, hpt::MORE]),
            }
        });
        assert_eq!(Servers(&servers).set_up_vrma(bytes), Ok(()));
        assert_eq!(servers.calls.get(), calls);
    }
}

/// A hostile `hpt` always wants one more call: it gets as many as the sizes allow.
#[test]
fn an_hpt_that_never_ends_is_left() {
    let servers = model(1, |(_, _, words)| ok([words[0] + 1, hpt::MORE]));
    let calls = ((1 << 30) / 16 + (1 << 18)) / hpt::SCAN + 1;
    assert_eq!(
        why(Servers(&servers).reset_table(30, 1 << 30)),
        Why::Calls(calls)
    );
    assert_eq!(servers.calls.get(), calls);
    let failed = Servers(&servers).set_up_vrma(1 << 20).unwrap_err();
    assert_eq!(failed.why, Why::Calls(5));
    assert_eq!(
        failed.to_string(),
        "hpt: virtual real mode area: no end after 5 calls"
    );
    // No such table: not even that.
    assert_eq!(why(Servers(&servers).reset_table(99, 0)), Why::Calls(1));
    // A cursor that stands still or goes back, a word that is neither, a refusal.
    for answer in [
        ok([0, hpt::MORE]),
        ok([7, 2]),
        (hpt::TABLE, [9; 8]),
        (hpt::TABLE, [0; 8]),
        (answer::INVALID, [1; 8]),
    ] {
        let servers = model(1, |_| answer);
        let (label, word) = (answer.0, answer.1[0]);
        let expected = Why::Answer { label, word };
        assert_eq!(why(Servers(&servers).reset_table(30, 1 << 30)), expected);
        assert_eq!(servers.calls.get(), 1);
    }
}

/// What only waits may do so for a while, then it is an error.
#[test]
fn servers_that_are_never_ready_are_left() {
    for step in [Step::Again, Step::Reader(3)] {
        let servers = model(1000, |_| (answer::OK, step.to_answer().words));
        assert_eq!(why(Servers(&servers).create_slot(1 << 30)), Why::Late);
        assert!(servers.calls.get() <= PATIENCE / 1000 + 2);
        assert!(servers.calls.get() >= PATIENCE / 1000);
    }
    let instances = [channel::VPA, 50, 51];
    let servers = model(1000, |(channel, ..)| match channel {
        50 => ok([vpa::NOT_YET, 2]),
        _ => ok([vpa::DONE, 0]),
    });
    let unregistered = Servers(&servers).unregister_all(2, instances.into_iter());
    assert_eq!(why(unregistered), Why::Late);
    assert!(servers.calls.get() <= PATIENCE / 1000 + 4);
    assert_eq!(
        unregistered.unwrap_err().to_string(),
        "vpa: unregister all: not ready after ten seconds"
    );
    // One that begins to answer in time is waited for.
    let mut left = 100;
    let servers = model(1000, |(channel, label, words)| {
        assert_eq!((label, words[0]), (vpa::UNREGISTER_ALL, 2));
        left -= u64::from(channel == 51);
        match channel == 51 && left > 0 {
            true => ok([vpa::NOT_YET, 2]),
            false => ok([vpa::DONE, 0]),
        }
    });
    let unregistered = Servers(&servers).unregister_all(2, instances.into_iter());
    assert_eq!((unregistered, servers.calls.get()), (Ok(()), 300));
    // MORE is no answer to this call.
    for answer in [
        ok([vpa::MORE, 1]),
        ok([9, 1]),
        (answer::INVALID, [0, 1, 0, 0, 0, 0, 0, 0]),
    ] {
        let servers = model(1, |_| answer);
        let (label, word) = (answer.0, 1);
        let unregistered = Servers(&servers).unregister_all(2, instances.into_iter());
        assert_eq!(why(unregistered), Why::Answer { label, word });
        assert_eq!(servers.calls.get(), 1);
    }
}

#[test]
fn a_slot_is_created() {
    let mut steps = [Step::Reader(1), Step::Again, Step::Done].into_iter();
    let mut expected = [memslots::SET_REGION, memslots::ADVANCE, memslots::ADVANCE].into_iter();
    let servers = model(1, |(_, label, words)| {
        let first = label == memslots::SET_REGION;
        assert_eq!(Some(label), expected.next());
        assert_eq!(words[2], if first { 1 << 30 } else { 0 });
        (answer::OK, steps.next().unwrap().to_answer().words)
    });
    assert_eq!(Servers(&servers).create_slot(1 << 30), Ok(()));
    for step in [
        Step::Failed,
        Step::Restored,
        Step::Pinned(7),
        Step::Flush { first: 0, end: 9 },
    ] {
        let words = step.to_answer().words;
        let servers = model(1, |_| (answer::OK, words));
        let (label, word) = (answer::OK, words[0]);
        assert_eq!(
            why(Servers(&servers).create_slot(1 << 30)),
            Why::Answer { label, word }
        );
    }
    let servers = model(1, |_| ok([0, 0, 0, 0, 0, 24]));
    assert_eq!(Servers(&servers).page_shift(), Ok(24));
}

/// A file is copied in the fewest calls; a `memslots` that copies less, or more, is refused: it
/// could make millions of calls of one file.
#[test]
fn files_are_loaded_whole() {
    let bytes = 2 * memslots::LOAD_STEP + 5;
    let mut log = Vec::new();
    let servers = model(1, |(channel, label, words)| {
        assert_eq!((channel, label), (channel::MEMSLOTS, memslots::LOAD));
        log.push((words[0], words[1], words[2], words[3]));
        ok([words[3].min(memslots::LOAD_STEP)])
    });
    let loaded = Servers(&servers).load(Source::Initrd, 0x1000, 0x40_0000, bytes);
    assert_eq!((loaded, servers.calls.get()), (Ok(()), 3));
    let step = memslots::LOAD_STEP;
    let expected: Vec<_> = (0..3)
        .map(|i| {
            let done = i * step;
            (1, 0x1000 + done, 0x40_0000 + done, bytes - done)
        })
        .collect();
    assert_eq!(log, expected);
    for copied in [0, 1, step - 1, step + 1, bytes, u64::MAX] {
        let servers = model(1, |_| ok([copied]));
        let loaded = Servers(&servers).load(Source::Zeros, 0, 0, bytes);
        let (label, word) = (memslots::READY, 0);
        assert_eq!(why(loaded), Why::Answer { label, word });
        assert_eq!(servers.calls.get(), 1);
    }
    let servers = model(1, |_| panic!("nothing to do"));
    assert_eq!(Servers(&servers).load(Source::Zeros, 0, 0, 0), Ok(()));
}

proptest! {
    /// Whatever servers answer, every operation ends within its limit.
    #[test]
    fn any_answers_end(seed in prop::collection::vec((0u64..3, prop::array::uniform4(0u64..6)), 1..40)) {
        let mut next = seed.iter().cycle();
        let mut all = || {
            let (label, words) = next.next().unwrap();
            let [a, b, c, d] = *words;
            (*label, [a, b, c, d, 0, 0, 0, 0])
        };
        let servers = model(PATIENCE / 50, |_| all());
        let s = Servers(&servers);
        let mut most = 0;
        let mut within = |limit: u64| {
            most += limit;
            assert!(servers.calls.get() <= most);
            most = servers.calls.get();
        };
        let _ = s.reset_table(24, 1 << 30);
        within(((1 << 20) + (1 << 18)) / hpt::SCAN + 1);
        let _ = s.set_up_vrma(1 << 30);
        within((1 << 18) / hpt::BATCH + 1);
        let _ = s.create_slot(1 << 30);
        within(53);
        let _ = s.unregister_all(0, [1, 2].into_iter());
        within(54);
        let _ = s.load(Source::Kernel, 0, 0, 1 << 30);
        within((1 << 30) / memslots::LOAD_STEP);
    }
}
