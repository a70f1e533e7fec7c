// SPDX-License-Identifier: BSD-2-Clause
//! Storage faults (SPEC 5.4) and the virtual real mode area (S2.12 to S2.19).

use super::machine::*;
use crate::fault::cause;
use crate::*;
use partita_papr::hash::{SLB_KP, SLB_N, Segment, vrma_ptex};
use partita_papr::hcall::{number::*, status::*};
use partita_papr::hpte::*;
use partita_papr::{HptOrder, PageSize};
use partita_srcu::SlotFlags;

const EA: u64 = 0x1234_0000;
const ASDR: u64 = B_1T | 0x42 << 24 | 0x110;
const DR: u64 = 0x10;
const IR: u64 = 0x20;
const PR: u64 = 0x4000;

fn order() -> HptOrder {
    HptOrder::new(ORDER).unwrap()
}

/// Enters the page of [`EA`], 64 KiB, and returns its index.
fn enter_ea(hpt: &Hpt<'_, &Kernel<'_>, &Kernel<'_>>, r: u64, secondary: bool) -> u64 {
    let segment = Segment::new(ASDR).unwrap();
    let (group, hash) = if secondary {
        (segment.secondary_group(EA, order()), SECONDARY)
    } else {
        (segment.primary_group(EA, order()), 0)
    };
    let reply = enter(hpt, group << 3, segment.avpn(EA) | LARGE | hash, r | 0x1000);
    assert_eq!(reply.status, H_SUCCESS);
    reply.words[0]
}

fn load(cause: u64) -> Fault {
    Fault {
        dar: EA + 0x123,
        msr: DR,
        cause,
        asdr: ASDR,
        ..Default::default()
    }
}

fn data(dsisr: u64) -> FaultAction {
    FaultAction::Inject {
        vector: 0x300,
        srr1: 0,
        dar: EA + 0x123,
        dsisr,
    }
}

fn fetch(srr1: u64) -> FaultAction {
    FaultAction::Inject {
        vector: 0x400,
        srr1,
        dar: 0,
        dsisr: 0,
    }
}

/// F1, F2: the guest's own faults, and those that are out of date.
#[test]
fn f1_f2_reflected_or_retried() {
    with(|_, _, hpt| {
        assert_eq!(hpt.storage_fault(&load(cause::KEY)), data(cause::KEY));
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), data(cause::NOHPTE));
        assert_eq!(hpt.storage_fault(&load(cause::PROT)), FaultAction::Resume);
        assert_eq!(hpt.storage_fault(&load(cause::CANARY)), FaultAction::Resume);
        let fetched = Fault {
            instruction: true,
            pc: EA,
            msr: IR,
            asdr: ASDR,
            ..load(cause::PROT)
        };
        assert_eq!(hpt.storage_fault(&fetched), fetch(cause::PROT));
        let missed = Fault {
            cause: cause::NOHPTE | 0xf,
            ..fetched
        };
        assert_eq!(hpt.storage_fault(&missed), fetch(cause::NOHPTE));
        // A segment word that is none.
        assert_eq!(
            hpt.storage_fault(&Fault {
                asdr: 3 << 62,
                ..load(cause::NOHPTE)
            }),
            data(cause::NOHPTE)
        );
    });
}

/// F3: somebody was faster.
#[test]
fn f3_valid_meanwhile() {
    with(|_, _, hpt| {
        enter_ea(hpt, 0x2_0000 | 2, false);
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), FaultAction::Resume);
    });
}

/// F4, F5: an ABSENT entry that the guest itself may not use.
#[test]
fn f4_f5_guest_permissions_first() {
    for secondary in [false, true] {
        with(|_, kernel, hpt| {
            kernel.backing.borrow_mut().insert(32, Backing::Busy);
            let index = enter_ea(hpt, 0x2_0000 | N | 3 | KEY_LOW, secondary);
            assert_eq!(hpt.state().fault_mode(), (1, true));
            let store = cause::NOHPTE | cause::STORE;
            assert_eq!(
                hpt.storage_fault(&load(store)),
                data(cause::PROT | cause::STORE)
            );
            let key = |amr| Fault {
                amr,
                ..load(cause::NOHPTE)
            };
            assert_eq!(hpt.storage_fault(&key(1 << (62 - 14))), data(cause::KEY));
            assert_eq!(hpt.storage_fault(&key(2 << (62 - 14))), FaultAction::Resume);
            let fetched = Fault {
                instruction: true,
                pc: EA,
                msr: IR,
                asdr: ASDR,
                ..load(cause::NOHPTE)
            };
            assert_eq!(hpt.storage_fault(&fetched), fetch(cause::N_G));
            hpt.hypercall(H_PROTECT, [1, index, 0, 0, 0, 0, 0, 0]);
            let no_execute = Fault {
                asdr: ASDR | SLB_N,
                ..fetched
            };
            assert_eq!(hpt.storage_fault(&no_execute), fetch(cause::N_G));
            hpt.hypercall(H_PROTECT, [0, index, 0, 0, 0, 0, 0, 0]);
            let user = Fault {
                msr: IR | PR,
                asdr: ASDR | SLB_KP,
                ..fetched
            };
            assert_eq!(hpt.storage_fault(&user), fetch(cause::PROT));
            let user = Fault {
                msr: DR | PR,
                asdr: ASDR | SLB_KP,
                ..load(cause::NOHPTE)
            };
            assert_eq!(hpt.storage_fault(&user), data(cause::PROT));
            let guarded = Fault {
                iamr: 1 << 62,
                ..fetched
            };
            assert_eq!(hpt.storage_fault(&guarded), fetch(cause::KEY));
        });
    }
}

