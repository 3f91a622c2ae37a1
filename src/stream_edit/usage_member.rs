//! What an event says in `usage`, which upstreams add to every event of a stream that was asked for it: null, until the
//! last.
//!
//! One pass over the brackets and strings of the event finds it. A parser of JSON would take five times as long, for
//! every event that a client gets.

use memchr::memchr2;
use std::ops::Range;

/// The `usage` at the top of an event; of several, the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum UsageMember {
    /// There is none, or the event is no object.
    #[default]
    Absent,
    /// A null, with the bytes of the member and of the comma that belongs to it.
    Null(Range<usize>),
    /// An object, beside `choices` that are empty: the chunk that `stream_options.include_usage` adds.
    Alone,
    /// Any other.
    Other,
}

impl UsageMember {
    /// The `usage` of the event in `json`. It has none if its brackets do not match: it may be cut off.
    pub(super) fn of(json: &[u8]) -> Self {
        let mut event = Event::default();
        match event.read(json) {
            Some(end) if skip_blanks(json, end) == json.len() => {}
            _ => return Self::Absent,
        }
        match event.usage {
            Self::Alone if !event.is_without_choices => Self::Other,
            usage => usage,
        }
    }
}

/// The members of an event that matter here.
#[derive(Default)]
struct Event {
    /// An object is [`UsageMember::Alone`], whatever the choices are.
    usage: UsageMember,
    is_without_choices: bool,
}

impl Event {
    /// Reads the object in `json`; returns the place after it, if it has an end.
    fn read(&mut self, json: &[u8]) -> Option<usize> {
        let mut at = skip_blanks(json, 0);
        // Where the next member at the top begins, with the comma before it.
        let mut begins = (json.get(at) == Some(&b'{')).then_some(at.saturating_add(1));
        begins?;
        let mut depth = 0_u64;
        loop {
            match json.get(at)? {
                b'"' => {
                    let end = end_of_string(json, at)?;
                    if let Some(begins) = begins.take() {
                        self.member(json, begins, at..end);
                    }
                    at = end;
                    continue;
                }
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(at.saturating_add(1));
                    }
                }
                b',' if depth == 1 => begins = Some(at),
                _ => {}
            }
            at = at.saturating_add(1);
        }
    }

    /// Takes the member that `begins` there, with the comma before it, and has this `name`.
    fn member(&mut self, json: &[u8], begins: usize, name: Range<usize>) {
        let after = |at| skip_blanks(json, at);
        let value = after(after(name.end).saturating_add(1));
        let written = json.get(value..).unwrap_or_default();
        match json.get(name.clone()) {
            Some(b"\"usage\"") => {
                self.usage = match written {
                    [b'n', b'u', b'l', b'l', ..] => {
                        UsageMember::Null(with_comma(json, begins, value.saturating_add(4)))
                    }
                    [b'{', ..] => UsageMember::Alone,
                    _ => UsageMember::Other,
                };
            }
            Some(b"\"choices\"") => {
                let second = json.get(after(value.saturating_add(1)));
                self.is_without_choices = written.first() == Some(&b'[') && second == Some(&b']');
            }
            _ => {}
        }
    }
}

/// The place after the string that begins at `at`.
fn end_of_string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at.saturating_add(1);
    loop {
        at = at.saturating_add(memchr2(b'"', b'\\', json.get(at..)?)?);
        match json.get(at)? {
            b'"' => return Some(at.saturating_add(1)),
            _ => at = at.saturating_add(2),
        }
    }
}

/// The member's bytes from `begins`, which may be a comma, to `end`, and a comma after it if there is none before.
fn with_comma(json: &[u8], begins: usize, end: usize) -> Range<usize> {
    let next = skip_blanks(json, end);
    if json.get(begins) != Some(&b',') && json.get(next) == Some(&b',') {
        return begins..next.saturating_add(1);
    }
    begins..end
}

fn skip_blanks(json: &[u8], at: usize) -> usize {
    let rest = json.get(at..).unwrap_or_default();
    at.saturating_add(rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn without(json: &str) -> String {
        let mut json = json.to_owned();
        if let UsageMember::Null(range) = UsageMember::of(json.as_bytes()) {
            json.replace_range(range, "");
        }
        json
    }

    #[test]
    fn only_an_object_without_choices_is_alone() {
        use UsageMember::{Absent, Alone, Other};
        for (json, expected) in [
            (r#"{"choices":[{"delta":{}}]}"#, Absent),
            (r#"{"choices":[{"usage":{}}],"a":{"usage":{}}}"#, Absent),
            (r#" {"choices":[],"usage":{"prompt_tokens":1}} "#, Alone),
            (r#"{"usage" : {"a":[{}]}, "choices" : [ ]}"#, Alone),
            (r#"{"usage":null,"usage":{},"choices":[]}"#, Alone),
            (r#"{"choices":[{}],"usage":{}}"#, Other),
            (r#"{"choices":null,"usage":{}}"#, Other),
            (r#"{"choices":{},"usage":{}}"#, Other),
            (r#"{"usage":{}}"#, Other),
            (r#"{"choices":[],"usage":[]}"#, Other),
            (r#"{"choices":[],"usage":true}"#, Other),
            (r#"{"choices":[],"usage":{}"#, Absent),
            (r#"{"choices":[],"usage":{}}}"#, Absent),
            (r#"{"choices":[],"usage":null"#, Absent),
            (r#"[{"choices":[],"usage":{}}]"#, Absent),
            (r#""usage":{}"#, Absent),
            ("[DONE]", Absent),
            ("", Absent),
        ] {
            assert_eq!(UsageMember::of(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn only_a_null_at_the_top_is_removed() {
        for (json, expected) in [
            (r#"{"id":1,"usage":null}"#, r#"{"id":1}"#),
            (r#"{"id":1, "usage" : null , "x":2}"#, r#"{"id":1 , "x":2}"#),
            (r#"{ "usage":null, "x":2}"#, r#"{ "x":2}"#),
            (r#"{"usage":null}"#, "{}"),
            (r#"{"a":{"usage":null},"b":["usage",null]}"#, r#"{"a":{"usage":null},"b":["usage",null]}"#),
            (r#"{"a":"\"usage\":null","usage":{"n":null}}"#, r#"{"a":"\"usage\":null","usage":{"n":null}}"#),
            (r#"{"x":"usage","y":null}"#, r#"{"x":"usage","y":null}"#),
            (r#"["usage",null]"#, r#"["usage",null]"#),
        ] {
            assert_eq!(without(json), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_has_all_other_members(
            members in prop::collection::vec(("usage|[a-c\"{,\\\\]{0,3}", 0..4_u8), 0..5),
        ) {
            let value = |kind| match kind {
                0 => Value::Null,
                1 => serde_json::json!({"usage": null}),
                2 => serde_json::json!(["usage", null, "},{"]),
                _ => Value::from("\"usage\":null"),
            };
            let mut object: Map<String, Value> =
                members.into_iter().map(|(name, kind)| (name, value(kind))).collect();
            let left = without(&Value::Object(object.clone()).to_string());
            if object.get("usage").is_some_and(Value::is_null) {
                object.remove("usage");
            }
            prop_assert_eq!(left, Value::Object(object).to_string());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ usagenl".to_vec()), 0..40)) {
            let _ = UsageMember::of(&bytes);
        }
    }
}
