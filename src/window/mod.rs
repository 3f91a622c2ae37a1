//! Windows: the arithmetic that decides whether a cost fits, the same here as in `lua/`.
//!
//! It serves the local store and is the model that the Lua scripts are tested against. Time is an argument in
//! milliseconds; nothing here reads a clock.
//!
//! This file names the windows; each algorithm is a file of its own, and [`Counter`] is any of them. All keep three
//! rules: a cost equal to what is left fits, a refund goes to where the charge went and never lets in more than if the
//! charge had been smaller from the start, and a clock that steps back never opens a window early.

pub mod bucket;
mod counter;
pub mod fixed;
pub mod leases;
mod parts;
pub mod period;
pub mod sliding;

pub use counter::Counter;
pub use parts::{ChargedParts, MOST_PARTS, Part};

use serde::{Deserialize, Serialize};
use std::num::{NonZeroU32, NonZeroU64};

/// Segments of a sliding window that does not say otherwise.
pub const DEFAULT_SEGMENTS: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// A length of time and how use is counted over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Length in milliseconds.
    #[serde(rename = "window_ms")]
    pub length_ms: NonZeroU64,
    /// How use is counted.
    #[serde(flatten)]
    pub algorithm: Algorithm,
}

/// How use is counted over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub enum Algorithm {
    /// The window is cut into segments, and a unit leaves when its whole segment has left.
    SlidingWindow {
        /// How many segments the window is cut into.
        segments: NonZeroU32,
    },
    /// Windows follow one another, aligned to the epoch; each begins empty.
    FixedWindow,
    /// As a fixed window, but a month of the calendar, in UTC. Its length is nominal.
    CalendarMonth,
    /// A bucket that holds `burst` units and is refilled evenly, by the limit in each window (GCRA).
    TokenBucket {
        /// How much fits at once. Not part of the label: like a limit, it can change while the counter stays.
        burst: u64,
    },
    /// Requests in flight: the limit is how many, the window's length is how long a slot is held for one that is never
    /// heard of again.
    Concurrency,
}

impl Algorithm {
    /// The name on the wire and in store keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlidingWindow { .. } => "sliding_window",
            Self::FixedWindow => "fixed_window",
            Self::CalendarMonth => "calendar_month",
            Self::TokenBucket { .. } => "token_bucket",
            Self::Concurrency => "concurrency",
        }
    }

    /// The units that a request of `cost` takes: a request in flight takes one slot, however it is priced.
    pub const fn units(self, cost: u64) -> u64 {
        match self {
            Self::Concurrency if cost > 1 => 1,
            _ => cost,
        }
    }

    /// The units that stay taken when a request of `cost` is over: a slot is free then.
    pub const fn units_kept(self, cost: u64) -> u64 {
        match self {
            Self::Concurrency => 0,
            _ => cost,
        }
    }
}

/// The nominal length of a calendar month in milliseconds: 31 days.
const MONTH_MS: NonZeroU64 = NonZeroU64::new(31 * 86_400_000).unwrap();

impl Window {
    /// A sliding window of `length_ms` in [`DEFAULT_SEGMENTS`].
    pub const fn sliding(length_ms: NonZeroU64) -> Self {
        Self { length_ms, algorithm: Algorithm::SlidingWindow { segments: DEFAULT_SEGMENTS } }
    }

    /// Windows of `length_ms`, aligned to the epoch.
    pub const fn fixed(length_ms: NonZeroU64) -> Self {
        Self { length_ms, algorithm: Algorithm::FixedWindow }
    }

    /// Calendar months in UTC.
    pub const fn calendar_month() -> Self {
        Self { length_ms: MONTH_MS, algorithm: Algorithm::CalendarMonth }
    }

    /// A bucket of `burst` units that the limit refills in each `length_ms`.
    pub const fn token_bucket(length_ms: NonZeroU64, burst: u64) -> Self {
        Self { length_ms, algorithm: Algorithm::TokenBucket { burst } }
    }

