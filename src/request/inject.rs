//! Requests usage that the client does not request: sets `stream_options.include_usage` in its body.
//!
//! The rest of the body's text stays the same: members keep their order, numbers their spelling. Most bodies have no
//! `stream_options` and get them as their first member: however large such a body is, only its first byte is replaced.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// An edit of a body: replaces its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEdit {
    /// The number of bytes to replace.
    pub replaced: usize,
    /// The bytes that replace them.
    pub with: Vec<u8>,
}

/// The edit that sets `stream_options.include_usage` to true in `body`, a JSON object with members. `has_options`:
/// whether it has any `stream_options`. None if the body is not such an object.
pub fn inject_include_usage(body: &[u8], has_options: bool) -> Option<BodyEdit> {
    if has_options {
        return rewritten(body).map(|with| BodyEdit { replaced: body.len(), with });
    }
    let start = body.iter().position(|byte| *byte == b'{')?;
    let with = br#"{"stream_options":{"include_usage":true},"#.to_vec();
    Some(BodyEdit { replaced: start + 1, with })
}

/// `body` with `stream_options.include_usage` set to true. None if it is not a JSON object.
fn rewritten(body: &[u8]) -> Option<Vec<u8>> {
    let body: Members<'_> = serde_json::from_slice(body).ok()?;
    let options =
        body.get("stream_options").and_then(|options| serde_json::from_str::<Members<'_>>(options).ok());
    let options = options.unwrap_or_default().with("include_usage", "true");
    Some(body.with("stream_options", &options).into_bytes())
}

/// An object's members, each value as it is written.
#[derive(Debug, Default)]
struct Members<'b>(Vec<(Cow<'b, str>, &'b RawValue)>);

impl<'b> Members<'b> {
    fn get(&self, name: &str) -> Option<&'b str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// The object as text, with `name` set to `value`.
    fn with(&self, name: &str, value: &str) -> String {
        let others =
            self.0.iter().filter(|(known, _)| known != name).map(|(name, value)| (&**name, value.get()));
        let mut text = String::from("{");
        for (name, value) in others.chain([(name, value)]) {
            let comma = if text.len() > 1 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{}:{value}", serde_json::Value::from(name));
        }
        text.push('}');
        text
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyMembers;

        impl<'de> Visitor<'de> for AnyMembers {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((member.0.0, member.1));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(AnyMembers)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, has_options: bool) -> Option<String> {
        let BodyEdit { replaced, mut with } = inject_include_usage(body.as_bytes(), has_options)?;
        with.extend_from_slice(&body.as_bytes()[replaced..]);
        Some(String::from_utf8(with).unwrap())
    }

    #[test]
    fn nothing_changes_but_the_option() {
        for (body, expected) in [
            (
                r#"{"stream_options":{"include_usage":false,"x":[1, 2]},"temperature": 1.50, "n":1}"#,
                r#"{"temperature":1.50,"n":1,"stream_options":{"x":[1, 2],"include_usage":true}}"#,
            ),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"a\"b":"\u00e9","stream_options":1}"#,
                r#"{"a\"b":"\u00e9","stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(edited(body, true).unwrap(), expected);
        }
    }

    #[test]
    fn a_body_without_options_is_not_copied() {
        let body =
            format!(" \n{{ \"model\":\"m\", \"messages\":\"{}\", \"stream\":true}}", "x".repeat(1 << 20));
        let edit = inject_include_usage(body.as_bytes(), false).unwrap();
        assert!(edit.replaced == 3 && edit.with.len() < 60);
        let (before, after) = body.split_once('{').unwrap();
        assert_eq!(before.trim(), "");
        let changed = edited(&body, false).unwrap();
        assert_eq!(changed, format!("{{\"stream_options\":{{\"include_usage\":true}},{after}"));
        assert!(serde_json::from_str::<serde_json::Value>(&changed).is_ok());
    }

    #[test]
    fn a_body_that_is_no_object_is_not_changed() {
        for body in ["", "[]", "{", "null", "{\"a\":}"] {
            assert_eq!(inject_include_usage(body.as_bytes(), true), None);
        }
        assert_eq!(inject_include_usage(b"[1]", false), None);
    }
}
