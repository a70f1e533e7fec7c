// SPDX-License-Identifier: BSD-2-Clause
//! The calls one by one.

use super::machine::*;
use super::std::{vec, vec::Vec};
use crate::*;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::{flags, number::*, status::*};
use partita_papr::hpte::*;
use partita_papr::{Gfn, HptOrder, hash};
use partita_srcu::SlotFlags;

const KEY31: u64 = KEY_HIGH | KEY_LOW;

/// S4.1, S4.2, S4.16: sizes and bits of the shared regions.
#[test]
fn s4_1_s4_2_s4_16_layout() {
    assert_eq!(
        (
            size_of::<Rev>(),
            size_of::<RealHpte>(),
            size_of::<Control>()
        ),
        (24, 16, 2112)
    );
    let order = HptOrder::new(HptOrder::MAX).unwrap();
    assert_eq!(order.entries() - 1, chain::INDEX, "every index fits a link");
    assert_eq!(HptOrder::new(HptOrder::MAX + 1), None);
    assert_eq!(State::rev_bytes(order), 3 << (HptOrder::MAX - 1));
    assert_eq!(State::rmap_bytes(0x1001), 16);
    let bits = [
        chain::INDEX,
        chain::PRESENT,
        chain::LOCK,
        (R | C) << chain::RC_SHIFT,
    ];
    assert_eq!(bits, [0xffff_ffff, 1 << 32, 1 << 43, 3 << 39]);
}

