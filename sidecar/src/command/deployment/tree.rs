//! Trees of JSON: members by either of protobuf's two spellings, and paths in the form of the configuration's errors.

use serde_json::Value;

/// The member `name` of an object, which is in snake case; protobuf's JSON has it in camel case too.
pub(super) fn get<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.get(name).or_else(|| value.get(camel(name)))
}

/// The value at the end of several members.
pub(super) fn at<'v>(value: &'v Value, names: &[&str]) -> Option<&'v Value> {
    names.iter().try_fold(value, |value, name| get(value, name))
}

/// The text at the end of several members; empty if there is none.
pub(super) fn text<'v>(value: &'v Value, names: &[&str]) -> &'v str {
    at(value, names).and_then(Value::as_str).unwrap_or_default()
}

/// The elements at the end of several members.
pub(in crate::command) fn list<'v>(value: &'v Value, names: &[&str]) -> &'v [Value] {
    at(value, names).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether the type of `value` ends with `name`, as in `type.googleapis.com/envoy....Router`. It may be wrapped in a
/// `TypedStruct`.
pub(super) fn has_type(value: &Value, name: &str) -> bool {
    let types = [value.get("@type"), get(value, "type_url")];
    types.into_iter().flatten().filter_map(Value::as_str).any(|of| of.ends_with(name))
}

/// The path of the member `name` of what is at `path`.
pub(super) fn member(path: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    match (is_plain, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{name:?}]"),
    }
}

/// The path of the element `index` of what is at `path`.
pub(super) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut all, word| {
        let mut letters = word.chars();
        all.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        all.push_str(letters.as_str());
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_have_two_spellings() {
        let value = json!({"http_filters": 1, "perConnectionBufferLimitBytes": {"a_b": 2}});
        assert_eq!(get(&value, "http_filters"), Some(&json!(1)));
        assert_eq!(at(&value, &["per_connection_buffer_limit_bytes", "a_b"]), Some(&json!(2)));
        assert_eq!((text(&value, &["none"]), list(&value, &["none"]).len()), ("", 0));
    }

    #[test]
    fn paths_are_those_of_the_configurations_errors() {
        let path = element(&member(&member("", "data"), "envoy.yaml"), 2);
        assert_eq!(member(&path, "a"), "data[\"envoy.yaml\"][2].a");
    }
}
