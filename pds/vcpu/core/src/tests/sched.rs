// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 2.4: ceding, prodding, conferring, joining, system reset.

use super::world::*;
use crate::*;
use partita_papr::hcall::number::*;
use partita_papr::hcall::status::*;

/// Starts vCPU 1 as a guest does.
fn start_second(guest: &Guest, platform: &mut TestPlatform) {
    assert_eq!(
        rtas(platform, guest, 0x2006, &[1, 0x60, 1], 1),
        (0, vec![0])
    );
}

#[test]
fn h_cede_sleeps_with_ee_set_and_a_prod_wakes() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(call(&mut platform, BOOT, H_CEDE, &[]), ReplyAction::Idle);
    assert_eq!(guest.vcpu(BOOT).kicks, 0);
    assert_eq!(status(&mut platform, SECOND, H_PROD, &[0]), H_SUCCESS);
    assert_eq!(guest.vcpu(BOOT).kicks, 1);
    // The prod is used up.
    assert_eq!(call(&mut platform, BOOT, H_CEDE, &[]), ReplyAction::Idle);
    assert_eq!(guest.vcpu(BOOT).kicks, 1);
}

#[test]
fn h_prod_before_h_cede_is_sticky_and_single() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for _ in 0..3 {
        assert_eq!(status(&mut platform, SECOND, H_PROD, &[0]), H_SUCCESS);
    }
    assert_eq!(guest.vcpu(BOOT).kicks, 0, "the target is awake");
    // Back at once, but through Idle, which sets EE: a kick is latched for it.
    assert_eq!(call(&mut platform, BOOT, H_CEDE, &[]), ReplyAction::Idle);
    assert_eq!(guest.vcpu(BOOT).kicks, 1);
    assert_eq!(call(&mut platform, BOOT, H_CEDE, &[]), ReplyAction::Idle);
    assert_eq!(guest.vcpu(BOOT).kicks, 1);
}

#[test]
fn s0_gap_h_prod_tests_the_targets_state_not_the_callers() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(call(&mut platform, SECOND, H_CEDE, &[]), ReplyAction::Idle);
    // The caller has ceded (as the model sees it), the target has not.
    assert_eq!(status(&mut platform, SECOND, H_PROD, &[0]), H_SUCCESS);
    assert_eq!((guest.vcpu(BOOT).kicks, guest.vcpu(SECOND).kicks), (0, 0));
}

#[test]
fn h_prod_and_h_confer_of_unknown_targets() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for target in [VCPUS as u64, 1 << 32, u64::MAX - 1] {
        assert_eq!(status(&mut platform, BOOT, H_PROD, &[target]), H_PARAMETER);
        assert_eq!(
            status(&mut platform, BOOT, H_CONFER, &[target, 1]),
            H_PARAMETER
        );
    }
    assert_eq!(
        status(&mut platform, BOOT, H_PROD, &[u64::MAX]),
        H_PARAMETER
    );
}

#[test]
fn h_confer() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let confer = |p: &mut TestPlatform, target, count| call(p, BOOT, H_CONFER, &[target, count]);
    assert_eq!(confer(&mut platform, u64::MAX, 0), ReplyAction::Yield);
    guest.with_vcpu(SECOND, |v| v.yield_count = Some(7));
    assert_eq!(confer(&mut platform, 1, 7), ReplyAction::Yield);
    // It has run since, or runs now.
    assert_eq!(confer(&mut platform, 1, 5), ReplyAction::RESUME);
    guest.with_vcpu(SECOND, |v| v.yield_count = Some(8));
    assert_eq!(confer(&mut platform, 1, 8), ReplyAction::RESUME);
    assert_eq!(confer(&mut platform, 1, 7), ReplyAction::RESUME);
    assert_eq!(confer(&mut platform, 1, 7 | 1 << 32), ReplyAction::RESUME);
    // To itself: wait for a prod, once.
    assert_eq!(confer(&mut platform, 0, 0), ReplyAction::Yield);
    assert_eq!(status(&mut platform, SECOND, H_PROD, &[0]), H_SUCCESS);
    assert_eq!(confer(&mut platform, 0, 0), ReplyAction::RESUME);
    assert_eq!(confer(&mut platform, 0, 0), ReplyAction::Yield);
}

