//! Windows: the arithmetic that decides whether a cost fits, the same here as in `lua/window/`.
//!
//! The local store counts with it, and tests compare the Lua scripts to it. Time is an argument; nothing here reads a
//! clock.
//!
//! This file names the windows. Each algorithm has a file of its own, named like its Lua twin, and [`Counter`] is any
//! of them. Rust and Lua have the same functions: `read` gives the counter at a time, and this reading has `fit`,
//! `used` and `reset`, the `place` of a charge, `charge`, `refund` and, for leases, `renew`.
//!
//! All algorithms keep three rules. A cost equal to the remainder fits. A refund goes back to the place of the charge,
//! and never admits more than if the charge had been smaller from the start. A clock that steps back never opens a
//! window early, and delays it by no more than a window (see [`clock`]).

pub mod bucket;
mod bytes;
pub mod calendar;
pub mod clock;
mod counter;
pub mod fixed;
pub mod grants;
pub mod leases;
mod parts;
pub mod period;
pub mod sliding;
mod state;

pub use counter::{Counter, CounterAt};
pub use parts::{ChargedParts, MAX_PARTS, Part};
pub use state::{Fit, WindowState};

use crate::quantity::{Millis, NonZeroMillis, Units};
use calendar::{Calendar, CalendarName, Edges};
use period::Period;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use strum::{EnumDiscriminants, IntoStaticStr};

/// The default number of segments of a sliding window.
pub const DEFAULT_SEGMENTS: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// A duration, and the algorithm that counts over it. As JSON, one flat object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Flat", try_from = "Flat")]
pub struct Window {
    /// The duration.
    pub length: NonZeroMillis,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// A [`Window`] as JSON. Deriving that from the two types (`flatten`, `tag`) would read each window twice, the first
/// time into a tree: a third of the time that the sidecar takes for a call.
#[derive(Serialize, Deserialize)]
struct Flat {
    window_ms: NonZeroMillis,
    algorithm: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segments: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<Units>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calendar: Option<CalendarName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edges: Option<Edges>,
}

impl From<Window> for Flat {
    fn from(Window { length, algorithm }: Window) -> Self {
        let mut flat = Self {
            window_ms: length,
            algorithm: algorithm.into(),
            segments: None,
            burst: None,
            calendar: None,
            edges: None,
        };
        match algorithm {
            Algorithm::SlidingWindow { segments } => flat.segments = Some(segments),
            Algorithm::TokenBucket { burst } => flat.burst = Some(burst),
            Algorithm::CalendarWindow(Calendar { name, edges }) => {
                (flat.calendar, flat.edges) = (Some(name), Some(edges));
            }
            Algorithm::FixedWindow | Algorithm::CalendarMonth | Algorithm::Concurrency => {}
        }
        flat
    }
}

impl TryFrom<Flat> for Window {
    type Error = &'static str;

