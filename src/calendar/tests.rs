//! Calendars against another library with another copy of the time zones, and clock changes by hand.

use super::*;
use crate::quantity::Units;
use chrono::{DateTime, Datelike as _, NaiveDate, TimeZone as _, Utc};
use chrono_tz::{OffsetComponents as _, Tz};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use std::collections::HashMap;

/// Zones that change their clocks, at any hour and by any amount, and some that do not.
const ZONES: [&str; 16] = [
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "America/St_Johns",
    "America/Caracas",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Europe/London",
    "Europe/Lisbon",
    "Pacific/Apia",
    "Pacific/Chatham",
];

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const FIRST: i64 = 631_152_000; // 1990
const LAST: i64 = 1_735_689_600; // 2025: the other copy is older

fn a_start() -> impl Strategy<Value = Start> {
    prop_oneof![
        2 => Just(Start::Day),
        1 => (0..7u8).prop_map(Start::Week),
        1 => (1..=31i8).prop_map(Start::Month),
        1 => (1..=12i8, 1..=28i8).prop_map(|(month, day)| Start::Year(month, day)),
        1 => Just(Start::Year(2, 29)),
    ]
}

fn date_at(zone: Tz, second: i64) -> NaiveDate {
    zone.from_utc_datetime(&DateTime::<Utc>::from_timestamp(second, 0).unwrap().naive_utc()).date_naive()
}

/// The seconds at which a zone sets its clocks, found by asking for the offset of each hour, and then by halving.
fn changes(zone: Tz) -> Vec<i64> {
    let offset = |second: i64| {
        let at =
            zone.offset_from_utc_datetime(&DateTime::<Utc>::from_timestamp(second, 0).unwrap().naive_utc());
        at.base_utc_offset() + at.dst_offset()
    };
    let mut changes = Vec::new();
    for from in (FIRST..LAST).step_by(12 * 3_600) {
        let (mut low, mut high) = (from, from + 12 * HOUR);
        if offset(low) != offset(high) {
            while high - low > 1 {
                let middle = i64::midpoint(low, high);
                if offset(middle) == offset(low) { low = middle } else { high = middle }
            }
            changes.push(high);
        }
    }
    changes
}

/// Whether a period begins on a date, by the words of the documentation.
fn is_first_day(start: Start, date: NaiveDate) -> bool {
    let is_last = date.succ_opt().unwrap().month() != date.month();
    match start {
        Start::Day => true,
        Start::Week(day) => date.weekday().num_days_from_monday() == u32::from(day),
        Start::Month(day) => {
            let day = u32::try_from(day).unwrap();
            date.day() == day || is_last && date.day() < day
        }
        Start::Year(2, 29) => date.month() == 2 && is_last,
        Start::Year(month, day) => {
            (date.month(), date.day()) == (month.unsigned_abs().into(), day.unsigned_abs().into())
        }
    }
}

/// When the clocks of a zone first show `date` or a later one: no hour is left out, and each second of the right one.
fn begin_of(zone: Tz, date: NaiveDate) -> i64 {
    let noon = date.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp();
    let reached = |second: &i64| date_at(zone, *second) >= date;
    // No clock is more than 26 hours off, and every change of a clock is on a minute.
    let hour = (noon - 30 * HOUR..).step_by(3_600).find(reached).unwrap();
    (hour - 3 * HOUR..=hour).step_by(60).find(reached).unwrap()
}

/// The period around a second: the last that has begun by then, and the next.
fn period(zone: Tz, start: Start, second: i64, known: &mut HashMap<(Tz, NaiveDate), i64>) -> (i64, i64) {
    let mut begin = |date: NaiveDate| *known.entry((zone, date)).or_insert_with(|| begin_of(zone, date));
    // A day later than the date, because the clock may have been set back from it.
    let late = date_at(zone, second).succ_opt().unwrap().succ_opt().unwrap();
    let dates = std::iter::successors(Some(late), |date| date.pred_opt());
    let mut begins = dates.filter(|date| is_first_day(start, *date)).map(&mut begin);
    let from = begins.find(|begin| *begin <= second).unwrap();
    let dates = std::iter::successors(Some(date_at(zone, from)), |date| date.succ_opt());
    let mut begins = dates.filter(|date| is_first_day(start, *date)).map(&mut begin);
    (from, begins.find(|begin| *begin > from).unwrap())
}

