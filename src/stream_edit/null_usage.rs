//! The `"usage": null` that upstreams add to every chunk of a stream that was asked for usage.

use std::ops::Range;

/// The bytes of `"usage": null` at the top of the object in `json`, with the comma that belongs to them; none if it has
/// no such member, or writes its name with escapes. `json` must be JSON.
pub(super) fn null_usage(json: &[u8]) -> Option<Range<usize>> {
    let mut depth = 0_u64;
    let mut at = 0;
    // Where the next member begins, with the comma before it.
    let mut begins = None;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(json, at)?;
                let name = json.get(at..end)?;
                if let Some(begins) = begins.take()
                    && name == b"\"usage\""
                    && let Some(end) = after_null(json, end)
                {
                    return Some(with_comma(json, begins, end));
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                begins = (depth == 1 && *byte == b'{').then_some(at.saturating_add(1));
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => begins = Some(at),
            _ => {}
        }
        at = at.saturating_add(1);
    }
    None
}

/// The place after the string that begins at `at`.
fn end_of_string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at.saturating_add(1);
    loop {
        match json.get(at)? {
            b'"' => return Some(at.saturating_add(1)),
            b'\\' => at = at.saturating_add(2),
            _ => at = at.saturating_add(1),
        }
    }
}

/// The place after the `null` that is the value of the member with a name that ends at `at`.
fn after_null(json: &[u8], at: usize) -> Option<usize> {
    let colon = skip_blanks(json, at);
    let value = skip_blanks(json, colon.checked_add(1).filter(|_| json.get(colon) == Some(&b':'))?);
    let end = value.checked_add(4)?;
    (json.get(value..end)? == b"null").then_some(end)
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
        if let Some(range) = null_usage(json.as_bytes()) {
            json.replace_range(range, "");
        }
        json
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
            let _ = null_usage(&bytes);
        }
    }
}
