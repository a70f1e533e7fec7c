// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 2.7: virtual terminals.

use super::world::*;
use partita_papr::hcall::number::*;
use partita_papr::hcall::status::*;

fn chars(text: &[u8]) -> [u64; 2] {
    let mut bytes = [0; 16];
    bytes[..text.len()].copy_from_slice(text);
    let all = u128::from_be_bytes(bytes);
    [(all >> 64) as u64, all as u64]
}

fn get(platform: &mut TestPlatform, unit: u64) -> Vec<u8> {
    let (status, words) = answer(platform, BOOT, H_GET_TERM_CHAR, &[unit]);
    assert_eq!(status, H_SUCCESS);
    let bytes = (u128::from(words[1]) << 64 | u128::from(words[2])).to_be_bytes();
    assert!(
        bytes[words[0] as usize..].iter().all(|b| *b == 0),
        "nothing of others"
    );
    bytes[..words[0] as usize].to_vec()
}

#[test]
fn h_put_term_char() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let [high, low] = chars(b"0123456789abcdef");
    let mut put = |unit: u64, len| {
        status(
            &mut platform,
            BOOT,
            H_PUT_TERM_CHAR,
            &[unit, len, high, low],
        )
    };
    assert_eq!(put(0x7100_0000, 3), H_SUCCESS);
    assert_eq!(put(0, 16), H_SUCCESS);
    assert_eq!(put(0x7100_0001, 9), H_SUCCESS);
    assert_eq!(put(0x7100_0000, 0), H_SUCCESS);
    for (unit, len) in [
        (0x7100_0000, 17),
        (0x7100_0000, u64::MAX),
        (0x7100_0000, 1 << 32),
        (0x7100_0002, 1),
        (1, 1),
        (0x1_7100_0000, 1),
        (u64::MAX, 1),
    ] {
        assert_eq!(put(unit, len), H_PARAMETER, "{unit:#x} {len}");
    }
    guest.world.borrow_mut().output_full = true;
    assert_eq!(put(0x7100_0000, 1), H_BUSY);
    assert_eq!(put(0x7100_0000, 0), H_SUCCESS);
    assert_eq!(guest.world.borrow().output[0], b"0120123456789abcdef");
    assert_eq!(guest.world.borrow().output[1], b"012345678");
}

#[test]
fn h_get_term_char() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(get(&mut platform, 0), b"");
    for byte in b"hello, this is input" {
        assert!(platform.input(0, *byte));
    }
    assert!(platform.input(1, b'x'));
    assert_eq!(get(&mut platform, 0), b"hello, this is i");
    assert_eq!(get(&mut platform, 0x7100_0000), b"nput");
    assert_eq!(get(&mut platform, 0x7100_0001), b"x");
    assert_eq!(get(&mut platform, 0x7100_0001), b"");
    for unit in [1, 0x7100_0002, u64::MAX, 0x1_7100_0000] {
        assert_eq!(
            status(&mut platform, BOOT, H_GET_TERM_CHAR, &[unit]),
            H_PARAMETER
        );
    }
    assert!(!platform.input(2, b'x'));
}

#[test]
fn a_nul_never_follows_a_carriage_return_in_one_call() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for byte in [b'a', b'\r', 0, 0, b'b', b'\r', b'c'] {
        assert!(platform.input(0, byte));
    }
    assert_eq!(get(&mut platform, 0), b"a\r");
    assert_eq!(get(&mut platform, 0), b"\0\0b\r", "no character is lost");
    assert_eq!(get(&mut platform, 0), b"c");
}

#[test]
fn a_full_ring_refuses_and_loses_nothing() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let taken = (0..1000u32)
        .take_while(|n| platform.input(0, *n as u8))
        .count();
    assert_eq!(taken, 256);
    let mut seen = Vec::new();
    loop {
        let bytes = get(&mut platform, 0);
        if bytes.is_empty() {
            break;
        }
        seen.extend(bytes);
    }
    assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
    assert!(platform.input(0, 1));
    platform.reset(is_level);
    assert_eq!(get(&mut platform, 0), b"");
}

#[test]
fn input_raises_the_terminals_interrupt() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    assert_eq!(
        rtas(&mut platform, &guest, 0x200a, &[FIRST, 0, 5], 1),
        (0, vec![0])
    );
    assert_eq!(status(&mut platform, BOOT, H_CPPR, &[0xff]), H_SUCCESS);
    assert!(platform.input(0, b'x'));
    assert!(guest.vcpu(BOOT).line);
    let xirr = answer(&mut platform, BOOT, H_XIRR, &[]);
    assert_eq!(xirr, (H_SUCCESS, vec![0xff00_0000 | u64::from(FIRST)]));
}
