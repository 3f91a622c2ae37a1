//! JSON of any shape, with names that have a meaning in some API.

use proptest::prelude::*;
use serde_json::Value;

/// Names of members.
pub(super) const NAMES: &[&str] = &[
    "messages",
    "role",
    "content",
    "name",
    "type",
    "text",
    "image_url",
    "url",
    "detail",
    "tools",
    "functions",
    "function",
    "parameters",
    "properties",
    "items",
    "enum",
    "description",
    "tool_calls",
    "arguments",
    "input_audio",
    "data",
    "file",
    "file_data",
    "source",
    "media_type",
    "system",
    "input_schema",
    "thinking",
    "input",
    "output",
    "instructions",
    "prompt",
    "suffix",
    "response_format",
    "json_schema",
    "schema",
    "max_tokens",
    "n",
    "best_of",
    "documents",
    "max_completion_tokens",
    "max_output_tokens",
    "metadata",
    "reasoning",
];

/// Any JSON.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..5_000_i64).prop_map(Value::from),
        "[a-z é\"\\\\]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "text",
            "image",
            "base64",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAB4AAAAQ4"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, move |inner| {
        let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(name, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
