// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 5.5 and the pause protocol.

use super::world::*;
use crate::*;
use partita_papr::hcall::number::*;

const ILLEGAL: ReplyAction = ReplyAction::Inject(Interrupt {
    vector: 0x700,
    srr1_bits: 0x8_0000,
    dar: 0,
    dsisr: 0,
});

#[test]
fn c16_what_the_guest_does_is_reflected_not_swallowed() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(platform.exit(BOOT, Exit::EmulationAssistance), ILLEGAL);
    assert_eq!(platform.exit(BOOT, Exit::Other), ILLEGAL);
    for cause in [0, 5, 7, 10, 63, 64, 255] {
        assert_eq!(
            platform.exit(BOOT, Exit::FacilityUnavailable { cause }),
            ILLEGAL,
            "{cause}"
        );
    }
    assert_eq!(platform.exit(BOOT, Exit::Host), ReplyAction::RESUME);
}

#[test]
fn a_permitted_facility_is_granted_once() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let fault = Exit::FacilityUnavailable { cause: 3 };
    guest.with_vcpu(BOOT, |v| v.hfscr = 0x40);
    assert_eq!(platform.exit(BOOT, fault), ReplyAction::RESUME);
    guest.with_vcpu(BOOT, |v| v.out = true);
    assert_eq!(platform.exit(BOOT, Exit::Paused), ReplyAction::RESUME);
    assert_eq!(guest.vcpu(BOOT).hfscr, 0x48);
    // It has it and still faults: no loop.
    assert_eq!(platform.exit(BOOT, fault), ILLEGAL);
    // The other vCPU has its own.
    assert_eq!(platform.exit(SECOND, fault), ReplyAction::RESUME);
}

#[test]
fn machine_checks_show_only_the_guests_bits() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let exit = Exit::MachineCheck {
        srr1: u64::MAX,
        dar: 0x1234,
        dsisr: 0x8000,
    };
    let expected = Interrupt {
        vector: 0x200,
        srr1_bits: 0x083c_0000,
        dar: 0x1234,
        dsisr: 0x8000,
    };
    assert_eq!(platform.exit(BOOT, exit), ReplyAction::Inject(expected));
}

#[test]
fn a_guest_that_cannot_go_on_is_reported_and_stopped() {
    for exit in [Exit::HptDead, Exit::MalformedReply] {
        let guest = Guest::new();
        let mut platform = guest.instance(0);
        assert_eq!(platform.exit(BOOT, exit), ReplyAction::Stop);
        assert_eq!(guest.world.borrow().power, [PowerEvent::Crashed]);
    }
}

#[test]
fn the_operators_pause() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(platform.pause(BOOT), Pause::NotYet);
    guest.with_vcpu(BOOT, |v| v.out = true);
    assert_eq!(platform.exit(BOOT, Exit::Paused), ReplyAction::Stop);
    assert_eq!(platform.pause(BOOT), Pause::Done);
    platform.resume(BOOT);
    assert_eq!(guest.vcpu(BOOT).resumes, 1);
    // What the guest has stopped stays stopped.
    assert_eq!(platform.pause(SECOND), Pause::Done);
    platform.resume(SECOND);
    assert_eq!(guest.vcpu(SECOND).resumes, 0);
    assert_eq!(platform.exit(SECOND, Exit::Paused), ReplyAction::Stop);
}

/// A vCPU that the guest starts, or prods out of H_JOIN, while the operator holds it goes on when the operator
/// lets it.
#[test]
fn the_guest_does_not_end_the_operators_pause() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let started = (0, vec![0]);
    assert_eq!(platform.pause(SECOND), Pause::Done);
    assert_eq!(
        rtas(&mut platform, &guest, 0x2006, &[1, 0x60, 1], 1),
        started
    );
    assert_eq!(
        rtas(&mut platform, &guest, 0x2005, &[1], 2),
        (0, vec![0, 2])
    );
    assert_eq!(guest.vcpu(SECOND).resumes, 0);
    platform.resume(SECOND);
    assert_eq!(guest.vcpu(SECOND).resumes, 1);

    assert_eq!(call(&mut platform, SECOND, H_JOIN, &[]), ReplyAction::Stop);
    guest.with_vcpu(SECOND, |v| v.out = true);
    assert_eq!(platform.exit(SECOND, Exit::Paused), ReplyAction::Stop);
    assert_eq!(platform.pause(SECOND), Pause::Done);
    assert_eq!(status(&mut platform, BOOT, H_PROD, &[1]), 0);
    assert_eq!(guest.vcpu(SECOND).resumes, 1);
    platform.resume(SECOND);
    assert_eq!(guest.vcpu(SECOND).resumes, 2);
}

#[test]
fn a_register_write_survives_the_operators_resume() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(status(&mut platform, BOOT, H_SET_SPRG0, &[0x77]), 0);
    assert_eq!(platform.pause(BOOT), Pause::NotYet);
    // The operator is quicker than the exit: the vCPU is not resumed past it.
    platform.resume(BOOT);
    assert_eq!(guest.vcpu(BOOT).resumes, 0);
    guest.with_vcpu(BOOT, |v| v.out = true);
    assert_eq!(platform.exit(BOOT, Exit::Paused), ReplyAction::RESUME);
    assert_eq!(
        (guest.vcpu(BOOT).sprg0, guest.vcpu(BOOT).resumes),
        (0x77, 1)
    );
}

#[test]
fn reset_is_a_new_guest() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    rtas(&mut platform, &guest, 0x2006, &[1, 0x60, 1], 1);
    rtas(&mut platform, &guest, 0x200a, &[FIRST, 1, 5], 1);
    status(&mut platform, BOOT, H_CPPR, &[0xff]);
    status(&mut platform, BOOT, H_IPI, &[0, 4]);
    status(&mut platform, SECOND, H_PROD, &[0]);
    assert!(guest.vcpu(BOOT).line);
    platform.reset(is_level);
    assert!(!guest.vcpu(BOOT).line);
    assert_eq!(platform.icp(BOOT), Some(Icp::RESET));
    assert_eq!(
        rtas(&mut platform, &guest, 0x200b, &[FIRST], 3),
        (0, vec![0, 0, 0xff])
    );
    guest.with_vcpu(SECOND, |v| v.out = true);
    assert_eq!(
        rtas(&mut platform, &guest, 0x2005, &[1], 2),
        (0, vec![0, 0])
    );
    assert_eq!(call(&mut platform, BOOT, H_CEDE, &[]), ReplyAction::Idle);
    assert_eq!(guest.vcpu(BOOT).kicks, 0, "prods are forgotten");
}

#[test]
fn a_restarted_instance_frees_the_lock_of_its_predecessor() {
    let guest = Guest::new();
    guest
        .shared
        .vm
        .xics_lock
        .store(1, partita_instance::atomic::Ordering::Relaxed);
    let mut platform = guest.instance(0);
    platform.recover();
    assert_eq!(status(&mut platform, BOOT, H_CPPR, &[0xff]), 0);
    guest
        .shared
        .vm
        .xics_lock
        .store(2, partita_instance::atomic::Ordering::Relaxed);
    platform.recover();
    assert_eq!(
        guest
            .shared
            .vm
            .xics_lock
            .load(partita_instance::atomic::Ordering::Relaxed),
        2
    );
}
