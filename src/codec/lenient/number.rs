//! Numbers and flags as servers read them that coerce types: a string of digits is a number too.

use crate::quantity::MAX_EXACT;
use std::borrow::Cow;

/// The number that is written as `raw`: not negative, rounded up, at most [`MAX_EXACT`]. None for any other value.
pub(super) fn amount(raw: &str) -> Option<u64> {
    let text = unquoted(raw);
    let digits = digits(&text)?;
    // Casting a float saturates.
    let number = digits.parse().or_else(|_| digits.parse().map(|float: f64| float.ceil() as u64));
    number.ok().map(|number| number.min(MAX_EXACT))
}

/// The whole number above zero that is written as `raw`, at most [`MAX_EXACT`]: `7`, `7.0`, `7e0` or `"7"`. None for
/// any other value.
pub(super) fn whole(raw: &str) -> Option<u64> {
    let text = unquoted(raw);
    let digits = digits(&text)?;
    let float = |_| digits.parse().ok().filter(|float: &f64| float.fract() == 0.0 || float.is_infinite());
    let number = digits.parse().or_else(|why| float(why).map(|float| float as u64).ok_or(()));
    number.ok().filter(|number| *number > 0).map(|number: u64| number.min(MAX_EXACT))
}

/// `text` as Rust parses numbers. Python and pydantic read ` +1_000 ` as a thousand. None for what begins otherwise
/// than with a digit.
fn digits(text: &str) -> Option<Cow<'_, str>> {
    let digits = text.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some(if digits.contains('_') { digits.replace('_', "").into() } else { digits.into() })
}

/// Whether `raw` is true, or a value that servers that coerce types read as true.
pub(super) fn flag(raw: &str) -> bool {
    matches!(unquoted(raw).trim(), "true" | "True" | "1")
}

/// The text of a string, and any other value as it is.
fn unquoted(raw: &str) -> Cow<'_, str> {
    if raw.contains('\\') {
        return serde_json::from_str(raw).map_or(Cow::Borrowed(raw), Cow::Owned);
    }
    Cow::Borrowed(raw.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_lax_servers_read_them() {
        for (raw, expected) in [
            ("3", (Some(3), Some(3))),
            ("\"3\"", (Some(3), Some(3))),
            ("\" 3 \"", (Some(3), Some(3))),
            ("\"+3\"", (Some(3), Some(3))),
            ("\"1_000\"", (Some(1_000), Some(1_000))),
            (r#""\u0031\u0032""#, (Some(12), Some(12))),
            ("3.0", (Some(3), Some(3))),
            ("2.5", (Some(3), None)),
            ("3e2", (Some(300), Some(300))),
            ("1e308", (Some(MAX_EXACT), Some(MAX_EXACT))),
            ("1e999", (Some(MAX_EXACT), Some(MAX_EXACT))),
            ("99999999999999999999999999", (Some(MAX_EXACT), Some(MAX_EXACT))),
            ("9007199254740993", (Some(MAX_EXACT), Some(MAX_EXACT))),
            ("0", (Some(0), None)),
            ("0.0", (Some(0), None)),
            ("0.3", (Some(1), None)),
            ("-1", (None, None)),
            ("-1e999", (None, None)),
            ("true", (None, None)),
            ("null", (None, None)),
            ("\"inf\"", (None, None)),
            ("\"\"", (None, None)),
            ("[3]", (None, None)),
        ] {
            assert_eq!((amount(raw), whole(raw)), expected, "{raw}");
        }
    }

    #[test]
    fn flags_are_read_as_lax_servers_read_them() {
        assert!(["true", "\"true\"", "\"True\"", "1", r#""\u0074rue""#].into_iter().all(flag));
        assert!(!["false", "\"yes\"", "0", "null", "[true]", "11"].into_iter().any(flag));
    }
}
