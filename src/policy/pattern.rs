//! Patterns of model names, such as `gpt-4*`, and which of several patterns wins.
//!
//! `*` matches any run of characters, including none; every other character matches itself. Case does not matter, since
//! some upstreams find a model by its name in any case. A literal `*` cannot be written: no model's name has one.

use crate::sort;
use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::sync::Arc;

/// A pattern over model names. Cheap to copy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// The pattern written as `text`. Every text is a pattern.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` matches. The time is at most proportional to the length of the name times the number
    /// of stars.
    pub fn matches(&self, name: &str) -> bool {
        if !name.bytes().chain(self.0.bytes()).any(|byte| byte.is_ascii_uppercase()) {
            return matches(&self.0, name);
        }
        matches(&self.0.to_ascii_lowercase(), &name.to_ascii_lowercase())
    }

    /// Whether `name`, of a model, matches: the whole of it, or what follows the name of a provider or a gateway, since
    /// some upstreams take both for the same model (`models/gemini-2.5-pro`).
    pub fn matches_model(&self, name: &str) -> bool {
        self.matches(name) || name.rsplit_once('/').is_some_and(|(_, own)| self.matches(own))
    }

    /// Whether a request for `model` matches. A request that names no model matches only `*`.
    pub fn matches_request(&self, model: Option<&str>) -> bool {
        model.map_or_else(|| self.matches_all(), |model| self.matches_model(model))
    }

    /// Whether every name matches.
    pub(crate) fn matches_all(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// How specific it is, the most specific first: by its characters beside stars, and then by how few stars it has.
    pub(crate) fn specificity(&self) -> impl Ord + use<> {
        let stars = self.0.bytes().filter(|b| *b == b'*').count();
        (Reverse(self.0.chars().count() - stars), stars)
    }

    /// The order in which patterns win: the most specific first, and of equals the first in the alphabet.
    fn precedence(&self, other: &Self) -> Ordering {
        self.specificity().cmp(&other.specificity()).then_with(|| self.cmp(other))
    }
}

/// Whether the whole of `name` matches `pattern`, both in one case.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The leftmost place for each part leaves the most text for the parts after it.
    for part in middle.split('*') {
        match name.find(part).and_then(|at| name.get(at + part.len()..)) {
            Some(left) => name = left,
            None => return false,
        }
    }
    name.ends_with(last)
}

/// A value per pattern. Of the patterns that match a model, the most specific wins, and of equally specific patterns
/// the first in the alphabet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByPattern<T> {
    /// In the order in which patterns win.
    values: Vec<(Pattern, T)>,
}

impl<T> ByPattern<T> {
    /// Values in any order.
    pub fn new(values: impl IntoIterator<Item = (Pattern, T)>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        sort::by(&mut values, |(a, _), (b, _)| a.precedence(b));
        Self { values }
    }

    /// The value for `model`. A request that names no model matches only `*`.
    pub fn of(&self, model: Option<&str>) -> Option<&T> {
        self.values.iter().find(|(pattern, _)| pattern.matches_request(model)).map(|(_, value)| value)
    }

    /// The values that some model may have, apart from those of [`ByPattern::of`] for a model that no pattern matches.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|(_, value)| value)
    }

    /// Whether every model has a value.
    pub(crate) fn is_total(&self) -> bool {
        self.values.iter().any(|(pattern, _)| pattern.matches_all())
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<T> Default for ByPattern<T> {
    fn default() -> Self {
        Self { values: Vec::new() }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Matches in the plainest way, in exponential time.
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
            Some((c, rest)) => name.first() == Some(c) && matches(rest, &name[1..]),
        }
    }

    #[test]
    fn a_model_is_known_with_and_without_its_provider() {
        let pattern = Pattern::new("gpt-4o*");
        for name in ["gpt-4o", "openai/gpt-4o", "openrouter/openai/GPT-4o-mini", "models/gpt-4o"] {
            assert!(pattern.matches_model(name) && pattern.matches_request(Some(name)), "{name}");
        }
        assert!(!pattern.matches_model("gpt-4/other") && !pattern.matches_model("openai/o1"));
        let pattern = Pattern::new("openai/*");
        assert!(pattern.matches_model("openai/o1") && !pattern.matches_model("x/openai/o1"));
    }

    #[test]
    fn stars_match_any_run() {
        for (pattern, name, expected) in [
            ("gpt-4*", "gpt-4o-mini", true),
            ("gpt-4*", "gpt-4", true),
            ("gpt-4*", "gpt-3.5-turbo", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*4*mini", "gpt-4o-mini", true),
            ("a*a", "a", false),
            ("gpt-4", "gpt-4o", false),
            ("GPT*", "gpt-4", true),
            ("gpt-4*mini", "GPT-4o-Mini", true),
            ("GPT-4", "gpt-4o", false),
            ("*", "", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn only_stars_match_every_name() {
        assert!(Pattern::new("*").matches_all());
        assert!(Pattern::new("**").matches_all());
        assert!(!Pattern::new("").matches_all());
        assert!(!Pattern::new("*a").matches_all());
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let values = [("*", 0), ("gpt-4*", 1), ("gpt-4o", 2), ("*-mini", 3), ("gpt-5", 4)];
        let values = ByPattern::new(values.map(|(pattern, value)| (Pattern::new(pattern), value)));
        let of = |model| values.of(Some(model)).copied();
        assert_eq!([of("gpt-4o"), of("gpt-4"), of("gpt-4o-mini"), of("o3")], [2, 1, 3, 0].map(Some));
        assert_eq!(values.of(None), Some(&0));
        let exact =
            ByPattern::new([("*gpt-4", 0), ("gpt-4", 1)].map(|(text, value)| (Pattern::new(text), value)));
        assert_eq!((exact.of(Some("gpt-4")), exact.of(Some("my-gpt-4"))), (Some(&1), Some(&0)));
        let without_star = ByPattern::new([(Pattern::new("gpt-4*"), 1)]);
        assert_eq!((without_star.of(Some("o3")), without_star.of(None)), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn agrees_with_the_plainest_matcher(pattern in "[abB*]{0,7}", name in "[abB]{0,9}") {
            let chars = |s: &str| s.to_lowercase().chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::new(&*pattern).matches(&name), matches(&chars(&pattern), &chars(&name)));
        }
    }
}
