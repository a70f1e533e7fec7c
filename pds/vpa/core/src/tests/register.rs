// SPDX-License-Identifier: BSD-2-Clause
//! H_REGISTER_VPA and the vCPU's own entry: S0.1 to S0.19, SPEC 3.1 and 3.3.

use super::world::*;
use crate::*;
use partita_papr::hcall::status::*;

#[test]
fn s0_1_any_vcpu_of_the_guest_may_be_the_target_and_no_other() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    for vcpu in [VCPUS as u64, 1 << 32, u64::MAX] {
        assert_eq!(call(&mut server, CALLER, 1, vcpu, VPA), H_PARAMETER);
        assert_eq!(call(&mut server, CALLER, 5, vcpu, 0), H_PARAMETER);
    }
    assert_eq!(server.hypercall(CALLER, 0xe0, &[0; 8]), H_FUNCTION);
}

#[test]
fn s0_2_s0_3_another_vcpus_area_changes_at_its_own_entry_only() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    assert!(machine.world.borrow().latched[1]);
    assert!(machine.world.borrow().pins().is_empty());
    assert_eq!(machine.read(VPA + 9, 1), 0);
    machine.set_in_guest(OTHER, false);
    server.entry(OTHER, &ENTRY);
    assert_eq!(
        machine
            .world
            .borrow()
            .pins()
            .into_iter()
            .collect::<Vec<_>>(),
        [VPA / 4096]
    );
    assert_eq!(machine.read(VPA + 9, 1), 2);
}

#[test]
fn s0_3_an_area_of_an_idle_vcpu_of_another_core_is_left_to_its_own_instance() {
    let machine = Machine::new();
    let (mut here, mut there) = (machine.instance(0), machine.instance(1));
    there.entry(OTHER, &ENTRY);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut here, CALLER, 1, 1, VPA), H_SUCCESS);
    assert!(machine.world.borrow().pins().is_empty());
    there.entry(OTHER, &ENTRY);
    assert!(
        machine
            .world
            .borrow()
            .mapped
            .keys()
            .all(|(instance, _)| *instance == 1)
    );
    assert_eq!(machine.world.borrow().bound[1], Some(VPA + 0x100));
}

/// S0.4: what is pinned is the home's own, under no lock.
#[test]
fn s0_4_s0_5_an_entry_with_nothing_pending_takes_no_lock() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, CALLER);
    // With the lock taken by somebody else, an entry that needed it would spin for ever.
    machine.shared[0]
        .lock
        .store(99, partita_instance::atomic::Ordering::Relaxed);
    machine.write(VPA + 0xb8, 1, 7);
    server.entry(
        CALLER,
        &Entry {
            stolen: 9,
            dispatch: Some(Dispatch::Ceded),
            ..ENTRY
        },
    );
    assert_eq!(machine.read(VPA + 0x158, 8), 9);
    machine.shared[0]
        .lock
        .store(0, partita_instance::atomic::Ordering::Relaxed);
}

#[test]
fn s0_6_subfunctions_and_ignored_flag_bits() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    for sub in [0, 4] {
        assert_eq!(call(&mut server, CALLER, sub, 0, VPA), H_PARAMETER);
    }
    machine.header(VPA, true, 640);
    let flags = 1 << 45 | 0xffff << 48 | 0x1fff;
    assert_eq!(
        server.hypercall(CALLER, 0xdc, &[flags, 0, VPA, 7, 7, 7, 7, 7]),
        H_SUCCESS
    );
}

#[test]
fn s0_7_address_zero_unaligned_or_not_backed() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    machine.header(VPA + 64, true, 640);
    for gpa in [
        0,
        VPA + 64,
        VPA + 1,
        PAGES * 4096,
        1 << 57,
        u64::MAX - 127,
        0xc000_0000_0000_3000,
    ] {
        for sub in 1..=3 {
            assert_eq!(
                call(&mut server, CALLER, sub, 0, gpa),
                H_PARAMETER,
                "{gpa:#x}"
            );
        }
    }
    machine.world.borrow_mut().invalid.insert(VPA / 4096);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_PARAMETER);
    machine.world.borrow_mut().invalid.clear();
    machine.world.borrow_mut().frameless.insert(VPA / 4096);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_PARAMETER);
    assert!(machine.world.borrow().pins().is_empty());
}