    /// Requests in flight, each for `lease_ms` at most unless its lease is renewed.
    pub const fn concurrency(lease_ms: NonZeroU64) -> Self {
        Self { length_ms: lease_ms, algorithm: Algorithm::Concurrency }
    }

    /// The most that fits at once under `limit`: what `remaining` is counted from, and the largest cost that is not
    /// refused for ever.
    pub const fn capacity(&self, limit: u64) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket { .. } if limit == 0 => 0,
            Algorithm::TokenBucket { burst } => burst,
            _ => limit,
        }
    }

    /// How the window is written in store keys and messages: its length in the largest unit that divides it (`1m`,
    /// `90s`, `1d`, `250ms`), and what sets it apart from the default algorithm (`1m-30` has 30 segments, `1d-fixed`,
    /// `1m-bucket`, `10m-leases`; a calendar month is `1mo`). Two windows that count differently never share a label,
    /// so that changing one starts a new counter.
    pub fn label(&self) -> String {
        let length = duration_label(self.length_ms.get());
        match self.algorithm {
            Algorithm::SlidingWindow { segments } if segments == DEFAULT_SEGMENTS => length,
            Algorithm::SlidingWindow { segments } => format!("{length}-{segments}"),
            Algorithm::FixedWindow => format!("{length}-fixed"),
            Algorithm::CalendarMonth => "1mo".to_owned(),
            Algorithm::TokenBucket { .. } => format!("{length}-bucket"),
            Algorithm::Concurrency => format!("{length}-leases"),
        }
    }
}

/// `ms` in the largest unit that divides it: `250ms`, `90s`, `1m`, `6h`, `1d`.
pub fn duration_label(ms: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    UNITS
        .iter()
        .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit))
        .map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// Whether a cost fits into a window now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Now,
    /// It fits after this many milliseconds if nobody else spends; at least one.
    After(NonZeroU64),
    /// It is larger than the limit and fits at no time.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_windows_apart() {
        let label = |ms, segments| {
            let algorithm = Algorithm::SlidingWindow { segments: NonZeroU32::new(segments).unwrap() };
            Window { length_ms: NonZeroU64::new(ms).unwrap(), algorithm }.label()
        };
        assert_eq!(label(60_000, 60), "1m");
        assert_eq!(label(90_000, 60), "90s");
        assert_eq!(label(86_400_000, 60), "1d");
        assert_eq!(label(250, 60), "250ms");
        assert_eq!(label(60_000, 30), "1m-30");
        let minute = NonZeroU64::new(60_000).unwrap();
        assert_eq!(Window::fixed(minute).label(), "1m-fixed");
        assert_eq!(Window::calendar_month().label(), "1mo");
        assert_eq!(Window::token_bucket(minute, 5).label(), "1m-bucket");
        assert_eq!(Window::concurrency(minute).label(), "1m-leases");
    }

    #[test]
    fn every_algorithm_has_its_form_on_the_wire() {
        let minute = NonZeroU64::new(60_000).unwrap();
        for (window, json) in [
            (Window::sliding(minute), r#"{"window_ms":60000,"algorithm":"sliding_window","segments":60}"#),
            (Window::fixed(minute), r#"{"window_ms":60000,"algorithm":"fixed_window"}"#),
            (Window::calendar_month(), r#"{"window_ms":2678400000,"algorithm":"calendar_month"}"#),
            (Window::token_bucket(minute, 5), r#"{"window_ms":60000,"algorithm":"token_bucket","burst":5}"#),
            (Window::concurrency(minute), r#"{"window_ms":60000,"algorithm":"concurrency"}"#),
        ] {
            assert_eq!(serde_json::to_string(&window).unwrap(), json);
            assert_eq!(serde_json::from_str::<Window>(json).unwrap(), window);
            assert!(json.contains(&format!("\"{}\"", window.algorithm.name())));
        }
    }
}
