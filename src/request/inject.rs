//! Asking for usage in the client's place: `stream_options.include_usage` set in a body that does not.
//!
//! The body's text stays as it was but for that: members keep their order, numbers their spelling.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// `body` with `stream_options.include_usage` true. None if it is not a JSON object.
pub fn ask_for_usage(body: &[u8]) -> Option<Vec<u8>> {
    let body: Members<'_> = serde_json::from_slice(body).ok()?;
    let options =
        body.get("stream_options").and_then(|options| serde_json::from_str::<Members<'_>>(options).ok());
    let options = options.unwrap_or_default().with("include_usage", "true");
    Some(body.with("stream_options", &options).into_bytes())
}

/// An object's members as they are written.
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

    #[test]
    fn usage_is_asked_for_and_nothing_else_changes() {
        for (body, asked) in [
            (
                r#"{"model":"m", "temperature": 1.50, "stream":true}"#,
                r#"{"model":"m","temperature":1.50,"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            ("{}", r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream_options":{"include_usage":false,"x":[1, 2]},"n":1}"#,
                r#"{"n":1,"stream_options":{"x":[1, 2],"include_usage":true}}"#,
            ),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"a\"b":"\u00e9"}"#, r#"{"a\"b":"\u00e9","stream_options":{"include_usage":true}}"#),
        ] {
            assert_eq!(String::from_utf8(ask_for_usage(body.as_bytes()).unwrap()).unwrap(), asked);
        }
    }

    #[test]
    fn what_is_not_an_object_stays() {
        for body in ["", "[]", "{", "null", "{\"a\":}"] {
            assert_eq!(ask_for_usage(body.as_bytes()), None);
        }
    }
}
