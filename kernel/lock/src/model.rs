// SPDX-License-Identifier: BSD-2-Clause
//! Model checking (`RUSTFLAGS="--cfg loom" cargo test -p partita-kernel-lock --release`).
//!
//! What the locks protect (kernel objects, a thread's registers in memory, what a guest left in a core's
//! registers) stands here as counters that are loaded and stored without any order of their own: a
//! missing order or exclusion shows as a lost increment or an old value. User mode is a loop that ends
//! when the doorbell rings.

use crate::*;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;

/// Bounds the search: so many times a thread loses its processor where it need not.
const PREEMPTIONS: usize = 3;
/// Steps of one execution; waiting takes some.
const BRANCHES: usize = 10_000;

/// A variable that only the protocol keeps consistent.
struct Plain(AtomicU64);

impl Plain {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    fn add(&self, n: u64) {
        self.set(self.get() + n);
    }
}

/// What the cores of one execution share.
struct Machine {
    cores: [CoreLock; 2],
    doorbells: [AtomicBool; 2],
    /// What belongs to each core: its run queue, its endpoints.
    own: [Plain; 2],
    /// What belongs to no core.
    common: Plain,
    /// The registers of each core's thread, in memory.
    registers: [Plain; 2],
    /// What a guest left in each core's registers, and where it goes when the core is asked for it.
    residue: [Plain; 2],
    saved: Plain,
}

impl Machine {
    fn new() -> Arc<Self> {
        let pair = |a, b| [Plain::new(a), Plain::new(b)];
        Arc::new(Self {
            cores: [CoreLock::new(), CoreLock::new()],
            doorbells: [AtomicBool::new(false), AtomicBool::new(false)],
            own: pair(0, 0),
            common: Plain::new(0),
            registers: pair(0, 0),
            residue: pair(40, 41),
            saved: Plain::new(0),
        })
    }

    /// Waits for a lock as core `id`.
    fn wait(&self, id: usize) {
        self.cores[id].serve(|request| {
            self.saved.set(self.residue[id].get() + request);
            self.residue[id].set(0);
        });
        thread::yield_now();
    }

    /// Enters the kernel for something that takes all locks.
    fn enter(&self, id: usize) {
        self.cores[id].arrive();
        lock_all(self.cores.iter(), || self.wait(id));
    }

    fn leave(&self, id: usize, run: bool) {
        if run {
            self.cores[id].depart();
        }
        unlock_all(self.cores.iter());
    }

    fn ring(&self, id: usize) {
        self.doorbells[id].store(true, Ordering::Release);
    }

    /// Gets core `id` out of user mode. The caller holds all locks.
    fn stop(&self, id: usize) {
        if self.cores[id].is_running() {
            self.ring(id);
            while self.cores[id].is_running() {
                thread::yield_now();
            }
        }
    }

    /// Asks core `id` for what a guest left in it. The caller holds all locks.
    fn fetch(&self, id: usize) -> u64 {
        self.cores[id].ask(100);
        self.ring(id);
        while !self.cores[id].is_served() {
            thread::yield_now();
        }
        self.saved.get()
    }

    /// User mode: loads the registers, changes them, saves them at the doorbell.
    fn user(&self, id: usize) {
        let registers = self.registers[id].get();
        while !self.doorbells[id].load(Ordering::Acquire) {
            thread::yield_now();
        }
        self.doorbells[id].store(false, Ordering::Relaxed);
        self.registers[id].set(registers + 1);
    }
}

fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = BRANCHES;
    builder.check(f);
}

/// The lock excludes, in either way of taking it, and orders what was done under it.
#[test]
fn ticket_lock_excludes() {
    check(|| {
        let shared = Arc::new((TicketLock::new(), Plain::new(0)));
        let body = |shared: Arc<(TicketLock, Plain)>| {
            let (lock, counter) = &*shared;
            if !lock.try_lock() {
                lock.lock(thread::yield_now);
            }
            counter.add(1);
            lock.unlock();
        };
        let theirs = shared.clone();
        let other = thread::spawn(move || {
            body(theirs.clone());
            body(theirs);
        });
        body(shared.clone());
        other.join().unwrap();
        assert_eq!(shared.1.get(), 3);
    });
}

/// Who came first is served first.
#[test]
fn ticket_lock_is_fair() {
    check(|| {
        let shared = Arc::new((TicketLock::new(), Plain::new(0), AtomicBool::new(false)));
        let theirs = shared.clone();
        shared.0.lock(thread::yield_now);
        let first = thread::spawn(move || {
            let (lock, served, waiting) = &*theirs;
            lock.lock(|| {
                waiting.store(true, Ordering::Release);
                thread::yield_now();
            });
            served.set(1);
            lock.unlock();
        });
        let (lock, served, waiting) = &*shared;
        let is_waiting = waiting.load(Ordering::Acquire);
        lock.unlock();
        lock.lock(thread::yield_now);
        assert!(!is_waiting || served.get() == 1);
        lock.unlock();
        first.join().unwrap();
    });
}

