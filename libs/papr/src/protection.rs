// SPDX-License-Identifier: BSD-2-Clause
//! Page protection and storage keys (S3.4).

use crate::hpte::{KEY_HIGH, KEY_LOW, PP, PP0};

/// PP0 and PP as a number of three bits.
#[inline]
pub const fn pp(r: u64) -> u64 {
    ((r & PP0) >> 61) | (r & PP)
}

/// Whether a load is allowed with segment key `key`.
#[inline]
pub const fn may_read(r: u64, key: bool) -> bool {
    !key || matches!(pp(r), 1..=3)
}

/// Whether a store is allowed with segment key `key`.
#[inline]
pub const fn may_write(r: u64, key: bool) -> bool {
    if key { pp(r) == 2 } else { pp(r) <= 2 }
}

/// Whether a store is possible in any state: all but 011 and 110 (reserved values count).
#[inline]
pub const fn is_writable(r: u64) -> bool {
    !matches!(pp(r), 3 | 6)
}

/// The same entry without the right to write: 110 if only privileged state had access, else 011.
#[inline]
pub const fn read_only(r: u64) -> u64 {
    if r & PP0 != 0 || r & PP == 0 {
        (r & !PP) | PP0 | 2
    } else {
        r | 3
    }
}

/// Storage key, 0 to 31.
#[inline]
pub const fn storage_key(r: u64) -> u32 {
    (((r & KEY_HIGH) >> 57) | ((r & KEY_LOW) >> 9)) as u32
}

/// Field of AMR or IAMR for the storage key of `r`: bit 1 forbids stores, bit 0 loads (AMR) or
/// execution (IAMR).
#[inline]
pub const fn key_field(register: u64, r: u64) -> u64 {
    (register >> (62 - 2 * storage_key(r))) & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn r(pp: u64) -> u64 {
        (pp >> 2) << 63 | pp & 3
    }

    /// The table of S3.4: S column (key 0), U column (key 1).
    #[test]
    fn access_table() {
        for (value, s_read, s_write, u_read, u_write) in [
            (0, true, true, false, false),
            (1, true, true, true, false),
            (2, true, true, true, true),
            (3, true, false, true, false),
            (6, true, false, false, false),
        ] {
            assert_eq!(pp(r(value)), value);
            assert_eq!(may_read(r(value), false), s_read);
            assert_eq!(may_write(r(value), false), s_write);
            assert_eq!(may_read(r(value), true), u_read);
            assert_eq!(may_write(r(value), true), u_write);
            assert_eq!(is_writable(r(value)), s_write);
        }
    }

    #[test]
    fn read_only_keeps_reading_and_takes_writing() {
        for value in 0..8 {
            let narrowed = read_only(r(value));
            assert!(!is_writable(narrowed), "{value}");
            for key in [false, true] {
                assert!(!may_write(narrowed, key));
                if matches!(value, 0..=3 | 6) {
                    assert_eq!(
                        may_read(narrowed, key),
                        may_read(r(value), key),
                        "{value} {key}"
                    );
                }
            }
        }
    }

    #[test]
    fn keys() {
        assert_eq!(storage_key(0x3000_0000_0000_0e00), 31);
        assert_eq!(storage_key(0x1000_0000_0000_0000), 8);
        assert_eq!(storage_key(0x200), 1);
        assert_eq!(key_field(2 << 62, 0), 2);
        assert_eq!(key_field(1, 0x3000_0000_0000_0e00), 1);
    }
}
