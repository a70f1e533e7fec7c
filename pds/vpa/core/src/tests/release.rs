// SPDX-License-Identifier: BSD-2-Clause
//! Slots that go, reset, dirty pages, vCPUs that move (S0.19, S0.20, S1.11 and the gaps of S0).

use super::world::*;
use crate::*;

const VPA_SLOT: Pages = Pages {
    first: VPA / 4096,
    count: 1,
};

#[test]
fn a_slot_goes_only_after_the_target_acknowledged() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, OTHER);
    machine.set_in_guest(OTHER, true);
    machine.world.borrow_mut().invalid.insert(VPA / 4096);
    assert_eq!(server.release(VPA_SLOT, 0), Progress::NotYet(OTHER));
    assert_eq!(server.release(VPA_SLOT, 1), Progress::NotYet(OTHER));
    assert!(machine.world.borrow().pins().contains(&(VPA / 4096)));
    machine.set_in_guest(OTHER, false);
    server.entry(OTHER, &ENTRY);
    assert_eq!(server.release(VPA_SLOT, 1), Progress::Done);
    // The DTL lay elsewhere but needs a VPA.
    assert_eq!(machine.pinned(OTHER), []);
    assert!(!machine.world.borrow().pins().contains(&(VPA / 4096)));
    assert_eq!(machine.shared[1].forced_unregistrations(), 3);
    assert_eq!(machine.world.borrow().bound[1], None);
    assert_eq!(server.get(1, Register::VpaDtl as u64), Ok([0, 0]));
}

/// Views that are kept pin their pages: they go when a page is released, whatever the vCPU does, and
/// only that page's.
#[test]
fn s3_1_kept_views_let_go() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, OTHER);
    for sub in [6, 7, 5] {
        assert_eq!(call(&mut server, OTHER, sub, 1, 0), 0);
    }
    let pins = || {
        machine
            .world
            .borrow()
            .pins()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(pins(), [VPA / 4096, DTL / 4096]);
    machine.set_in_guest(OTHER, true);
    machine.world.borrow_mut().calls = Calls::default();
    machine.world.borrow_mut().invalid.insert(VPA / 4096);
    assert_eq!(server.release(VPA_SLOT, 0), Progress::Done);
    assert_eq!(pins(), [DTL / 4096]);
    assert_eq!(machine.world.borrow().calls.requests, 0);
    assert_eq!(machine.shared[1].forced_unregistrations(), 0);
    assert_eq!(server.unregister_all(OTHER), Progress::Done);
    assert_eq!(pins(), []);
    // What was dropped is mapped anew.
    machine.world.borrow_mut().invalid.clear();
    machine.set_in_guest(OTHER, false);
    register_all(&machine, &mut server, OTHER);
    assert_eq!(pins(), [VPA / 4096, DTL / 4096]);
}

/// A kept view whose page is registered again before it is released is in use.
#[test]
fn s0_19_a_kept_view_in_use_again_stays() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, OTHER);
    for sub in [6, 7, 5] {
        assert_eq!(call(&mut server, OTHER, sub, 1, 0), 0);
    }
    assert_eq!(call(&mut server, OTHER, 1, 1, VPA), 0);
    machine.set_in_guest(OTHER, true);
    assert_eq!(server.release(Pages::ALL, 0), Progress::NotYet(OTHER));
    assert_eq!(machine.pinned(OTHER), [VPA / 4096]);
    assert!(machine.world.borrow().pins().contains(&(VPA / 4096)));
    server.entry(OTHER, &ENTRY);
    assert_eq!(server.release(Pages::ALL, 0), Progress::Done);
    assert!(machine.world.borrow().pins().is_empty());
}

#[test]
fn an_idle_or_stopped_vcpu_lets_go_at_once() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, OTHER);
    let dtl = Pages {
        first: DTL / 4096,
        count: 2,
    };
    assert_eq!(server.release(dtl, 0), Progress::Done);
    assert_eq!(
        machine
            .world
            .borrow()
            .pins()
            .into_iter()
            .collect::<Vec<_>>(),
        [VPA / 4096]
    );
    assert_eq!(machine.shared[1].forced_unregistrations(), 1);
    assert_eq!(
        server.release(Pages { first: 9, count: 2 }, 0),
        Progress::Done
    );
    assert_eq!(
        server.release(Pages { first: 0, count: 0 }, 0),
        Progress::Done
    );
    assert_eq!(machine.world.borrow().bound[1], Some(VPA + 0x100));
    assert_eq!(server.release(VPA_SLOT, u32::MAX), Progress::Done);
}

