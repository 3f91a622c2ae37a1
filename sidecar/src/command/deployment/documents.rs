//! Files as documents: JSON, or YAML of any number of documents, with what Kubernetes wraps into others taken out.

use super::tree::{element, has_type, list, member};
use serde::Deserialize as _;
use serde_json::{Map, Number, Value};

/// How deep one thing may be wrapped into another.
const MAX_DEPTH: usize = 4;

/// A document, or one that another carries.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::command) struct Document {
    /// Its place in the file: empty if it is all of it.
    pub(in crate::command) place: String,
    /// Its content.
    pub(in crate::command) value: Value,
    /// Whether a `ConfigMap` carries it, beside anything else.
    pub(in crate::command) is_carried: bool,
}

impl Document {
    /// The place of what is at `path` in it.
    pub(in crate::command) fn at(&self, path: &str) -> String {
        match (self.place.is_empty(), path.is_empty()) {
            (true, _) => path.to_owned(),
            (false, true) => self.place.clone(),
            (false, false) => format!("{}: {path}", self.place),
        }
    }

    /// The kind of a resource; empty if it is none.
    pub(in crate::command) fn kind(&self) -> &str {
        self.value.get("kind").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The documents in `bytes`.
///
/// # Errors
/// The bytes are neither JSON nor YAML.
pub(in crate::command) fn read(bytes: &[u8]) -> Result<Vec<Document>, String> {
    let values = values(bytes)?;
    let several = values.len() > 1;
    let mut documents = Vec::new();
    for (number, value) in values.into_iter().enumerate() {
        let place = if several { format!("document {}{}", number + 1, title(&value)) } else { String::new() };
        unwrap(Document { place, value, is_carried: false }, 0, &mut documents);
    }
    Ok(documents)
}

/// The answer `value` of Envoy's `/config_dump`, without what is there twice or not in force: listeners of the
/// bootstrap, which are among all listeners too, and those that wait to come, or to go.
pub(in crate::command) fn in_force(mut value: Value) -> Value {
    let has_listeners = list(&value, &["configs"]).iter().any(|dump| has_type(dump, ".ListenersConfigDump"));
    let dumps = value.get_mut("configs").and_then(Value::as_array_mut).into_iter().flatten();
    for dump in dumps {
        let bootstrap = dump.pointer_mut("/bootstrap/static_resources").and_then(Value::as_object_mut);
        if let Some(resources) = bootstrap.filter(|_| has_listeners) {
            resources.remove("listeners");
        }
        let listeners = dump.get_mut("dynamic_listeners").and_then(Value::as_array_mut);
        for listener in listeners.into_iter().flatten().filter_map(Value::as_object_mut) {
            listener.retain(|name, _| {
                !["warming_state", "draining_state", "error_state"].contains(&name.as_str())
            });
        }
    }
    value
}

/// The documents of YAML, or the one of JSON, in `bytes`.
pub(super) fn values(bytes: &[u8]) -> Result<Vec<Value>, String> {
    if matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return serde_json::from_slice(bytes).map(|value| vec![value]).map_err(|why| why.to_string());
    }
    let mut values = Vec::new();
    for document in yaml_serde::Deserializer::from_slice(bytes) {
        let mut value = yaml_serde::Value::deserialize(document).map_err(|why| why.to_string())?;
        value.apply_merge().map_err(|why| why.to_string())?;
        let value = as_json(value);
        if !value.is_null() {
            values.push(value);
        }
    }
    Ok(values)
}

/// A value of YAML as JSON: without tags, and with texts as the names of members.
fn as_json(value: yaml_serde::Value) -> Value {
    use yaml_serde::Value as Yaml;
    match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => {
            let whole = number.as_i64().map(Number::from).or_else(|| number.as_u64().map(Number::from));
            whole.or_else(|| Number::from_f64(number.as_f64()?)).map_or(Value::Null, Value::Number)
        }
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(elements) => Value::Array(elements.into_iter().map(as_json).collect()),
        Yaml::Mapping(members) => {
            let member = |(name, value)| match as_json(name) {
                Value::String(name) => (name, as_json(value)),
                name => (name.to_string(), as_json(value)),
            };
            Value::Object(members.into_iter().map(member).collect::<Map<_, _>>())
        }
        Yaml::Tagged(tagged) => as_json(tagged.value),
    }
}

