//! The JSON Schema of the configuration, for editors: made from the types that read the configuration.
//!
//! It exists only in tests, which compare `docs/config.schema.json` to it. It has the names and types of all fields;
//! `llm-rate-limit check` checks their ranges, and which fields depend on each other.

use crate::config::document::Number;
use crate::config::raw::{
    Amount, ClaimedAmount, Continue, Encoding, Fallback, FallbackLimits, Messages, OnLimit, Root, Word,
};
use crate::config::secret::Secret;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use std::borrow::Cow;

/// The schema of a whole configuration, in the draft that editors know best.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft07().with_transform(WithoutNull);
    let mut schema = settings.into_generator().into_root_schema_for::<Root>();
    schema.insert("title".to_owned(), "Configuration of the llm-rate-limit filter".into());
    schema.to_value()
}

/// Removes `null`, which an `Option` allows. In a configuration a field is left out instead.
#[derive(Clone, Copy)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(schemas)) = schema.get_mut("anyOf") {
            schemas.retain(|schema| schema.get("type").is_none_or(|name| name != "null"));
            if let [Value::Object(only)] = schemas.as_slice() {
                let only = only.clone();
                schema.remove("anyOf");
                for (name, value) in only {
                    schema.insert(name, value);
                }
            }
        }
        if let Some(Value::String(text)) = schema.get_mut("description") {
            // A comment is wrapped, a description is not.
            *text = text.replace('\n', " ");
        }
        // The description has the default.
        schema.remove("default");
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number"})
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

impl<C: JsonSchema> JsonSchema for Word<C> {
    fn schema_name() -> Cow<'static, str> {
        format!("WordOr{}", C::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"type": "string"}, generator.subschema_for::<C>()]})
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"type": "number"}, generator.subschema_for::<ClaimedAmount>()]})
    }
}

impl JsonSchema for Fallback {
    fn schema_name() -> Cow<'static, str> {
        "Fallback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The rights of everybody who is not in `keys`.",
            "oneOf": [
                {"const": "reject", "description": "Nothing: they are answered 401."},
                {
                    "const": "unlimited",
                    "description": "Anything: the limits of `models` and `global` do not hold for them either."
                },
                generator.subschema_for::<FallbackLimits>(),
            ]
        })
    }
}

impl JsonSchema for OnLimit {
    fn schema_name() -> Cow<'static, str> {
        "OnLimit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What becomes of a request that does not fit under a limit.",
            "oneOf": [
                {"const": "refuse", "description": "It is refused at once."},
                {
                    "const": "wait",
                    "description": "It waits for `max_wait_ms`, and is refused if it does not fit by then."
                },
                generator.subschema_for::<Continue>(),
            ]
        })
    }
}

impl JsonSchema for Messages {
    fn schema_name() -> Cow<'static, str> {
        "Messages".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One message, or several by language.",
            "oneOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        })
    }
}

impl JsonSchema for Encoding {
    fn schema_name() -> Cow<'static, str> {
        "Encoding".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = json_schema!({"enum": ["o200k_base", "cl100k_base", "p50k_base", "r50k_base"]});
        json_schema!({
            "description": "The encoding of a model: its name, or its name and a factor.",
            "oneOf": [name, {
                "type": "object",
                "additionalProperties": false,
                "required": ["encoding"],
                "properties": {
                    "encoding": {"description": "The encoding.", "enum": name.get("enum")},
                    "factor": {
                        "description": "The factor to multiply the count by, for models without a public encoding; \
                                        0.000001 to 1000, 1 by default.",
                        "type": "number"
                    }
                }
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode;
    use crate::config::document::Node;
    use jsonschema::Validator;
    use proptest::prelude::*;
    use serde_json::json;
    use std::fs;
    use std::path::Path;

    fn validator() -> Validator {
        jsonschema::draft7::new(&schema()).unwrap()
    }

    fn directory(kind: &str) -> impl Iterator<Item = (String, Value)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(kind);
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).filter_map(
            |path| {
                let text = fs::read(&path).unwrap();
                // Neither this tree nor a schema shows a member that is given twice.
                Node::from_bytes(&text).ok()?;
                Some((path.display().to_string(), serde_json::from_slice(&text).unwrap()))
            },
        )
    }

    /// Whether the types can read `json`, whatever its values.
    fn is_readable(json: &Value) -> bool {
        let node = Node::from_bytes(json.to_string().as_bytes()).ok();
        node.is_some_and(|node| decode::<Root>(&node).is_ok())
    }

    #[test]
    fn the_committed_schema_is_that_of_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
        let expected = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&path, &expected).unwrap();
        }
        let committed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let is_new = committed == schema();
        assert!(is_new, "docs/config.schema.json is old: UPDATE_SCHEMA=1 cargo test schema writes it");
    }

    #[test]
    fn every_good_file_is_valid() {
        let validator = validator();
        for (name, json) in directory("good") {
            let errors: Vec<_> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
        }
    }

    #[test]
    fn a_bad_file_is_valid_if_only_its_values_are_bad() {
        let validator = validator();
        let mut invalid = 0;
        for (name, json) in directory("bad") {
            assert_eq!(validator.is_valid(&json), is_readable(&json), "{name}");
            invalid += usize::from(!validator.is_valid(&json));
        }
        assert!(invalid > 50);
    }

    /// Replaces the `at`th value in `json`, counted depth first; returns false if `json` has fewer.
    fn replace(json: &mut Value, at: &mut usize, with: &Value) -> bool {
        if *at == 0 {
            *json = with.clone();
            return true;
        }
        *at -= 1;
        match json {
            Value::Array(elements) => elements.iter_mut().any(|element| replace(element, at, with)),
            Value::Object(members) => members.iter_mut().any(|(_, member)| replace(member, at, with)),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_value_in_the_wrong_place_is_invalid_if_it_cannot_be_read(
            at in 0..200_usize,
            with in prop::sample::select(vec![
                json!(null), json!(true), json!(5), json!(0.5), json!("local"), json!("1d"), json!([]), json!(["a"]),
                json!({}), json!({"rpm": 1}), json!({"header": "a"}), json!({"x": "y"}), json!([{"client_ip": {}}]),
            ]),
        ) {
            let validator = validator();
            for (name, mut json) in directory("good") {
                replace(&mut json, &mut at.clone(), &with);
                prop_assert_eq!(validator.is_valid(&json), is_readable(&json), "{}: {}", name, json);
            }
        }
    }
}
