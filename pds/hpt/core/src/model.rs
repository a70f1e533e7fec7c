// SPDX-License-Identifier: BSD-2-Clause
//! Model checking of the lock bits: two instances on one memory
//! (`RUSTFLAGS="--cfg loom" cargo test -p partita-hpt --release`).

extern crate std;

use crate::*;
use loom::sync::Arc;
use loom::thread;
use partita_instance::atomic::{AtomicU64, Ordering};
use partita_papr::hcall::{flags, number::*, status::*};
use partita_papr::hpte::*;
use partita_papr::{Gfn, HptOrder, Ptex};
use partita_srcu::{EpochWord, Reader, Slot, SlotFlags, Writer};
use std::vec::Vec;

const ENTRIES: usize = 8;
const V: u64 = B_1T | 0x42 << 24;

/// One group of a table, two pages, two instances.
struct Memory {
    rev: Vec<Rev>,
    rmap: Vec<AtomicU64>,
    real: Vec<RealHpte>,
    control: Control,
    slots: partita_srcu::Table,
    epochs: [EpochWord; 2],
    intercept: AtomicU64,
}

struct Kernel<'m>(&'m Memory);

impl Memory {
    fn new() -> Arc<Self> {
        let memory = Memory {
            rev: (0..ENTRIES).map(|_| Rev::new()).collect(),
            rmap: (0..2).map(|_| AtomicU64::new(0)).collect(),
            real: (0..ENTRIES).map(|_| RealHpte::new(0, 0)).collect(),
            control: Control::default(),
            slots: partita_srcu::Table::new(),
            epochs: [EpochWord::new(), EpochWord::new()],
            intercept: AtomicU64::new(0),
        };
        let slot = Slot {
            base: Gfn::new(0).unwrap(),
            npages: 2,
            flags: SlotFlags::NONE,
            page_shift: 12,
            id: 0,
        };
        let words = [&memory.epochs[0], &memory.epochs[1]];
        Writer::new(&memory.slots, &words).publish(&[slot]).unwrap();
        Arc::new(memory)
    }

    fn instance(&self, i: usize) -> Hpt<'_, Kernel<'_>, Kernel<'_>> {
        let state = State {
            order: HptOrder::new(18).unwrap(),
            rev: &self.rev,
            rmap: &self.rmap,
            real: &self.real,
            control: &self.control,
        };
        let reader = Reader::new(&self.slots, &self.epochs[i]);
        Hpt::new(
            state,
            reader,
            Kernel(self),
            Kernel(self),
            partita_papr::PageSize::Size4K,
        )
    }

    /// Another entry of the group is in use, outside the chains that are looked at.
    fn occupy(&self, index: usize) {
        self.rev[index].v.store(V | ABSENT, Ordering::Relaxed);
    }

    fn check(&self) {
        let hpt = self.instance(0);
        let mut valid = 0;
        for i in 0..ENTRIES as u64 {
            valid += u64::from(hpt.verify_entry(i).expect("I1, I2, I7").0);
        }
        let members: u64 = (0..2)
            .map(|g| {
                hpt.verify_chain(Gfn::new(g).unwrap(), &mut 0)
                    .expect("I2 to I6")
            })
            .sum();
        assert_eq!(members, valid, "I1, I3");
    }
}

impl Table for Kernel<'_> {
    fn insert(&self, ptex: Ptex, v: u64, r: u64) -> Result<(), TableError> {
        let real = &self.0.real[ptex.index() as usize];
        assert_eq!(real.dw0() & VALID, 0, "two owners");
        let isa = GuestHpte { v, r }.to_isa30();
        real.set(isa.v, isa.r);
        Ok(())
    }

    fn remove(&self, ptex: Ptex) -> Result<u64, TableError> {
        let real = &self.0.real[ptex.index() as usize];
        assert!(real.dw0() & VALID != 0, "removed twice");
        real.set(0, 0);
        Ok(R | C)
    }

    fn remove_batch(&self, entries: &[Ptex]) -> Result<[u64; 4], TableError> {
        for ptex in entries {
            self.remove(*ptex)?;
        }
        Ok([0; 4])
    }

    fn update(&self, _: Ptex, _: u64) -> Result<(), TableError> {
        Ok(())
    }

    fn clear_rc(&self, _: Ptex, _: u64) -> Result<u64, TableError> {
        Ok(0)
    }

    fn clear(&self) -> Result<(), TableError> {
        Ok(())
    }

    fn set_fault_mode(&self, intercept: bool) -> Result<(), TableError> {
        self.0
            .intercept
            .store(u64::from(intercept), Ordering::SeqCst);
        Ok(())
    }
}

impl Pages for Kernel<'_> {
    fn request(&self, _: Gfn, _: u32, _: bool) -> PageAnswer {
        PageAnswer::Ready
    }
    fn zero(&self, _: Gfn, _: u32) -> PageAnswer {
        PageAnswer::Ready
    }
    fn copy(&self, _: Gfn, _: Gfn) -> PageAnswer {
        PageAnswer::Ready
    }
}

fn check(threads: fn(Arc<Memory>) -> [thread::JoinHandle<()>; 2], before: fn(&Memory)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 50_000;
    builder.check(move || {
        let memory = Memory::new();
        before(&memory);
        for handle in threads(memory.clone()) {
            handle.join().unwrap();
        }
        memory.check();
    });
}

