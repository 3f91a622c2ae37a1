//! When the periods of a calendar begin: on which dates, in which zone.

use super::Zone;
use crate::quantity::{Millis, NonZeroMillis};
use crate::window::calendar::{CalendarName, Edges};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// The days of the week, the first of which begins a week unless a configuration says otherwise.
pub const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The Monday of the epoch's week, in days since the epoch, which was a Thursday.
const MONDAY: i64 = -3;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The unit of a calendar, and where in it a period starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Days.
    Day,
    /// Weeks that start on this day, of `WEEKDAYS`.
    Week(u8),
    /// Months that start on this day, or on the last day of a month that has none of this number.
    Month(i8),
    /// Years that start on this day of this month; in a year without a 29 February, on the 28th in its place.
    Year(i8, i8),
}

impl Start {
    /// A week that starts on the day of this name.
    pub fn week(name: &str) -> Option<Self> {
        WEEKDAYS.iter().position(|day| *day == name).and_then(|day| u8::try_from(day).ok()).map(Self::Week)
    }

    /// A year that starts on the day that `MM-DD` names, which some year has.
    pub fn year(text: &str) -> Option<Self> {
        let (month, day) = text.split_once('-').filter(|_| text.len() == 5)?;
        let (month, day) = (two_digits(month)?, two_digits(day)?);
        Date::new(LEAP_YEAR, month, day).ok().map(|_| Self::Year(month, day))
    }

    /// The nominal length of a period, which no period is longer than by more than an hour or a day that the clocks
    /// repeat.
    pub fn length(self) -> NonZeroMillis {
        let days = match self {
            Self::Day => 1,
            Self::Week(_) => 7,
            Self::Month(_) => 31,
            Self::Year(..) => 366,
        };
        (Millis::DAY * days).at_least_one()
    }

    /// The unit, and where in it a period starts, unless that is its first day.
    fn label(self) -> String {
        match self {
            Self::Day => "1d".to_owned(),
            Self::Week(0) => "1w".to_owned(),
            Self::Week(day) => format!("1w-{}", WEEKDAYS.get(usize::from(day)).unwrap_or(&"")),
            Self::Month(1) => "1mo".to_owned(),
            Self::Month(day) => format!("1mo-{day}"),
            Self::Year(1, 1) => "1y".to_owned(),
            Self::Year(month, day) => format!("1y-{month:02}-{day:02}"),
        }
    }

    /// Reads a label from the beginning of `name`. Returns what follows it and a dash.
    fn parse(name: &str) -> Option<(Self, &str)> {
        let (unit, rest) = name.split_once('-')?;
        // The name of a zone begins with a capital letter.
        let is_first = rest.starts_with(|first: char| first.is_ascii_uppercase());
        let (start, rest) = match unit {
            _ if is_first => ("", rest),
            "1y" => (rest.get(..5)?, rest.get(5..)?.strip_prefix('-')?),
            _ => rest.split_once('-')?,
        };
        let start = match (unit, is_first) {
            ("1d", true) => Self::Day,
            ("1w", true) => Self::Week(0),
            ("1mo", true) => Self::Month(1),
            ("1y", true) => Self::Year(1, 1),
            ("1w", false) => Self::week(start)?,
            ("1mo", false) => Self::Month(start.parse().ok().filter(|day| (1..=31).contains(day))?),
            ("1y", false) => Self::year(start)?,
            _ => return None,
        };
        Some((start, rest))
    }

    /// The number of the period that `date` is in; later ones have larger numbers.
    fn period_of(self, date: Date) -> i64 {
        let (days, month) = (days_of(date), i64::from(date.year()) * 12 + i64::from(date.month()) - 1);
        let period = match self {
            Self::Day => return days,
            Self::Week(day) => return (days - MONDAY - i64::from(day)).div_euclid(7),
            Self::Month(_) => month,
            Self::Year(..) => i64::from(date.year()),
        };
        if self.first_day(period).is_some_and(|first| date < first) { period - 1 } else { period }
    }

    /// The first day of a period.
    fn first_day(self, period: i64) -> Option<Date> {
        match self {
            Self::Day => date_of(period),
            Self::Week(day) => date_of(period.checked_mul(7)? + MONDAY + i64::from(day)),
            Self::Month(day) => day_of(period.div_euclid(12), period.rem_euclid(12) + 1, day),
            Self::Year(month, day) => day_of(period, month.into(), day),
        }
    }
}

/// A year that has every date.
const LEAP_YEAR: i16 = 2_000;

fn two_digits(text: &str) -> Option<i8> {
    let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// The days from the epoch to a date.
fn days_of(date: Date) -> i64 {
    let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(0, |midnight| midnight.as_second().div_euclid(DAY_SECONDS))
}

fn date_of(days: i64) -> Option<Date> {
    let midnight = Timestamp::from_second(days.checked_mul(DAY_SECONDS)?).ok()?;
    Some(Offset::UTC.to_datetime(midnight).date())
}

/// A day of a month, or the last day of a month that has none of this number.
fn day_of(year: i64, month: i64, day: i8) -> Option<Date> {
    let first = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
    Date::new(first.year(), first.month(), day.min(first.days_in_month())).ok()
}

/// A calendar in a zone.
#[derive(Clone, Debug)]
pub struct Rule {
    start: Start,
    zone: Zone,
}

impl Rule {
    /// The calendar whose periods `start` there in `zone`.
    pub const fn new(start: Start, zone: Zone) -> Self {
        Self { start, zone }
    }

    /// The calendar of this name.
    pub fn of(name: CalendarName) -> Option<Self> {
        let (start, zone) = Start::parse(name.as_str())?;
        Some(Self { start, zone: Zone::find(zone)? })
    }

    /// Its name, by which its counters are told from others.
    pub fn name(&self) -> Option<CalendarName> {
        CalendarName::new(&format!("{}-{}", self.start.label(), self.zone.name()))
    }

    /// The edges of its periods around `now`. After the year 9998, periods have their nominal length.
    pub fn edges(&self, now: Millis) -> Edges {
        self.edges_around(now).unwrap_or_else(|| {
            let length = self.start.length();
            let begin = length.get() * (now / length);
            Edges::new([begin - length.get(), begin, begin + length.get(), begin + length.get() * 2])
        })
    }

    fn edges_around(&self, now: Millis) -> Option<Edges> {
        let at = Timestamp::from_millisecond(i64::try_from(now.get()).ok()?).ok()?;
        let today = self.start.period_of(self.zone.date(at));
        let begin = |near: i64| {
            let begin = self.zone.begin_of(self.start.first_day(today + near)?)?;
            Some(Millis::new(u64::try_from(begin.as_millisecond()).unwrap_or_default()))
        };
        // Around a clock change, today's date may be that of the day before, and a skipped day begins with the next.
        let mut begins = (-3..=4).map(begin).collect::<Option<Vec<_>>>()?;
        begins.dedup();
        let current = begins.iter().rposition(|begin| *begin <= now)?;
        let edge = |at: usize| begins.get(at).copied();
        let begin = edge(current)?;
        let before = current.checked_sub(1).and_then(edge).unwrap_or(begin - self.start.length().get());
        Some(Edges::new([before, begin, edge(current + 1)?, edge(current + 2)?]))
    }
}
