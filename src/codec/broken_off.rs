//! JSON that breaks off: its last string is closed, so that a lenient reader still gets the part that came. Its last
//! number is removed, because the digits that came are another number.

use memchr::memchr2_iter;
use std::borrow::Cow;

/// `json` with a quote at its end, if it ends within a string, and without the number that it ends with. An escape that
/// is not complete is removed.
pub fn closed(json: &[u8]) -> Cow<'_, [u8]> {
    let Some(end) = end_of_open_string(json) else {
        let in_number = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
        let end = json.iter().rposition(|byte| !in_number(byte)).map_or(0, |last| last.saturating_add(1));
        return Cow::Borrowed(json.get(..end).unwrap_or(json));
    };
    let mut closed = json.get(..end).unwrap_or(json).to_vec();
    closed.push(b'"');
    Cow::Owned(closed)
}

/// The end of the string that `json` ends in, without an incomplete escape.
fn end_of_open_string(json: &[u8]) -> Option<usize> {
    let mut in_string = false;
    // The first byte after the last escape.
    let mut from = 0;
    let mut last_escape = None;
    for at in memchr2_iter(b'"', b'\\', json) {
        if at < from {
            // An escaped quote or backslash.
            continue;
        }
        match json.get(at) {
            Some(b'"') => (in_string, last_escape) = (!in_string, None),
            _ if in_string => (from, last_escape) = (at.saturating_add(2), Some(at)),
            // A backslash outside a string: no JSON.
            _ => {}
        }
    }
    let is_complete = |escape: &[u8]| match escape.get(1) {
        Some(b'u') => escape.len() >= 6,
        other => other.is_some(),
    };
    let cut = last_escape.filter(|at| !json.get(*at..).is_some_and(is_complete));
    in_string.then(|| cut.unwrap_or(json.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_string_is_closed() {
        for (json, expected) in [
            (r#"{"a":"b"#, r#"{"a":"b""#),
            (r#"{"a":"b","#, r#"{"a":"b","#),
            (r#"{"a":"b\"#, r#"{"a":"b""#),
            (r#"{"a":"b\""#, r#"{"a":"b\"""#),
            (r#"{"a":"b\\"#, r#"{"a":"b\\""#),
            (r#"{"a":"b\\\"#, r#"{"a":"b\\""#),
            (r#"{"a":"b\u00e"#, r#"{"a":"b""#),
            (r#"{"a":"b\u00e9"#, r#"{"a":"b\u00e9""#),
            (r#"{"a":"\n\u"#, r#"{"a":"\n""#),
            (r#"{"a":1,"b":12"#, r#"{"a":1,"b":"#),
            (r#"{"a":-1.5e+3"#, r#"{"a":"#),
            (r#"{"a":12,"#, r#"{"a":12,"#),
            (r#"{"a":tru"#, r#"{"a":"#),
            (r#"{"#, r#"{"#),
            ("12", ""),
            ("\"", "\"\""),
            ("", ""),
        ] {
            assert_eq!(closed(json.as_bytes()), expected.as_bytes(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn every_beginning_of_a_string_becomes_a_string(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let whole = serde_json::to_string(&text).unwrap();
            let at = at.index(whole.len()).max(1);
            let part = String::from_utf8_lossy(&closed(&whole.as_bytes()[..at])).into_owned();
            let part: String = serde_json::from_str(&part).unwrap();
            let came = part.trim_end_matches(char::REPLACEMENT_CHARACTER);
            prop_assert!(text.starts_with(came));
        }
    }
}
