//! Requests whole and broken, and the counts that OpenAI publishes.

mod content;
mod formats;

use super::*;
use crate::tokens::{Counting, Encodings, Factor, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

fn tokenizer(model: Option<&str>) -> Tokenizer {
    Encodings::default().tokenizer(model)
}

/// Input tokens, output cap.
fn read(body: &[u8]) -> (u64, Option<u64>) {
    read_at(Endpoint::ChatCompletions, body)
}

fn read_at(endpoint: Endpoint, body: &[u8]) -> (u64, Option<u64>) {
    let body = Body::new(body);
    let request = Request::read(endpoint, &body);
    (request.input_tokens(&Meter::of_all(tokenizer(request.model.as_deref()))), request.output_cap())
}

fn input_tokens_at(endpoint: Endpoint, body: &Value) -> u64 {
    read_at(endpoint, body.to_string().as_bytes()).0
}

fn input_tokens(body: &Value) -> u64 {
    read(body.to_string().as_bytes()).0
}

fn published(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/counts").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn published_counts_of_prompts_are_matched() {
    for name in ["messages.json", "tools.json"] {
        let example = published(name);
        for (model, expected) in example["expected"].as_object().unwrap() {
            let mut body = example["body"].clone();
            for model in [model.clone(), format!("openai/{model}")] {
                body["model"] = json!(model);
                assert_eq!(input_tokens(&body), expected.as_u64().unwrap(), "{name} {model}");
            }
        }
    }
}

#[test]
fn published_counts_of_texts_are_matched() {
    use crate::tokens::Encoding;
    for example in published("texts.json")["expected"].as_array().unwrap() {
        for (encoding, expected) in example["counts"].as_object().unwrap() {
            let encoding = Encoding::from_name(encoding).unwrap();
            let tokenizer = Tokenizer::new(Counting { encoding, factor: Factor::ONE });
            let count = tokenizer.count(example["text"].as_str().unwrap());
            assert_eq!(count, expected.as_u64().unwrap(), "{example} {encoding:?}");
        }
    }
}

#[test]
fn a_model_that_nobody_knows_counts_as_gpt_4o() {
    let mut example = published("tools.json");
    for (model, expected) in [("gpt-4o", 101), ("some/llama-9", 101), ("openai/gpt-4", 105)] {
        example["body"]["model"] = json!(model);
        assert_eq!(input_tokens(&example["body"]), expected);
    }
}

#[test]
fn the_factor_applies_to_the_whole_prompt() {
    let body = br#"{"messages":[{"role":"user","content":"hi"}]}"#;
    let counting =
        Counting { factor: Factor::new(1.5).unwrap(), encoding: crate::tokens::Encoding::O200kBase };
    let tokenizer = Tokenizer::new(counting);
    let body = Body::new(body);
    // 3 + user + hi + 3 are 8.
    assert_eq!(Request::read(Endpoint::ChatCompletions, &body).input_tokens(&Meter::of_all(tokenizer)), 12);
}

/// Each content costs the same as the plain text beside it, or so many tokens more.
#[test]
fn content_is_counted_for_what_it_holds() {
    let of = |message: Value| input_tokens(&json!({"model": "gpt-4o", "messages": [message]}));
    let plain = |text: &str| of(json!({"role": "user", "content": text}));
    let user = |content: Value| of(json!({"role": "user", "content": content}));
    let nothing = plain("");
    for (message, expected) in [
        (user(json!([{"type": "text", "text": "hello world"}])), plain("hello world")),
        (user(json!(["hello world"])), plain("hello world")),
        (user(json!([{"type": "text", "text": 7}, {"type": "text", "text": "hello"}])), plain("hello")),
        (user(json!([{"type": "image_url", "image_url": {"url": "data:…", "detail": "low"}}])), nothing + 85),
        (user(json!([{"type": "image_url", "image_url": {"url": "https://…"}}])), nothing + 765),
        (user(json!([{"type": "image_url", "image_url": "https://…"}])), nothing + 765),
        (user(json!([{"type": "video_url", "video_url": {"url": "AAAA"}}, {"type": "?"}, 3])), nothing),
        (user(json!(null)), nothing),
        (user(json!({"text": "hello"})), nothing),
        // The role, the name and the arguments; ids and types are not part of the prompt.
        (
            of(json!({"role": "user", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "hello", "arguments": " world"}}]})),
            plain("hello world"),
        ),
        (
            of(json!({"role": "user", "function_call": {"name": "hello", "arguments": " world"}})),
            plain("hello world"),
        ),
        (of(json!({"role": "user", "refusal": "hello world"})), plain("hello world")),
        (of(json!({"role": "user", "content": "hello", "tool_call_id": "call_1"})), plain("hello")),
        (of(json!({"role": "user", "name": 7})), nothing),
        (of(json!({"role": "user", "name": "hello"})), plain("hello") + 1),
    ] {
        assert_eq!(message, expected);
    }
}

