//! Windows: the arithmetic that decides whether a cost fits, the same here as in `lua/`.
//!
//! It serves the local store and is the model that the Lua scripts are tested against. Time is an argument in
//! milliseconds; nothing here reads a clock.

pub mod sliding;

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
}

impl Window {
    /// A sliding window of `length_ms` in [`DEFAULT_SEGMENTS`].
    pub const fn sliding(length_ms: NonZeroU64) -> Self {
        Self { length_ms, algorithm: Algorithm::SlidingWindow { segments: DEFAULT_SEGMENTS } }
    }

    /// How the window is written in store keys and messages: its length in the largest unit that divides it
    /// (`1m`, `90s`, `1d`, `250ms`), and what sets it apart from the default algorithm (`1m-30` has 30 segments).
    /// Two windows that count differently never share a label, so that changing one starts a new counter.
    pub fn label(&self) -> String {
        let length = duration_label(self.length_ms.get());
        match self.algorithm {
            Algorithm::SlidingWindow { segments } if segments == DEFAULT_SEGMENTS => length,
            Algorithm::SlidingWindow { segments } => format!("{length}-{segments}"),
        }
    }
}

/// `ms` in the largest unit that divides it: `250ms`, `90s`, `1m`, `6h`, `1d`.
pub fn duration_label(ms: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    UNITS
        .iter()
        .find(|(unit, _)| ms >= *unit && ms % unit == 0)
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
    }
}