/// S4.9, S2.5 to S2.8: the first insertion of a page defers, the second does not.
#[test]
fn s2_5_s2_8_enter_asks_for_the_page_once() {
    with(|_, kernel, hpt| {
        let reply = enter(hpt, 0x13, V, 0x5000 | M | 2);
        assert_eq!(
            (reply.status, reply.count, reply.words[0]),
            (H_SUCCESS, 1, 0x10)
        );
        assert_eq!(kernel.requests.get(), 1);
        assert_eq!(enter(hpt, 0x13, V | 0x80, 0x5000 | M | 2).words[0], 0x11);
        assert_eq!(kernel.requests.get(), 1);
        let read = hpt.hypercall(H_READ, [0, 0x10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read.words[..2], [V | VALID, 0x5000 | M | 2]);
    });
}

/// S2.6: a page that cannot be had.
#[test]
fn s2_6_refused_page_is_a_parameter_error() {
    with(|_, kernel, hpt| {
        kernel.backing.borrow_mut().insert(5, Backing::Refused);
        assert_eq!(enter(hpt, 0, V, 0x5000 | M).status, H_PARAMETER);
    });
}

/// S2.8: a page that is said to be there and is not, again and again.
#[test]
fn s2_8_endless_deferral_is_a_lack_of_resources() {
    with(|_, kernel, hpt| {
        kernel.lies.set(true);
        assert_eq!(enter(hpt, 0, V, 0x5000).status, H_RESOURCE);
        assert_eq!(kernel.requests.get(), 3);
        kernel.lies.set(false);
        assert_eq!(enter(hpt, 0, V, 0x5000).status, H_SUCCESS);
    });
}

/// S2.4, H_ENTER 1 to 8: every reason for H_PARAMETER.
#[test]
fn s2_4_s4_13_parameter_errors() {
    with(|memory, kernel, hpt| {
        let bad = |v, r| assert_eq!(enter(hpt, 0, v, r).status, H_PARAMETER, "{v:#x} {r:#x}");
        bad(2 << 62, 0x5000); // reserved B
        bad(3 << 62, 0x5000);
        bad(V | LARGE, 0x2000); // no such page size
        bad(V | LARGE, 0x0); // 16 MiB on 64 KiB backing
        bad(V, GFNS << 12); // no slot
        bad(V, 1 << 57); // not representable
        bad(V, RPN);
        let last = hpt.state().entries();
        assert_eq!(enter(hpt, last, V, 0x5000).status, H_PARAMETER);
        assert_eq!(enter(hpt, u64::MAX, V, 0x5000).status, H_PARAMETER);
        // A slot that is not aligned to the page size (S4.13).
        memory.publish(&[slot(0, 8, 32, SlotFlags::NONE)]);
        bad(V | LARGE, 0x1_1000);
        assert_eq!(enter(hpt, 0, V, 0x1_0000).status, H_SUCCESS);
        // INVALID (S3.6).
        memory.publish(&[slot(0, 8, 32, SlotFlags::INVALID)]);
        bad(V, 0x1_0000);
        assert_eq!(kernel.requests.get(), 1);
    });
}

/// H_ENTER 3, 7: software bits and WIMG of the guest.
#[test]
fn enter_keeps_the_guest_view_apart() {
    with(|memory, _, hpt| {
        let reply = enter(
            hpt,
            8,
            V | 0x7f & !(SECONDARY | LARGE),
            0x5000 | MODIFIED | W | I | R,
        );
        assert_eq!(reply.status, H_SUCCESS);
        let read = hpt.hypercall(H_READ, [0, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            read.words[..2],
            [V | BOLTED | GUEST_LOCK | VALID, 0x5000 | W | I | R]
        );
        // The real entry: coherent memory, R not set before hardware sets it.
        assert_eq!(memory.real[8].dw1() & (WIMG | R | C), M);
    });
}

/// H_ENTER 9.
#[test]
fn full_groups_and_exact() {
    with(|_, _, hpt| {
        for i in 0..8 {
            assert_eq!(enter(hpt, 0x20, V | i << 7, 0x5000).words[0], 0x20 + i);
        }
        assert_eq!(enter(hpt, 0x27, V, 0x5000).status, H_PTEG_FULL);
        let exact = |i| hpt.hypercall(H_ENTER, [flags::EXACT, i, V, 0x5000, 0, 0, 0, 0]);
        assert_eq!(exact(0x23).status, H_PTEG_FULL);
        assert_eq!(exact(0x33).words[0], 0x33);
        hpt.hypercall(H_REMOVE, [0, 0x25, 0, 0, 0, 0, 0, 0]);
        assert_eq!(enter(hpt, 0x20, V, 0x5000).words[0], 0x25);
    });
}

/// S4.3, S4.4, S4.6: order in a chain, and who becomes head.
#[test]
fn s4_3_s4_4_s4_6_chain_order() {
    with(|memory, _, hpt| {
        let chain = || {
            let chain = chain::Chain::lock(hpt.state(), Gfn::new(7).unwrap()).unwrap();
            let mut members = Vec::new();
            let mut at = chain.first();
            while let Some(index) = at {
                members.push(index);
                at = chain
                    .next(index)
                    .filter(|next| Some(*next) != chain.first());
            }
            members
        };
        let remove = |i| hpt.hypercall(H_REMOVE, [0, i, 0, 0, 0, 0, 0, 0]);
        for i in [0x50, 0x0, 0x30, 0x10] {
            enter(hpt, i, V, 0x7000);
        }
        assert_eq!(chain(), [0x50, 0x0, 0x30, 0x10]);
        remove(0x30);
        assert_eq!(chain(), [0x50, 0x0, 0x10]);
        remove(0x50);
        assert_eq!(chain(), [0x0, 0x10]);
        assert!(
            memory.rmap[7].load(Ordering::Relaxed) & chain::PRESENT != 0,
            "index 0 counts"
        );
        remove(0x10);
        remove(0x0);
        assert_eq!(chain(), []);
        assert_eq!(
            memory.rmap[7].load(Ordering::Relaxed) & (chain::INDEX | chain::PRESENT),
            0
        );
    });
}

/// S4.7: a large page is on the chain of its first page.
#[test]
fn s4_7_large_page_is_on_its_first_chain() {
    with(|memory, _, hpt| {
        assert_eq!(enter(hpt, 0, V | LARGE, 0x1_1000).status, H_SUCCESS);
        assert!(memory.rmap[16].load(Ordering::Relaxed) & chain::PRESENT != 0);
        assert!(memory.rmap[17].load(Ordering::Relaxed) & chain::PRESENT == 0);
    });
}

/// S4.5, S4.11, I8: R and C survive removal, in the page and in the answer.
#[test]
fn s4_5_s4_11_rc_goes_to_the_page() {
    with(|memory, kernel, hpt| {
        enter(hpt, 0, V, 0x9000 | 2);
        kernel.access(0, true);
        let removed = hpt.hypercall(H_REMOVE, [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(removed.words[..2], [V | VALID, 0x9000 | 2 | R | C]);
        assert_eq!(
            memory.rmap[9].load(Ordering::Relaxed) >> 32 & (R | C),
            R | C
        );
        // In a new entry, what the guest set, as far as the page carries it.
        for (entry, set, page, real) in [
            (8, R | C, 0x9000, R | C),
            (9, R, 0x9000, R),
            (10, 0, 0x9000, 0),
            (11, R | C, 0xa000, 0),
        ] {
            enter(hpt, entry, V, page | set | 2);
            assert_eq!(memory.real[entry as usize].dw1() & (R | C), real, "{entry}");
        }
    });
}

#[test]
fn remove_conditions() {
    with(|_, _, hpt| {
        enter(hpt, 0, V | 0x80 | BOLTED, 0x5000);
        let remove = |f, i, x| hpt.hypercall(H_REMOVE, [f, i, x, 0, 0, 0, 0, 0]).status;
        assert_eq!(remove(0, hpt.state().entries(), 0), H_PARAMETER);
        assert_eq!(remove(0, 1, 0), H_NOT_FOUND);
        assert_eq!(remove(flags::AVPN, 0, V), H_NOT_FOUND);
        assert_eq!(remove(flags::ANDCOND, 0, BOLTED), H_NOT_FOUND);
        assert_eq!(
            remove(flags::AVPN | flags::ANDCOND, 0, V | 0x80),
            H_NOT_FOUND
        );
        assert_eq!(remove(flags::AVPN, 0, V | 0x80), H_SUCCESS);
        assert_eq!(remove(0, 0, 0), H_NOT_FOUND);
    });
}

/// H_BULK_REMOVE: responses, the end mark, the first bad pair, the same entry twice.
#[test]
fn bulk_remove() {
    with(|_, kernel, hpt| {
        for i in 0..4 {
            enter(hpt, i * 8, V | i << 7, 0x5000 | 2);
        }
        kernel.access(8, false);
        let ask = |i: u64| 1 << 62 | i;
        let bulk = |args| hpt.hypercall(H_BULK_REMOVE, args);
        let reply = bulk([
            ask(0),
            1,
            ask(8) | 2 << 56,
            V | 1 << 7,
            ask(8),
            2,
            ask(9) | 1 << 56,
            3,
        ]);
        assert_eq!((reply.status, reply.count), (H_SUCCESS, 8));
        assert_eq!(reply.words[0], 0x80 << 56);
        assert_eq!(reply.words[2], 0x8a << 56 | 8);
        assert_eq!(reply.words[4], 0x90 << 56 | 8, "gone by the first pair");
        assert_eq!(reply.words[6], 0x91 << 56 | 9);
        assert_eq!(
            [reply.words[1], reply.words[7]],
            [1, 3],
            "second words stay"
        );
        let reply = bulk([ask(16) | 1 << 56, BOLTED, 3 << 62, 0, ask(24), 0, 0, 0]);
        assert_eq!(
            (reply.status, reply.words[4]),
            (H_SUCCESS, ask(24)),
            "after the end"
        );
        let reply = bulk([0, 0, ask(24), 0, 0, 0, 0, 0]);
        assert_eq!((reply.status, reply.words[0]), (H_PARAMETER, 0xa0 << 56));
        assert_eq!(reply.words[2], ask(24), "after an error nothing is done");
        let beyond = hpt.state().entries();
        assert_eq!(
            bulk([ask(beyond), 0, 0, 0, 0, 0, 0, 0]).words[0],
            0xa0 << 56 | beyond
        );
        assert_eq!(
            bulk([ask(24), 0, ask(24), 0, 3 << 62, 0, 0, 0]).words[2],
            0x90 << 56 | 24
        );
    });
}

/// H_PROTECT, S4.15.
#[test]
fn s4_15_protect() {
    with(|memory, kernel, hpt| {
        enter(hpt, 0, V, 0x5000 | 2 | M);
        kernel.access(0, true);
        let protect = |f, i, x| hpt.hypercall(H_PROTECT, [f, i, x, 0, 0, 0, 0, 0]).status;
        assert_eq!(protect(3, 1, 0), H_NOT_FOUND);
        assert_eq!(protect(3 | flags::AVPN, 0, V | 0x80), H_NOT_FOUND);
        assert_eq!(protect(3, u64::MAX, 0), H_PARAMETER);
        assert_eq!(protect(0x3f07 | flags::AVPN, 0, V), H_SUCCESS);
        let read = hpt.hypercall(H_READ, [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read.words[1], 0xb000_0000_0000_0e07 | 0x5000 | M | R | C);
        assert_eq!(memory.real[0].dw1() & (R | C), R | C, "R and C stay");
        // And back: the guest may write again at once (DESIGN, fault mode).
        assert_eq!(protect(2, 0, 0), H_SUCCESS);
        assert!(kernel.access(0, true));
        assert!(!kernel.intercept.get());
    });
}

/// H_READ: one, four, free ones, the end of the table.
#[test]
fn read() {
    with(|_, _, hpt| {
        enter(hpt, 6, V | 0x80, 0x5000);
        hpt.hypercall(H_ENTER, [flags::EXACT, 6, V, 0x6000, 0, 0, 0, 0]);
        let reply = hpt.hypercall(H_READ, [flags::READ_4, 6, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply.count, 8);
        assert_eq!(reply.words, [0, 0, 0, 0, V | VALID, 0x6000, 0, 0]);
        let end = hpt.state().entries();
        assert_eq!(
            hpt.hypercall(H_READ, [0, end, 0, 0, 0, 0, 0, 0]).status,
            H_PARAMETER
        );
        let four = hpt.hypercall(H_READ, [flags::READ_4, end, 0, 0, 0, 0, 0, 0]);
        assert_eq!((four.status, four.count), (H_PARAMETER, 0));
    });
}

#[test]
fn clear_ref_and_mod() {
    with(|memory, kernel, hpt| {
        enter(hpt, 0, V, 0x5000 | 2);
        kernel.access(0, true);
        let call = |n, i| hpt.hypercall(n, [0, i, 0, 0, 0, 0, 0, 0]);
        assert_eq!(call(H_CLEAR_REF, 0).words[0], 0x5000 | 2 | R | C);
        assert_eq!(call(H_CLEAR_MOD, 0).words[0], 0x5000 | 2 | C);
        assert_eq!(call(H_CLEAR_MOD, 0).words[0], 0x5000 | 2);
        assert_eq!(
            memory.rmap[5].load(Ordering::Relaxed) >> 32 & (R | C),
            R | C
        );
        assert_eq!(call(H_CLEAR_MOD, 1).status, H_NOT_FOUND);
        assert_eq!(call(H_CLEAR_REF, u64::MAX).status, H_PARAMETER);
        // Bits that the guest passed itself go too.
        enter(hpt, 8, V, 0x6000 | R | C);
        assert_eq!(call(H_CLEAR_REF, 8).words[0], 0x6000 | R | C);
        assert_eq!(call(H_CLEAR_MOD, 8).words[0], 0x6000 | C);
        assert_eq!(call(H_READ, 8).words[1], 0x6000);
    });
}

/// S2.6 and 2.2: pages are zeroed and copied by `memslots`, and count as changed.
#[test]
fn page_init_and_zero_page() {
    with(|memory, kernel, hpt| {
        let init = |f, to, from| {
            hpt.hypercall(H_PAGE_INIT, [f, to, from, 0, 0, 0, 0, 0])
                .status
        };
        assert_eq!(init(flags::ZERO_PAGE, 0x3000, 1), H_SUCCESS);
        assert_eq!(
            init(flags::ZERO_PAGE | flags::COPY_PAGE, 0x3000, 0x4000),
            H_SUCCESS
        );
        assert_eq!(init(flags::PAGE_STATE, 0x3000, 0), H_SUCCESS);
        assert_eq!(init(flags::EXACT, 0x3000, 0), H_PARAMETER);
        assert_eq!(init(flags::ZERO_PAGE, 0x3800, 0), H_PARAMETER);
        assert_eq!(init(flags::COPY_PAGE, 0x3000, 0x4001), H_PARAMETER);
        assert_eq!(init(flags::ZERO_PAGE, GFNS << 12, 0), H_PARAMETER);
        assert_eq!(init(flags::ZERO_PAGE, !0xfff, 0), H_PARAMETER);
        assert_eq!(*kernel.zeroed.borrow(), [(3, 12)]);
        assert_eq!(*kernel.copied.borrow(), [(3, 4)]);
        assert!(memory.rmap[3].load(Ordering::Relaxed) >> 32 & C != 0);
        kernel.backing.borrow_mut().insert(6, Backing::Busy);
        assert_eq!(init(flags::ZERO_PAGE, 0x6000, 0), H_BUSY);

        let zero = |i: u64, r: u64| {
            hpt.hypercall(
                H_ENTER,
                [flags::ZERO_PAGE, i, V | LARGE, r | 0x1000, 0, 0, 0, 0],
            )
            .status
        };
        assert_eq!(zero(0, 0x2_0000), H_SUCCESS);
        assert_eq!(zero(0, 0x0), H_BUSY);
        assert_eq!(kernel.zeroed.borrow()[1..], [(32, 16)]);
        let mut dirty = vec![];
        let mut range = GfnRange { next: 0, end: GFNS };
        let done = hpt.collect_dirty(&mut range, false, |gfn, n| dirty.push((gfn.get(), n)));
        assert_eq!((done, dirty), (Ok(Progress::Done), vec![(3, 1), (32, 16)]));
    });
}

/// H_CLEAR_HPT goes on where it stopped and leaves the virtual real mode area.
#[test]
fn clear_hpt() {
    with(|_, _, hpt| {
        let mut cursor = 0;
        assert_eq!(hpt.set_up_vrma(&mut cursor, u64::MAX), Ok(Progress::Done));
        assert_eq!(cursor, GFNS / 16);
        for i in 0..200 {
            enter(hpt, i * 8, V, 0x5000);
        }
        let mut calls = 0;
        loop {
            calls += 1;
            match hpt.hypercall(H_CLEAR_HPT, [0; 8]).status {
                H_CONTINUE => assert!(calls < 1000),
                status => break assert_eq!(status, H_SUCCESS),
            }
        }
        assert!(calls > 3);
        let occupied: Vec<_> = (0..hpt.state().entries())
            .map(|i| hpt.hypercall(H_READ, [0, i, 0, 0, 0, 0, 0, 0]).words[0])
            .filter(|v| *v != 0)
            .collect();
        assert_eq!(occupied.len() as u64, GFNS / 16);
        assert!(occupied.iter().all(|v| hash::is_vrma(*v)));
    });
}

/// S4.8: the locks of an instance that died do not stop the reset, and interception, about which it
/// may have been in doubt, is on after it.
#[test]
fn s4_8_locks_of_the_dead_and_reset() {
    with(|memory, kernel, hpt| {
        assert_eq!(enter(hpt, 8, V, 0x5000 | 2).status, H_SUCCESS);
        kernel.access(8, true);
        memory.rev[8].lock();
        memory.rmap[5].fetch_or(chain::LOCK, Ordering::Relaxed);
        memory.control.fault_mode.die();
        let mut cursor = 0;
        while hpt.reset(&mut cursor).unwrap() == Progress::More {}
        assert!(kernel.intercept.get());
        assert_eq!(hpt.state().fault_mode(), (0, true));
        assert_eq!(enter(hpt, 8, V, 0x5000 | 2).status, H_SUCCESS);
        assert_eq!(
            hpt.storage_fault(&Fault::default()),
            FaultAction::Inject {
                vector: 0x300,
                srr1: 0,
                dar: 0,
                dsisr: 0,
            }
        );
        assert_eq!(hpt.state().fault_mode(), (0, false), "nothing needs it");
    });
}

/// Poisoned: every call fails without a change, and the reset ends it.
#[test]
fn poisoned_and_reset() {
    with(|memory, kernel, hpt| {
        enter(hpt, 0, V, 0x5000 | 2);
        kernel.access(0, true);
        kernel.poisoned.set(true);
        assert_eq!(enter(hpt, 8, V, 0x5000).status, H_HARDWARE);
        for call in [H_REMOVE, H_CLEAR_MOD] {
            assert_eq!(hpt.hypercall(call, [0; 8]).status, H_HARDWARE);
        }
        assert_eq!(
            hpt.hypercall(H_PROTECT, [3, 0, 0, 0, 0, 0, 0, 0]).status,
            H_HARDWARE
        );
        let reply = hpt.hypercall(H_BULK_REMOVE, [1 << 62, 0, 3 << 62, 0, 0, 0, 0, 0]);
        assert_eq!((reply.status, reply.words[0]), (H_HARDWARE, 0xb0 << 56));
        hpt.verify_all().unwrap();
        let mut cursor = 0;
        while hpt.reset(&mut cursor).unwrap() == Progress::More {}
        assert_eq!(hpt.hypercall(H_READ, [0; 8]).words[0], 0);
        assert!(
            memory.rmap[5].load(Ordering::Relaxed) >> 32 & C != 0,
            "the dirty log survives"
        );
        assert_eq!(enter(hpt, 0, V, 0x5000 | KEY31).status, H_SUCCESS);
    });
}

#[test]
fn unknown_numbers() {
    with(|_, _, hpt| {
        for n in [0, 3, H_CEDE, H_RESIZE_HPT_PREPARE, H_BLOCK_REMOVE, u64::MAX] {
            let reply = hpt.hypercall(n, [0; 8]);
            assert_eq!((reply.status, reply.count), (H_FUNCTION, 0));
        }
    });
}
