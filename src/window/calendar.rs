//! Windows of the calendar in a time zone: periods whose edges somebody else has worked out.
//!
//! Only the filter knows zones (see [`crate::calendar`]). Each call brings the edges of the periods around its time,
//! and a store picks the period by its own clock. So a store need know nothing of zones, and a clock that differs from
//! the filter's by less than a period changes nothing. `lua/window/period.lua` does the same.

use crate::quantity::{Millis, NonZeroMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A division of time by the calendar of a zone, and the edges of its periods around some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Calendar {
    /// The name of the division. Calendars of different names have different counters.
    pub name: CalendarName,
    /// The edges of its periods.
    pub edges: Edges,
}

/// The number of edges that a call brings: those of the period that its time is in, and of one before and one after.
const EDGES: usize = 4;

/// The edges of three periods that follow one another, in milliseconds since the epoch, the earliest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "[Millis; EDGES]", from = "[Millis; EDGES]")]
pub struct Edges([Millis; EDGES]);

impl Edges {
    /// No edges yet, as in a configuration.
    pub const UNKNOWN: Self = Self([Millis::ZERO; EDGES]);

    /// These edges, of which none is earlier than the one before.
    pub fn new(edges: [Millis; EDGES]) -> Self {
        let mut at = Millis::ZERO;
        Self(edges.map(|edge| {
            at = at.max(edge);
            at
        }))
    }

    /// The edges, the earliest first.
    pub const fn get(self) -> [Millis; EDGES] {
        self.0
    }

    /// Whether `now` is in the middle one of the three periods.
    pub fn are_around(self, now: Millis) -> bool {
        let [_, begin, end, _] = self.0;
        (begin..end).contains(&now)
    }

    /// Whether the first of the periods has begun at `now`.
    pub(super) fn have_begun(self, now: Millis) -> bool {
        let [first, ..] = self.0;
        first <= now
    }

    /// The beginning of the period of `now`. Beyond the edges, each period has the nominal `length`.
    pub(super) fn begin_of(self, now: Millis, length: NonZeroMillis) -> Millis {
        let [first, .., last] = self.0;
        if now < first {
            let periods = (first - now).get().div_ceil(length.get().get());
            first - length.get() * periods
        } else if now >= last {
            last + length.get() * ((now - last) / length)
        } else {
            self.0.into_iter().rfind(|edge| *edge <= now).unwrap_or(first)
        }
    }

    /// The end of the period that begins at `begin`.
    pub(super) fn end_of(self, begin: Millis, length: NonZeroMillis) -> Millis {
        let [first, ..] = self.0;
        let next = self.0.into_iter().find(|edge| *edge > begin).filter(|_| begin >= first);
        next.unwrap_or(begin + length.get())
    }
}

impl From<[Millis; EDGES]> for Edges {
    fn from(edges: [Millis; EDGES]) -> Self {
        Self::new(edges)
    }
}

impl From<Edges> for [Millis; EDGES] {
    fn from(Edges(edges): Edges) -> Self {
        edges
    }
}

/// The longest name, in bytes: a weekday and the longest name of a zone fit.
const MAX_NAME_BYTES: usize = 56;

/// The name of a division of time: its unit, where it starts, and its zone, such as `1w-sunday-Europe/Paris`. It has
/// letters, digits and `+-_/`, so that it can be a part of keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CalendarName {
    bytes: [u8; MAX_NAME_BYTES],
    length: u8,
}

impl CalendarName {
    /// The name `text`; none if it is empty, too long, or has other characters.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; MAX_NAME_BYTES];
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_/".contains(&byte));
        if text.is_empty() || !is_plain {
            return None;
        }
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The unit of its periods, with which it begins: `1d`, `1w`, `1mo` or `1y`.
    pub fn unit(&self) -> &str {
        self.as_str().split('-').next().unwrap_or_default()
    }
}

impl fmt::Debug for CalendarName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for CalendarName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CalendarName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = CalendarName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a calendar")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CalendarName, E> {
                CalendarName::new(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: NonZeroMillis = NonZeroMillis::new(100).unwrap();

    fn edges() -> Edges {
        Edges::new([1_000, 1_090, 1_200, 1_300].map(Millis::new))
    }

    #[test]
    fn a_period_is_that_between_two_edges() {
        let period = |now: u64| {
            let begin = edges().begin_of(now.into(), LENGTH);
            (begin.get(), edges().end_of(begin, LENGTH).get())
        };
        assert_eq!([period(1_000), period(1_089)], [(1_000, 1_090); 2]);
        assert_eq!([period(1_090), period(1_199)], [(1_090, 1_200); 2]);
        assert_eq!(
            [period(1_299), period(1_300), period(1_499)],
            [(1_200, 1_300), (1_300, 1_400), (1_400, 1_500)]
        );
        assert_eq!([period(999), period(900), period(899)], [(900, 1_000), (900, 1_000), (800, 900)]);
        assert_eq!([1_089, 1_090, 1_200].map(|now| edges().are_around(now.into())), [false, true, false]);
        assert!(!Edges::UNKNOWN.are_around(Millis::ZERO));
    }

    #[test]
    fn a_name_can_be_a_part_of_keys() {
        let name = CalendarName::new("1w-monday-America/Port-au-Prince").unwrap();
        assert_eq!((name.as_str(), name.unit()), ("1w-monday-America/Port-au-Prince", "1w"));
        let longest = "x".repeat(MAX_NAME_BYTES);
        assert_eq!(CalendarName::new(&longest).map(|name| name.as_str().len()), Some(MAX_NAME_BYTES));
        for none in ["", "1d:UTC", "1d UTC", "1d,UTC", "1d-{a}", "é", &format!("{longest}x")] {
            assert_eq!(CalendarName::new(none), None, "{none}");
        }
        let json = "\"1d-Etc/GMT+5\"";
        let name: CalendarName = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), json);
        assert!(serde_json::from_str::<CalendarName>("\"a b\"").is_err());
    }

    proptest! {
        /// Whatever edges come over the wire, each time is in one period, and the next begins where it ends.
        #[test]
        fn periods_follow_one_another(
            mut edges in [any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()], now in any::<u64>(),
            length in 1u64..1 << 40,
        ) {
            edges.sort_unstable();
            let (edges, length) = (Edges::new(edges.map(Millis::new)), NonZeroMillis::new(length).unwrap());
            let begin = edges.begin_of(now.into(), length);
            prop_assert!(begin <= now.into());
            prop_assert_eq!(edges.begin_of(begin, length), begin);
            prop_assert!(edges.end_of(begin, length) >= begin);
        }
    }
}
