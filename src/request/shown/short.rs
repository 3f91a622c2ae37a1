//! The schema of an answer as OpenAI's models are shown it: JSON in its shortest form, without the members that only
//! matter to whoever checks the answer.

use crate::codec::lenient;

/// The members that are left out, wherever they are members of a schema.
const LEFT_OUT: [&str; 3] = ["\"additionalProperties\"", "\"$schema\"", "\"required\""];

/// `json`, which must be JSON, without them.
pub(super) fn short(json: &str) -> String {
    let compact = lenient::compact(json);
    let mut out = String::with_capacity(compact.len());
    // For each open object or array, whether its members are names of the client's own: of `properties` or `$defs`.
    let mut open: Vec<bool> = Vec::new();
    let (mut rest, mut own_next, mut is_name) = (&*compact, false, false);
    while let Some(first) = rest.chars().next() {
        let token = token(rest);
        rest = rest.get(token.len()..).unwrap_or_default();
        match first {
            '{' => {
                open.push(own_next);
                (own_next, is_name) = (false, true);
            }
            '[' => {
                open.push(false);
                (own_next, is_name) = (false, false);
            }
            '}' | ']' => {
                open.pop();
                is_name = false;
                if out.ends_with(',') {
                    out.pop();
                }
            }
            ',' => {
                // After a member of an object comes a name.
                is_name = is_in_object(rest);
                if out.ends_with(['{', '[', ',']) {
                    continue;
                }
            }
            '"' if is_name && rest.starts_with(':') => {
                let is_own = open.last().copied().unwrap_or(false);
                let value = rest.get(1..).unwrap_or_default();
                if !is_own && LEFT_OUT.contains(&token) && !is_schema(value) {
                    rest = after_value(value);
                    continue;
                }
                own_next = !is_own && matches!(token, "\"properties\"" | "\"$defs\"" | "\"definitions\"");
                is_name = false;
            }
            ':' => {}
            _ => own_next = false,
        }
        out.push_str(token);
    }
    out
}

/// Whether a value is an object that says what others may be, as that of `additionalProperties` may.
fn is_schema(value: &str) -> bool {
    value.starts_with('{') && !value.starts_with("{}")
}

/// Whether a name comes next: a string before a colon.
fn is_in_object(rest: &str) -> bool {
    rest.starts_with('"') && rest.get(token(rest).len()..).is_some_and(|rest| rest.starts_with(':'))
}

/// The string, number, word or mark that `json` begins with.
fn token(json: &str) -> &str {
    let bytes = json.as_bytes();
    let end = match bytes.first() {
        Some(b'"') => {
            let mut at = 1_usize;
            loop {
                match bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
                    None => break bytes.len(),
                    Some(found) if bytes.get(at.saturating_add(found)) == Some(&b'"') => {
                        break at.saturating_add(found).saturating_add(1);
                    }
                    Some(found) => at = at.saturating_add(found).saturating_add(2),
                }
            }
        }
        Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => 1,
        _ => {
            let ends = |byte: &u8| matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"');
            bytes.iter().skip(1).position(ends).map_or(bytes.len(), |at| at.saturating_add(1))
        }
    };
    json.get(..end).unwrap_or(json)
}

/// What comes after the value that `json` begins with.
fn after_value(mut json: &str) -> &str {
    let mut open = 0_usize;
    loop {
        let token = token(json);
        if token.is_empty() {
            return json;
        }
        match token {
            "{" | "[" => open = open.saturating_add(1),
            "}" | "]" => open = open.saturating_sub(1),
            _ => {}
        }
        json = json.get(token.len()..).unwrap_or_default();
        if open == 0 {
            return json;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn what_only_matters_to_whoever_checks_the_answer_is_left_out() {
        for (json, expected) in [
            (
                json!({"type": "object", "required": ["a"], "additionalProperties": false}),
                r#"{"type":"object"}"#,
            ),
            (json!({"required": ["a"]}), "{}"),
            (
                json!({"$schema": ["x", {}], "anyOf": [{"required": []}, 7, "required"]}),
                r#"{"anyOf":[{},7,"required"]}"#,
            ),
            (
                json!({"additionalProperties": {"required": ["a"], "type": "string"}}),
                r#"{"additionalProperties":{"type":"string"}}"#,
            ),
            (
                json!({"properties": {"required": {"required": ["x"], "type": "string"}}}),
                r#"{"properties":{"required":{"type":"string"}}}"#,
            ),
        ] {
            assert_eq!(short(&json.to_string()), expected);
        }
        assert_eq!(short(r#"{ "required" : [1], "a" : "b\"" , "required":true}"#), r#"{"a":"b\""}"#);
    }

    fn without(value: &Value, is_own: bool) -> Value {
        match value {
            Value::Object(members) => members
                .iter()
                .filter(|(name, value)| {
                    let is_schema = value.as_object().is_some_and(|members| !members.is_empty());
                    is_own
                        || is_schema
                        || !matches!(name.as_str(), "additionalProperties" | "$schema" | "required")
                })
                .map(|(name, value)| {
                    let own = !is_own && matches!(name.as_str(), "properties" | "$defs" | "definitions");
                    (name.clone(), without(value, own && value.is_object()))
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(elements) => {
                elements.iter().map(|value| without(value, false)).collect::<Vec<_>>().into()
            }
            other => other.clone(),
        }
    }

    fn schema() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i8>().prop_map(Value::from), "[a\", {]{0,4}".prop_map(Value::from)];
        leaf.prop_recursive(4, 30, 4, |inner| {
            let name =
                prop::sample::select(vec!["required", "properties", "$defs", "additionalProperties", "a"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(name.prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_parser_leaves(schema in schema()) {
            prop_assert_eq!(short(&schema.to_string()), without(&schema, false).to_string());
        }

        #[test]
        fn no_text_panics(text in "[\"\\\\ a{},:\\[\\]\u{e9}]{0,12}") {
            let _ = short(&text);
        }
    }
}