/// A core under its own lock against one that takes all of them: neither sees the other at work.
#[test]
fn own_lock_against_all() {
    check(|| {
        let machine = Machine::new();
        let theirs = machine.clone();
        let other = thread::spawn(move || {
            // The fast path, which leaves the work to the slow one if its lock is taken.
            if theirs.cores[1].lock.try_lock() {
                theirs.own[1].add(1);
                theirs.cores[1].lock.unlock();
            } else {
                theirs.enter(1);
                theirs.own[1].add(1);
                theirs.leave(1, false);
            }
            theirs.enter(1);
            theirs.common.add(1);
            theirs.leave(1, false);
        });
        machine.enter(0);
        let (own, common) = (machine.own[1].get(), machine.common.get());
        machine.own[1].add(1);
        machine.common.add(1);
        assert_eq!(machine.own[1].get(), own + 1);
        assert_eq!(machine.common.get(), common + 1);
        machine.leave(0, false);
        other.join().unwrap();
        assert_eq!(machine.own[1].get(), 2);
        assert_eq!(machine.common.get(), 2);
    });
}

/// Two cores that both take all locks, twice.
#[test]
fn two_cores_take_all_locks() {
    check(|| {
        let machine = Machine::new();
        let theirs = machine.clone();
        let other = thread::spawn(move || {
            for _ in 0..2 {
                theirs.enter(1);
                theirs.common.add(1);
                theirs.leave(1, false);
            }
        });
        for _ in 0..2 {
            machine.enter(0);
            machine.common.add(1);
            machine.leave(0, false);
        }
        other.join().unwrap();
        assert_eq!(machine.common.get(), 4);
    });
}

/// One core forces another out of user mode or its guest and changes its thread's registers, while that
/// one enters and leaves. What it changed is there when the thread goes on, and nothing of what the thread
/// did is lost.
#[test]
fn thread_is_stopped_on_another_core() {
    check(|| {
        let machine = Machine::new();
        let theirs = machine.clone();
        let other = thread::spawn(move || {
            theirs.enter(1);
            theirs.leave(1, true);
            theirs.user(1);
            theirs.enter(1);
            theirs.own[1].set(theirs.registers[1].get());
            theirs.leave(1, false);
        });
        machine.enter(0);
        machine.stop(1);
        let before = machine.registers[1].get();
        machine.registers[1].add(10);
        assert_eq!(machine.registers[1].get(), before + 10);
        machine.leave(0, false);
        // Whatever happened before: user mode ends.
        machine.ring(1);
        other.join().unwrap();
        assert_eq!(machine.registers[1].get(), 11);
        assert_eq!(machine.own[1].get(), 11);
    });
}

/// The holder of all locks asks for what only the other core can give, while that one waits for a lock,
/// runs its thread or comes and goes: it is always served, and each side sees what the other wrote.
#[test]
fn spinner_serves_requests() {
    check(|| {
        let machine = Machine::new();
        let theirs = machine.clone();
        let other = thread::spawn(move || {
            theirs.enter(1);
            theirs.residue[1].add(1);
            theirs.leave(1, true);
            // User mode, then the idle loop: a doorbell ends both.
            while theirs.own[0].get() == 0 {
                theirs.user(1);
                theirs.enter(1);
                theirs.leave(1, true);
            }
        });
        machine.enter(0);
        let saved = machine.fetch(1);
        assert!(saved == 141 || saved == 142, "{saved}");
        machine.own[0].set(1);
        machine.leave(0, false);
        machine.ring(1);
        other.join().unwrap();
        // What was not there when it was asked for is there now.
        assert_eq!(machine.residue[1].get(), 142 - saved);
    });
}

/// Both cores want each other out of user mode at the same time.
#[test]
fn two_cores_stop_each_other() {
    check(|| {
        let machine = Machine::new();
        let body = |machine: &Machine, id: usize| {
            machine.enter(id);
            machine.stop(1 - id);
            machine.registers[1 - id].add(10);
            machine.leave(id, true);
            // User mode of this core, until somebody rings or the core enters by itself.
            let registers = machine.registers[id].get();
            machine.registers[id].set(registers + 1);
            machine.enter(id);
            machine.leave(id, false);
        };
        let theirs = machine.clone();
        let other = thread::spawn(move || body(&theirs, 1));
        body(&machine, 0);
        other.join().unwrap();
        assert_eq!(machine.registers[0].get(), 11);
        assert_eq!(machine.registers[1].get(), 11);
    });
}
