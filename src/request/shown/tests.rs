//! Tools as models are shown them.

use super::tool::Function;
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn types(tool: &Value) -> String {
    Function::read(&tool.to_string(), false).unwrap().as_types()
}

/// The type of one property `a` with this schema.
fn property(schema: &Value, definitions: &Value) -> String {
    let parameters = json!({"type": "object", "properties": {"a": schema}, "$defs": definitions});
    let shown = types(&json!({"name": "f", "parameters": parameters}));
    let inside = shown.strip_prefix(";\n\ntype f = (_:{\n").and_then(|text| text.strip_suffix("}) => any"));
    inside.unwrap_or_else(|| panic!("{shown}")).to_owned()
}

#[test]
fn a_function_is_a_type() {
    let description = "Books a trip.\n\n  By train  ";
    let parameters = json!({"type": "object", "title": "Trip", "properties": {
        "a": {"type": "string", "title": "A", "description": "Where to"}, "b": {"type": "integer"}}});
    for tool in [
        json!({"type": "function", "function": {"name": "book", "description": description, "parameters": parameters}}),
        json!({"type": "function", "name": "book", "description": description, "parameters": parameters}),
        json!({"name": "book", "description": description, "input_schema": parameters}),
    ] {
        let head = ";\n\n// Books a trip.\n// By train\ntype book = (_:\n// Trip\n{\n";
        let properties = "// A\n//\n// Where to\na: string,\nb: number,\n}) => any";
        assert_eq!(types(&tool), format!("{head}{properties}"));
    }
    for empty in
        [json!({"name": "f"}), json!({"name": "f", "parameters": {"type": "object", "properties": {}}})]
    {
        assert_eq!(types(&empty), ";\n\ntype f = () => any");
    }
}

#[test]
fn properties_have_types() {
    let none = json!({});
    for (schema, expected) in [
        (json!({"type": "boolean"}), "a: boolean,\n"),
        (json!({}), "a: any,\n"),
        (json!({"enum": ["x", 7]}), "a: \"x\" | 7,\n"),
        (json!({"const": "x", "type": "string"}), "a: \"x\",\n"),
        (json!({"type": "string", "default": "x"}), "a: string, // default: x\n"),
        (json!({"type": "array", "items": {"type": "number"}}), "a: number[],\n"),
        (json!({"items": {"type": "number"}}), "a: number[],\n"),
        (
            json!({"type": "integer", "minimum": 0, "maximum": 255, "format": "uint8"}),
            "a: number, // 255, 0\n",
        ),
        (
            json!({"type": "string", "default": "x", "pattern": "^a", "format": "date"}),
            "a: string, // default: x // ^a, date\n",
        ),
        // Nothing hides behind a value, a reference or an option, or in a schema for others.
        (json!({"type": "array", "items": [{"type": "number"}, {"type": "null"}]}), "a: number | null[],\n"),
        (json!({"type": "object", "additionalProperties": {"a": 1}}), "a:{\"a\":1} & object,\n"),
        (json!({"type": "object", "additionalProperties": false}), "a: object,\n"),
        (json!({"type": "null", "not": {}, "if": {"b": 2}}), "a:{\"b\":2} & null,\n"),
        (json!({"enum": [1], "properties": {"b": {}}}), "a: 1 & {\n b: any,\n},\n"),
        (json!({"type": "string", "items": {"type": "null"}}), "a: string & null[],\n"),
        (
            json!({"anyOf": [{"type": "null"}], "properties": {"b": {}}, "items": {}}),
            "a: null & {\n b: any,\n} & any[],\n",
        ),
        (json!({"type": "array"}), "a: any[],\n"),
        (json!({"type": "object"}), "a: object,\n"),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null}),
            "a: string | null, // default: null\n",
        ),
        (
            json!({"type": ["string", "null"], "description": "D"}),
            "// D\na:\n | string // D\n | null // D\n,\n",
        ),
        (json!({"type": ["string"]}), "a: string,\n"),
        (
            json!({"type": "object", "properties": {"b": {"type": "string", "description": "D"}}}),
            "a:{\n // D\n b: string,\n},\n",
        ),
        (
            json!({"type": "array", "items": {"properties": {"b": {"type": "null"}}}}),
            "a:{\n b: null,\n}[],\n",
        ),
    ] {
        assert_eq!(property(&schema, &none), expected, "{schema}");
    }
}

#[test]
fn parameters_may_be_one_of_several() {
    let one = json!({"type": "object", "properties": {"b": {"type": "string", "description": "D"}}});
    for name in ["anyOf", "oneOf", "allOf"] {
        let parameters =
            json!({name: [one, {"$ref": "#/$defs/C"}], "$defs": {"C": {"properties": {"c": {}}}}});
        let shown = types(&json!({"name": "f", "parameters": parameters}));
        assert_eq!(shown, ";\n\ntype f = (_: {\n // D\n b: string,\n} | {\n c: any,\n}) => any");
    }
    let both = json!({"anyOf": [{"required": ["b"]}], "properties": {"b": {}}});
    let shown = types(&json!({"name": "f", "parameters": both}));
    assert!(shown.contains("b: any"), "{shown}");
}