/// F7: BUSY makes an ABSENT entry, a fault completes it, interception ends when a fault comes that
/// was not needed.
#[test]
fn f7_s2_20_absent_entry_is_completed_by_a_fault() {
    with(|_, kernel, hpt| {
        kernel.backing.borrow_mut().insert(32, Backing::Busy);
        let index = enter_ea(hpt, 0x2_0000 | 2, false);
        assert!(kernel.intercept.get());
        let read = hpt.hypercall(H_READ, [0, index, 0, 0, 0, 0, 0, 0]);
        assert!(read.words[0] & VALID != 0, "the guest sees it");
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), FaultAction::Resume);
        assert_eq!(hpt.state().fault_mode(), (1, true), "still busy");
        kernel.backing.borrow_mut().clear();
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), FaultAction::Resume);
        assert!(kernel.access(index, true));
        assert_eq!(
            hpt.state().fault_mode(),
            (0, false),
            "nothing needs it any more"
        );
        assert_eq!(kernel.mode_changes.get(), 2);
    });
}

/// F7 of a page that is reclaimed: the fault waits for the end although the GSpace still has the page,
/// also with translation off.
#[test]
fn f7_a_page_that_is_reclaimed_stays_absent() {
    with(|_, kernel, hpt| {
        let index = enter_ea(hpt, 0x2_0000 | 2, false);
        assert!(kernel.access(index, true));
        let real = Fault {
            dar: 0x2_0123,
            msr: 0,
            cause: cause::NOHPTE,
            ..Default::default()
        };
        for gfn in 32..48 {
            kernel.backing.borrow_mut().insert(gfn, Backing::Busy);
        }
        let mut range = GfnRange { next: 32, end: 48 };
        assert_eq!(hpt.flush(&mut range), Ok(Progress::Done));
        for fault in [load(cause::NOHPTE), real, load(cause::NOHPTE)] {
            assert_eq!(hpt.storage_fault(&fault), FaultAction::Resume);
            assert!(!kernel.access(index, false));
            assert_eq!(kernel.unmap(32), Ok(()), "nothing pins it");
            kernel.map(32);
        }
        kernel.backing.borrow_mut().clear();
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), FaultAction::Resume);
        assert!(kernel.access(index, true));
        assert_eq!(hpt.storage_fault(&real), FaultAction::Resume);
        assert_eq!(hpt.state().fault_mode().0, 0);
    });
}

/// F7: the page cannot be had, or its slot has gone.
#[test]
fn f7_no_page() {
    with(|memory, kernel, hpt| {
        kernel.backing.borrow_mut().insert(32, Backing::Busy);
        let index = enter_ea(hpt, 0x2_0000 | 2, false);
        kernel.backing.borrow_mut().insert(32, Backing::Refused);
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), data(cause::PROT));
        memory.publish(&[slot(0, 0, GFNS, SlotFlags::INVALID)]);
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), data(cause::PROT));
        // H_REMOVE of an ABSENT entry succeeds and uncounts it.
        assert_eq!(
            hpt.hypercall(H_REMOVE, [0, index, 0, 0, 0, 0, 0, 0]).status,
            H_SUCCESS
        );
        assert_eq!(hpt.state().fault_mode(), (0, true));
    });
}

/// F7 in a read-only slot: an entry that was made while its page was BUSY is completed, too.
#[test]
fn f7_s2_20_absent_entry_of_a_read_only_slot() {
    with(|memory, kernel, hpt| {
        memory.publish(&[slot(0, 0, GFNS, SlotFlags::READ_ONLY)]);
        kernel.read_only.borrow_mut().extend(0..GFNS);
        kernel.backing.borrow_mut().insert(32, Backing::Busy);
        let index = enter_ea(hpt, 0x2_0000 | 2, false);
        kernel.backing.borrow_mut().clear();
        assert_eq!(hpt.storage_fault(&load(cause::NOHPTE)), FaultAction::Resume);
        assert!(kernel.access(index, false) && !kernel.access(index, true));
        assert_eq!(hpt.state().fault_mode(), (1, true));
    });
}

