// SPDX-License-Identifier: BSD-2-Clause
//! ONE_REG: S1.1 to S1.12.

use super::world::*;
use crate::*;

const VPA_ID: u64 = 0x1030_0000_0000_0082;
const SLB_ID: u64 = 0x1040_0000_0000_0083;
const DTL_ID: u64 = 0x1040_0000_0000_0084;

#[test]
fn s1_1_ids() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    for id in [
        0x82,
        0x1020_0000_0000_0082,
        0x1030_0000_0000_0083,
        0,
        u64::MAX,
    ] {
        assert_eq!(server.get(0, id), Err(Invalid::Id));
        assert_eq!(server.set(0, id, [0, 0]), Err(Invalid::Id));
    }
    assert_eq!(server.get(VCPUS as u64, VPA_ID), Err(Invalid::Vcpu));
    assert_eq!(server.set(u64::MAX, VPA_ID, [0, 0]), Err(Invalid::Vcpu));
}

#[test]
fn s1_2_get_answers_the_wanted_state() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.header(VPA, true, 1024);
    machine.header(SLB, false, 128);
    call(&mut server, CALLER, 1, 1, VPA);
    call(&mut server, CALLER, 3, 1, SLB);
    assert_eq!(server.get(1, VPA_ID), Ok([VPA, 0]));
    assert_eq!(server.get(1, SLB_ID), Ok([SLB, 128]));
    assert_eq!(server.get(1, DTL_ID), Ok([0, 0]));
}

#[test]
fn s1_3_set_records_and_the_next_entry_applies() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    server.entry(CALLER, &ENTRY);
    assert_eq!(server.set(0, VPA_ID, [VPA, 0]), Ok(()));
    assert!(machine.world.borrow().pins().is_empty());
    assert!(machine.world.borrow().latched[0]);
    server.entry(CALLER, &ENTRY);
    assert_eq!(machine.world.borrow().bound[0], Some(VPA + 0x100));
}

#[test]
fn s1_4_to_s1_9_refusals() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    assert_eq!(
        server.set(0, VPA_ID, [VPA + 64, 0]),
        Err(Invalid::Alignment)
    );
    assert_eq!(server.set(0, SLB_ID, [SLB, 128]), Err(Invalid::NeedsVpa)); // S1.8
    assert_eq!(server.set(0, DTL_ID, [DTL, 480]), Err(Invalid::NeedsVpa)); // S1.9
    assert_eq!(server.set(0, DTL_ID, [DTL, 47]), Err(Invalid::Length)); // S1.9
    assert_eq!(server.set(0, DTL_ID, [0, 0]), Ok(())); // S1.9, finding 8
    assert_eq!(server.set(0, SLB_ID, [0, 0]), Ok(())); // S1.8
    assert_eq!(server.set(0, SLB_ID, [SLB, 15]), Err(Invalid::Length));
    assert_eq!(
        server.set(0, VPA_ID, [PAGES * 4096, 0]),
        Err(Invalid::NoSlot)
    );
    assert_eq!(server.set(0, VPA_ID, [1 << 60, 0]), Err(Invalid::NoSlot));
    assert_eq!(
        server.set(0, VPA_ID, [VPA + 4096 - 512, 0]),
        Err(Invalid::CrossesPage)
    );
    assert_eq!(server.set(0, VPA_ID, [VPA, u64::MAX]), Ok(())); // S1.7: length implied
    assert_eq!(
        server.set(0, DTL_ID, [DTL, 4097 + 47]),
        Err(Invalid::CrossesPage)
    );
    assert_eq!(
        server.set(0, DTL_ID, [DTL, u64::MAX]),
        Err(Invalid::CrossesPage)
    );
    assert_eq!(
        server.set(0, SLB_ID, [SLB, u64::MAX]),
        Err(Invalid::CrossesPage)
    );
    assert_eq!(server.set(0, DTL_ID, [DTL, 4096]), Ok(()));
    assert_eq!(server.get(0, DTL_ID), Ok([DTL, 4080]));
    assert_eq!(server.set(0, VPA_ID, [0, 0]), Err(Invalid::InUse)); // S1.7
    assert_eq!(server.get(0, VPA_ID), Ok([VPA, 0]));
}

