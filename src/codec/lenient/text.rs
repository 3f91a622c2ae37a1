//! Values that are text for a model: strings, and JSON in its shortest form.

use super::{Text, compact, mend, read};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The names under which a deserializer is asked for a value as text. One that has the text of a value as it is written
/// may give that, as the one member of a map: whoever counts it makes it short, step by step.
pub(in crate::codec) const JSON: &str = "llm_rate_limit::json";
pub(in crate::codec) const TEXT: &str = "llm_rate_limit::text";

/// The next value of `object` as JSON in its shortest form.
///
/// # Errors
/// The value is not JSON.
pub fn json<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    object.next_value_seed(AsText(JSON))
}

/// The next value of `object`, if it is text: a string as it is, and an array or an object as JSON in its shortest
/// form, unless there is nothing in it. Numbers and flags are no text.
///
/// # Errors
/// The value is not JSON.
pub fn text<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    object.next_value_seed(AsText(TEXT))
}

struct AsText(&'static str);

impl<'de> DeserializeSeed<'de> for AsText {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_newtype_struct(self.0, self)
    }
}

impl<'de> Visitor<'de> for AsText {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        let raw = <&RawValue>::deserialize(json)?.get();
        if self.0 == JSON {
            return Ok(Some(compact(raw)));
        }
        Ok(match raw.bytes().next() {
            Some(b'"') => {
                let mut text = Text::default();
                if read(raw, &mut text).is_ok() {
                    return Ok(text.0);
                }
                // The text is JSON, but for halves of surrogate pairs.
                let mended = mend(raw.as_bytes());
                let mut text = Text::default();
                let _ = read(&mended, &mut text);
                text.0.map(|text| Cow::Owned(text.into_owned()))
            }
            Some(b'{' | b'[') if !is_empty(raw) => Some(compact(raw)),
            _ => None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut as_written: A) -> Result<Self::Value, A::Error> {
        if as_written.next_key::<IgnoredAny>()?.is_none() {
            return Ok(None);
        }
        let raw: &str = as_written.next_value()?;
        Ok(Some(raw).filter(|raw| self.0 == JSON || !is_empty(raw)).map(Cow::Borrowed))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether an array or an object has nothing in it.
fn is_empty(raw: &str) -> bool {
    // Nobody writes more white space than that.
    let first = raw.bytes().skip(1).take(1024).find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b']' | b'}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::lenient::Accept;

    #[derive(Default)]
    struct Texts(Vec<Option<String>>);

    impl<'de> Accept<'de> for Texts {
        fn member<A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
            let text = if name == "json" { json(object)? } else { text(object)? };
            self.0.push(text.map(Cow::into_owned));
            Ok(())
        }
    }

    #[test]
    fn strings_arrays_and_objects_are_text() {
        for (body, expected) in [
            (r#"{"json": {"a": [1]}, "text": {"a": [1]}}"#, [Some(r#"{"a":[1]}"#), Some(r#"{"a":[1]}"#)]),
            (r#"{"json": "a", "text": "a\tb"}"#, [Some(r#""a""#), Some("a\tb")]),
            (r#"{"json": [ ], "text": [ ]}"#, [Some("[]"), None]),
            (r#"{"json": 7, "text": 7}"#, [Some("7"), None]),
            (r#"{"json": null, "text": "half \ud83d"}"#, [Some("null"), Some("half \u{FFFD}")]),
        ] {
            let mut texts = Texts::default();
            read(body, &mut texts).unwrap();
            assert_eq!(texts.0, expected.map(|text| text.map(str::to_owned)), "{body}");
        }
    }
}
