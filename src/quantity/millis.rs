//! Durations: their units, their form as text, and a type for durations that are never zero.

use super::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::ops::Div;

impl Millis {
    /// A second.
    pub const SECOND: Self = Self(1_000);
    /// A minute.
    pub const MINUTE: Self = Self(60_000);
    /// An hour.
    pub const HOUR: Self = Self(3_600_000);
    /// A day, without a leap second or a change of the clock.
    pub const DAY: Self = Self(86_400_000);

    /// The duration in the largest unit that divides it: `250ms`, `90s`, `1m`, `6h`, `1d`.
    pub fn label(self) -> String {
        let Self(ms) = self;
        UNITS
            .iter()
            .find(|(_, Self(unit))| ms >= *unit && ms.is_multiple_of(*unit))
            .map_or_else(|| format!("{ms}ms"), |(name, Self(unit))| format!("{}{name}", ms / unit))
    }

    /// The duration in the form that [`Millis::label`] writes: an integer and a unit. None for any other text, and for
    /// durations of more than 64 bits.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
        let (_, Self(unit)) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*unit).map(Self)
    }

    /// The duration in seconds, rounded up.
    pub const fn seconds_rounded_up(self) -> u64 {
        self.0.div_ceil(Self::SECOND.0)
    }

    /// The same duration, if it is not zero.
    pub const fn non_zero(self) -> Option<NonZeroMillis> {
        NonZeroMillis::new(self.0)
    }

    /// The same duration, or a millisecond if it is zero.
    pub const fn at_least_one(self) -> NonZeroMillis {
        match self.non_zero() {
            Some(duration) => duration,
            None => NonZeroMillis::MIN,
        }
    }
}

/// The units of a duration, the largest first.
const UNITS: [(&str, Millis); 5] = [
    ("d", Millis::DAY),
    ("h", Millis::HOUR),
    ("m", Millis::MINUTE),
    ("s", Millis::SECOND),
    ("ms", Millis::new(1)),
];

/// A duration of a millisecond or more, such as that of a window or of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NonZeroMillis(NonZeroU64);

impl NonZeroMillis {
    /// A millisecond.
    pub const MIN: Self = Self(NonZeroU64::MIN);
    /// A minute.
    pub const MINUTE: Self = Millis::MINUTE.at_least_one();
    /// A day.
    pub const DAY: Self = Millis::DAY.at_least_one();

    /// `value` milliseconds; none if that is zero.
    pub const fn new(value: u64) -> Option<Self> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The duration.
    pub const fn get(self) -> Millis {
        Millis::new(self.0.get())
    }
}

/// The number of whole durations that fit.
impl Div<NonZeroMillis> for Millis {
    type Output = u64;

    fn div(self, duration: NonZeroMillis) -> u64 {
        self.0 / duration.0
    }
}

impl fmt::Display for NonZeroMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
