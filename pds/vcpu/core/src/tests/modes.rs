// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 2.5: modes and debug registers, H_RANDOM.

use super::world::*;
use crate::*;
use partita_papr::hcall::number::*;
use partita_papr::hcall::status::*;

#[test]
fn h_set_mode_errors() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for (flags, resource, value1, value2, expected) in [
        (0, 0, 0, 0, H_P2),
        (0, 6, 0, 0, H_P2),
        (0, u64::MAX, 0, 0, H_P2),
        // 1: CIABR
        (0, 1, 0, 1, H_P4),
        (1, 1, 0, 0, H_UNSUPPORTED_FLAG),
        (0, 1, 3, 0, H_P3),
        (0, 1, u64::MAX, 0, H_P3),
        // 2 and 5: DAWR0 and DAWR1 do not exist
        (0, 2, 0, 0, H_P2),
        (1, 5, 1, 1, H_P2),
        // 3: AIL
        (3, 3, 1, 0, H_P3),
        (3, 3, 0, 1, H_P4),
        (1, 3, 0, 0, H_UNSUPPORTED_FLAG),
        (2, 3, 0, 0, H_UNSUPPORTED_FLAG),
        (1 << 32 | 3, 3, 0, 0, H_UNSUPPORTED_FLAG),
        // 4: endian
        (1, 4, 1, 0, H_P3),
        (1, 4, 0, 1, H_P4),
        (2, 4, 0, 0, H_UNSUPPORTED_FLAG),
        (u64::MAX, 4, 0, 0, H_UNSUPPORTED_FLAG),
    ] {
        let args = [flags, resource, value1, value2];
        assert_eq!(
            status(&mut platform, BOOT, H_SET_MODE, &args),
            expected,
            "{args:?}"
        );
    }
    assert!(guest.world.borrow().modes.is_empty());
}

#[test]
fn h_set_mode_changes_the_whole_partition_before_it_returns() {
    use PartitionMode::*;
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for (flags, resource, mode) in [
        (3, 3, TranslatedInterrupts(true)),
        (0, 3, TranslatedInterrupts(false)),
        (1, 4, LittleEndianInterrupts(true)),
        (0, 4, LittleEndianInterrupts(false)),
    ] {
        assert_eq!(
            status(&mut platform, BOOT, H_SET_MODE, &[flags, resource]),
            H_SUCCESS
        );
        assert_eq!(guest.world.borrow().modes.last(), Some(&mode));
    }
    guest.world.borrow_mut().mode_refused = true;
    assert_eq!(status(&mut platform, BOOT, H_SET_MODE, &[1, 4]), H_HARDWARE);
}

#[test]
fn registers_are_written_at_the_paused_exit() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(
        status(&mut platform, BOOT, H_SET_MODE, &[0, 1, 0x1002, 0]),
        H_SUCCESS
    );
    assert_eq!(
        status(&mut platform, BOOT, H_SET_SPRG0, &[0x5555]),
        H_SUCCESS
    );
    assert_eq!((guest.vcpu(BOOT).ciabr, guest.vcpu(BOOT).pauses), (0, 2));
    guest.with_vcpu(BOOT, |v| v.out = true);
    assert_eq!(platform.exit(BOOT, Exit::Paused), ReplyAction::RESUME);
    let vcpu = guest.vcpu(BOOT);
    assert_eq!((vcpu.ciabr, vcpu.sprg0, vcpu.resumes), (0x1002, 0x5555, 1));
    // Once only.
    guest.with_vcpu(BOOT, |v| (v.ciabr, v.out) = (0, true));
    assert_eq!(platform.exit(BOOT, Exit::Paused), ReplyAction::RESUME);
    assert_eq!(guest.vcpu(BOOT).ciabr, 0);
}

#[test]
fn watchpoints_of_power9() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    // GUEST.md 6: not H_PRIVILEGE.
    assert_eq!(
        status(&mut platform, BOOT, H_SET_DABR, &[0x1000]),
        H_HARDWARE
    );
    for dabrx in [0, 8, 4, 7, 0x10, u64::MAX] {
        assert_eq!(
            status(&mut platform, BOOT, H_SET_XDABR, &[0x1000, dabrx]),
            H_PARAMETER
        );
    }
    for dabrx in [1, 2, 3, 0xb] {
        assert_eq!(
            status(&mut platform, BOOT, H_SET_XDABR, &[0x1000, dabrx]),
            H_HARDWARE
        );
    }
}

#[test]
fn h_get_cpu_characteristics_and_h_random() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let words = answer(&mut platform, BOOT, H_GET_CPU_CHARACTERISTICS, &[]);
    assert_eq!(words, (H_SUCCESS, vec![0x1111, 0x2222]));
    assert_eq!(
        answer(&mut platform, BOOT, H_RANDOM, &[]),
        (H_HARDWARE, vec![])
    );
    guest.world.borrow_mut().random = Some(0x1234_5678_9abc_def0);
    let random = answer(&mut platform, BOOT, H_RANDOM, &[]);
    assert_eq!(random, (H_SUCCESS, vec![0x1234_5678_9abc_def0]));
}

/// SPEC 3.9: one distance for the whole guest, or none is changed.
#[test]
fn the_timebase_of_all_vcpus_is_moved_together() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let offsets = || {
        guest
            .world
            .borrow()
            .vcpus
            .iter()
            .map(|v| v.tb_offset)
            .collect::<Vec<_>>()
    };
    guest.world.borrow_mut().vcpus[0].out = false;
    assert!(platform.set_tb_offset(1 << 30).is_err(), "vCPU 0 runs");
    assert!(offsets().iter().all(|offset| *offset == 0));
    guest.world.borrow_mut().vcpus[0].out = true;
    assert!(platform.set_tb_offset((1 << 30) + 1).is_ok());
    let rounded = (1 << 30) + (1 << 24);
    assert!(offsets().iter().all(|offset| *offset == rounded));
    assert_eq!(platform.tb_offset(), rounded);
    guest.world.borrow_mut().vcpus[1].out = false;
    assert!(platform.set_tb_offset(5 << 30).is_err(), "vCPU 1 runs");
    assert!(offsets().iter().all(|offset| *offset == rounded));
    assert_eq!(platform.tb_offset(), rounded);
    // Hypercalls answer the guest's time.
    status(&mut platform, BOOT, H_CPPR, &[0xff]);
    status(&mut platform, BOOT, H_IPI, &[0, 4]);
    let (_, words) = answer(&mut platform, BOOT, H_XIRR_X, &[0]);
    assert_eq!(words[1], 0x7e57 + rounded);
}