fn spawn(
    memory: &Arc<Memory>,
    instance: usize,
    f: impl FnOnce(&Memory, &Hpt<'_, Kernel<'_>, Kernel<'_>>) + 'static,
) -> thread::JoinHandle<()> {
    let memory = memory.clone();
    thread::spawn(move || f(&memory, &memory.instance(instance)))
}

fn enter(hpt: &Hpt<'_, Kernel<'_>, Kernel<'_>>, index: u64, v: u64, gfn: u64) -> Reply {
    hpt.hypercall(H_ENTER, [flags::EXACT, index, v, gfn << 12, 0, 0, 0, 0])
}

fn remove(hpt: &Hpt<'_, Kernel<'_>, Kernel<'_>>, index: u64) -> i64 {
    hpt.hypercall(H_REMOVE, [0, index, 0, 0, 0, 0, 0, 0]).status
}

/// S4.8, S4.9: two insertions meet in a group with two free entries, on one chain.
#[test]
fn s4_8_s4_9_enter_enter() {
    check(
        |memory| {
            [0, 1].map(|i| {
                spawn(&memory, i, move |_, hpt| {
                    let reply = hpt.hypercall(H_ENTER, [0, 0, V | (i as u64) << 7, 0, 0, 0, 0, 0]);
                    assert_eq!(reply.status, H_SUCCESS);
                })
            })
        },
        |memory| (2..ENTRIES).for_each(|i| memory.occupy(i)),
    );
}

/// One free entry: exactly one insertion gets it.
#[test]
fn enter_enter_one_free() {
    check(
        |memory| {
            [0, 1].map(|i| {
                spawn(&memory, i, move |_, hpt| {
                    let status = hpt.hypercall(H_ENTER, [0; 8]).status;
                    assert!(matches!(status, H_SUCCESS | H_PTEG_FULL));
                })
            })
        },
        |memory| (1..ENTRIES).for_each(|i| memory.occupy(i)),
    );
}

/// S4.8, S3.5: a flush meets an insertion and a removal on the same chain.
#[test]
fn s4_8_flush_against_enter_and_remove() {
    check(
        |memory| {
            [
                spawn(&memory, 0, |memory, hpt| {
                    let mut range = GfnRange { next: 0, end: 1 };
                    assert_eq!(hpt.flush(&mut range), Ok(Progress::Done));
                    // Interception is on before anything is ABSENT.
                    let absent = memory
                        .rev
                        .iter()
                        .any(|e| e.v.load(Ordering::Acquire) & ABSENT != 0);
                    assert!(!absent || memory.intercept.load(Ordering::SeqCst) == 1);
                }),
                spawn(&memory, 1, |_, hpt| {
                    assert_eq!(remove(hpt, 0), H_SUCCESS);
                    assert_eq!(enter(hpt, 1, V, 0).status, H_SUCCESS);
                }),
            ]
        },
        |memory| assert_eq!(enter(&memory.instance(0), 0, V, 0).status, H_SUCCESS),
    );
}

/// Two H_BULK_REMOVEs of the same entries in opposite order do not wait for each other for ever.
#[test]
fn bulk_remove_crosswise() {
    check(
        |memory| {
            [0, 1].map(|i| {
                spawn(&memory, i, move |_, hpt| {
                    let (a, b) = (1 << 62 | i as u64, 1 << 62 | 1 - i as u64);
                    let reply = hpt.hypercall(H_BULK_REMOVE, [a, 0, b, 0, 3 << 62, 0, 0, 0]);
                    assert_eq!(reply.status, H_SUCCESS);
                })
            })
        },
        |memory| {
            let hpt = memory.instance(0);
            assert_eq!(enter(&hpt, 0, V, 0).status, H_SUCCESS);
            assert_eq!(enter(&hpt, 1, V, 0).status, H_SUCCESS);
        },
    );
}

/// H_READ without the lock never mixes two entries.
#[test]
fn read_against_replace() {
    check(
        |memory| {
            [
                spawn(&memory, 0, |_, hpt| {
                    let words = hpt.hypercall(H_READ, [0; 8]).words;
                    let (v, r) = (words[0], words[1] & !(R | C));
                    assert!(
                        [(0, 0), (V | VALID, 0), (V | 0x80 | VALID, 0x1000)].contains(&(v, r)),
                        "{v:#x} {r:#x}"
                    );
                }),
                spawn(&memory, 1, |_, hpt| {
                    assert_eq!(remove(hpt, 0), H_SUCCESS);
                    assert_eq!(enter(hpt, 0, V | 0x80, 1).status, H_SUCCESS);
                }),
            ]
        },
        |memory| assert_eq!(enter(&memory.instance(0), 0, V, 0).status, H_SUCCESS),
    );
}

/// The fault mode: counting up and down on two cores, interception on whenever the count is not 0.
#[test]
fn fault_mode_is_on_while_anything_counts() {
    check(
        |memory| {
            [0, 1].map(|i| {
                spawn(&memory, i, |memory, _| {
                    let kernel = Kernel(memory);
                    let mode = &memory.control.fault_mode;
                    mode.raise(&kernel).unwrap();
                    assert_eq!(memory.intercept.load(Ordering::SeqCst), 1);
                    mode.lower();
                    mode.relax(&kernel);
                })
            })
        },
        |_| {},
    );
}