#[test]
fn s0_8_length_field_and_page_crossing() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    for (sub, vpa) in [(1, true), (2, false), (3, false)] {
        for len in [0, 7, 4097, 0xffff] {
            machine.header(VPA, vpa, len);
            assert_eq!(
                call(&mut server, CALLER, sub, 0, VPA),
                H_PARAMETER,
                "{sub} {len}"
            );
        }
        machine.header(VPA + 4096 - 512, vpa, 640);
        assert_eq!(
            call(&mut server, CALLER, sub, 0, VPA + 4096 - 512),
            H_PARAMETER
        );
    }
    // The VPA's is two bytes: what follows is not part of it.
    machine.write(VPA + 4, 4, 640 << 16 | 0xffff);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    // The others' are four.
    machine.write(SLB + 4, 4, 1 << 16 | 128);
    assert_eq!(call(&mut server, CALLER, 3, 0, SLB), H_PARAMETER);
    // A refused or a recorded registration dirties nothing and pins nothing by itself.
    assert!(!machine.world.borrow().dirty.contains(&(SLB / 4096 + 1)));
}

#[test]
fn s0_9_a_vpa_of_640_or_more() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 639);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_PARAMETER);
    for len in [640, 1024, 4096] {
        machine.header(VPA, true, len);
        assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    }
}

#[test]
fn s0_10_dtl_length_before_vpa_check_and_rounding() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(DTL, false, 47);
    assert_eq!(call(&mut server, CALLER, 2, 0, DTL), H_PARAMETER);
    machine.header(DTL, false, 48);
    assert_eq!(call(&mut server, CALLER, 2, 0, DTL), H_RESOURCE);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    machine.header(DTL, false, 48 * 3 + 47);
    assert_eq!(call(&mut server, CALLER, 2, 0, DTL), H_SUCCESS);
    let id = Register::VpaDtl as u64;
    assert_eq!(server.get(0, id), Ok([DTL, 48 * 3]));
}

#[test]
fn s0_11_slb_shadow_needs_a_header_and_a_vpa() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(SLB, false, 15);
    assert_eq!(call(&mut server, CALLER, 3, 0, SLB), H_PARAMETER);
    machine.header(SLB, false, 16);
    assert_eq!(call(&mut server, CALLER, 3, 0, SLB), H_RESOURCE);
}

#[test]
fn s0_12_deregistering() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    for sub in 5..=7 {
        assert_eq!(call(&mut server, CALLER, sub, 0, 0xdead), H_SUCCESS);
    }
    register_all(&machine, &mut server, CALLER);
    assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_RESOURCE);
    assert_eq!(call(&mut server, CALLER, 6, 0, 0), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_RESOURCE);
    assert_eq!(call(&mut server, CALLER, 7, 0, 0), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_SUCCESS);
    assert_eq!(machine.pinned(CALLER), []);
    assert_eq!(machine.world.borrow().bound[0], None);
    // Nothing is written to what was registered.
    machine.world.borrow_mut().stores.clear();
    server.entry(
        CALLER,
        &Entry {
            dispatch: Some(Dispatch::Preempted),
            ..ENTRY
        },
    );
    assert!(machine.world.borrow().stores.is_empty());
}

#[test]
fn s0_13_dependent_registrations_before_the_target_has_run() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.header(VPA, true, 640);
    machine.header(SLB, false, 128);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 3, 1, SLB), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 5, 1, 0), H_RESOURCE);
    assert_eq!(call(&mut server, CALLER, 7, 1, 0), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 5, 1, 0), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 3, 1, SLB), H_RESOURCE);
    server.entry(OTHER, &ENTRY);
    assert!(machine.world.borrow().pins().is_empty());
    assert!(machine.world.borrow().stores.is_empty());
}

#[test]
fn s0_14_registering_again_replaces() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    machine.header(0x7000, true, 640);
    // Linux's boot processor registers the same address twice.
    for gpa in [VPA, VPA, 0x7000] {
        assert_eq!(call(&mut server, CALLER, 1, 0, gpa), H_SUCCESS);
    }
    assert_eq!(
        machine
            .world
            .borrow()
            .pins()
            .into_iter()
            .collect::<Vec<_>>(),
        [7]
    );
    assert_eq!(machine.world.borrow().bound[0], Some(0x7100));
    assert_eq!(machine.shared[0].failed_pins(), 0);
}

#[test]
fn s0_15_a_change_while_the_page_is_looked_up_is_not_lost() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.header(VPA, true, 640);
    machine.header(0x7000, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    // While instance 0 asks for the page, vCPU 2 registers another one through instance 1.
    let elsewhere = machine.clone();
    server.memory_mut().on_map = Some(Box::new(move || {
        let mut there = elsewhere.instance(1);
        assert_eq!(call(&mut there, VcpuId(2), 1, 1, 0x7000), H_SUCCESS);
    }));
    server.entry(OTHER, &ENTRY);
    assert_eq!(
        machine
            .world
            .borrow()
            .pins()
            .into_iter()
            .collect::<Vec<_>>(),
        [7]
    );
    assert_eq!(machine.world.borrow().bound[1], Some(0x7100));
    assert_eq!(server.get(1, Register::VpaAddr as u64), Ok([0x7000, 0]));
    // The first page was initialised before it turned out that it is not wanted any more.
    let dirty = machine.world.borrow().dirty.clone();
    assert_eq!(dirty.into_iter().collect::<Vec<_>>(), [VPA / 4096]);
}