#[test]
fn references_are_resolved_but_not_without_end() {
    let definitions = json!({
        "B": {"type": "object", "title": "B", "properties": {"c": {"type": "string"}}},
        "Loop": {"type": "object", "properties": {"again": {"$ref": "#/$defs/Loop"}}},
    });
    let refers = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    assert_eq!(property(&refers("B"), &definitions), "// B\na:{\n c: string,\n},\n");
    assert_eq!(property(&refers("None"), &definitions), "a: any,\n");
    assert_eq!(property(&refers("Loop"), &definitions), "a:{\n again: any,\n},\n");
    // Each definition has the next one twice: forty of them would be 2^40 lines.
    let mut bombs = serde_json::Map::new();
    for at in 0..40 {
        let next = refers(&format!("D{}", at + 1));
        bombs.insert(format!("D{at}"), json!({"type": "object", "properties": {"x": next, "y": next}}));
    }
    let size = Value::Object(bombs.clone()).to_string().len();
    let shown = property(&refers("D0"), &Value::Object(bombs));
    assert!(shown.len() < 6 * size, "{} of {size}", shown.len());
}

#[test]
fn only_what_models_are_shown_is_made() {
    let tool = json!({"name": "f", "description": "d", "input_schema": {"a": 1}}).to_string();
    let kinds = |weights: &Weights| match shown(Counted::Tool, &tool, weights) {
        Shown::Otherwise { texts, tool: Some(ToolKind::Function) } => {
            texts.into_iter().map(|(counted, _)| counted).collect::<Vec<_>>()
        }
        _ => panic!("it is a function"),
    };
    assert_eq!(kinds(&Weights::OPENAI), [Counted::ToolTypes]);
    assert_eq!(kinds(&Weights::JSON), [Counted::ToolJson; 3]);
    for other in [r#"{"type":"web_search"}"#, "7", "[]"] {
        let Shown::Otherwise { texts, tool } = shown(Counted::Tool, other, &Weights::OPENAI) else {
            panic!("{other}");
        };
        assert!(texts.is_empty() && tool == Some(ToolKind::Provided), "{other}");
    }
    let half = r#"{"name":"f","description":"\ud83d"}"#;
    let half = shown(Counted::Tool, half, &Weights::JSON);
    assert!(matches!(half, Shown::Otherwise { tool: Some(ToolKind::Function), .. }));
}

#[test]
fn arguments_are_shown_in_their_shortest_form() {
    let shown = |text: &'static str| match shown(Counted::Arguments, text, &Weights::OPENAI) {
        Shown::AsIs => None,
        Shown::Otherwise { mut texts, .. } => texts.pop().map(|(_, text)| text.into_owned()),
    };
    assert_eq!(shown(r#"{"a": 1, "b c": "d e"}"#).as_deref(), Some(r#"{"a":1,"b c":"d e"}"#));
    assert_eq!(shown(r#"{"a":1}"#), None);
    assert_eq!(shown("no JSON at all"), None);
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["string", "object", "array", "#/$defs/a", "number"]).prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let name = prop::sample::select(vec![
            "type",
            "properties",
            "items",
            "anyOf",
            "$ref",
            "$defs",
            "enum",
            "default",
            "description",
            "a",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A client may repeat what is shown again and again.
#[test]
fn what_is_shown_is_not_much_more_than_what_was_sent() {
    let long = "word ".repeat(6_000);
    let references: Value = (0..1_000).map(|n| (format!("a{n}"), json!({"$ref": "#/$defs/d"}))).collect();
    let kinds: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    for parameters in [
        json!({"properties": references, "$defs": {"d": {"type": "object", "description": long}}}),
        json!({"properties": {"a": {"type": kinds, "description": long}}}),
        json!({"properties": {"a": {"type": vec!["object"; 3_000], "properties": {"b": {"description": long}}}}}),
    ] {
        let tool = json!({"name": "f", "parameters": parameters});
        let (sent, shown) = (tool.to_string().len(), types(&tool).len());
        assert!(shown <= 10 * sent, "{shown} of {sent}");
    }
    // References that double at each level, in a member that occurs often.
    let level = |n: usize| {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        (format!("d{n}"), json!({"type": "object", "properties": {"a": next, "b": next}}))
    };
    let levels: Value = (0..15).map(level).collect();
    let parameters = json!({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": levels});
    let members = vec![format!(r#""parameters":{parameters}"#); 40].join(",");
    let tool = format!(r#"{{"name":"f",{members}}}"#);
    let shown = Function::read(&tool, false).unwrap().as_types().len();
    assert!(shown <= 10 * tool.len(), "{shown} of {}", tool.len());
    let shown = types(&json!({"name": "f", "parameters": {"properties": {"a": {"type": kinds}}}}));
    assert!(kinds.iter().all(|kind| shown.contains(kind)), "every name counts: {shown}");
}

proptest! {
    #[test]
    fn any_schema_is_shown_in_bounded_size(parameters in schema()) {
        let tool = json!({"name": "f", "parameters": parameters}).to_string();
        let shown = Function::read(&tool, false).unwrap().as_types();
        prop_assert!(shown.len() <= 12 * tool.len() + 2_048, "{}", shown.len());
    }

    #[test]
    fn schemas_that_occur_often_share_what_references_may_add(parameters in schema(), times in 1_usize..20) {
        let members = vec![format!(r#""parameters":{parameters}"#); times].join(",");
        let tool = format!(r#"{{"name":"f",{members}}}"#);
        let shown = Function::read(&tool, false).unwrap().as_types();
        prop_assert!(shown.len() <= 12 * tool.len() + 2_048 * times, "{}", shown.len());
    }

    /// Some reader takes the first of two values of a member, and others the last.
    #[test]
    fn a_member_that_occurs_twice_hides_nothing(one in schema(), other in schema()) {
        let length = |members: &str| {
            let tool = format!(r#"{{"name":"f",{members}}}"#);
            Function::read(&tool, false).unwrap().as_types().len()
        };
        let both = length(&format!(r#""parameters":{one},"Parameters":{other}"#));
        for one in [one, other] {
            let alone = length(&format!(r#""parameters":{one}"#));
            prop_assert!(both >= alone);
        }
    }
}