#[test]
fn functions_count_as_tools_and_nested_properties_too() {
    let example = published("tools.json");
    let mut legacy = example["body"].clone();
    let tools = legacy["tools"].take();
    let functions: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["function"].clone()).collect();
    legacy["functions"] = json!(functions);
    legacy["model"] = json!("gpt-4o");
    assert_eq!(input_tokens(&legacy), 101);

    let with = |parameters: Value| {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
        input_tokens(&json!({"messages": [{}], "tools": [tool]}))
    };
    let none = with(json!({}));
    // A list of properties costs 3, a property 3 and its line `a::` what it has.
    let line = tokenizer(None).count("a::");
    assert_eq!(with(json!({"properties": {"a": {}}})), none + 6 + line);
    let nested = json!({"properties": {"a": {"items": {"properties": {"a": {}}}}}});
    assert_eq!(with(nested), none + 2 * (6 + line));
    // An enumeration saves 3, and a value costs 3 and its text.
    assert_eq!(with(json!({"properties": {"a": {"enum": ["a"]}}})), none + 6 + line + 1);
}

#[test]
fn the_largest_cap_counts_once_for_every_choice() {
    for (members, cap) in [
        (r#""max_tokens":1,"max_completion_tokens":10000"#, Some(10_000)),
        (r#""max_output_tokens":5,"n":3"#, Some(15)),
        (r#""max_tokens":7,"n":0"#, Some(7)),
        (r#""max_tokens":7,"n":"3""#, Some(21)),
        (r#""max_tokens":7,"n":-2"#, Some(7)),
        (r#""max_tokens":7,"n":1e308"#, Some(MAX_EXACT)),
        (r#""max_tokens":1e999"#, Some(MAX_EXACT)),
        (r#""max_tokens":-5"#, None),
        (r#""max_tokens":"many""#, None),
        (r#""max_tokens":{"a":[1]}"#, None),
        (r#""max_tokens":null,"n":4"#, None),
        (r#""max_tokens":0"#, Some(0)),
        (r#""max_tokens":9,"max_tokens":3"#, Some(9)),
    ] {
        let body = format!(r#"{{{members},"messages":[{{"role":"user","content":"hi"}}]}}"#);
        assert_eq!(read(body.as_bytes()), (8, cap), "{members}");
    }
}

#[test]
fn streaming_is_known() {
    for (body, stream, include_usage) in [
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, true, true),
        (r#"{"stream":true,"stream_options":[true]}"#, true, false),
        (r#"{"stream":"yes"}"#, false, false),
        ("{}", false, false),
    ] {
        let body = Body::new(body.as_bytes());
        let request = Request::read(Endpoint::ChatCompletions, &body);
        assert_eq!((request.stream, request.include_usage), (stream, include_usage));
    }
}

#[test]
fn a_body_without_a_prompt_is_charged_for_its_size() {
    let body = br#"{"model":"text-embedding-3-small","inputs":"hello","max_tokens":3}"#;
    for (endpoint, cap) in [
        (Endpoint::ChatCompletions, Some(3)),
        (Endpoint::Completions, Some(3)),
        (Endpoint::Embeddings, Some(0)),
        (Endpoint::Responses, Some(3)),
        (Endpoint::Messages, Some(3)),
    ] {
        assert_eq!(read_at(endpoint, body), (17, cap));
    }
}

/// Bodies that clients get wrong or bend on purpose. None may panic, and each is charged for something.
#[test]
fn malformed_bodies_are_charged_for_what_they_hold() {
    let deep = |times: usize| "[".repeat(times) + &"]".repeat(times);
    let ten_mb = "x".repeat(10_000_000);
    let hi = r#"[{"role":"user","content":"hi"}]"#;
    for (body, expected) in [
        (String::new(), (0, None)),
        ("not json at all!".into(), (4, None)),
        ("null".into(), (1, None)),
        ("[]".into(), (1, None)),
        (r#"{"messages":"hi there"}"#.into(), (6, None)),
        (r#"{"messages":[1,null,"x",[]]}"#.into(), (15, None)),
        // What stands before the fault is known; the prompt is charged for its size.
        (r#"{"max_tokens":5,"messages":[{"role":"user","content":"#.into(), (14, Some(5))),
        (format!(r#"{{"messages":{hi}}} trailing"#), (14, None)),
        (format!(r#"{{"temperature":NaN,"messages":{hi}}}"#), (16, None)),
        // Depth is no fault, wherever it is.
        (format!(r#"{{"metadata":{},"messages":{hi}}}"#, deep(100_000)), (8, None)),
        (format!(r#"{{"max_tokens":{},"messages":{hi}}}"#, deep(100_000)), (8, None)),
        (format!(r#"{{"messages":{hi},"messages":[{}]}}"#, deep(100_000)), (11, None)),
        (format!(r#"{{"messages":{hi},"messages":{hi}}}"#), (13, None)),
        (format!("\u{FEFF}{{\"messages\":{hi}}}"), (8, None)),
        (r#"{"messages":[{"role":"user","content":"\ud83d"}]}"#.into(), (8, None)),
        (r#"{"messages":[{"role":"user","content":"\u0000"}]}"#.into(), (8, None)),
        (r#"{"mess\u0061ges":[{"role":"user","content":"hi"}]}"#.into(), (8, None)),
        (format!(r#"{{"user":"{ten_mb}","messages":{hi}}}"#), (8, None)),
    ] {
        let start: String = body.chars().take(60).collect();
        assert_eq!(read(body.as_bytes()), expected, "{start}");
    }
    assert_eq!(read(b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xFF\"}]}"), (8, None));
    assert_eq!(read(b"{\"messages\":\0[{}]}"), (5, None));
}

/// Deep schemas are cut off, not followed.
#[test]
fn deep_tools_are_counted_to_a_depth() {
    let depth = 30_000;
    let schema = r#"{"items":"#.repeat(depth) + "{}" + &"}".repeat(depth);
    let body = format!(
        r#"{{"messages":[{{}}],"tools":[{{"function":{{"name":"f","description":"d.","parameters":{schema}}}}}]}}"#
    );
    // A message 3, the reply 3, a function 7, its line 2 and the end 12.
    assert_eq!(read(body.as_bytes()).0, 3 + 3 + 7 + tokenizer(None).count("f:d") + 12);
}

/// JSON of any shape under names that mean something.
fn value() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "model",
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
        "custom",
        "format",
        "grammar",
        "definition",
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
        "file_id",
        "system",
        "input_schema",
        "thinking",
        "input",
        "output",
        "summary",
        "action",
        "instructions",
        "prompt",
        "variables",
        "suffix",
        "response_format",
        "json_schema",
        "schema",
        "max_tokens",
        "n",
        "best_of",
        "stream",
        "stream_options",
        "include_usage",
        "other",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "text",
            "image",
            "base64",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAB4AAAAQ4"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop::sample::select(vec![
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Responses,
        Endpoint::Messages,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_json_is_read(body in value(), endpoint in endpoint()) {
        let bytes = body.to_string().into_bytes();
        let body = Body::new(&bytes);
        let request = Request::read(endpoint, &body);
        prop_assert!(request.is_json);
        let least = u64::from(!matches!(endpoint, Endpoint::Completions | Endpoint::Embeddings));
        prop_assert!(request.input_tokens(&Meter::of_all(tokenizer(None))) >= least);
    }

    #[test]
    fn a_body_cut_short_or_bent_is_charged_for_something(body in value(), endpoint in endpoint(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = body.to_string().into_bytes();
        let at = at.index(bytes.len());
        // Completions and embeddings of nothing cost nothing.
        let least = u64::from(!matches!(endpoint, Endpoint::Completions | Endpoint::Embeddings));
        prop_assert!(read_at(endpoint, &bytes[..=at]).0 >= least);
        bytes[at] = byte;
        prop_assert!(read_at(endpoint, &bytes).0 >= least);
    }

    #[test]
    fn text_is_counted_wherever_it_stands(texts in prop::collection::vec("\\PC{0,20}", 0..6)) {
        let tokenizer = tokenizer(Some("gpt-4o"));
        let expected: u64 = texts.iter().map(|text| tokenizer.count(text)).sum();
        let messages: Vec<_> = texts.iter().map(|text| json!({"content": text})).collect();
        let parts: Vec<_> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        let apart = input_tokens(&json!({"model": "gpt-4o", "messages": messages}));
        let together = input_tokens(&json!({"model": "gpt-4o", "messages": [{"content": parts}]}));
        prop_assert_eq!(together, 3 + expected + 3);
        if !texts.is_empty() {
            prop_assert_eq!(apart, 3 * texts.len() as u64 + expected + 3);
        }
    }
}