#[test]
fn a_recorded_area_in_a_slot_that_goes_is_forgotten() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    assert_eq!(server.set(2, Register::VpaAddr as u64, [VPA, 0]), Ok(()));
    assert_eq!(server.release(VPA_SLOT, 0), Progress::Done);
    assert_eq!(server.get(2, Register::VpaAddr as u64), Ok([0, 0]));
    server.entry(VcpuId(2), &ENTRY);
    assert!(machine.world.borrow().pins().is_empty());
}

#[test]
fn s0_20_s1_11_unregister_all() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, OTHER);
    machine.set_in_guest(OTHER, true);
    assert_eq!(server.unregister_all(OTHER), Progress::NotYet(OTHER));
    machine.set_in_guest(OTHER, false);
    assert_eq!(server.unregister_all(OTHER), Progress::Done);
    assert!(machine.world.borrow().pins().is_empty());
    machine.world.borrow_mut().stores.clear();
    server.entry(
        OTHER,
        &Entry {
            dispatch: Some(Dispatch::Ceded),
            ..ENTRY
        },
    );
    assert!(
        machine.world.borrow().stores.is_empty(),
        "the new kernel's memory is its own"
    );
}

#[test]
fn long_operations_stop_after_64_vcpus() {
    let shared: Vec<VcpuAreas> = (0..130).map(|_| VcpuAreas::default()).collect();
    let views: Vec<InstanceViews> = (0..130).map(|_| InstanceViews::default()).collect();
    let machine = Machine {
        shared: Box::leak(shared.into()),
        views: [Box::leak(views.into()), &[]],
        ..Machine::new()
    };
    let mut server = machine.instance(0);
    assert_eq!(server.release(Pages::ALL, 0), Progress::More(64));
    assert_eq!(server.release(Pages::ALL, 64), Progress::More(128));
    assert_eq!(server.release(Pages::ALL, 128), Progress::Done);
    assert_eq!(server.harvest_dirty(Pages::ALL, 64), Progress::More(128));
    // An instance without views serves nobody.
    assert_eq!(machine.instance(1).vcpu(0), None);
}

#[test]
fn dirty_pages_are_reported() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, CALLER);
    machine.write(VPA + 0xb8, 1, 7);
    let dirty = || core::mem::take(&mut machine.world.borrow_mut().dirty);
    dirty();
    assert_eq!(server.harvest_dirty(Pages::ALL, 0), Progress::Done);
    // The kernel may have counted; the log was not written yet; the SLB shadow never is.
    assert_eq!(dirty().into_iter().collect::<Vec<_>>(), [VPA / 4096]);
    server.entry(
        CALLER,
        &Entry {
            dispatch: Some(Dispatch::Ceded),
            ..ENTRY
        },
    );
    assert_eq!(server.harvest_dirty(Pages::ALL, 0), Progress::Done);
    assert_eq!(
        dirty().into_iter().collect::<Vec<_>>(),
        [VPA / 4096, DTL / 4096]
    );
    assert_eq!(
        server.harvest_dirty(
            Pages {
                first: DTL / 4096,
                count: 1
            },
            0
        ),
        Progress::Done
    );
    assert!(dirty().is_empty());
    // What was written is handed over when the area goes.
    server.entry(
        CALLER,
        &Entry {
            dispatch: Some(Dispatch::Ceded),
            ..ENTRY
        },
    );
    assert_eq!(server.unregister_all(CALLER), Progress::Done);
    assert_eq!(
        dirty().into_iter().collect::<Vec<_>>(),
        [VPA / 4096, DTL / 4096]
    );
}

