// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 2.8 and 4.4: H_RTAS.

use super::world::*;
use crate::*;
use partita_papr::hcall::number::H_RTAS;
use partita_papr::hcall::status::*;

const ERROR: u32 = -1i32 as u32;
const BUSY: u32 = -2i32 as u32;
const PARAMETER: u32 = -3i32 as u32;

#[test]
fn cve_2021_37576_bounds_of_the_argument_block() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for (nargs, nret) in [
        (16, 0),
        (16, 1),
        (15, 2),
        (0, 17),
        (u32::MAX, 1),
        (1, u32::MAX),
        (u32::MAX, u32::MAX),
        (0x8000_0000, 0x8000_0001),
        (17, 0),
    ] {
        guest.poke(0x1000, &[0x2001, nargs, nret]);
        assert_eq!(
            status(&mut platform, BOOT, H_RTAS, &[0x1000]),
            H_PARAMETER,
            "{nargs} {nret}"
        );
    }
    // The largest legal ones.
    for (nargs, nret) in [(15, 1), (0, 16), (8, 8)] {
        guest.poke(0x1000, &[0x2001, nargs, nret]);
        assert_eq!(status(&mut platform, BOOT, H_RTAS, &[0x1000]), H_SUCCESS);
    }
}

#[test]
fn the_block_is_read_once() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    guest.world.borrow_mut().reads.clear();
    rtas(&mut platform, &guest, 0x2002, &[2024, 2, 29, 1, 2, 3, 0], 1);
    let mut reads = guest.world.borrow().reads.clone();
    let count = reads.len();
    reads.sort();
    reads.dedup();
    assert_eq!((reads.len(), count), (12 + 28, 12 + 28));
}

#[test]
fn blocks_outside_memory() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    guest.with_vcpu(BOOT, |v| v.msr = 1 << 63);
    let end = MEMORY_PAGES * 4096;
    for address in [end, end - 8, 1 << 57, 0x0fff_ffff_ffff_fff8, u64::MAX] {
        assert_eq!(
            status(&mut platform, BOOT, H_RTAS, &[address]),
            H_PARAMETER,
            "{address:#x}"
        );
    }
    // The header fits, the arguments or the results do not.
    guest.poke(end - 12, &[0x2006, 3, 1]);
    assert_eq!(
        status(&mut platform, BOOT, H_RTAS, &[end - 12]),
        H_PARAMETER
    );
    guest.poke(end - 12, &[0x2001, 0, 8]);
    assert_eq!(
        status(&mut platform, BOOT, H_RTAS, &[end - 12]),
        H_PARAMETER
    );
}

#[test]
fn addresses_of_32_bit_mode_and_of_real_mode() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let mut year = |address: u64| {
        guest.poke(0x1000, &[0x2001, 0, 8, 9]);
        let status = status(&mut platform, BOOT, H_RTAS, &[address]);
        (status, guest.peek(0x1010))
    };
    // GUEST.md 6: with SF = 0 the upper half of r4 is not part of the address.
    assert_eq!(year(0xdead_beef_0000_1000), (H_SUCCESS, 2023));
    guest.with_vcpu(BOOT, |v| v.msr = 1 << 63);
    assert_eq!(year(0xdead_beef_0000_1000).0, H_PARAMETER);
    // The top four bits do not count in real mode.
    assert_eq!(year(0xc000_0000_0000_1000), (H_SUCCESS, 2023));
}

#[test]
fn unknown_tokens_and_wrong_shapes() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for token in [0, 0x2000, 0x2009, 0x2010, u32::MAX] {
        assert_eq!(
            rtas(&mut platform, &guest, token, &[1], 1),
            (H_PARAMETER, vec![PARAMETER])
        );
        assert_eq!(
            rtas(&mut platform, &guest, token, &[1], 0),
            (H_PARAMETER, vec![])
        );
    }
    for service in SERVICES {
        let args = vec![0; service.nargs as usize + 1];
        let nret = service.nret.max(1);
        let (status, rets) = rtas(&mut platform, &guest, service.token, &args, nret);
        assert_eq!(
            (status, rets[0]),
            (H_SUCCESS, PARAMETER),
            "{}",
            service.name
        );
        if service.nret > 1 {
            let args = vec![0; service.nargs as usize];
            let (status, rets) = rtas(&mut platform, &guest, service.token, &args, 1);
            assert_eq!(
                (status, rets[0]),
                (H_SUCCESS, PARAMETER),
                "{}",
                service.name
            );
        }
    }
    assert!(guest.world.borrow().power.is_empty());
}

#[test]
fn room_for_more_results_is_left_alone() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let rets = rtas(&mut platform, &guest, 0x2005, &[0], 4);
    assert_eq!(rets, (H_SUCCESS, vec![0, 2, 0xdead_beef, 0xdead_beef]));
}

