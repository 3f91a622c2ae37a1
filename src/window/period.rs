//! Periods that follow one another without a gap: multiples of a length since the epoch, and the months of the
//! Gregorian calendar in UTC. Each has a number, larger the later it is.
//!
//! Leap seconds do not exist here: as in POSIX time, every day has 86,400 seconds.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Days from 0000-03-01, where the count of [`month_of_day`] begins, to the epoch.
const EPOCH: u64 = 719_468;

/// Days of 400 years of the Gregorian calendar, after which it repeats.
const ERA: u64 = 146_097;

/// A way to cut time into periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    /// So many milliseconds each, the first beginning at the epoch.
    Length(NonZeroU64),
    /// Calendar months in UTC.
    Month,
}

impl Period {
    /// The number of the period that `now_ms` is in.
    pub const fn index(self, now_ms: u64) -> u64 {
        match self {
            Self::Length(length_ms) => now_ms / length_ms.get(),
            Self::Month => month_of_day(now_ms / DAY_MS),
        }
    }

    /// When the period `index` ends and the next begins, in milliseconds since the epoch.
    pub const fn ends_at(self, index: u64) -> u64 {
        let next = index.saturating_add(1);
        match self {
            Self::Length(length_ms) => next.saturating_mul(length_ms.get()),
            Self::Month => first_day(next).saturating_mul(DAY_MS),
        }
    }
}

/// Months from January 1970 to the month that contains a day, given in days since the epoch.
///
/// Years are counted from March, so that a leap day is the last of its year; see `civil_from_days` in
/// <https://howardhinnant.github.io/date_algorithms.html>.
const fn month_of_day(day: u64) -> u64 {
    let day = day.saturating_add(EPOCH);
    let (era, day_of_era) = (day / ERA, day % ERA);
    let leap_days = day_of_era / 1_460;
    let (no_leap_days, again) = (day_of_era / 36_524, day_of_era / 146_096);
    let year_of_era =
        day_of_era.saturating_sub(leap_days).saturating_add(no_leap_days).saturating_sub(again) / 365;
    let march_1st = days_before_year(year_of_era);
    let months_from_march = day_of_era.saturating_sub(march_1st).saturating_mul(5).saturating_add(2) / 153;
    let years = era.saturating_mul(400).saturating_add(year_of_era);
    years.saturating_mul(12).saturating_add(months_from_march).saturating_sub(MARCH_0_TO_JANUARY_1970)
}

/// Months from March of the year 0 to January 1970.
const MARCH_0_TO_JANUARY_1970: u64 = 1_970 * 12 - 2;

/// Days since the epoch of the first day of a month, given in months since January 1970.
const fn first_day(month: u64) -> u64 {
    let months = month.saturating_add(MARCH_0_TO_JANUARY_1970);
    let (years, months_from_march) = (months / 12, months % 12);
    let (era, year_of_era) = (years / 400, years % 400);
    let day_of_year = months_from_march.saturating_mul(153).saturating_add(2) / 5;
    era.saturating_mul(ERA)
        .saturating_add(days_before_year(year_of_era))
        .saturating_add(day_of_year)
        .saturating_sub(EPOCH)
}

/// Days of an era before the March in which its year begins.
const fn days_before_year(year_of_era: u64) -> u64 {
    year_of_era.saturating_mul(365).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, ToSpan};
    use proptest::prelude::*;

    /// When a month begins, by a date library.
    fn begins_at(month: u64) -> u64 {
        let first = date(1970, 1, 1) + i64::try_from(month).unwrap().months();
        u64::try_from(first.to_zoned(TimeZone::UTC).unwrap().timestamp().as_millisecond()).unwrap()
    }

    #[test]
    fn every_month_of_400_years_begins_and_ends_as_in_the_calendar() {
        for month in 0..400 * 12 {
            let (begin, end) = (begins_at(month), begins_at(month + 1));
            assert_eq!(Period::Month.ends_at(month), end, "{month}");
            assert_eq!(Period::Month.index(begin), month, "{month}");
            assert_eq!(Period::Month.index(end - 1), month, "{month}");
        }
    }

    #[test]
    fn lengths_are_aligned_to_the_epoch() {
        let hour = Period::Length(NonZeroU64::new(3_600_000).unwrap());
        assert_eq!((hour.index(3_599_999), hour.index(3_600_000)), (0, 1));
        assert_eq!(hour.ends_at(1), 7_200_000);
    }

    proptest! {
        #[test]
        fn any_time_is_in_its_month(now_ms in 0..12_622_780_800_000_u64) {
            let time = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap()).unwrap();
            let date = time.to_zoned(TimeZone::UTC).date();
            let month = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
            prop_assert_eq!(i64::try_from(Period::Month.index(now_ms)).unwrap(), month);
        }

        #[test]
        fn no_time_overflows(now_ms in any::<u64>()) {
            let index = Period::Month.index(now_ms);
            prop_assert!(Period::Month.ends_at(index) > now_ms.saturating_sub(1));
        }
    }
}
