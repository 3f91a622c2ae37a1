//! Names of members, which some readers compare without regard to case: Go's, .NET's, and Java's if told so.

use std::borrow::Cow;

/// `name` in lower case, so that every name that such a reader takes for another is equal to it. Copies only if that
/// makes a difference.
///
/// Beside the capitals of ASCII, four other letters have one of ASCII's in the other case: Go folds `ſ` and the sign of
/// the kelvin, and Java also `ı` and `İ`.
pub fn folded(name: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    if name.is_ascii() {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212A}' => 'k',
        'ı' | 'İ' => 'i',
        other => other.to_ascii_lowercase(),
    };
    Cow::Owned(name.chars().map(fold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_equal_to_those_that_some_reader_takes_them_for() {
        for (name, expected) in [
            ("max_tokens", "max_tokens"),
            ("MAX_Tokens", "max_tokens"),
            ("meſſages", "messages"),
            ("max_to\u{212A}ens", "max_tokens"),
            ("mıssİng", "missing"),
            ("Modèle", "modèle"),
            ("", ""),
        ] {
            assert_eq!(folded(name), expected);
        }
        assert!(matches!(folded("model"), Cow::Borrowed(_)));
    }
}