#[test]
fn tokens_are_unique_and_the_ones_of_guest_md() {
    for (i, service) in SERVICES.iter().enumerate() {
        assert!(
            SERVICES[i + 1..]
                .iter()
                .all(|s| s.token != service.token && s.name != service.name)
        );
    }
    let token = |name| SERVICES.iter().find(|s| s.name == name).unwrap().token;
    assert_eq!(token("power-off"), 0x2003);
    assert_eq!(token("start-cpu"), 0x2006);
    assert_eq!(token("ibm,int-on"), 0x200d);
}

#[test]
fn time_of_day() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let get = |p: &mut TestPlatform| rtas(p, &guest, 0x2001, &[], 8);
    assert_eq!(
        get(&mut platform),
        (H_SUCCESS, vec![0, 2023, 11, 14, 22, 13, 20, 5])
    );
    let set = rtas(
        &mut platform,
        &guest,
        0x2002,
        &[1999, 12, 31, 23, 59, 59, 0],
        1,
    );
    assert_eq!(set, (H_SUCCESS, vec![0]));
    assert_eq!(
        get(&mut platform),
        (H_SUCCESS, vec![0, 1999, 12, 31, 23, 59, 59, 5])
    );
    guest.world.borrow_mut().clock = Some(RealTime {
        seconds: NOW + 2,
        nanoseconds: 6,
    });
    assert_eq!(
        get(&mut platform),
        (H_SUCCESS, vec![0, 2000, 1, 1, 0, 0, 1, 6])
    );
    // The clock outlives a reset.
    platform.reset(is_level);
    assert_eq!(get(&mut platform).1[1], 2000);
    let bad = rtas(&mut platform, &guest, 0x2002, &[1999, 2, 29, 0, 0, 0, 0], 1);
    assert_eq!(bad, (H_SUCCESS, vec![PARAMETER]));
    guest.world.borrow_mut().clock = None;
    assert_eq!(get(&mut platform).1[0], ERROR);
    let set = rtas(
        &mut platform,
        &guest,
        0x2002,
        &[1999, 12, 31, 23, 59, 59, 0],
        1,
    );
    assert_eq!(set.1, [ERROR]);
}

fn call_token(
    platform: &mut TestPlatform,
    guest: &Guest,
    caller: VcpuId,
    block: &[u32],
) -> ReplyAction {
    guest.poke(0x1000, block);
    call(platform, caller, H_RTAS, &[0x1000])
}

#[test]
fn power_off_and_reboot_do_not_return() {
    for (block, event) in [
        (&[0x2003u32, 2, 1, ERROR, ERROR, 7][..], PowerEvent::Off),
        (&[0x2004, 0, 1, 7], PowerEvent::Reboot),
    ] {
        let guest = Guest::new();
        let mut platform = guest.instance(0);
        assert_eq!(
            call_token(&mut platform, &guest, BOOT, block),
            ReplyAction::Stop
        );
        assert_eq!(guest.world.borrow().power, [event]);
        assert_eq!(guest.vcpu(BOOT).pauses, 1);
    }
}

#[test]
fn os_term_reports_and_returns() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(
        rtas(&mut platform, &guest, 0x200f, &[0x1000], 1),
        (H_SUCCESS, vec![0])
    );
    assert_eq!(guest.world.borrow().power, [PowerEvent::Crashed]);
}

#[test]
fn display_character() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(
        rtas(&mut platform, &guest, 0x2008, &[0x141], 1),
        (H_SUCCESS, vec![0])
    );
    guest.world.borrow_mut().output_full = true;
    assert_eq!(
        rtas(&mut platform, &guest, 0x2008, &[0x42], 1),
        (H_SUCCESS, vec![BUSY])
    );
    assert_eq!(guest.world.borrow().output[0], b"A");
}

