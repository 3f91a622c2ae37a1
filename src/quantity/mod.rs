//! Numbers with a meaning: [`Units`] that a limit counts, [`Millis`] of time, and millionths of a factor or a dollar.
//! Their arithmetic saturates, so that no number from outside overflows into a small one.
//!
//! The constants for the largest number, a day and a millionth are here. Nothing here knows a limit or a window.

mod millionths;
mod millis;

pub use millionths::{DECIMALS, MILLION, millionths_label, parse_millionths};
pub use millis::NonZeroMillis;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub, SubAssign};

/// 2^53 - 1, the largest number that is exact in JSON, in a `google.protobuf.Struct` and in Redis's Lua: all of them
/// count in doubles.
pub const MAX_EXACT: u64 = (1 << 53) - 1;

/// The units that a limit counts: requests, tokens, requests in flight, or micro-dollars.
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
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// `value` of them.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Whether the number is zero.
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

#[cfg(test)]
mod tests;
