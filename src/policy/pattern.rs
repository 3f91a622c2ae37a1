//! Patterns of model names, such as `gpt-4*`, and which of several patterns wins.
//!
//! `*` matches any run of characters, including none; every other character matches itself, and case matters. A literal
//! `*` cannot be written: no model's name has one.

use std::cmp::{Ordering, Reverse};
use std::fmt;

/// A pattern over model names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern written as `text`. Every text is a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` matches. The time is at most proportional to the length of the name times the number
    /// of stars.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == name;
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

    /// Whether a request for `model` matches. A request that names no model matches only `*`.
    pub fn matches_request(&self, model: Option<&str>) -> bool {
        model.map_or_else(|| self.matches_all(), |model| self.matches(model))
    }

    /// Whether every name matches.
    fn matches_all(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// The order in which patterns win: more characters beside stars come first. Of two patterns with equally many, the
    /// first in the alphabet does.
    fn precedence(&self, other: &Self) -> Ordering {
        let fixed = |pattern: &Self| pattern.0.chars().filter(|c| *c != '*').count();
        Reverse(fixed(self)).cmp(&Reverse(fixed(other))).then_with(|| self.cmp(other))
    }
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
        values.sort_by(|(a, _), (b, _)| a.precedence(b));
        Self { values }
    }

    /// The value for `model`. A request that names no model matches only `*`.
    pub fn of(&self, model: Option<&str>) -> Option<&T> {
        self.values.iter().find(|(pattern, _)| pattern.matches_request(model)).map(|(_, value)| value)
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
    fn stars_match_any_run() {
        for (pattern, name, expected) in [
            ("gpt-4*", "gpt-4o-mini", true),
            ("gpt-4*", "gpt-4", true),
            ("gpt-4*", "gpt-3.5-turbo", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*4*mini", "gpt-4o-mini", true),
            ("a*a", "a", false),
            ("gpt-4", "gpt-4o", false),
            ("GPT*", "gpt-4", false),
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
        let without_star = ByPattern::new([(Pattern::new("gpt-4*"), 1)]);
        assert_eq!((without_star.of(Some("o3")), without_star.of(None)), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn agrees_with_the_plainest_matcher(pattern in "[ab*]{0,7}", name in "[ab]{0,9}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::new(&*pattern).matches(&name), matches(&chars(&pattern), &chars(&name)));
        }
    }
}