#[test]
fn p4_3_start_and_stop() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let query = |p: &mut TestPlatform, n| rtas(p, &guest, 0x2005, &[n], 2).1;
    let start =
        |p: &mut TestPlatform, n| rtas(p, &guest, 0x2006, &[n, 0xffff_fff0, 0xffff_fffe], 1).1;
    assert_eq!(query(&mut platform, 0), [0, 2]);
    assert_eq!(query(&mut platform, 1), [0, 0]);
    assert_eq!(query(&mut platform, 3)[0], PARAMETER);
    assert_eq!(start(&mut platform, 3), [PARAMETER]);
    assert_eq!(start(&mut platform, u32::MAX), [PARAMETER]);
    assert_eq!(start(&mut platform, 0), [ERROR]);
    assert_eq!(start(&mut platform, 1), [0]);
    let state = StartState {
        pc: 0xffff_fff0,
        r3: 0xffff_fffe,
        msr: 0x8000_0000_0000_1000,
    };
    assert_eq!(
        (guest.vcpu(SECOND).started, guest.vcpu(SECOND).resumes),
        (Some(state), 1)
    );
    assert_eq!(query(&mut platform, 1), [0, 2]);
    assert_eq!(start(&mut platform, 1), [ERROR]);
    // stop-self; Linux passes one result although there is none.
    let stop = call_token(&mut platform, &guest, SECOND, &[0x2007, 0, 1, 7]);
    assert_eq!(stop, ReplyAction::Stop);
    assert_eq!(
        query(&mut platform, 1),
        [0, 1],
        "the kernel has not seen it yet"
    );
    assert_eq!(start(&mut platform, 1), [BUSY]);
    // A latched kick ends the stop, but not the pause.
    assert_eq!(platform.exit(SECOND, Exit::Paused), ReplyAction::Stop);
    guest.with_vcpu(SECOND, |v| v.out = true);
    assert_eq!(query(&mut platform, 1), [0, 0]);
    assert_eq!(start(&mut platform, 1), [0]);
    let stop = call_token(&mut platform, &guest, SECOND, &[0x2007, 0, 0]);
    assert_eq!(stop, ReplyAction::Stop);
    guest.with_vcpu(SECOND, |v| v.out = true);
    assert_eq!(start(&mut platform, 1), [0], "start-cpu looks itself");
}

#[test]
fn a_start_that_the_kernel_refuses_can_be_repeated() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    guest.with_vcpu(SECOND, |v| v.out = false);
    assert_eq!(
        rtas(&mut platform, &guest, 0x2006, &[1, 0x60, 1], 1).1,
        [ERROR]
    );
    guest.with_vcpu(SECOND, |v| v.out = true);
    assert_eq!(rtas(&mut platform, &guest, 0x2006, &[1, 0x60, 1], 1).1, [0]);
}

#[test]
fn xive_services() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let get = |p: &mut TestPlatform, n| rtas(p, &guest, 0x200b, &[n], 3).1;
    let set = |p: &mut TestPlatform, args: [u32; 3]| rtas(p, &guest, 0x200a, &args, 1).1;
    assert_eq!(get(&mut platform, FIRST), [0, 0, 0xff]);
    assert_eq!(set(&mut platform, [FIRST, 2, 5]), [0]);
    assert_eq!(get(&mut platform, FIRST), [0, 2, 5]);
    for bad in [
        [FIRST - 1, 0, 5],
        [FIRST + SOURCES as u32, 0, 5],
        [2, 0, 5],
        [FIRST, 3, 5],
        [FIRST, u32::MAX, 5],
        [FIRST, 0, 0x100],
        [0, 0, 0],
        [u32::MAX, 0, 0],
    ] {
        assert_eq!(set(&mut platform, bad), [PARAMETER], "{bad:x?}");
    }
    assert_eq!(get(&mut platform, FIRST), [0, 2, 5]);
    assert_eq!(rtas(&mut platform, &guest, 0x200c, &[FIRST], 1).1, [0]);
    assert_eq!(get(&mut platform, FIRST), [0, 2, 0xff]);
    assert_eq!(rtas(&mut platform, &guest, 0x200d, &[FIRST], 1).1, [0]);
    assert_eq!(get(&mut platform, FIRST), [0, 2, 5]);
    for token in [0x200c, 0x200d] {
        assert_eq!(
            rtas(&mut platform, &guest, token, &[FIRST + 4], 1).1,
            [PARAMETER]
        );
    }
    assert_eq!(get(&mut platform, 0)[0], PARAMETER);
}

#[test]
fn system_parameters() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let mut get = |parameter, buffer, len| {
        rtas(&mut platform, &guest, 0x200e, &[parameter, buffer, len], 1).1[0]
    };
    assert_eq!(get(0, 0x1000, 100), PARAMETER);
    assert_eq!(get(20, 0x1000, 1), -9999i32 as u32);
    assert_eq!(get(20, 0xfff_f000, 100), PARAMETER);
    assert_eq!(get(20, 0x1ffa, 4000), 0);
    let expected = b"MaxEntCap=300,DesMem=1024,DesProcs=3,MaxPlatProcs=3\0";
    let read = |at: u64, len: u64| -> Vec<u8> {
        (at..at + len)
            .map(|at| (guest.peek(at & !3) >> (24 - 8 * (at & 3))) as u8)
            .collect()
    };
    assert_eq!(read(0x1ffa, 2), [0, expected.len() as u8]);
    assert_eq!(read(0x1ffc, expected.len() as u64), expected);
    // What does not fit is cut off, the length says so.
    assert_eq!(get(20, 0x5000, 5), 0);
    assert_eq!(
        read(0x5000, 8),
        [0, expected.len() as u8, b'M', b'a', b'x', 0, 0, 0]
    );
}
