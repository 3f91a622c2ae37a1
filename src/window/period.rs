//! Periods that follow one another without a gap: multiples of a length since the epoch, the months of the Gregorian
//! calendar in UTC, and those of a calendar whose edges come from elsewhere. Each has a number, and later periods have
//! larger numbers.
//!
//! Leap seconds do not exist here: as in POSIX time, every day has 86,400 seconds.

use super::calendar::Edges;
use crate::quantity::{Millis, NonZeroMillis};

/// Days from 0000-03-01, where the count of [`month_of_day`] begins, to the epoch.
const EPOCH: u64 = 719_468;

/// Days of 400 years of the Gregorian calendar, after which it repeats.
const ERA: u64 = 146_097;

/// Months from March of year 0 to January 1970.
const MARCH_0_TO_JANUARY_1970: u64 = 1_970 * 12 - 2;

/// A month later than any that 64 bits of milliseconds reach, and early enough that its days do not overflow.
const AFTER_ALL_MONTHS: u64 = 1 << 40;

/// A division of time into periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Periods of this length, the first of which begins at the epoch.
    Length(NonZeroMillis),
    /// Calendar months in UTC.
    Month,
    /// Periods between edges; beyond them, and by name, each has this length. Its number is the time of its beginning.
    Calendar(Edges, NonZeroMillis),
}

impl Period {
    /// The number of the period that contains `now`.
    pub fn index(self, now: Millis) -> u64 {
        match self {
            Self::Length(length) => now / length,
            Self::Month => month_of_day(now / NonZeroMillis::DAY),
            Self::Calendar(edges, length) => edges.begin_of(now, length).get(),
        }
    }

    /// The length of a period; that of a month or another period of the calendar is nominal.
    pub(super) const fn length(self) -> NonZeroMillis {
        match self {
            Self::Length(length) | Self::Calendar(_, length) => length,
            Self::Month => super::MONTH,
        }
    }

    /// The beginning of the period `index`.
    pub(crate) fn begins_at(self, index: u64) -> Millis {
        if let Self::Calendar(..) = self {
            return Millis::new(index);
        }
        index.checked_sub(1).map_or(Millis::ZERO, |before| self.ends_at(before))
    }

    /// The end of the period `index`, at which the next begins.
    pub fn ends_at(self, index: u64) -> Millis {
        let next = index.saturating_add(1);
        match self {
            Self::Length(length) => length.get() * next,
            Self::Month => Millis::DAY * first_day(next),
            Self::Calendar(edges, length) => edges.end_of(Millis::new(index), length),
        }
    }
}

/// The months from January 1970 to the month of a `day` since the epoch. Milliseconds in 64 bits have fewer than 2^38
/// days, so nothing here overflows.
///
/// Years begin in March, so that a leap day is the last day of its year; see `civil_from_days` in
/// <https://howardhinnant.github.io/date_algorithms.html>.
const fn month_of_day(day: u64) -> u64 {
    let day = day + EPOCH;
    let (era, day_of_era) = (day / ERA, day % ERA);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days + day_of_era / 36_524) / 365;
    let months_from_march = ((day_of_era - days_before_year(year_of_era)) * 5 + 2) / 153;
    (era * 400 + year_of_era) * 12 + months_from_march - MARCH_0_TO_JANUARY_1970
}

/// The days from the epoch to the first day of a `month` since January 1970.
fn first_day(month: u64) -> u64 {
    let months = month.min(AFTER_ALL_MONTHS) + MARCH_0_TO_JANUARY_1970;
    let (years, months_from_march) = (months / 12, months % 12);
    let (era, year_of_era) = (years / 400, years % 400);
    let day_of_year = (months_from_march * 153 + 2) / 5;
    era * ERA + days_before_year(year_of_era) + day_of_year - EPOCH
}

/// The days of an era before one of its years, which begins in March.
const fn days_before_year(year_of_era: u64) -> u64 {
    year_of_era * 365 + year_of_era / 4 - year_of_era / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, ToSpan};
    use proptest::prelude::*;

    /// The beginning of a month, from a date library.
    fn begins_at(month: u64) -> u64 {
        let first = date(1970, 1, 1) + i64::try_from(month).unwrap().months();
        u64::try_from(first.to_zoned(TimeZone::UTC).unwrap().timestamp().as_millisecond()).unwrap()
    }

    #[test]
    fn every_month_of_400_years_begins_and_ends_as_in_the_calendar() {
        for month in 0..400 * 12 {
            let (begin, end) = (begins_at(month), begins_at(month + 1));
            assert_eq!(Period::Month.ends_at(month), end, "{month}");
            assert_eq!(Period::Month.index(begin.into()), month, "{month}");
            assert_eq!(Period::Month.index((end - 1).into()), month, "{month}");
        }
    }

    #[test]
    fn lengths_are_aligned_to_the_epoch() {
        let hour = Period::Length(Millis::HOUR.non_zero().unwrap());
        assert_eq!((hour.index(Millis::new(3_599_999)), hour.index(Millis::HOUR)), (0, 1));
        assert_eq!(hour.ends_at(1), 7_200_000);
    }

    proptest! {
        #[test]
        fn any_time_is_in_its_month(now in 0..12_622_780_800_000_u64) {
            let time = Timestamp::from_millisecond(i64::try_from(now).unwrap()).unwrap();
            let date = time.to_zoned(TimeZone::UTC).date();
            let month = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
            prop_assert_eq!(i64::try_from(Period::Month.index(now.into())).unwrap(), month);
        }

        #[test]
        fn no_time_overflows(now in any::<u64>()) {
            let index = Period::Month.index(now.into());
            prop_assert!(Period::Month.ends_at(index).get() > now.saturating_sub(1));
            prop_assert!(Period::Month.ends_at(now) > Millis::ZERO);
        }
    }
}
