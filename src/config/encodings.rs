//! Which encoding counts the tokens of which models, where the configuration says so.

use super::document::Number;
use super::error::{Path, Problems, quoted};
use super::raw;
pub use super::raw::EncodingName;
use crate::pattern::Pattern;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The largest factor: more is a mistake, and counts stay far from the end of 64 bits.
const MAX_FACTOR: f64 = 1000.0;

/// The models that `pattern` matches are counted with `encoding`, times `factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodingRule {
    /// Which models.
    pub pattern: Pattern,
    /// The encoding.
    pub encoding: EncodingName,
    /// More than 0, at most 1000; 1 if the configuration does not say.
    pub factor: f64,
}

/// Builds the rules at `path`. The order of an object's members means nothing (a `Struct` has none), so that the
/// pattern that spells out most comes first, and of two that spell out as much, the first by name.
pub(super) fn encodings(
    raw: &BTreeMap<String, raw::Encoding>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<EncodingRule> {
    let mut rules = Vec::new();
    for (pattern, given) in raw {
        let path = path.member(pattern);
        if pattern.is_empty() {
            problems.expected(&path, "a pattern of model names such as \"gpt-4*\"", quoted(pattern));
        }
        let factor = match given.factor {
            None => 1.0,
            Some(number) => factor(number, &path.member("factor"), problems),
        };
        rules.push(EncodingRule { pattern: Pattern::new(pattern), encoding: given.encoding, factor });
    }
    rules.sort_by_key(|rule| Reverse(rule.pattern.specificity()));
    rules
}

fn factor(number: Number, path: &Path<'_>, problems: &mut Problems) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "only small integers are allowed")]
    let value = match number {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    };
    if !(value > 0.0 && value <= MAX_FACTOR) {
        problems.expected(path, format!("a number more than 0 and at most {MAX_FACTOR}"), number);
    }
    value
}
