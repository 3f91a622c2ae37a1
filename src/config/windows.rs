//! Windows, checked: their lengths, their algorithms with the fields of each, and the amounts that they admit.
//! `calendars` has the windows of the calendar.

use super::calendars;
use super::claims;
use super::document::Number;
use super::error::{Path, Problems, quoted};
use super::raw::{self, Algorithm, WindowMetric};
use crate::policy::limit::Allowance;
use crate::quantity::{MAX_EXACT, MILLION, Millis, NonZeroMillis, Units};
use crate::window::{self, DEFAULT_SEGMENTS, Window};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The longest window: 31 days, as long as any month. A counter lives as long as its window.
const MAX_WINDOW: Millis = Millis::new(31 * Millis::DAY.get());
/// The most segments: they determine the size of a counter in the store.
const MAX_SEGMENTS: u64 = 1000;
/// The largest budget, in micro-dollars: a billion dollars.
const MAX_BUDGET: u64 = 1_000_000_000 * MILLION;
/// The default length of a lease: longer than any model takes to answer.
const DEFAULT_LEASE: NonZeroMillis = NonZeroMillis::new(600_000).unwrap();

/// The length of a week.
const WEEK: NonZeroMillis = NonZeroMillis::new(7 * Millis::DAY.get()).unwrap();

/// What a limit admits, over which window, and how requests may say another amount.
pub(super) struct Bound {
    pub(super) amount: Units,
    pub(super) window: Window,
    pub(super) allowance: Option<Arc<Allowance>>,
}

impl Bound {
    fn new((amount, allowance): (Units, Option<Allowance>), window: Window) -> Self {
        Self { amount, window, allowance: allowance.map(Arc::new) }
    }
}

/// The bound of the shorthand at `path`, over a sliding window of this length.
pub(super) fn shorthand(
    given: &raw::Amount,
    length: NonZeroMillis,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Bound> {
    Some(Bound::new(whole(given, path, problems)?, Window::sliding(length)))
}

/// The amount at `path`, a whole number.
fn whole(
    given: &raw::Amount,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<(Units, Option<Allowance>)> {
    claims::amount(given, 1, path, problems, |number, path, most, problems| {
        problems.whole(path, number, 0..=most.unwrap_or(MAX_EXACT))
    })
}

/// The most requests in flight, and the window that counts them, if `given` limits them.
pub(super) fn concurrency(given: raw::Limits<'_>, path: &Path<'_>, problems: &mut Problems) -> Option<Bound> {
    let lease_path = path.member("lease_ttl");
    if given.lease_ttl.is_some() && given.max_concurrency.is_none() {
        problems.expected(&lease_path, "\"max_concurrency\" beside it", "none");
    }
    let lease = given.lease_ttl.map_or(Some(DEFAULT_LEASE), |text| {
        length(text, Millis::SECOND..=Millis::DAY, &lease_path, problems)
    });
    let path = path.member("max_concurrency");
    let amount = given.max_concurrency.and_then(|amount| whole(amount, &path, problems));
    Some(Bound::new(amount?, Window::concurrency(lease?)))
}

/// The window at `path`, and the amount that it admits.
pub(super) fn window(raw: &raw::Window, path: &Path<'_>, problems: &mut Problems) -> Option<Bound> {
    let is_money = matches!(raw.metric, WindowMetric::CostUsd);
    let (scale, largest) = if is_money { (MILLION, MAX_BUDGET) } else { (1, MAX_EXACT) };
    let units = |number: Number, path: &Path<'_>, range: RangeInclusive<u64>, problems: &mut Problems| {
        if is_money { problems.millionths(path, number, range) } else { problems.whole(path, number, range) }
    };
    let amount =
        claims::amount(&raw.limit, scale, &path.member("limit"), problems, |number, path, most, problems| {
            units(number, path, 0..=most.unwrap_or(largest), problems)
        });
    let burst = raw.burst.map_or(amount.as_ref().map(|(amount, _)| *amount), |number| {
        units(number, &path.member("burst"), 1..=largest, problems).map(Units::new)
    });
    let of_calendar = calendars::of(raw);
    let algorithm = algorithm(raw, of_calendar.is_some(), path, problems);
    if let Some(unit) = of_calendar {
        let window = calendars::window(unit, raw, path, problems);
        return Some(Bound::new(amount?, window?));
    }
    let length = match &*raw.window {
        "1w" => Some(WEEK),
        text => length(text, Millis::new(1)..=MAX_WINDOW, &path.member("window"), problems),
    };
    calendars::expect_none(raw, path, problems);
    let segments = segments(raw.segments, length, &path.member("segments"), problems);
    let length = length?;
    let window = match algorithm {
        Algorithm::SlidingWindow => {
            Window { length, algorithm: window::Algorithm::SlidingWindow { segments: segments? } }
        }
        Algorithm::FixedWindow => Window::fixed(length),
        Algorithm::TokenBucket => Window::token_bucket(length, burst?),
    };
    let (amount, allowance) = amount?;
    let is_burst = algorithm == Algorithm::TokenBucket && raw.burst.is_none();
    let allowance = allowance.map(|allowance| Allowance { is_burst, ..allowance });
    Some(Bound::new((amount, allowance), window))
}

/// The configured algorithm, or the default. Fields of another algorithm are problems.
fn algorithm(raw: &raw::Window, of_calendar: bool, path: &Path<'_>, problems: &mut Problems) -> Algorithm {
    let is_fixed = of_calendar || matches!(raw.metric, WindowMetric::CostUsd);
    let default = if is_fixed { Algorithm::FixedWindow } else { Algorithm::SlidingWindow };
    let algorithm = raw.algorithm.unwrap_or(default);
    if of_calendar && algorithm != Algorithm::FixedWindow {
        let expected = "\"fixed_window\" for a window of the calendar";
        problems.expected(&path.member("algorithm"), expected, quoted(algorithm.name()));
    }
    for (field, is_given, of) in [
        ("segments", raw.segments.is_some(), Algorithm::SlidingWindow),
        ("burst", raw.burst.is_some(), Algorithm::TokenBucket),
    ] {
        if is_given && algorithm != of {
            let expected = format!("the algorithm {}", quoted(of.name()));
            problems.expected(&path.member(field), expected, quoted(algorithm.name()));
        }
    }
    algorithm
}

/// The number of segments. A segment is a millisecond or more, so a very short window has fewer than the default.
fn segments(
    given: Option<Number>,
    length: Option<NonZeroMillis>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<NonZeroU32> {
    let most = length.map_or(MAX_SEGMENTS, |length| length.get().get().min(MAX_SEGMENTS));
    let default = u64::from(DEFAULT_SEGMENTS.get()).min(most);
    let segments = problems.whole_or(path, given, 1..=most, default)?;
    u32::try_from(segments).ok().and_then(NonZeroU32::new)
}

fn length(
    text: &str,
    range: RangeInclusive<Millis>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<NonZeroMillis> {
    let Some(length) = Millis::parse(text) else {
        problems.expected(path, "a duration such as \"10s\", \"1m\" or \"1d\"", quoted(text));
        return None;
    };
    let within = Some(length).filter(|length| range.contains(length)).and_then(Millis::non_zero);
    if within.is_none() {
        let [from, to] = [range.start(), range.end()].map(|bound| bound.label());
        problems.expected(path, format!("a duration from \"{from}\" to \"{to}\""), quoted(text));
    }
    within
}
