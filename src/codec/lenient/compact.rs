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

/// Makes JSON short in steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacting {
    /// How much of the JSON has been read, in bytes.
    read: usize,
    in_string: bool,
}

impl Compacting {
    /// How much of the JSON has been read, in bytes.
    pub const fn read(self) -> usize {
        self.read
    }

    /// Adds to `into` the shortest form of what comes next of `json`, about `most` bytes of it. `json` is strict, which
    /// has no half of a surrogate pair.
    pub fn next(&mut self, json: &str, most: usize, into: &mut String) {
        let end = self.read.saturating_add(most);
        while self.read < end
            && let Some(rest) = json.get(self.read..)
            && let Some(first) = rest.chars().next()
        {
            if !self.in_string {
                if !first.is_ascii_whitespace() {
                    into.push(first);
                }
                self.in_string = first == '"';
                self.read = self.read.saturating_add(first.len_utf8());
                continue;
            }
            let within = most.min(rest.len());
            let special = rest.as_bytes().get(..within).and_then(|some| memchr::memchr2(b'"', b'\\', some));
            match special {
                Some(0) if first == '"' => {
                    into.push('"');
                    self.in_string = false;
                    self.read = self.read.saturating_add(1);
                }
                Some(0) => self.escape(rest, into),
                found => {
                    let run = found.unwrap_or(within);
                    let run = (run..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
                    into.push_str(rest.get(..run).unwrap_or_default());
                    self.read = self.read.saturating_add(run);
                }
            }
        }
    }

    /// Writes the escape that `rest` begins with, and the pair of escapes, if it is one.
    fn escape(&mut self, rest: &str, into: &mut String) {
        let length = if rest.as_bytes().get(1) == Some(&b'u') { 6 } else { 2 };
        for length in [length, 12] {
            let quoted = rest.get(..length).map(|escape| format!("\"{escape}\""));
            if let Some(text) = quoted.and_then(|quoted| serde_json::from_str::<String>(&quoted).ok()) {
                let written = serde_json::Value::from(text).to_string();
                into.push_str(written.get(1..written.len().saturating_sub(1)).unwrap_or_default());
                self.read = self.read.saturating_add(length);
                return;
            }
        }
        into.push('\\');
        self.read = self.read.saturating_add(1);
    }
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
        fn it_is_what_serde_json_writes(
            text in "\\PC{0,8}", other in "[a\\\\\"\n \u{1}]{0,8}", number: i64, step in 1_usize..20
        ) {
            let value = json!({&text: [number, &other, {"b": null}], "c": true});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), value.to_string());
            let escaped: String = pretty.chars().map(|c| match c {
                c if c.is_ascii() => c.to_string(),
                c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            }).collect();
            for json in [pretty.as_str(), &escaped] {
                let (mut compacting, mut short) = (Compacting::default(), String::new());
                while compacting.read() < json.len() {
                    let before = compacting.read();
                    compacting.next(json, step, &mut short);
                    prop_assert!(compacting.read() - before <= 2 * step + 12);
                }
                prop_assert_eq!(short, compact(json));
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&compact(&pretty)).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in "[\"\\\\ a{}\u{e9}]{0,12}") {
            let _ = compact(&text);
        }
    }
}
