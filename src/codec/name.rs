//! Names that clients choose, such as a model's. They go into logs, tables and patterns, so that they are made harmless
//! where they are read.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest name that is kept, in bytes. No model's name is longer.
const MAX_BYTES: usize = 256;

/// The first 256 bytes of `name`, or fewer where a character would be cut. What does not print is escaped as in
/// Rust's strings (`\n`, `\u{202e}`), so that no name can begin a line of the log, or turn one around. Nor can one end
/// a field in quotes: a quotation mark becomes a single one, and no backslash is the last character.
pub fn harmless(name: Cow<'_, str>) -> Cow<'_, str> {
    harmless_part(name).0
}

/// The same, and whether it is only a part of `name`: what was cut off may make it another's.
pub fn harmless_part(name: Cow<'_, str>) -> (Cow<'_, str>, bool) {
    if name.len() <= MAX_BYTES && name.chars().all(prints) && !name.ends_with('\\') {
        return (name, false);
    }
    let (mut harmless, mut is_cut) = (String::new(), false);
    let mut escaped = String::new();
    for c in name.chars() {
        escaped.clear();
        if prints(c) {
            escaped.push(c);
        } else if c == '"' {
            escaped.push('\'');
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "{}", c.escape_debug());
        }
        if harmless.len().saturating_add(escaped.len()) > MAX_BYTES {
            is_cut = true;
            break;
        }
        harmless.push_str(&escaped);
    }
    let len = harmless.trim_end_matches('\\').len();
    is_cut |= len < harmless.len();
    harmless.truncate(len);
    (Cow::Owned(harmless), is_cut)
}

/// Whether `c` is what it looks like, and ends no field of a log that stands in quotes. `escape_debug` escapes what
/// does not print, and quotes and backslashes.
fn prints(c: char) -> bool {
    matches!(c, ' '..='~' if c != '"') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_print_is_escaped() {
        for (name, expected) in [
            ("gpt-4o", "gpt-4o"),
            ("接続/モデル 'é'", "接続/モデル 'é'"),
            ("x\" decision=\"admitted", "x' decision='admitted"),
            ("x\\n\\\\", "x\\n"),
            ("a\n[info] admitted", "a\\n[info] admitted"),
            ("\r\0\u{1b}[31m\u{7f}\u{85}", "\\r\\0\\u{1b}[31m\\u{7f}\\u{85}"),
            ("\u{202e}\u{2028}\u{200b}\u{feff}", "\\u{202e}\\u{2028}\\u{200b}\\u{feff}"),
        ] {
            assert_eq!(harmless(name.into()), expected);
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(harmless_part("x".repeat(256).into()), ("x".repeat(256).into(), false));
        assert_eq!(harmless_part("x".repeat(257).into()), ("x".repeat(256).into(), true));
        assert!(!harmless_part("\n".repeat(128).into()).1 && harmless_part("\n".repeat(129).into()).1);
        assert_eq!(harmless("x".repeat(5_000_000).into()), "x".repeat(256));
        assert_eq!(harmless(format!("{}é", "x".repeat(255)).into()), "x".repeat(255));
        assert_eq!(harmless(format!("{}\n", "x".repeat(255)).into()), "x".repeat(255));
    }

    proptest! {
        #[test]
        fn every_name_becomes_short_and_stays_so(name in "\\PC*|.*") {
            let once = harmless(name.as_str().into()).into_owned();
            prop_assert!(once.len() <= MAX_BYTES && once.chars().all(prints));
            prop_assert_eq!(harmless(once.as_str().into()), once.as_str());
        }
    }
}
