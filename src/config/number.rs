//! Integers within their ranges.

use super::document::Number;
use super::error::{Path, Problems};
use std::ops::RangeInclusive;

impl Problems {
    /// `number` as an integer. Adds a problem if it is not within `range`.
    pub(super) fn whole(
        &mut self,
        path: &Path<'_>,
        number: Number,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let whole = match number {
            Number::Whole(value) => u64::try_from(value).ok().filter(|value| range.contains(value)),
            Number::Real(_) => None,
        };
        if whole.is_none() {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            self.expected(path, expected, number);
        }
        whole
    }

    /// The same for an optional member; `default` if it is left out.
    pub(super) fn whole_or(
        &mut self,
        path: &Path<'_>,
        number: Option<Number>,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Option<u64> {
        number.map_or(Some(default), |number| self.whole(path, number, range))
    }
}