#[test]
fn s0_15_an_address_that_never_holds_still_is_left_to_the_next_entry() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.header(VPA, true, 640);
    machine.header(0x7000, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    server.memory_mut().on_every_map = Some({
        let elsewhere = machine.clone();
        let mut flip = false;
        Box::new(move || {
            flip = !flip;
            let gpa = if flip { 0x7000 } else { VPA };
            assert_eq!(
                call(&mut elsewhere.instance(1), VcpuId(2), 1, 1, gpa),
                H_SUCCESS
            );
        })
    });
    machine.world.borrow_mut().latched[1] = false;
    server.entry(OTHER, &ENTRY);
    assert!(machine.world.borrow().latched[1], "comes by again");
    server.memory_mut().on_every_map = None;
    server.entry(OTHER, &ENTRY);
    let [gpa, _] = server.get(1, Register::VpaAddr as u64).unwrap();
    assert_eq!(machine.world.borrow().bound[1], Some(gpa + 0x100));
    assert_eq!(machine.world.borrow().pins().len(), 1);
}

#[test]
fn s0_16_a_new_vpa_is_initialised_and_its_count_is_the_kernels() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    machine.write(VPA + 9, 1, 0x40);
    machine.write(VPA + 0x100, 4, 1234);
    machine.write(VPA + 0x158, 8, 5678);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert_eq!(machine.read(VPA + 9, 1), 0x42);
    // 1, made even by the kernel because the caller has a processor.
    assert_eq!(machine.read(VPA + 0x100, 4), 2);
    assert_eq!(machine.read(VPA + 0x158, 8), 0);
    // Unregistering initialises nothing (the reference's NULL dereference).
    machine.world.borrow_mut().stores.clear();
    assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_SUCCESS);
    assert!(machine.world.borrow().stores.is_empty());
}

#[test]
fn s0_17_trace_entries() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    machine.header(DTL + 128, false, 3 * 48 + 8);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 2, 0, DTL + 128), H_SUCCESS);
    let entry = Entry {
        stolen: 100,
        dispatch: Some(Dispatch::Preempted),
        ..ENTRY
    };
    // The mask of the guest decides.
    machine.write(VPA + 0xb8, 1, 1 | 4);
    server.entry(CALLER, &entry);
    assert_eq!(machine.read(VPA + 0x218, 8), 0);
    machine.write(VPA + 0xb8, 1, 2);
    server.entry(
        CALLER,
        &Entry {
            dispatch: None,
            ..entry
        },
    );
    assert_eq!(machine.read(VPA + 0x218, 8), 0);
    machine.world.borrow_mut().stores.clear();
    server.entry(CALLER, &entry);
    let at = DTL + 128;
    assert_eq!(machine.read(at, 1), 7);
    assert_eq!(machine.read(at + 1, 1), 0);
    assert_eq!(machine.read(at + 2, 2), 5);
    assert_eq!(machine.read(at + 4, 4), 100);
    assert_eq!(machine.read(at + 8, 8), 0);
    assert_eq!(machine.read(at + 16, 8), ENTRY.timebase);
    assert_eq!(machine.read(at + 24, 8), 0);
    assert_eq!(machine.read(at + 32, 8), ENTRY.pc);
    assert_eq!(machine.read(at + 40, 8), ENTRY.msr);
    assert_eq!(machine.read(VPA + 0x218, 8), 1);
    // The index is the last store.
    assert_eq!(machine.world.borrow().stores.last(), Some(&(VPA + 0x218)));
    assert!(machine.world.borrow().stores[..7].contains(&(at + 40)));
    // The ring wraps after three entries, stolen ticks are since the last one and saturate.
    for (n, stolen) in [(1, 130), (2, 130), (3, 130 + (1 << 33))] {
        server.entry(
            CALLER,
            &Entry {
                stolen,
                timebase: n,
                ..entry
            },
        );
    }
    assert_eq!(machine.read(VPA + 0x218, 8), 4);
    assert_eq!(machine.read(at + 48 + 4, 4), 30);
    assert_eq!(machine.read(at + 96 + 4, 4), 0);
    assert_eq!(
        (machine.read(at + 16, 8), machine.read(at + 4, 4)),
        (3, 0xffff_ffff)
    );
    assert_eq!(
        machine.read(at + 144, 8),
        0,
        "nothing is written behind the ring"
    );
    // A new registration starts at the front; without one nothing is written.
    machine.header(DTL + 128, false, 3 * 48 + 8);
    assert_eq!(call(&mut server, CALLER, 2, 0, DTL + 128), H_SUCCESS);
    server.entry(
        CALLER,
        &Entry {
            stolen: 130,
            timebase: 77,
            ..entry
        },
    );
    assert_eq!(
        (machine.read(at + 16, 8), machine.read(VPA + 0x218, 8)),
        (77, 1)
    );
    assert_eq!(call(&mut server, CALLER, 6, 0, 0), H_SUCCESS);
    server.entry(
        CALLER,
        &Entry {
            timebase: 88,
            ..entry
        },
    );
    assert_eq!(machine.read(VPA + 0x218, 8), 1);
}

