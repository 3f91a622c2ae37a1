//! Numbers with a meaning: [`Units`] of what a limit counts, [`Millis`] of time, and millionths of a factor or a
//! dollar. Their arithmetic saturates, so that no number from outside ever overflows into a small one.
//!
//! The largest number, a day and a millionth have their one home here. Nothing here knows a limit or a window.

mod millionths;

pub use millionths::{MILLION, millionths_label};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub, SubAssign};

/// 2^53 - 1, the largest number that JSON, a `google.protobuf.Struct` and Redis's Lua all hold exactly: each of them
/// counts in doubles.
pub const MAX_EXACT: u64 = (1 << 53) - 1;

/// What a limit counts: requests, tokens, requests in flight, or micro-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Units(u64);

/// Milliseconds: a duration, or a point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(u64);

macro_rules! saturating {
    ($number:ident) => {
        impl $number {
            /// None.
            pub const ZERO: Self = Self(0);

            /// `value` of them.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// How many.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Whether there are none.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl Add for $number {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $number {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        /// Zero where `other` is larger.
        impl Sub for $number {
            type Output = Self;

            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl SubAssign for $number {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }

        impl Mul<u64> for $number {
            type Output = Self;

            fn mul(self, factor: u64) -> Self {
                Self(self.0.saturating_mul(factor))
            }
        }

        /// Rounded down; by zero, the number itself.
        impl Div<u64> for $number {
            type Output = Self;

            fn div(self, divisor: u64) -> Self {
                Self(self.0.checked_div(divisor).unwrap_or(self.0))
            }
        }

        impl Sum for $number {
            fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
                numbers.fold(Self::ZERO, Add::add)
            }
        }

        impl From<u64> for $number {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl From<$number> for u64 {
            fn from(number: $number) -> Self {
                number.0
            }
        }

        /// For assertions and for bounds that are written as numbers.
        impl PartialEq<u64> for $number {
            fn eq(&self, other: &u64) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $number {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

saturating!(Units);
saturating!(Millis);

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
        DURATION_UNITS
            .iter()
            .find(|(_, Self(unit))| ms >= *unit && ms.is_multiple_of(*unit))
            .map_or_else(|| format!("{ms}ms"), |(name, Self(unit))| format!("{}{name}", ms / unit))
    }

    /// The duration that [`Millis::label`] writes: an integer and a unit. None for any other text, and where 64 bits
    /// do not hold it.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
        let (_, Self(unit)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*unit).map(Self)
    }
}

/// The units of a duration, the largest first.
const DURATION_UNITS: [(&str, Millis); 5] = [
    ("d", Millis::DAY),
    ("h", Millis::HOUR),
    ("m", Millis::MINUTE),
    ("s", Millis::SECOND),
    ("ms", Millis::new(1)),
];

#[cfg(test)]
mod tests;
