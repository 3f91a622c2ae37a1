//! Requests to Google's Gemini API.

use super::*;

fn tokens(texts: &[&str]) -> u64 {
    texts.iter().map(|text| tokenizer(None).count(text)).sum()
}

/// The tokens of a request for Gemini with this body.
fn input(body: &Value) -> u64 {
    let text = body.to_string();
    let body = Body::new(text.as_bytes());
    let request = Request::read(Endpoint::Gemini, &body);
    assert_eq!(request.fault, None);
    let tokenizer = tokenizer(None);
    let tokens = request.text_tokens(&Meter::unlimited(tokenizer));
    request.input_tokens(tokens, Some("gemini-2.5-flash"), tokenizer)
}

fn cap(body: &Value) -> (Option<u64>, bool, u64) {
    let text = body.to_string();
    let body = Body::new(text.as_bytes());
    let request = Request::read(Endpoint::Gemini, &body);
    let cap = request.output_cap();
    (cap.tokens, cap.is_doubtful, request.choices())
}

#[test]
fn a_prompt_is_its_text_in_either_spelling() {
    let hello = json!([{"role": "user", "parts": [{"text": "Hello!"}]}]);
    let two = tokens(&["Hello!"]);
    for body in [
        json!({"contents": hello}),
        json!({"contents": {"parts": {"text": "Hello!"}}}),
        json!({"contents": "Hello!"}),
        json!({"contents": ["Hello!"]}),
        json!({"contents": hello, "safetySettings": [{"category": "long text"}], "labels": {"a": "b"}}),
        json!({"contents": hello, "generationConfig": {"stopSequences": ["a long stop sequence"]}}),
        json!({"contents": hello, "model": "models/gemini-2.5-flash"}),
    ] {
        assert_eq!(input(&body), two, "{body}");
    }
    for name in ["systemInstruction", "system_instruction"] {
        let body = json!({"contents": hello, name: {"parts": [{"text": "Be kind."}]}});
        assert_eq!(input(&body), two + tokens(&["Be kind."]), "{body}");
    }
    assert!(input(&json!({"contents": hello, "unknown": "a text of a member of later"})) > two);
}

#[test]
fn parts_are_named_after_what_they_hold() {
    let input = |part: Value| input(&json!({"contents": [{"role": "user", "parts": [part]}]}));
    let pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";
    for (part, expected) in [
        (json!({"text": "hello world"}), 2),
        (json!({"inlineData": {"mimeType": "image/png", "data": pixel}}), 258),
        (json!({"inline_data": {"mime_type": "image/png", "data": pixel}}), 258),
        (json!({"inlineData": {"mimeType": "text/plain", "data": "aGVsbG8gd29ybGQ="}}), 2 + 16),
        (json!({"functionResponse": {"name": "hello", "response": {}}}), 1 + tokens(&["{}"])),
        (json!({"executableCode": {"language": "PYTHON", "code": "hello world"}}), 2),
        (json!({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "hello"}}), 1),
        (json!({"text": "hello", "thoughtSignature": "x".repeat(1000)}), 1),
    ] {
        assert_eq!(input(part.clone()), expected, "{part}");
    }
    let call = input(json!({"functionCall": {"name": "hello", "args": {}}}));
    assert!((2..=4).contains(&call), "{call}");
    assert!(input(json!({"fileData": {"mimeType": "application/pdf", "fileUri": "gs://a"}})) > 1_000);
    assert!(input(json!({"later": "x".repeat(4_000)})) >= 1_000, "by its size");
}

#[test]
fn tools_and_schemas_count_as_they_do_elsewhere() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let declared = |parameters: &str| {
        json!({"contents": "hello", "tools": [{"functionDeclarations": [
            {"name": "weather", "description": "The weather", parameters: schema}
        ]}]})
    };
    let plain = input(&json!({"contents": "hello"}));
    let with_tool = input(&declared("parameters"));
    assert!(with_tool > plain, "{with_tool}");
    assert_eq!(input(&declared("parametersJsonSchema")), with_tool);
    assert!(input(&json!({"contents": "hello", "generationConfig": {"responseSchema": schema}})) > plain);
}

#[test]
fn the_maximum_is_within_the_configuration_and_nowhere_else() {
    for (body, expected) in [
        (json!({"generationConfig": {"maxOutputTokens": 30}}), (Some(30), false, 1)),
        (json!({"generation_config": {"max_output_tokens": 30}}), (Some(30), false, 1)),
        (json!({"generationConfig": {"maxOutputTokens": 30, "candidateCount": 4}}), (Some(120), false, 4)),
        (json!({"GenerationConfig": {"MaxOutputTokens": 30}}), (Some(30), true, 1)),
        (json!({"generationConfig": {"maxOutputTokens": 30}, "generation_config": {}}), (Some(30), true, 1)),
        (json!({"max_output_tokens": 1, "maxOutputTokens": 1, "max_tokens": 1}), (None, true, 1)),
        (json!({"generationConfig": {}}), (None, true, 1)),
    ] {
        let (tokens, is_doubtful, choices) = cap(&body);
        assert_eq!((tokens, is_doubtful, choices), expected, "{body}");
    }
}

#[test]
fn a_maximum_is_set_where_the_api_reads_it() {
    let changed = |text: &str, most| {
        let body = Body::new(text.as_bytes());
        let request = Request::read(Endpoint::Gemini, &body);
        let cap = request.new_cap(most, &Candidates::of(vec!["gemini-2.5-flash".to_owned()]));
        let edit = NewMembers { include_usage: None, output_cap: Some(cap) }.edit(text.as_bytes()).unwrap();
        let mut with = edit.with;
        with.extend_from_slice(&text.as_bytes()[edit.replaced..]);
        String::from_utf8(with).unwrap()
    };
    for (body, expected) in [
        (r#"{"contents":"x"}"#, r#"{"generationConfig":{"maxOutputTokens":9},"contents":"x"}"#),
        (
            r#"{"contents":"x","generationConfig":{"topK":1.0}}"#,
            r#"{"contents":"x","generationConfig":{"topK":1.0,"maxOutputTokens":9}}"#,
        ),
        (
            r#"{"generation_config":{"max_output_tokens":10}}"#,
            r#"{"generation_config":{"max_output_tokens":9}}"#,
        ),
    ] {
        assert_eq!(changed(body, 9), expected, "{body}");
    }
    let thinking = br#"{"generationConfig":{"thinkingConfig":{"thinkingBudget":7}}}"#;
    assert_eq!(thinking_budget(thinking), Some(7));
    assert_eq!(thinking_budget(br#"{"generationConfig":{"thinkingConfig":{"thinkingBudget":-1}}}"#), None);
}

#[test]
fn what_is_embedded_has_no_output() {
    for body in [
        json!({"content": {"parts": [{"text": "hello world"}]}, "taskType": "RETRIEVAL_QUERY"}),
        json!({"requests": [
            {"model": "models/e", "content": {"parts": [{"text": "hello"}]}},
            {"model": "models/e", "content": {"parts": [{"text": "world"}]}}
        ]}),
    ] {
        let read = read_at(Endpoint::GeminiEmbeddings, body.to_string().as_bytes());
        assert_eq!(read, (2, Some(0)), "{body}");
    }
}
