//! Decimal numbers, kept exactly, as whole millionths.
//!
//! JSON numbers are read as doubles, and a `Struct` has only doubles. The shortest text of a double is the number as
//! the user wrote it, if that has at most 15 digits. So this file parses that text, and binary fractions never matter.

use super::document::Number;
use super::error::{Path, Problems};
use crate::quantity::{DECIMALS, millionths_label, parse_millionths};
use std::ops::RangeInclusive;

impl Problems {
    /// `number` in millionths. Adds a problem if it is not within `range`, also in millionths.
    pub(super) fn millionths(
        &mut self,
        path: &Path<'_>,
        number: Number,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let millionths = millionths(number).filter(|value| range.contains(value));
        if millionths.is_none() {
            let (from, to) = (millionths_label(*range.start()), millionths_label(*range.end()));
            let expected = format!("a number from {from} to {to} with at most {DECIMALS} decimals");
            self.expected(path, expected, number);
        }
        millionths
    }

    /// The same for an optional member; `default` if it is left out.
    pub(super) fn millionths_or(
        &mut self,
        path: &Path<'_>,
        number: Option<Number>,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Option<u64> {
        number.map_or(Some(default), |number| self.millionths(path, number, range))
    }
}

fn millionths(number: Number) -> Option<u64> {
    let text = match number {
        Number::Whole(value) => value.to_string(),
        Number::Real(value) => value.to_string(),
    };
    parse_millionths(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::MILLION;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact() {
        for (number, expected) in [
            (0.075, Some(75_000)),
            (0.1, Some(100_000)),
            (1e-6, Some(1)),
            (1e-7, None),
            (0.123_456_7, None),
            (-0.5, None),
            (f64::NAN, None),
            (1e300, None),
        ] {
            assert_eq!(millionths(Number::Real(number)), expected, "{number}");
        }
        assert_eq!(millionths(Number::Whole(3)), Some(3 * MILLION));
        assert_eq!(millionths(Number::Whole(-3)), None);
        assert_eq!(millionths(Number::Whole(i64::MAX)), None);
    }

    proptest! {
        #[test]
        fn up_to_a_billion_every_decimal_is_read_as_written(value in 0..=1_000_000_000 * MILLION) {
            let written: f64 = millionths_label(value).parse().unwrap();
            prop_assert_eq!(millionths(Number::from(written)), Some(value));
        }
    }
}
