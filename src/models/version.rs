//! The version in a model's name, so that one that no table lists counts as the newest that came before it.

use super::Family;

/// A version: `3.1` in `-3.1-8b`, `3-1-8b`, `-v3p1` or `31-8b`. Dates and sizes are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u8,
    minor: u8,
}

/// A row of a table: for the models of a family from a version on, for all of them or for those with a word in the rest
/// of their names. OpenAI's families have a major version: their versions here are the minor ones, after a zero.
pub(crate) type Row<T> = (Family, Version, &'static str, T);

/// The row of the model of `family` with this `rest` of its name: the newest that is not after its version, and of
/// these the one with the longest word. A name without a version is the newest model's.
pub(super) fn row_of<'t, T>(rows: &'t [Row<T>], family: Family, rest: &str) -> Option<&'t T> {
    let mut version = None;
    let mut is_not_after = |since: Version| {
        since == Version::FIRST || since <= *version.get_or_insert_with(|| Version::of(family, rest))
    };
    let rows = rows.iter().filter(|(of, since, word, _)| {
        *of == family && is_not_after(*since) && (word.is_empty() || rest.contains(word))
    });
    rows.max_by_key(|(_, since, word, _)| (*since, word.len())).map(|(.., row)| row)
}

/// The most digits of a number in a version: longer ones are dates.
const MAX_DIGITS: usize = 2;

/// What two digits exceed that are a version and its minor one (`gpt-35`), and not one number.
const LARGEST_MAJOR: u8 = 15;

impl Version {
    /// Before every other.
    pub(super) const FIRST: Self = Self::new(0, 0);

    /// After every other.
    pub(super) const NEWEST: Self = Self::new(u8::MAX, u8::MAX);

    /// Version `major.minor`.
    pub(super) const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// The version of the model of `family` with this `rest` of its name.
    pub(super) fn of(family: Family, rest: &str) -> Self {
        match family {
            Family::Gpt3_5 | Family::Gpt4 | Family::Gpt4_1 | Family::Gpt4o | Family::Gpt5 | Family::Gpt6 => {
                Self::within_major(rest)
            }
            Family::O1 | Family::O3 | Family::O4 => Self::within_major(rest),
            _ => Self::find(rest).unwrap_or(Self::NEWEST),
        }
    }

    /// The first version in `name`, in lower case.
    pub(super) fn find(name: &str) -> Option<Self> {
        let starts = name.char_indices().filter(|(_, digit)| digit.is_ascii_digit());
        starts.map(|(at, _)| name.split_at(at)).filter(|(before, _)| may_follow(before)).find_map(
            |(_, rest)| {
                let (major, rest) = number(rest)?;
                if major > LARGEST_MAJOR {
                    return Some(Self::new(major / 10, major % 10));
                }
                Some(Self::new(major, minor(rest).unwrap_or(0)))
            },
        )
    }

    /// The version of a model with `rest` behind the name of its family, which has the major version: `.1` in
    /// `gpt-5.1-codex`. Zero if it has no more.
    fn within_major(rest: &str) -> Self {
        Self::new(0, minor(rest).unwrap_or(0))
    }
}

/// Whether a version may stand behind `before`: behind a separator, and perhaps one letter (`-v3`, `-k2`).
fn may_follow(before: &str) -> bool {
    let mut chars = before.chars().rev();
    let is_separator = |char: Option<char>| char.is_none_or(|char| !char.is_ascii_alphanumeric());
    match chars.next() {
        Some(letter) if letter.is_ascii_lowercase() => is_separator(chars.next()),
        other => is_separator(other),
    }
}

/// The number behind a separator that `rest` begins with.
fn minor(rest: &str) -> Option<u8> {
    Some(number(rest.strip_prefix(['.', '-', '_', 'p'])?)?.0)
}

/// The number that `text` begins with, if it is no date and no size (`70b`, `8x7b`), and what follows.
fn number(text: &str) -> Option<(u8, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    let is_size = rest.starts_with(['b', 'm', 'k', 'x', 'e', 't']);
    (digits <= MAX_DIGITS && !is_size).then(|| Some((number.parse().ok()?, rest)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_in_the_name_in_whatever_spelling() {
        for (name, expected) in [
            ("-3.1-8b-instruct", Some((3, 1))),
            ("3-1-8b-instruct-v1:0", Some((3, 1))),
            ("-v3p1-8b", Some((3, 1))),
            ("31-8b", Some((3, 1))),
            ("3-70b-8192", Some((3, 0))),
            ("-8b", None),
            ("-4-0709", Some((4, 0))),
            ("-4-1-fast", Some((4, 1))),
            ("-4.20", Some((4, 20))),
            ("-large-2411", None),
            ("-opus-4-20250514", Some((4, 0))),
            ("-haiku-4-5@20251001", Some((4, 5))),
            ("-3-5-sonnet-20241022-v2:0", Some((3, 5))),
            ("-k2.5", Some((2, 5))),
            ("-chat-v3-0324", Some((3, 0))),
            ("-small-3-2-24b", Some((3, 2))),
            ("-8x7b", None),
            ("-3n-e4b", Some((3, 0))),
            ("é9", Some((9, 0))),
            ("", None),
        ] {
            let expected = expected.map(|(major, minor)| Version::new(major, minor));
            assert_eq!(Version::find(name), expected, "{name}");
        }
        for (rest, minor) in [(".1-codex-mini", 1), (".10", 10), ("-2025-08-07", 0), ("-mini", 0), ("", 0)] {
            assert_eq!(Version::within_major(rest), Version::new(0, minor), "{rest}");
        }
    }
}
