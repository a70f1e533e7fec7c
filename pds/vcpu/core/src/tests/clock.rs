// SPDX-License-Identifier: BSD-2-Clause
//! Calendar and OPAL's clock.

use crate::*;
use proptest::prelude::*;

const fn at(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> DateTime {
    DateTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
    }
}

#[test]
fn known_moments() {
    for (date, seconds) in [
        (at(1970, 1, 1, 0, 0, 0), 0),
        (at(1972, 2, 29, 12, 0, 0), 68_212_800),
        (at(2000, 2, 29, 0, 0, 0), 951_782_400),
        (at(2000, 3, 1, 0, 0, 0), 951_868_800),
        (at(2023, 11, 14, 22, 13, 20), 1_700_000_000),
        (at(2038, 1, 19, 3, 14, 8), 1 << 31),
        (at(9999, 12, 31, 23, 59, 59), 253_402_300_799),
    ] {
        assert_eq!(date.to_seconds(), Some(seconds));
        assert_eq!(DateTime::from_seconds(seconds), Some(date));
    }
    assert_eq!(DateTime::from_seconds(-1), None);
    assert_eq!(DateTime::from_seconds(253_402_300_800), None);
}

#[test]
fn moments_that_do_not_exist() {
    for date in [
        at(1969, 12, 31, 0, 0, 0),
        at(10_000, 1, 1, 0, 0, 0),
        at(2023, 0, 1, 0, 0, 0),
        at(2023, 13, 1, 0, 0, 0),
        at(2023, u32::MAX, 1, 0, 0, 0),
        at(2023, 1, 0, 0, 0, 0),
        at(2023, 1, 32, 0, 0, 0),
        at(2023, 4, 31, 0, 0, 0),
        at(2023, 2, 29, 0, 0, 0),
        at(2100, 2, 29, 0, 0, 0),
        at(2023, 1, 1, 24, 0, 0),
        at(2023, 1, 1, 0, 60, 0),
        at(2023, 1, 1, 0, 0, 60),
    ] {
        assert_eq!(date.to_seconds(), None, "{date:?}");
    }
}

#[test]
fn opal_packs_decimal_digits() {
    let time = real_time_from_opal(0x2023_1114, 0x2213_2000_1234_5678);
    assert_eq!(
        time,
        Some(RealTime {
            seconds: 1_700_000_000,
            nanoseconds: 0
        })
    );
    assert_eq!(real_time_from_opal(0x2023_1b14, 0), None);
    assert_eq!(real_time_from_opal(0x2023_1332, 0), None);
    assert_eq!(real_time_from_opal(0x2023_1114, 0x2a << 56), None);
}

proptest! {
    #[test]
    fn every_second_has_one_date(seconds in 0..253_402_300_800i64) {
        let date = DateTime::from_seconds(seconds).unwrap();
        prop_assert_eq!(date.to_seconds(), Some(seconds));
        let next = DateTime::from_seconds(seconds + 1);
        prop_assert!(next.is_none_or(|next| next.second == (date.second + 1) % 60));
    }

    #[test]
    fn any_numbers_are_a_date_or_none(words in any::<[u32; 6]>(), year in 1960..10_010u32) {
        let [_, month, day, hour, minute, second] = words.map(|w| w % 70);
        let date = at(year, month, day, hour, minute, second);
        if let Some(seconds) = date.to_seconds() {
            prop_assert_eq!(DateTime::from_seconds(seconds), Some(date));
        }
        let [year, month, day, hour, minute, second] = words;
        let _ = at(year, month, day, hour, minute, second).to_seconds();
        let _ = real_time_from_opal(words[0], u64::from(words[1]) << 32);
    }
}
