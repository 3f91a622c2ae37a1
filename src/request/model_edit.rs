//! Changes the model that a body names.

use super::BodyEdit;
use super::body_edit::Members;
use crate::codec::lenient::folded;
use std::ops::Range;

/// The members by which some reader finds a model, in lower case.
const NAMES: [&str; 5] =
    ["model", "models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks"];

/// The edit of `body`, a JSON object, that makes `model` its model. None unless the object names its model just once,
/// in a way that every reader reads.
pub fn model_edit(body: &[u8], model: &str) -> Option<BodyEdit> {
    let members: Members<'_> = serde_json::from_slice(body).ok()?;
    let mut naming = members.iter().filter(|(name, _)| NAMES.contains(&&*folded(name)));
    let (_, named) = naming.next().filter(|(name, value)| *name == "model" && value.starts_with('"'))?;
    if naming.next().is_some() {
        return None;
    }
    let Range { start, end } = place(body, named)?;
    let with = serde_json::to_vec(model).ok()?;
    Some(BodyEdit { after: start, replaced: end.checked_sub(start)?, with })
}

/// The place of `part`, which was read out of `whole`.
fn place(whole: &[u8], part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let place = start..start.checked_add(part.len())?;
    (whole.get(place.clone())? == part.as_bytes()).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn changed(body: &str, model: &str) -> Option<String> {
        let BodyEdit { after, replaced, with } = model_edit(body.as_bytes(), model)?;
        let mut bytes = body.as_bytes().to_vec();
        bytes.splice(after..after + replaced, with);
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn nothing_changes_but_the_model() {
        for (body, expected) in [
            (r#"{"model":"a","x":1.50}"#, r#"{"model":"b","x":1.50}"#),
            (
                r#" { "messages":[{"model":"a"}], "model" : "a" } "#,
                r#" { "messages":[{"model":"a"}], "model" : "b" } "#,
            ),
            (r#"{"mod\u0065l":"\u0061"}"#, r#"{"mod\u0065l":"b"}"#),
        ] {
            assert_eq!(changed(body, "b").unwrap(), expected);
        }
        assert_eq!(changed(r#"{"model":"a"}"#, "b\"c").unwrap(), r#"{"model":"b\"c"}"#);
    }

    #[test]
    fn a_body_in_which_readers_may_find_another_model_is_not_changed() {
        for body in [
            "",
            "[]",
            "{}",
            "{",
            r#"{"model":1}"#,
            r#"{"model":null}"#,
            r#"{"model":["a"]}"#,
            r#"{"Model":"a"}"#,
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","MODEL":"b"}"#,
            r#"{"model":"a","models":["b"]}"#,
            r#"{"model":"a","fallbacks":["b"]}"#,
            r#"{"model":"a"}{"model":"a"}"#,
            r#"[{"model":"a"}]"#,
        ] {
            assert_eq!(model_edit(body.as_bytes(), "b"), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn every_other_member_stays(text in ".*", number: i64, first: bool, model in ".{1,20}") {
            let rest = [("text", json!(text)), ("number", json!(number))];
            let member = |(name, value): &(&str, Value)| format!("{}:{value}", json!(name));
            let mut members: Vec<_> = rest.iter().map(member).collect();
            members.insert(if first { 0 } else { 2 }, r#""model":"a""#.to_owned());
            let changed = changed(&format!("{{{}}}", members.join(",")), &model).unwrap();
            let read: Value = serde_json::from_str(&changed).unwrap();
            prop_assert_eq!(read, json!({"model": model, "text": text, "number": number}));
        }
    }
}
