// SPDX-License-Identifier: BSD-2-Clause
//! Model checking (`RUSTFLAGS="--cfg loom" cargo test -p partita-srcu --release`).

extern crate std;
use crate::*;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use partita_papr::Gfn;
use std::boxed::Box;
use std::vec::Vec;

fn slot(n: u64, flags: SlotFlags) -> Slot {
    Slot {
        base: Gfn::new(n).unwrap(),
        npages: 100 + n,
        flags,
        page_shift: 12,
        id: n as u16,
    }
}

/// What the threads of one execution share.
struct Shared {
    table: Table,
    epochs: Vec<EpochWord>,
    freed: AtomicBool,
}

fn shared(readers: usize) -> Arc<Shared> {
    Arc::new(Shared {
        table: Table::new(),
        epochs: (0..readers).map(|_| EpochWord::new()).collect(),
        freed: AtomicBool::new(false),
    })
}

fn with_writer(shared: &Shared, f: impl FnOnce(&Writer<'_>)) {
    let words: Box<[&EpochWord]> = shared.epochs.iter().collect();
    f(&Writer::new(&shared.table, &words));
}

fn wait(writer: &Writer<'_>) {
    while writer.drained() != Drained::Done {
        thread::yield_now();
    }
}

/// A snapshot never mixes two generations and is not overwritten while it is read.
#[test]
fn s3_1_snapshots_are_whole() {
    loom::model(|| {
        let shared = shared(1);
        let theirs = shared.clone();
        let reader = thread::spawn(move || {
            let reader = Reader::new(&theirs.table, &theirs.epochs[0]);
            let guard = reader.read();
            let first = guard.iter().next();
            if let Some(s) = first {
                assert_eq!(s.npages, 100 + s.base.get());
                assert_eq!(s.id as u64, s.base.get());
            }
            assert_eq!(guard.iter().next(), first, "immutable");
        });
        with_writer(&shared, |writer| {
            let mut n = 1;
            // The third generation reuses the half of the first.
            while n <= 3 {
                match writer.publish(&[slot(n, SlotFlags::NONE)]) {
                    Ok(_) => n += 1,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        reader.join().unwrap();
    });
}

/// S3.5, S3.11: after INVALID, drain, removal, drain, nobody can hold the slot any more.
#[test]
fn s3_5_nothing_is_freed_under_a_reader() {
    loom::model(|| {
        let shared = shared(1);
        with_writer(&shared, |w| {
            w.publish(&[slot(1, SlotFlags::NONE)]).unwrap();
            wait(w);
        });
        let theirs = shared.clone();
        let reader = thread::spawn(move || {
            let reader = Reader::new(&theirs.table, &theirs.epochs[0]);
            let guard = reader.read();
            if guard
                .lookup(Gfn::new(1).unwrap(), Policy::Instantiate)
                .is_some()
            {
                assert!(!theirs.freed.load(Ordering::Relaxed));
            }
            drop(guard);
        });
        with_writer(&shared, |w| {
            w.publish(&[slot(1, SlotFlags::INVALID)]).unwrap();
            wait(w);
            shared.freed.store(true, Ordering::Relaxed);
        });
        reader.join().unwrap();
    });
}