#[test]
fn ten_thousand_periods_are_those_of_another_library() {
    let zones = ZONES.map(|name| {
        let zone: Tz = name.parse().unwrap();
        (name, zone, changes(zone))
    });
    let near = (0..1_000_usize, -DAY..DAY);
    let steps = (0..zones.len(), a_start(), FIRST..LAST, prop::option::of(near), 0..1_000u64);
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()));
    let known = std::cell::RefCell::new(HashMap::new());
    let outcome = runner.run(&steps, |(which, start, at, near, ms)| {
        let (name, zone, changes) = &zones[which];
        // Half of them are within a day of a change of the clock.
        let change = near.and_then(|(which, by)| Some(changes.get(which % changes.len().max(1))? + by));
        let second = change.unwrap_or(at);
        let now = Millis::new(second.unsigned_abs() * 1_000 + ms);
        let [before, begin, end, after] = Rule::new(start, Zone::find(name).unwrap()).edges(now).get();
        let (from, to) = period(*zone, start, second, &mut known.borrow_mut());
        let millis = |second: i64| Millis::new(second.unsigned_abs() * 1_000);
        prop_assert_eq!((begin, end), (millis(from), millis(to)), "{} {:?} {}", name, start, second);
        prop_assert!(before < begin && end < after);
        Ok(())
    });
    outcome.unwrap();
}

/// The beginnings of the periods around a time, as UTC.
fn around(name: &str, now: &str) -> [String; 4] {
    let now: jiff::Timestamp = now.parse().unwrap();
    let rule = Rule::of(CalendarName::new(name).unwrap()).unwrap();
    let edges = rule.edges(Millis::new(now.as_millisecond().unsigned_abs())).get();
    edges.map(|edge| jiff::Timestamp::from_millisecond(edge.get().cast_signed()).unwrap().to_string())
}

#[test]
fn days_are_as_long_as_their_clocks_make_them() {
    let day = |zone: &str, now: &str| around(&format!("1d-{zone}"), now);
    // 23 and 25 hours.
    assert_eq!(
        day("America/New_York", "2025-03-09T12:00:00Z")[1..3],
        ["2025-03-09T05:00:00Z", "2025-03-10T04:00:00Z"]
    );
    assert_eq!(
        day("America/New_York", "2025-11-02T12:00:00Z")[1..3],
        ["2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z"]
    );
    // The clock goes from 00:00 to 01:00: the day begins then.
    assert_eq!(
        day("Asia/Beirut", "2024-03-31T12:00:00Z")[1..3],
        ["2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z"]
    );
    // From 24:00 back to 23:00: the day has 25 hours, and from 01:00 back to 00:00: so has the next.
    assert_eq!(
        day("America/Sao_Paulo", "2018-02-17T12:00:00Z")[1..3],
        ["2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"]
    );
    assert_eq!(
        day("America/Havana", "2024-11-03T12:00:00Z")[1..3],
        ["2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"]
    );
    // Samoa had no 30 December 2011.
    assert_eq!(
        day("Pacific/Apia", "2011-12-30T09:59:59Z"),
        ["2011-12-28T10:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"]
    );
    // From 00:01 back to 23:01: the minute of the new day stays in it.
    assert_eq!(
        day("America/St_Johns", "2010-11-07T03:00:00Z")[1..3],
        ["2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"]
    );
    // Half an hour.
    assert_eq!(
        day("Australia/Lord_Howe", "2025-04-05T20:00:00Z")[1..3],
        ["2025-04-05T13:00:00Z", "2025-04-06T13:30:00Z"]
    );
}