#[test]
fn h_join() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    guest.with_vcpu(BOOT, |v| v.msr = 1 << 15);
    assert_eq!(status(&mut platform, BOOT, H_JOIN, &[]), H_BAD_MODE);
    guest.with_vcpu(BOOT, |v| v.msr = 0);
    assert_eq!(
        status(&mut platform, BOOT, H_JOIN, &[]),
        H_CONTINUE,
        "alone"
    );
    start_second(&guest, &mut platform);
    assert_eq!(call(&mut platform, SECOND, H_JOIN, &[]), ReplyAction::Stop);
    // A kick that was latched must not end the stop: it is paused as well.
    assert_eq!(platform.exit(SECOND, Exit::Paused), ReplyAction::Stop);
    assert_eq!(
        status(&mut platform, BOOT, H_JOIN, &[]),
        H_CONTINUE,
        "the last"
    );
    let before = guest.vcpu(SECOND).resumes;
    assert_eq!(status(&mut platform, BOOT, H_PROD, &[1]), H_SUCCESS);
    assert_eq!(guest.vcpu(SECOND).resumes, before + 1);
    // It runs again and may join again; a prod before it counts.
    assert_eq!(status(&mut platform, BOOT, H_PROD, &[1]), H_SUCCESS);
    assert_eq!(
        call(&mut platform, SECOND, H_JOIN, &[]),
        ReplyAction::RESUME
    );
    assert_eq!(call(&mut platform, SECOND, H_JOIN, &[]), ReplyAction::Stop);
}

#[test]
fn h_signal_sys_reset() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let reset = ReplyAction::Inject(Interrupt {
        vector: 0x100,
        ..Interrupt::default()
    });
    start_second(&guest, &mut platform);
    let target = |n: i64| [n as u64];
    for bad in [VCPUS as i64, -3, i64::MIN, 1 << 32] {
        assert_eq!(
            status(&mut platform, BOOT, H_SIGNAL_SYS_RESET, &target(bad)),
            H_PARAMETER
        );
    }
    assert_eq!(
        call(&mut platform, BOOT, H_SIGNAL_SYS_RESET, &target(0)),
        reset
    );
    assert_eq!(guest.vcpu(SECOND).injected, None);
    assert_eq!(
        status(&mut platform, BOOT, H_SIGNAL_SYS_RESET, &target(-2)),
        H_SUCCESS
    );
    assert_eq!(guest.vcpu(SECOND).injected, Some(Interrupt::SYSTEM_RESET));
    assert_eq!(guest.vcpu(VcpuId(2)).injected, None, "never started");
    guest.with_vcpu(SECOND, |v| v.injected = None);
    assert_eq!(
        call(&mut platform, BOOT, H_SIGNAL_SYS_RESET, &target(-1)),
        reset
    );
    assert_eq!(guest.vcpu(SECOND).injected, Some(Interrupt::SYSTEM_RESET));
    assert_eq!(
        status(&mut platform, SECOND, H_SIGNAL_SYS_RESET, &target(0)),
        H_SUCCESS
    );
    assert_eq!(guest.vcpu(BOOT).injected, Some(Interrupt::SYSTEM_RESET));
}

#[test]
fn h2_4_everything_else_is_h_function_or_h_unsupported() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for number in [
        H_PERFMON,
        H_PURR,
        H_GET_PPP,
        H_GET_MPP,
        H_GET_MPP_X,
        H_GET_EM_PARMS,
        H_BEST_ENERGY,
        H_POLL_PENDING,
        H_WATCHDOG,
        H_HOME_NODE_ASSOCIATIVITY,
        H_LOGICAL_CI_LOAD,
        H_ENTER,
        H_REGISTER_VPA,
        0xf001,
        0xf078,
        0xf080,
        0xf800,
        0,
        2,
        0xe1,
        0xf002,
        u64::MAX,
        1 << 32,
        0xe0 | 1 << 40,
    ] {
        assert_eq!(
            status(&mut platform, BOOT, number, &[]),
            H_FUNCTION,
            "{number:#x}"
        );
        let reply = platform.exit(BOOT, Exit::UnroutedHypercall { number });
        assert_eq!(reply, ReplyAction::status(H_FUNCTION));
    }
    for number in [0xef00, 0xefff, H_RPT_INVALIDATE] {
        assert_eq!(status(&mut platform, BOOT, number, &[]), H_UNSUPPORTED);
        let reply = platform.exit(BOOT, Exit::UnroutedHypercall { number });
        assert_eq!(reply, ReplyAction::status(H_UNSUPPORTED));
    }
}

#[test]
fn sizes_of_shared_memory() {
    assert_eq!(size_of::<VmState>(), 128);
    assert_eq!(size_of::<VcpuState>(), 128);
    assert_eq!(size_of::<SourceState>(), 8);
    assert_eq!(size_of::<InputRing>(), 384);
}
