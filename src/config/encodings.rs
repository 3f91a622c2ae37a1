//! The configuration's overrides of the encodings that count each model's tokens.

use super::document::Number;
use super::error::{Path, Problems};
use super::pattern;
use super::raw;
use crate::models::Encodings;
use crate::tokens::{Counting, Factor};
use std::collections::BTreeMap;

/// Builds the overrides at `path`. They have no order, like the members of a `Struct`: [`Encodings`] prefers the most
/// specific pattern.
#[inline(never)]
pub(super) fn encodings(
    raw: &BTreeMap<String, raw::Encoding>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Encodings {
    let rules = raw.iter().filter_map(|(pattern, given)| {
        let path = path.member(pattern);
        let pattern = pattern::of_models(pattern, &path, problems);
        let factor = match given.factor {
            None => Factor::ONE,
            Some(number) => factor(number, &path.member("factor"), problems)?,
        };
        Some((pattern, Counting { encoding: given.encoding, factor }))
    });
    Encodings::new(rules)
}

fn factor(number: Number, path: &Path<'_>, problems: &mut Problems) -> Option<Factor> {
    #[expect(clippy::cast_precision_loss, reason = "only small integers are allowed")]
    let factor = Factor::new(match number {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    });
    if factor.is_none() {
        problems.expected(path, "a number from 0.000001 to 1000", number);
    }
    factor
}