#[test]
fn s0_17_the_largest_log_fills_its_page_and_no_more() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, CALLER);
    machine.write(VPA + 0xb8, 1, 7);
    for n in 0..200 {
        let dispatch = [Dispatch::Ceded, Dispatch::Preempted][n as usize % 2];
        server.entry(
            CALLER,
            &Entry {
                timebase: n,
                dispatch: Some(dispatch),
                ..ENTRY
            },
        );
    }
    assert_eq!(machine.read(VPA + 0x218, 8), 200);
    // 85 entries: the 200th (n = 199) is number 29 of the third round.
    assert_eq!(machine.read(DTL + 29 * 48 + 16, 8), 199);
    assert_eq!(machine.read(DTL + 84 * 48 + 16, 8), 169);
    assert_eq!(machine.read(DTL + 85 * 48, 8), 0);
}

#[test]
fn stolen_time_is_the_kernels_total() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    server.entry(
        CALLER,
        &Entry {
            stolen: 40,
            ..ENTRY
        },
    );
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert_eq!(machine.read(VPA + 0x158, 8), 40);
    server.entry(
        CALLER,
        &Entry {
            stolen: 55,
            ..ENTRY
        },
    );
    assert_eq!(machine.read(VPA + 0x158, 8), 55);
}

#[test]
fn s0_18_a_page_that_cannot_be_had_any_more_unregisters() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.header(VPA, true, 640);
    machine.header(DTL, false, 480);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 2, 1, DTL), H_SUCCESS);
    machine.world.borrow_mut().invalid.insert(VPA / 4096);
    server.entry(OTHER, &ENTRY);
    assert_eq!(machine.shared[1].failed_pins(), 1);
    for id in [Register::VpaAddr, Register::VpaSlb, Register::VpaDtl] {
        assert_eq!(server.get(1, id as u64), Ok([0, 0]));
    }
    assert!(machine.world.borrow().pins().is_empty());
    assert!(machine.world.borrow().stores.is_empty(), "S1.12");
}

#[test]
fn s0_18_a_counter_that_cannot_be_bound_unregisters() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.world.borrow_mut().bind_fails = true;
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert_eq!(server.get(0, Register::VpaAddr as u64), Ok([0, 0]));
    assert!(machine.world.borrow().pins().is_empty());
    // It was initialised before that.
    let dirty = machine.world.borrow().dirty.clone();
    assert_eq!(dirty.into_iter().collect::<Vec<_>>(), [VPA / 4096]);
}

#[test]
fn s0_19_a_deregistered_page_stays_pinned_until_the_target_comes_by() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, OTHER);
    machine.set_in_guest(OTHER, true);
    for sub in [6, 7, 5] {
        assert_eq!(call(&mut server, CALLER, sub, 1, 0), H_SUCCESS);
    }
    assert!(machine.world.borrow().pins().contains(&(VPA / 4096)));
    assert_eq!(machine.world.borrow().bound[1], Some(VPA + 0x100));
    // The page cannot be had before the target acknowledged.
    assert_eq!(server.release(Pages::ALL, 0), Progress::NotYet(OTHER));
    assert!(machine.world.borrow().pins().contains(&(VPA / 4096)));
    server.entry(OTHER, &ENTRY);
    assert_eq!(machine.pinned(OTHER), []);
    assert_eq!(machine.world.borrow().bound[1], None);
    machine.set_in_guest(OTHER, true);
    assert_eq!(server.release(Pages::ALL, 0), Progress::Done);
    assert!(machine.world.borrow().pins().is_empty());
}

