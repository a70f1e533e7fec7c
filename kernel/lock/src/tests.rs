// SPDX-License-Identifier: BSD-2-Clause
//! One thread at a time; everything that depends on interleaving is in `model.rs`.

use crate::*;

#[test]
fn lock_is_exclusive_and_fair() {
    let lock = TicketLock::new();
    lock.lock(|| unreachable!("it is free"));
    assert!(!lock.try_lock());
    assert!(!lock.contended());
    // A second comer waits until the holder lets go.
    let mut waited = 0;
    lock.lock(|| {
        assert!(lock.contended());
        waited += 1;
        if waited == 3 {
            lock.unlock();
        }
    });
    assert_eq!(waited, 3);
    lock.unlock();
    assert!(lock.try_lock());
    lock.unlock();
}

#[test]
fn tickets_wrap_around() {
    let lock = TicketLock {
        next: AtomicU32::new(u32::MAX),
        serving: AtomicU32::new(u32::MAX),
    };
    for _ in 0..3 {
        assert!(lock.try_lock());
        assert!(!lock.contended());
        lock.unlock();
        lock.lock(|| unreachable!("it is free"));
        lock.unlock();
    }
}

#[test]
fn requests_are_served_once() {
    let core = CoreLock::new();
    core.serve(|_| unreachable!("nothing was asked"));
    core.ask(7);
    assert!(!core.is_served());
    let mut seen = 0;
    core.serve(|request| seen = request);
    assert_eq!(seen, 7);
    assert!(core.is_served());
    core.serve(|_| unreachable!("nothing more was asked"));
}

#[test]
fn core_says_where_it_is() {
    let core = CoreLock::new();
    assert!(!core.is_running());
    core.depart();
    assert!(core.is_running());
    core.arrive();
    assert!(!core.is_running());
}

#[test]
fn all_locks_are_taken_and_released() {
    let cores = [const { CoreLock::new() }; 3];
    lock_all(cores.iter(), || unreachable!("all are free"));
    assert!(cores.iter().all(|c| !c.lock.try_lock()));
    unlock_all(cores.iter());
    assert!(cores.iter().all(|c| c.lock.try_lock()));
}