/// The kind and the name of a resource, after a comma.
fn title(value: &Value) -> String {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if kind.is_empty() { String::new() } else { format!(", {kind} {name}").trim_end().to_owned() }
}

/// Adds `document`, or what is in it if it is a list of resources or carries texts.
fn unwrap(document: Document, depth: usize, all: &mut Vec<Document>) {
    let Document { value, is_carried, .. } = &document;
    let kind = document.kind();
    let within = |path: String| document.at(&path);
    if depth < MAX_DEPTH && kind.ends_with("List") {
        let items = value.get("items").and_then(Value::as_array).into_iter().flatten();
        for (index, item) in items.enumerate() {
            let place = within(element("items", index));
            let item = Document { place, value: item.clone(), is_carried: *is_carried };
            unwrap(item, depth + 1, all);
        }
    } else if depth < MAX_DEPTH && kind == "ConfigMap" {
        let before = all.len();
        let data = value.get("data").and_then(Value::as_object).into_iter().flatten();
        for (name, text) in data {
            let place = within(member("data", name));
            for carried in read_carried(text, &place) {
                unwrap(carried, depth + 1, all);
            }
        }
        if all.len() == before {
            // It carries nothing that can be read, such as "binaryData" alone, and is no configuration itself.
            all.push(document);
        }
    } else {
        all.push(Document { value: in_force(document.value), ..document });
    }
}

/// The documents in a text of a `ConfigMap`; none if it is something else.
fn read_carried(text: &Value, place: &str) -> Vec<Document> {
    let values = text.as_str().and_then(|text| values(text.as_bytes()).ok()).unwrap_or_default();
    let several = values.len() > 1;
    let values = values.into_iter().filter(Value::is_object).enumerate();
    values
        .map(|(number, value)| {
            let title = title(&value);
            let place =
                if several { format!("{place}: document {}{title}", number + 1) } else { place.to_owned() };
            Document { place, value, is_carried: true }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn places(text: &str) -> Vec<(String, Value)> {
        let read = read(text.as_bytes()).unwrap();
        read.into_iter().map(|document| (document.place, document.value)).collect()
    }

    #[test]
    fn one_document_is_the_file_and_several_have_numbers_and_names() {
        assert_eq!(places("a: !x 1"), [(String::new(), json!({"a": 1}))]);
        assert_eq!(places("{\"a\": 1}"), [(String::new(), json!({"a": 1}))]);
        let two = "---\nkind: Pod\nmetadata: {name: p}\n---\n---\n1: [~, 0x10, 1.5, yes]\n";
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(
            places(two),
            [
                ("document 1, Pod p".to_owned(), pod),
                ("document 2".to_owned(), json!({"1": [null, 16, 1.5, "yes"]}))
            ]
        );
        assert!(read(b"a: b: c").is_err() && read(b"{a: 1}").is_err());
    }

    #[test]
    fn what_kubernetes_wraps_is_taken_out() {
        let text = concat!(
            "kind: List\nitems:\n- kind: ConfigMap\n  data:\n    limits.yaml: 'a: 1'\n",
            "    two: \"b: 1\\n---\\nc: 1\"\n    text: hello\n    bad: '{'\n- kind: Service\n",
        );
        let expected = [
            ("items[0]: data[\"limits.yaml\"]", json!({"a": 1})),
            ("items[0]: data.two: document 1", json!({"b": 1})),
            ("items[0]: data.two: document 2", json!({"c": 1})),
            ("items[1]", json!({"kind": "Service"})),
        ];
        assert_eq!(places(text), expected.map(|(place, value)| (place.to_owned(), value)));
        assert!(read(text.as_bytes()).unwrap()[0].is_carried);
    }

    #[test]
    fn anchors_and_merges_are_resolved() {
        assert_eq!(places("a: &a {b: 1}\nc: {<<: *a, d: 2}")[0].1["c"], json!({"b": 1, "d": 2}));
    }
}