#[test]
fn s1_5_setting_the_same_changes_nothing() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, CALLER);
    server.entry(CALLER, &ENTRY);
    machine.world.borrow_mut().latched[0] = false;
    // The guest registered its VPA with 1024 bytes: the implied 640 is no change.
    for (id, value) in [
        (VPA_ID, [VPA, 0]),
        (SLB_ID, [SLB, 128]),
        (DTL_ID, [DTL, 4080]),
    ] {
        assert_eq!(server.set(0, id, value), Ok(()));
    }
    assert_eq!(
        server.set(0, DTL_ID, [DTL, 4096]),
        Ok(()),
        "rounds to the same length"
    );
    assert!(!machine.world.borrow().latched[0]);
    assert_eq!(
        machine.shared[0]
            .pending
            .load(partita_instance::atomic::Ordering::Relaxed),
        0
    );
}

#[test]
fn s1_6_without_an_address_there_is_no_length() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    assert_eq!(server.set(0, VPA_ID, [VPA, 0]), Ok(()));
    assert_eq!(server.set(0, SLB_ID, [SLB, 128]), Ok(()));
    assert_eq!(server.set(0, SLB_ID, [0, 999]), Ok(()));
    assert_eq!(server.get(0, SLB_ID), Ok([0, 0]));
}

#[test]
fn s1_10_s1_11_reset_order() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    register_all(&machine, &mut server, CALLER);
    for id in [DTL_ID, SLB_ID, VPA_ID] {
        assert_eq!(server.set(0, id, [0, 0]), Ok(()));
    }
    server.entry(CALLER, &ENTRY);
    assert_eq!(machine.pinned(CALLER), []);
    assert_eq!(machine.world.borrow().bound[0], None);
    assert_eq!(server.unregister_all(CALLER), Progress::Done);
    assert!(machine.world.borrow().pins().is_empty());
}

#[test]
fn s1_gap_a_restored_vpa_keeps_its_count_and_its_stolen_time() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    server.entry(CALLER, &Entry { stolen: 5, ..ENTRY });
    machine.write(VPA + 0x100, 4, 1000);
    machine.write(VPA + 0x158, 8, 7000);
    machine.write(VPA + 0x218, 8, 100);
    machine.write(VPA + 0xb8, 1, 2);
    assert_eq!(server.set(0, VPA_ID, [VPA, 0]), Ok(()));
    assert_eq!(server.set(0, DTL_ID, [DTL, 48 * 30]), Ok(()));
    let entry = Entry {
        stolen: 6,
        dispatch: Some(Dispatch::Preempted),
        ..ENTRY
    };
    server.entry(CALLER, &entry);
    // 1000 is made odd by us and even by the kernel.
    assert_eq!(machine.read(VPA + 0x100, 4), 1002);
    // The entry's total is known before the VPA is applied: it counts from there.
    assert_eq!(machine.read(VPA + 0x158, 8), 7000);
    server.entry(
        CALLER,
        &Entry {
            stolen: 16,
            ..entry
        },
    );
    assert_eq!(machine.read(VPA + 0x158, 8), 7010);
    // The trace goes on where the guest's index stands: 100 mod 30 entries.
    assert_eq!(machine.read(VPA + 0x218, 8), 102);
    assert_eq!(machine.read(DTL + 10 * 48 + 16, 8), ENTRY.timebase);
    assert_eq!(machine.read(DTL + 11 * 48 + 4, 4), 10);
}

#[test]
fn a_hypercall_after_a_set_is_a_new_registration() {
    let machine = Machine::new();
    let mut server = machine.instance(0);
    machine.set_in_guest(OTHER, true);
    machine.write(VPA + 0x100, 4, 1000);
    assert_eq!(server.set(1, VPA_ID, [VPA, 0]), Ok(()));
    machine.header(VPA, true, 640);
    assert_eq!(call(&mut server, CALLER, 1, 1, VPA), 0);
    server.entry(OTHER, &ENTRY);
    assert_eq!(machine.read(VPA + 0x100, 4), 2);
}
