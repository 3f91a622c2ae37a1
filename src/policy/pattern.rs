//! Patterns that model names are matched against: `gpt-4*`.
//!
//! `*` stands for any run of characters, none included; every other character stands for itself, upper and lower
//! case apart. There is no way to write a literal `*`: no model's name has one.

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

    /// Whether the whole of `name` matches. Takes time in proportion to the name's length times the number of stars
    /// at worst.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut name) = name.strip_prefix(first) else {
            return false;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The leftmost place for each part leaves the most for those that follow.
        for part in middle.split('*') {
            match name.find(part).and_then(|at| name.get(at.saturating_add(part.len())..)) {
                Some(left) => name = left,
                None => return false,
            }
        }
        name.ends_with(last)
    }

    /// Whether every name matches.
    pub fn matches_all(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// How much of a name the pattern fixes: its characters other than stars. Where several patterns match and one
    /// must be chosen, the largest is.
    pub fn specificity(&self) -> usize {
        self.0.chars().filter(|c| *c != '*').count()
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

    /// Says the same in the plainest way, in exponential time.
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
            Some((c, rest)) => name.first() == Some(c) && matches(rest, &name[1..]),
        }
    }

    #[test]
    fn stars_stand_for_any_run() {
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn agrees_with_the_plainest_matcher(pattern in "[ab*]{0,7}", name in "[ab]{0,9}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::new(&*pattern).matches(&name), matches(&chars(&pattern), &chars(&name)));
        }
    }
}