    fn try_from(
        Flat { window_ms, algorithm, segments, burst, calendar, edges }: Flat,
    ) -> Result<Self, Self::Error> {
        let algorithm = match algorithm {
            Kind::SlidingWindow => {
                Algorithm::SlidingWindow { segments: segments.ok_or("missing field `segments`")? }
            }
            Kind::FixedWindow => Algorithm::FixedWindow,
            Kind::CalendarMonth => Algorithm::CalendarMonth,
            Kind::CalendarWindow => Algorithm::CalendarWindow(Calendar {
                name: calendar.ok_or("missing field `calendar`")?,
                edges: edges.ok_or("missing field `edges`")?,
            }),
            Kind::TokenBucket => Algorithm::TokenBucket { burst: burst.ok_or("missing field `burst`")? },
            Kind::Concurrency => Algorithm::Concurrency,
        };
        Ok(Self { length: window_ms, algorithm })
    }
}

/// An algorithm that counts over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, EnumDiscriminants)]
#[strum(serialize_all = "snake_case")]
#[strum_discriminants(
    name(Kind),
    vis(),
    doc = "The name of an algorithm.",
    derive(Serialize, Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Algorithm {
    /// The window consists of segments, and a unit leaves it when the unit's whole segment has left.
    SlidingWindow {
        /// The number of segments.
        segments: NonZeroU32,
    },
    /// Windows follow one another, aligned to the epoch; each begins empty.
    FixedWindow,
    /// A fixed window that is a month of the calendar, in UTC. The length of the window is nominal.
    CalendarMonth,
    /// A fixed window that is a period of the calendar in a time zone: a day, a week, a month or a year. The length of
    /// the window is nominal.
    CalendarWindow(Calendar),
    /// A bucket of `burst` units that refills evenly, by the limit in each window (GCRA).
    TokenBucket {
        /// The most that fits at once. The label leaves it out: like a limit, it can change while the counter stays.
        burst: Units,
    },
    /// Requests in flight. The limit is their number. The window's length is that of a lease, after which a slot comes
    /// free even if nothing reports the end of its request.
    Concurrency,
}

impl Algorithm {
    /// The name on the wire and in store keys.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The units that a request of `cost` takes. A request in flight takes at most one slot.
    pub fn units(self, cost: Units) -> Units {
        match self {
            Self::Concurrency => cost.min(Units::new(1)),
            _ => cost,
        }
    }

    /// The units that stay charged when a request of `cost` is over. A slot is free then.
    pub const fn units_kept(self, cost: Units) -> Units {
        match self {
            Self::Concurrency => Units::ZERO,
            _ => cost,
        }
    }
}

/// The nominal length of a calendar month: 31 days.
const MONTH: NonZeroMillis = NonZeroMillis::new(31 * Millis::DAY.get()).unwrap();

impl Window {
    /// A sliding window of `length` in [`DEFAULT_SEGMENTS`].
    pub const fn sliding(length: NonZeroMillis) -> Self {
        Self { length, algorithm: Algorithm::SlidingWindow { segments: DEFAULT_SEGMENTS } }
    }

    /// Windows of `length`, aligned to the epoch.
    pub const fn fixed(length: NonZeroMillis) -> Self {
        Self { length, algorithm: Algorithm::FixedWindow }
    }

    /// Calendar months in UTC.
    pub const fn calendar_month() -> Self {
        Self { length: MONTH, algorithm: Algorithm::CalendarMonth }
    }

    /// Periods of `calendar`, which are nominally as long as `length`.
    pub const fn calendar(length: NonZeroMillis, calendar: Calendar) -> Self {
        Self { length, algorithm: Algorithm::CalendarWindow(calendar) }
    }

    /// A bucket of `burst` units that the limit refills in each `length`.
    pub const fn token_bucket(length: NonZeroMillis, burst: Units) -> Self {
        Self { length, algorithm: Algorithm::TokenBucket { burst } }
    }

    /// Requests in flight. Each counts for the duration of `lease` at most, unless its lease is renewed.
    pub const fn concurrency(lease: NonZeroMillis) -> Self {
        Self { length: lease, algorithm: Algorithm::Concurrency }
    }

    /// The most that fits at once under `limit`: the largest cost that is ever admitted, and the largest remainder.
    pub const fn capacity(&self, limit: Units) -> Units {
        match self.algorithm {
            Algorithm::TokenBucket { .. } if limit.is_zero() => Units::ZERO,
            Algorithm::TokenBucket { burst } => burst,
            _ => limit,
        }
    }

    /// Whether what was charged at `since` under `limit` counts no longer at `now`. A lease may have been renewed.
    pub fn has_passed(&self, limit: Units, since: Millis, now: Millis) -> bool {
        let (length, age) = (self.length.get(), now - since);
        match self.algorithm {
            // A unit leaves with its whole segment.
            Algorithm::SlidingWindow { segments } => {
                age > length + Millis::new(length.get() / u64::from(segments.get()))
            }
            Algorithm::FixedWindow => {
                Period::Length(self.length).index(since) < Period::Length(self.length).index(now)
            }
            Algorithm::CalendarMonth => Period::Month.index(since) < Period::Month.index(now),
            Algorithm::CalendarWindow(Calendar { edges, .. }) => {
                let period = Period::Calendar(edges, self.length);
                period.index(since) < period.index(now)
            }
            // A full bucket has drained by then.
            Algorithm::TokenBucket { burst } => {
                u128::from(age.get()) * u128::from(limit.get())
                    > u128::from(burst.get()) * u128::from(length.get())
            }
            Algorithm::Concurrency => false,
        }
    }

    /// The window as far as it tells counters apart: two have the same one if and only if they have the same label.
    /// Like a limit, the burst of a bucket may change while its counter stays, and so do the edges of a calendar; the
    /// length of a month is nominal.
    #[must_use]
    pub const fn counted(&self) -> Self {
        match self.algorithm {
            Algorithm::TokenBucket { .. } => Self::token_bucket(self.length, Units::ZERO),
            Algorithm::CalendarMonth => Self::calendar_month(),
            Algorithm::CalendarWindow(Calendar { name, .. }) => {
                Self::calendar(NonZeroMillis::DAY, Calendar { name, edges: Edges::UNKNOWN })
            }
            _ => *self,
        }
    }

    /// The window's name in store keys and messages: its length in the largest unit that divides it (`1m`, `90s`,
    /// `1d`, `250ms`), and any difference from the default algorithm (`1m-30` has 30 segments, `1d-fixed`,
    /// `1m-bucket`, `10m-leases`; a calendar month is `1mo`, and a window of the calendar has the name of that, such as
    /// `1d-Europe/Paris`). Windows that count differently have different labels, so
    /// that a change of the algorithm starts a new counter.
    pub fn label(&self) -> String {
        let length = self.length.get().label();
        match self.algorithm {
            Algorithm::SlidingWindow { segments } if segments == DEFAULT_SEGMENTS => length,
            Algorithm::SlidingWindow { segments } => format!("{length}-{segments}"),
            Algorithm::FixedWindow => format!("{length}-fixed"),
            Algorithm::CalendarMonth => "1mo".to_owned(),
            Algorithm::CalendarWindow(Calendar { name, .. }) => name.as_str().to_owned(),
            Algorithm::TokenBucket { .. } => format!("{length}-bucket"),
            Algorithm::Concurrency => format!("{length}-leases"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A calendar of this name, three of whose days begin at `first`.
    pub(crate) fn days(name: &str, first: Millis) -> Window {
        let edges = Edges::new([0, 1, 2, 3].map(|days| first + Millis::DAY * days));
        Window::calendar(NonZeroMillis::DAY, Calendar { name: CalendarName::new(name).unwrap(), edges })
    }

    /// A calendar three of whose periods begin at `first`; they differ in length by a tenth of `length`.
    pub(crate) fn uneven(length: NonZeroMillis, first: Millis) -> Window {
        let tenths = [0, 9, 20, 30].map(|tenths| first + length.get() * tenths / 10);
        let name = CalendarName::new("1d-Europe/Paris").unwrap();
        Window::calendar(length, Calendar { name, edges: Edges::new(tenths) })
    }

    #[test]
    fn windows_that_differ_have_different_labels() {
        let label = |ms, segments| {
            let algorithm = Algorithm::SlidingWindow { segments: NonZeroU32::new(segments).unwrap() };
            Window { length: NonZeroMillis::new(ms).unwrap(), algorithm }.label()
        };
        assert_eq!(label(60_000, 60), "1m");
        assert_eq!(label(90_000, 60), "90s");
        assert_eq!(label(86_400_000, 60), "1d");
        assert_eq!(label(250, 60), "250ms");
        assert_eq!(label(60_000, 30), "1m-30");
        let minute = NonZeroMillis::MINUTE;
        assert_eq!(Window::fixed(minute).label(), "1m-fixed");
        assert_eq!(Window::calendar_month().label(), "1mo");
        assert_eq!(Window::token_bucket(minute, Units::new(5)).label(), "1m-bucket");
        assert_eq!(Window::concurrency(minute).label(), "1m-leases");
    }

    #[test]
    fn windows_are_one_counter_if_they_have_one_label() {
        let minute = NonZeroMillis::MINUTE;
        let month = |length| Window { length, ..Window::calendar_month() };
        let buckets = [5, 6].map(|burst| Window::token_bucket(minute, Units::new(burst)));
        let days = |zone, from| tests::days(zone, Millis::DAY * from);
        let all = [
            [Window::sliding(minute), Window::fixed(minute)],
            [month(minute), month(NonZeroMillis::DAY)],
            buckets,
            [days("1d-UTC", 1), days("1d-UTC", 2)],
            [days("1d-Asia/Tokyo", 1), days("1w-UTC", 1)],
        ];
        for a in all.as_flattened() {
            for b in all.as_flattened() {
                assert_eq!(a.counted() == b.counted(), a.label() == b.label(), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_charge_has_passed_when_no_counter_holds_it_any_more() {
        let minute = NonZeroMillis::MINUTE;
        let begin = 1_700_000_000_000 / 60_000 * 60_000;
        let month = 1_698_796_800_000; // November 2023.
        for (window, since, last) in [
            (Window::sliding(minute), begin, begin + 61_000),
            (Window::fixed(minute), begin + 7, begin + 59_999),
            (Window::calendar_month(), month, month + 30 * 86_400_000 - 1),
            (Window::token_bucket(minute, Units::new(30)), begin, begin + 90_000),
            (days("1d-UTC", Millis::new(begin)), begin + 86_400_000, begin + 2 * 86_400_000 - 1),
        ] {
            let passed = |now| window.has_passed(Units::new(20), Millis::new(since), Millis::new(now));
            let label = window.label();
            assert_eq!((passed(last), passed(last + 1), passed(0)), (false, true, false), "{label}");
            let mut counter = Counter::new(&window, Units::new(20));
            let full = window.capacity(Units::new(20));
            counter.at(Millis::new(since)).reserve(full);
            assert_eq!(counter.at(Millis::new(last + 1)).fit(Units::new(20), full), Fit::Now, "{label}");
        }
        let lease = Window::concurrency(minute);
        assert!(!lease.has_passed(Units::new(20), Millis::ZERO, Millis::new(begin)));
    }

    #[test]
    fn every_algorithm_has_its_form_on_the_wire() {
        let minute = NonZeroMillis::MINUTE;
        for (window, json) in [
            (Window::sliding(minute), r#"{"window_ms":60000,"algorithm":"sliding_window","segments":60}"#),
            (Window::fixed(minute), r#"{"window_ms":60000,"algorithm":"fixed_window"}"#),
            (Window::calendar_month(), r#"{"window_ms":2678400000,"algorithm":"calendar_month"}"#),
            (
                days("1d-Asia/Tokyo", Millis::ZERO),
                concat!(
                    r#"{"window_ms":86400000,"algorithm":"calendar_window","calendar":"1d-Asia/Tokyo","#,
                    r#""edges":[0,86400000,172800000,259200000]}"#
                ),
            ),
            (
                Window::token_bucket(minute, Units::new(5)),
                r#"{"window_ms":60000,"algorithm":"token_bucket","burst":5}"#,
            ),
            (Window::concurrency(minute), r#"{"window_ms":60000,"algorithm":"concurrency"}"#),
        ] {
            assert_eq!(serde_json::to_string(&window).unwrap(), json);
            assert_eq!(serde_json::from_str::<Window>(json).unwrap(), window);
            assert!(json.contains(&format!("\"{}\"", window.algorithm.name())));
        }
    }
}
