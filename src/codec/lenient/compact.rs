//! JSON in its shortest form: without white space between its parts, and with no more escapes than it needs.
//!
//! Models see JSON in a prompt as text. Its author chooses how much white space it has and what is escaped; the server
//! that reads it writes it anew. So it counts as it would be written in the shortest way, however a client writes it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `json`, which must be JSON, in its shortest form. Copies only if that makes a difference.
pub fn compact(json: &str) -> Cow<'_, str> {
    if is_compact(json) {
        return Cow::Borrowed(json);
    }
    let mut compact = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (string, after) = split_string(rest);
            write_string(string, &mut compact);
            rest = after;
            continue;
        }
        let run = rest.find('"').unwrap_or(rest.len());
        let (between, after) = rest.split_at_checked(run).unwrap_or((rest, ""));
        compact.extend(between.chars().filter(|c| !c.is_ascii_whitespace()));
        rest = after;
    }
    Cow::Owned(compact)
}

/// Whether there is neither white space between the parts of `json` nor any escape.
fn is_compact(json: &str) -> bool {
    let mut in_string = false;
    json.bytes().all(|byte| {
        in_string ^= byte == b'"';
        byte != b'\\' && (in_string || !byte.is_ascii_whitespace())
    })
}

/// The string, with its quotes, that `json` begins with, and the rest.
fn split_string(json: &str) -> (&str, &str) {
    let mut at = 1_usize;
    while let Some(found) = json.as_bytes().get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at = at.saturating_add(found);
        if json.as_bytes().get(at) == Some(&b'"') {
            return json.split_at_checked(at.saturating_add(1)).unwrap_or((json, ""));
        }
        at = at.saturating_add(2);
    }
    (json, "")
}

/// Writes a JSON string with no more escapes than it needs.
fn write_string(string: &str, into: &mut String) {
    let text = if string.contains('\\') { serde_json::from_str::<String>(string).ok() } else { None };
    match text {
        // Writing to a string cannot fail.
        Some(text) => drop(write!(into, "{}", serde_json::Value::from(text))),
        None => into.push_str(string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn white_space_and_needless_escapes_go() {
        for (json, expected) in [
            ("{\n  \"a b\": [ 1, 2 ]\t}", r#"{"a b":[1,2]}"#),
            (r#"{"\u0061\/":"\u00e9\"\\ \n"}"#, r#"{"a/":"é\"\\ \n"}"#),
            (r#""\ud83d\ude00""#, "\"\u{1F600}\""),
            (r#""\ud83d""#, r#""\ud83d""#),
            ("\"\\", "\"\\"),
            (" 7 ", "7"),
        ] {
            assert_eq!(compact(json), expected);
        }
        assert!(matches!(compact(r#"{"a b":[1]}"#), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn it_is_what_serde_json_writes(text in "\\PC{0,8}", other in "[a\\\\\"\n \u{1}]{0,8}", number: i64) {
            let value = json!({&text: [number, &other, {"b": null}], "c": true});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), value.to_string());
            prop_assert_eq!(serde_json::from_str::<Value>(&compact(&pretty)).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in "[\"\\\\ a{}\u{e9}]{0,12}") {
            let _ = compact(&text);
        }
    }
}