/// A read-only slot: the guest's view is writable, the real entry is not, the store faults.
#[test]
fn read_only_slot() {
    with(|memory, kernel, hpt| {
        memory.publish(&[slot(0, 0, GFNS, SlotFlags::READ_ONLY)]);
        kernel.read_only.borrow_mut().extend(0..GFNS);
        let index = enter_ea(hpt, 0x2_0000 | 2, false);
        assert_eq!(hpt.state().fault_mode(), (1, true));
        assert!(!kernel.access(index, true) && kernel.access(index, false));
        let store = load(cause::PROT | cause::STORE);
        assert_eq!(hpt.storage_fault(&store), data(cause::PROT | cause::STORE));
        let protect = |pp| {
            hpt.hypercall(H_PROTECT, [pp, index, 0, 0, 0, 0, 0, 0])
                .status
        };
        assert_eq!(protect(3), H_SUCCESS);
        assert_eq!(hpt.state().fault_mode().0, 0);
        assert_eq!(protect(2), H_SUCCESS);
        assert_eq!(hpt.state().fault_mode(), (1, true));
        let read = hpt.hypercall(H_READ, [0, index, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read.words[1] & 3, 2, "the guest's view");
        kernel.poisoned.set(true);
        assert_eq!(protect(3), H_HARDWARE);
        kernel.poisoned.set(false);
        hpt.verify_all().unwrap();
    });
}

/// S2.12 to S2.14, S2.18, finding 7: the area at the first run.
#[test]
fn s2_12_s2_14_s2_18_set_up() {
    with(|memory, kernel, hpt| {
        memory.publish(&[]);
        assert_eq!(hpt.set_up_vrma(&mut 0, 1 << 20), Err(VrmaError::NoMemory));
        memory.publish(&[slot(0, 0, GFNS, SlotFlags::INVALID)]);
        assert_eq!(hpt.set_up_vrma(&mut 0, 1 << 20), Err(VrmaError::NoMemory));
        memory.publish(&[slot(0, 0, 24, SlotFlags::NONE)]);
        assert_eq!(hpt.set_up_vrma(&mut 0, 1 << 20), Err(VrmaError::PageSize));
        memory.publish(&[slot(0, 0, GFNS, SlotFlags::NONE)]);
        kernel.backing.borrow_mut().insert(20, Backing::Refused);
        let mut cursor = 0;
        assert_eq!(
            hpt.set_up_vrma(&mut cursor, 1 << 20),
            Err(VrmaError::Page(0x1_0000))
        );
        kernel.backing.borrow_mut().clear();
        // From the start again: entries that are there already are its own.
        let mut cursor = 0;
        assert_eq!(hpt.set_up_vrma(&mut cursor, 1 << 20), Ok(Progress::Done));
        assert_eq!(cursor, GFNS / 16, "no more than the slot");
        for page in 0..GFNS / 16 {
            let ptex = vrma_ptex(page << 16, PageSize::Size64K, order()).get();
            let read = hpt.hypercall(H_READ, [0, ptex, 0, 0, 0, 0, 0, 0]);
            assert_eq!(
                read.words[0],
                0x4001_ffff_ff00_0015 | (page & !0x7f) & !0x7f
            );
            assert_eq!(read.words[1], page << 16 | 0x1190);
            assert!(kernel.access(ptex, true));
        }
        // S2.13: done is done.
        assert_eq!(hpt.set_up_vrma(&mut 0, 1 << 20), Ok(Progress::Done));
    });
}

/// S2.18: a place that is taken fails the run.
#[test]
fn s2_18_full_place_fails() {
    with(|_, _, hpt| {
        let ptex = vrma_ptex(0, PageSize::Size64K, order()).get();
        let reply = hpt.hypercall(H_ENTER, [1 << 39, ptex, V, 0x5000, 0, 0, 0, 0]);
        assert_eq!(reply.status, H_SUCCESS);
        assert_eq!(hpt.set_up_vrma(&mut 0, 1 << 20), Err(VrmaError::Full(0)));
    });
}

/// A fault with translation off makes its entry, in either group, and evicts if it must.
#[test]
fn vrma_on_demand() {
    with(|_, kernel, hpt| {
        // The top bits of a real-mode address do not count.
        let fault = Fault {
            dar: 0xc000_0000_0002_1234,
            msr: 0,
            cause: cause::NOHPTE,
            asdr: 3 << 62,
            ..Default::default()
        };
        let segment = Segment::vrma(PageSize::Size64K);
        let (first, second) = (
            segment.primary_group(0x2_0000, order()) << 3,
            segment.secondary_group(0x2_0000, order()) << 3,
        );
        let occupied = |i: u64| hpt.hypercall(H_READ, [0, i, 0, 0, 0, 0, 0, 0]).words[0] != 0;
        assert_eq!(hpt.storage_fault(&fault), FaultAction::Resume);
        assert!(kernel.access(first, true));
        // The same fault of another vCPU makes no second entry.
        assert_eq!(hpt.storage_fault(&fault), FaultAction::Resume);
        assert!(!occupied(first + 1));
        // The guest may remove it; with the group full it goes to the other one.
        hpt.hypercall(H_REMOVE, [0, first, 0, 0, 0, 0, 0, 0]);
        for i in 0..8 {
            enter(hpt, first, V | BOLTED | i << 7, 0x5000);
        }
        assert_eq!(hpt.storage_fault(&fault), FaultAction::Resume);
        assert!(kernel.access(second, false));
        hpt.hypercall(H_REMOVE, [0, second, 0, 0, 0, 0, 0, 0]);
        for i in 0..8 {
            enter(hpt, second, V | i << 7, 0x5000);
        }
        // Both full and the first all bolted: the guest gets its fault.
        assert!(matches!(
            hpt.storage_fault(&fault),
            FaultAction::Inject { vector: 0x300, .. }
        ));
        hpt.hypercall(H_REMOVE, [0, first + 3, 0, 0, 0, 0, 0, 0]);
        enter(hpt, first, V, 0x5000);
        assert_eq!(hpt.storage_fault(&fault), FaultAction::Resume);
        assert!(
            kernel.access(first + 3, true),
            "an entry that is not bolted was evicted"
        );
        // No memory there.
        let beyond = Fault {
            dar: GFNS << 12,
            ..fault
        };
        assert!(matches!(
            hpt.storage_fault(&beyond),
            FaultAction::Inject { .. }
        ));
    });
}

/// 5.4, loop guard: a run of identical faults of a vCPU is reported once, with its thousandth; any
/// other fault of that vCPU ends the run, one of another vCPU does not.
#[test]
fn identical_faults_are_reported_once() {
    use super::std::string::ToString;
    with(|memory, _, hpt| {
        let fault = Fault {
            pc: 0x700,
            ..load(cause::NOHPTE)
        };
        let run = |vcpu: usize, fault: Fault, n: u64| {
            (0..n)
                .filter_map(|i| {
                    hpt.count_fault(vcpu, &fault)
                        .map(|looping| (i + 1, looping))
                })
                .collect::<super::std::vec::Vec<_>>()
        };
        let expected = |vcpu, at, fault| super::std::vec![(at, Looping { vcpu, fault })];
        assert_eq!(run(3, fault, 10 * LOOP), expected(3, LOOP, fault));
        assert_eq!(hpt.loops(), 1);
        let others = [
            Fault { pc: 0x704, ..fault },
            Fault { dar: EA, ..fault },
            Fault {
                cause: cause::NOHPTE | cause::STORE,
                ..fault
            },
            Fault {
                instruction: true,
                ..fault
            },
        ];
        for other in others {
            assert_eq!(run(3, fault, LOOP - 1), []);
            assert_eq!(run(3, other, 1), [], "another fault");
            assert_eq!(run(3, fault, LOOP - 1), [], "the count begins anew");
            assert_eq!(run(2, other, LOOP - 1), [], "of another vCPU");
            assert_eq!(run(3, fault, 1), expected(3, 1, fault));
            assert_eq!(run(2, other, 1), expected(2, 1, other));
            run(3, other, 1);
            run(2, fault, 1);
        }
        assert_eq!(hpt.loops(), 9);
        // What is counted is not what is decided: the guest goes on.
        assert_eq!(hpt.storage_fault(&fault), data(cause::NOHPTE));
        // A fault of zeros counts as any other, also the first.
        assert_eq!(
            run(0, Fault::default(), LOOP),
            expected(0, LOOP, Fault::default())
        );
        run(WATCHED - 1, fault, LOOP - 1);
        let mut cursor = 0;
        while hpt.reset(&mut cursor).unwrap() == Progress::More {}
        assert_eq!(
            run(WATCHED - 1, fault, LOOP - 1),
            [],
            "a reset ends every run"
        );
        assert_eq!(hpt.loops(), 10);
        let line = Looping { vcpu: 3, fault }.to_string();
        assert_eq!(
            line,
            "vCPU 3: 1000 identical data storage faults: pc 0x700, address 0x12340123, cause 0x40000000"
        );
        assert_eq!(
            size_of_val(&memory.control) as u64,
            partita_guest_protocol::layout::HPT_CONTROL_BYTES
        );
    });
}