/// A vCPU that registers its own VPA again and again costs one binding and one end of it.
#[test]
fn s0_14_views_are_kept_for_the_next_registration() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    let mut round = |gpa| {
        machine.world.borrow_mut().calls = Calls::default();
        assert_eq!(call(&mut server, CALLER, 1, 0, gpa), H_SUCCESS);
        assert_eq!(machine.world.borrow().bound[0], Some(gpa + 0x100));
        assert_eq!(machine.read(gpa + 0x100, 4), 2, "S0.16");
        assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_SUCCESS);
        assert_eq!(machine.world.borrow().bound[0], None);
        machine.world.borrow().calls
    };
    let bound_once = Calls {
        binds: 1,
        unbinds: 1,
        ..Calls::default()
    };
    let first = Calls {
        maps: 2,
        unmaps: 1,
        ..bound_once
    };
    assert_eq!(round(VPA), first);
    assert_eq!(round(VPA), bound_once);
    // Elsewhere in the same page, then in another page.
    machine.header(VPA + 1024, true, 640);
    assert_eq!(round(VPA + 1024), bound_once);
    machine.header(0x7000, true, 640);
    assert_eq!(round(0x7000), Calls { unmaps: 2, ..first });
    assert_eq!(machine.world.borrow().pins().len(), 1);
}

/// A kept view is no way past the slots: the page must be in one when it is registered.
#[test]
fn s0_7_a_kept_view_does_not_stand_for_a_slot() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_SUCCESS);
    machine.world.borrow_mut().invalid.insert(VPA / 4096);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_PARAMETER);
    assert_eq!(machine.pinned(CALLER), []);
}

/// Whether another vCPU is out is not known here.
#[test]
fn s0_3_another_vcpus_entry_is_asked_for() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert!(!machine.world.borrow().latched[0]);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), H_SUCCESS);
    assert!(machine.world.borrow().latched[1]);
}

#[test]
fn s0_21_zeroed_memory_is_a_new_vcpu_and_its_lock_is_free() {
    let machine = Machine::new();
    let server = machine.instance(0);
    assert_eq!(server.get(0, Register::VpaDtl as u64), Ok([0, 0]));
    assert_eq!(size_of::<VcpuAreas>(), 256);
    assert_eq!(size_of::<InstanceViews>(), 32);
}

#[test]
fn a_counter_that_a_predecessor_died_binding_is_unbound() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    // As if it had not come to record what it had bound.
    let state = machine.shared[0].area(Area::Vpa);
    state
        .pinned
        .store(0, partita_instance::atomic::Ordering::Relaxed);
    let mut server = machine.instance(0);
    server.recover();
    assert_eq!(call(&mut server, CALLER, 5, 0, 0), H_SUCCESS);
    assert_eq!(machine.world.borrow().bound[0], None);
}

#[test]
fn a_restarted_instance_frees_what_its_predecessor_held() {
    let machine = Machine::new();
    register_all(&machine, &mut machine.instance(0), CALLER);
    machine.shared[0]
        .lock
        .store(1, partita_instance::atomic::Ordering::Relaxed);
    machine.shared[1]
        .applying
        .store(1, partita_instance::atomic::Ordering::Relaxed);
    machine.shared[2]
        .lock
        .store(2, partita_instance::atomic::Ordering::Relaxed);
    let mut server = machine.instance(0);
    server.recover();
    machine.write(VPA + 0xb8, 1, 7);
    server.entry(
        CALLER,
        &Entry {
            dispatch: Some(Dispatch::Ceded),
            ..ENTRY
        },
    );
    assert_eq!(machine.read(VPA + 0x218, 8), 1, "areas go on being served");
    assert_eq!(call(&mut server, CALLER, 6, 0, 0), H_SUCCESS);
    server.entry(OTHER, &ENTRY);
    // What another instance holds is its own.
    assert_eq!(
        machine.shared[2]
            .lock
            .load(partita_instance::atomic::Ordering::Relaxed),
        2
    );
}

#[test]
fn p3_3_each_dispatch_is_wanted_while_there_is_a_trace_log() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    let wanted = || machine.world.borrow().every_dispatch[CALLER.0 as usize];
    machine.header(VPA, true, 640);
    machine.header(DTL, false, 4096);
    assert_eq!(call(&mut server, CALLER, 1, 0, VPA), H_SUCCESS);
    assert!(!wanted());
    assert_eq!(call(&mut server, CALLER, 2, 0, DTL), H_SUCCESS);
    assert!(wanted());
    assert_eq!(call(&mut server, CALLER, 6, 0, 0), H_SUCCESS);
    assert!(!wanted());
}