#[test]
fn other_periods_start_where_they_are_told_to() {
    let begins = |name: &str, now: &str| around(name, now);
    assert_eq!(
        begins("1w-UTC", "2025-08-21T12:00:00Z")[1..3],
        ["2025-08-18T00:00:00Z", "2025-08-25T00:00:00Z"]
    );
    assert_eq!(
        begins("1w-sunday-Asia/Tokyo", "2025-08-21T12:00:00Z")[1..3],
        ["2025-08-16T15:00:00Z", "2025-08-23T15:00:00Z"]
    );
    assert_eq!(
        begins("1mo-31-UTC", "2024-03-05T00:00:00Z"),
        ["2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z", "2024-04-30T00:00:00Z"]
    );
    assert_eq!(
        begins("1mo-America/New_York", "2025-11-05T00:00:00Z")[1..3],
        ["2025-11-01T04:00:00Z", "2025-12-01T05:00:00Z"]
    );
    assert_eq!(
        begins("1y-02-29-UTC", "2024-03-01T00:00:00Z"),
        ["2023-02-28T00:00:00Z", "2024-02-29T00:00:00Z", "2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z"]
    );
    assert_eq!(
        begins("1y-04-06-Europe/London", "2025-04-05T22:59:59Z")[1..3],
        ["2024-04-05T23:00:00Z", "2025-04-05T23:00:00Z"]
    );
}

#[test]
fn a_calendar_is_found_by_its_name() {
    for name in [
        "1d-UTC",
        "1w-UTC",
        "1w-sunday-America/Port-au-Prince",
        "1mo-America/Argentina/ComodRivadavia",
        "1mo-31-Etc/GMT+5",
        "1y-EST5EDT",
        "1y-02-29-Asia/Ust-Nera",
    ] {
        let name = CalendarName::new(name).unwrap();
        assert_eq!(Rule::of(name).and_then(|rule| rule.name()), Some(name));
    }
    for none in
        ["1d", "1h-UTC", "1d-Mars/Base", "1w-someday-UTC", "1mo-32-UTC", "1y-13-01-UTC", "1d-5-UTC", "1y-1"]
    {
        assert!(Rule::of(CalendarName::new(none).unwrap()).is_none(), "{none}");
    }
}

#[test]
fn edges_are_kept_until_the_period_ends() {
    use crate::store::wire::Charge;
    use crate::window::tests::days;
    let window = days("1d-Asia/Tokyo", Millis::ZERO);
    let charge = Charge {
        identity: "a".into(),
        name: "requests".into(),
        window,
        limit: Units::new(1),
        cost: Units::new(1),
        enforced: true,
        warn_at: None,
    };
    let mut charges = ScopeCharges::group([("a", charge)]);
    let mut calendars = Calendars::default();
    for (now, begins) in [
        (1_700_000_000_000, 1_699_974_000_000),
        (1_700_060_399_999, 1_699_974_000_000),
        (1_700_060_400_000, 1_700_060_400_000),
    ] {
        calendars.keep_up(&mut charges, Millis::new(now));
        let Algorithm::CalendarWindow(calendar) = charges[0].charges[0].window.algorithm else { panic!() };
        assert_eq!(calendar.edges.get()[1], begins);
        assert!(!Calendars::have_passed(&charges, Millis::new(now)));
    }
    assert!(Calendars::have_passed(&charges, Millis::new(1_700_060_399_999)));
}

proptest! {
    #[test]
    fn any_time_has_a_period(now in any::<u64>(), start in a_start(), zone in 0..ZONES.len()) {
        let rule = Rule::new(start, Zone::find(ZONES[zone]).unwrap());
        let [before, begin, end, after] = rule.edges(now.into()).get();
        prop_assert!(before <= begin && begin <= now.into() && end <= after);
        prop_assert!(end > now.into() || now > u64::MAX - (1 << 40));
    }
}
