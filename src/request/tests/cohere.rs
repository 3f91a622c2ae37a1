//! Requests to Cohere's API, and to rerank.

use super::*;

/// The tokens of a request to `endpoint` with this body.
fn input(endpoint: Endpoint, body: &Value) -> u64 {
    input_tokens_for("command-a-03-2025", endpoint, body)
}

#[test]
fn a_chat_is_its_messages_its_tools_and_its_documents() {
    let messages = json!([{"role": "user", "content": "Hello!"}]);
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let plain = input(Endpoint::CohereChat, &json!({"messages": messages}));
    for (name, value, is_in_prompt) in [
        ("documents", json!([{"data": {"text": "a document of words"}}]), true),
        ("response_format", json!({"type": "json_object", "schema": schema}), true),
        // The schema itself, in the other spelling of its SDKs.
        ("response_format", json!({"type": "json_object", "json_schema": schema}), true),
        ("tools", json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]), true),
        ("safety_mode", json!("CONTEXTUAL"), false),
        ("stop_sequences", json!(["a long stop sequence"]), false),
        ("citation_options", json!({"mode": "accurate"}), false),
    ] {
        let tokens = input(Endpoint::CohereChat, &json!({"messages": messages, name: value}));
        assert_eq!(tokens > plain, is_in_prompt, "{name}: {tokens}, {plain}");
    }
    let with_document = |beside: Value| {
        let mut part =
            json!({"type": "document", "document": {"data": {"text": "a document of many words"}}});
        part.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        input(Endpoint::CohereChat, &json!({"messages": [{"role": "tool", "content": [part]}]}))
    };
    assert!(with_document(json!({"text": "a"})) > with_document(json!({})));
    let body = json!({"messages": messages, "max_tokens": 30}).to_string();
    assert_eq!(read_at(Endpoint::CohereChat, body.as_bytes()).1, Some(30));
}

#[test]
fn embeddings_are_of_texts_images_and_both() {
    let of = |body: Value| input(Endpoint::CohereEmbed, &body);
    let two = tokens_of("Hello!") + tokens_of("Bye");
    assert_eq!(of(json!({"texts": ["Hello!", "Bye"], "input_type": "search_document"})), two);
    let parts = json!([{"type": "text", "text": "Hello!"}, {"type": "text", "text": "Bye"}]);
    assert_eq!(of(json!({"inputs": [{"content": parts}]})), two);
    let pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";
    let image = of(json!({"images": [pixel], "input_type": "image"}));
    assert!(image > 0);
    let parts = json!([{"type": "image_url", "image_url": {"url": pixel}}, {"type": "text", "text": "Bye"}]);
    assert_eq!(of(json!({"inputs": [{"content": parts}]})), image + tokens_of("Bye"));
    assert_eq!(read_at(Endpoint::CohereEmbed, br#"{"texts":["hi"],"max_tokens":9}"#).1, Some(0));
}

#[test]
fn a_query_is_read_with_each_document() {
    let of = |body: Value| input(Endpoint::Rerank, &body);
    let (query, one, two) = (tokens_of("What is it?"), tokens_of("a first text"), tokens_of("another"));
    let both = 2 * query + one + two;
    let documents = json!(["a first text", "another"]);
    assert_eq!(of(json!({"query": "What is it?", "documents": documents, "top_n": 1})), both);
    let objects = json!([{"text": "a first text"}, {"text": "another"}]);
    assert_eq!(of(json!({"query": "What is it?", "documents": objects, "return_documents": true})), both);
    // Whatever field a document has, it may be ranked by that.
    let by_id = json!([{"id": "a first text"}, {"id": "another"}]);
    assert_eq!(of(json!({"query": "What is it?", "documents": by_id, "rank_fields": ["id"]})), both);
    let parts = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    assert_eq!(of(json!({"query": parts("What is it?"), "documents": ["a first text", "another"]})), both);
    assert_eq!(of(json!({"query": {"text": "What is it?"}, "input": ["a first text", "another"]})), both);
    assert_eq!(of(json!({"query": "What is it?", "documents": parts("another")})), query + two);
    assert_eq!(of(json!({"query": "What is it?", "texts": ["another"]})), query + two);
    assert_eq!(read_at(Endpoint::Rerank, br#"{"query":"a","documents":["b"],"max_tokens":9}"#).1, Some(0));
}
