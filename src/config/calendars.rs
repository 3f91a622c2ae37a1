//! Windows of the calendar, checked: their zones, and the days on which they start.

use super::error::{Path, Problems, quoted};
use super::raw::{self, StartsOn};
use crate::calendar::{Rule, Start, Zone};
use crate::quantity::NonZeroMillis;
use crate::window::Window;
use crate::window::calendar::{Calendar, Edges};

/// The unit of a window of the calendar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Day,
    Week,
    Month,
    Year,
}

/// The zone of a window that names none. Its days are those of every other clock in a configuration.
const UTC: &str = "UTC";

/// The unit of `raw`, if it is a window of the calendar.
pub(super) fn of(raw: &raw::Window) -> Option<Unit> {
    let is_asked = raw.timezone.is_some() || raw.starts_on.is_some();
    match &*raw.window {
        "1d" if is_asked => Some(Unit::Day),
        "1w" if is_asked => Some(Unit::Week),
        "1mo" => Some(Unit::Month),
        "1y" => Some(Unit::Year),
        _ => None,
    }
}

/// Reports the fields that only a window of the calendar has.
pub(super) fn expect_none(raw: &raw::Window, path: &Path<'_>, problems: &mut Problems) {
    for (field, is_given) in [("timezone", raw.timezone.is_some()), ("starts_on", raw.starts_on.is_some())] {
        if is_given {
            let expected = "the window \"1d\", \"1w\", \"1mo\" or \"1y\" beside it";
            problems.expected(&path.member(field), expected, quoted(&raw.window));
        }
    }
}

/// The window at `path` of this unit.
pub(super) fn window(
    unit: Unit,
    raw: &raw::Window,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Window> {
    let zone = zone(raw.timezone.as_deref().unwrap_or(UTC), &path.member("timezone"), problems);
    let start = start(unit, raw.starts_on.as_ref(), &path.member("starts_on"), problems);
    let (start, zone) = (start?, zone?);
    // What every store knows by itself.
    match start {
        Start::Day if zone.name() == UTC => return Some(Window::fixed(NonZeroMillis::DAY)),
        Start::Month(1) if zone.name() == UTC => return Some(Window::calendar_month()),
        _ => {}
    }
    let name = Rule::new(start, zone).name()?;
    Some(Window::calendar(start.length(), Calendar { name, edges: Edges::UNKNOWN }))
}

fn zone(name: &str, path: &Path<'_>, problems: &mut Problems) -> Option<Zone> {
    let zone = Zone::find(name);
    if zone.is_none() {
        let example = Zone::nearest(name).unwrap_or("America/New_York");
        problems.expected(path, format!("a time zone such as {}", quoted(example)), quoted(name));
    }
    zone
}

fn start(unit: Unit, given: Option<&StartsOn>, path: &Path<'_>, problems: &mut Problems) -> Option<Start> {
    match (unit, given) {
        (Unit::Day, None) => return Some(Start::Day),
        (Unit::Week, None) => return Some(Start::Week(0)),
        (Unit::Month, None) => return Some(Start::Month(1)),
        (Unit::Year, None) => return Some(Start::Year(1, 1)),
        (Unit::Month, Some(StartsOn::Number(number))) => {
            let day = problems.whole(path, *number, 1..=31)?;
            return i8::try_from(day).ok().map(Start::Month);
        }
        _ => {}
    }
    let start = match (unit, given?) {
        (Unit::Week, StartsOn::Text(text)) => Start::week(text),
        (Unit::Year, StartsOn::Text(text)) => Start::year(text),
        _ => None,
    };
    if start.is_none() {
        let expected = match unit {
            Unit::Day => "the window \"1w\", \"1mo\" or \"1y\" beside it",
            Unit::Week => "a day of the week from \"monday\" to \"sunday\"",
            Unit::Month => "a day of the month from 1 to 31",
            Unit::Year => "a day of the year from \"01-01\" to \"12-31\"",
        };
        let found = match given? {
            _ if unit == Unit::Day => quoted("1d"),
            StartsOn::Number(number) => number.to_string(),
            StartsOn::Text(text) => quoted(text),
        };
        problems.expected(path, expected, found);
    }
    start
}
