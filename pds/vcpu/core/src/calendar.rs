// SPDX-License-Identifier: BSD-2-Clause
//! Seconds since 1970 and calendar dates (proleptic Gregorian, UTC).

use crate::machine::RealTime;

const DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;

/// A moment as RTAS has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Year, 1970 to 9999.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

const fn days_of(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

impl DateTime {
    /// Seconds since 1970, if such a moment exists.
    pub const fn to_seconds(self) -> Option<i64> {
        let DateTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        if year < 1970 || year > 9999 || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        if day == 0 || day > days_of(year, month) {
            return None;
        }
        // Years begin in March, so that the leap day is the last one.
        let from_march = (month + 9) % 12;
        let year = year as i64 - (month < 3) as i64;
        let day_of_year = ((153 * from_march + 2) / 5 + day - 1) as i64;
        let year_of_era = year % 400;
        let days = year / 400 * ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100
            + day_of_year
            - EPOCH;
        Some(days * DAY + hour as i64 * 3600 + minute as i64 * 60 + second as i64)
    }

    /// The date of a moment between 1970 and 9999.
    pub const fn from_seconds(seconds: i64) -> Option<Self> {
        const END: i64 = 253_402_300_800;
        if seconds < 0 || seconds >= END {
            return None;
        }
        let day = seconds / DAY + EPOCH;
        let time = (seconds % DAY) as u32;
        let day_of_era = day % ERA;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = day / ERA * 400 + year_of_era + (month < 3) as i64;
        Some(DateTime {
            year: year as u32,
            month: month as u32,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u32,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        })
    }
}

/// Two packed decimal digits.
const fn bcd(byte: u64) -> Option<u32> {
    let (tens, units) = ((byte >> 4) & 15, byte & 15);
    if tens > 9 || units > 9 {
        None
    } else {
        Some((tens * 10 + units) as u32)
    }
}

/// The host's clock as OPAL_RTC_READ has it, in packed decimal digits: `date` is year (4), month,
/// day; `time` is hour, minute, second from the most significant byte down (the rest is ignored).
pub fn real_time_from_opal(date: u32, time: u64) -> Option<RealTime> {
    let date = u64::from(date);
    let moment = DateTime {
        year: bcd(date >> 24)? * 100 + bcd(date >> 16)?,
        month: bcd(date >> 8)?,
        day: bcd(date)?,
        hour: bcd(time >> 56)?,
        minute: bcd(time >> 48)?,
        second: bcd(time >> 40)?,
    };
    Some(RealTime {
        seconds: moment.to_seconds()?,
        nanoseconds: 0,
    })
}