#[test]
fn a_vcpu_that_moves_takes_its_areas_along() {
    let machine = Machine::new();
    let (mut here, mut there) = (machine.instance(0), machine.instance(1));
    register_all(&machine, &mut here, OTHER);
    machine.write(VPA + 0xb8, 1, 7);
    let entry = Entry {
        dispatch: Some(Dispatch::Preempted),
        ..ENTRY
    };
    here.entry(OTHER, &entry);
    there.entry(OTHER, &entry);
    assert_eq!(machine.read(VPA + 0x218, 8), 2);
    assert_eq!(machine.world.borrow().bound[1], Some(VPA + 0x100));
    // The old home only has views left; it drops them when asked, whatever the vCPU does.
    machine.set_in_guest(OTHER, true);
    assert_eq!(here.release(VPA_SLOT, 0), Progress::Done);
    assert!(
        machine
            .world
            .borrow()
            .mapped
            .iter()
            .all(|((i, _), p)| *i == 1 || *p != VPA / 4096)
    );
    assert_eq!(there.release(VPA_SLOT, 0), Progress::NotYet(OTHER));
    there.entry(OTHER, &entry);
    assert_eq!(there.release(VPA_SLOT, 0), Progress::Done);
    assert_eq!(here.unregister_all(OTHER), Progress::Done);
    assert!(!machine.world.borrow().pins().contains(&(VPA / 4096)));
}

#[test]
fn a_vcpu_that_moves_while_its_slot_goes_loses_the_area() {
    let machine = Machine::new();
    let (mut here, mut there) = (machine.instance(0), machine.instance(1));
    register_all(&machine, &mut here, OTHER);
    machine.world.borrow_mut().invalid.insert(VPA / 4096);
    there.entry(OTHER, &ENTRY);
    assert_eq!(machine.world.borrow().bound[1], None);
    assert_eq!(there.get(1, Register::VpaAddr as u64), Ok([0, 0]));
    assert_eq!(here.release(Pages::ALL, 0), Progress::Done);
    assert_eq!(there.release(Pages::ALL, 0), Progress::Done);
    assert!(machine.world.borrow().pins().is_empty());
}

/// S0.3: an instance that asks for the entry of a vCPU, and loses it to another one before it does the
/// work itself, leaves that to the new home.
#[test]
fn s0_3_a_former_home_changes_nothing() {
    let machine = Machine::new();
    let mut here = machine.instance(0);
    register_all(&machine, &mut here, OTHER);
    machine.header(0x7000, true, 640);
    let elsewhere = machine.clone();
    machine.world.borrow_mut().on_request = Some(Box::new(move || {
        let mut there = elsewhere.instance(1);
        there.entry(OTHER, &ENTRY);
        elsewhere.set_in_guest(OTHER, true);
        assert_eq!(call(&mut there, CALLER, 1, 1, 0x7000), 0);
    }));
    let _ = here.release(VPA_SLOT, 0);
    let mut there = machine.instance(1);
    there.entry(OTHER, &Entry { stolen: 5, ..ENTRY });
    assert_eq!(machine.read(0x7158, 8), 5);
    assert_eq!(machine.world.borrow().bound[1], Some(0x7100));
    assert_eq!(here.release(VPA_SLOT, 0), Progress::Done);
    assert_eq!(there.release(VPA_SLOT, 0), Progress::Done);
    let pins = machine.world.borrow().pins();
    assert!(pins.contains(&7) && !pins.contains(&(VPA / 4096)));
}

#[test]
fn two_instances_never_change_one_vcpu_at_a_time() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    server.entry(OTHER, &ENTRY);
    machine.header(VPA, true, 640);
    let elsewhere = machine.clone();
    // Instance 0 applies for an idle vCPU; meanwhile it wakes on the core of instance 1.
    server.memory_mut().on_map = Some(Box::new(move || {
        elsewhere.world.borrow_mut().latched[1] = false;
        elsewhere.instance(1).entry(OTHER, &ENTRY);
        assert!(elsewhere.world.borrow().latched[1], "it comes by again");
        assert_eq!(elsewhere.world.borrow().bound[1], None);
    }));
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), 0);
    assert_eq!(machine.world.borrow().bound[1], Some(VPA + 0x100));
    machine.instance(1).entry(OTHER, &ENTRY);
    assert!(
        machine
            .world
            .borrow()
            .mapped
            .keys()
            .any(|(instance, _)| *instance == 1)
    );
}
