//! Valid and malformed requests, and the counts that OpenAI publishes.

mod caps;
mod cohere;
mod content;
mod formats;
mod gemini;
mod laws;
mod ollama;

use super::*;
use crate::models::Encodings;
use crate::tokens::{Counting, Encoding, Factor, Tokenizer};
use serde_json::{Value, json};
use std::path::Path;

fn tokenizer(model: Option<&str>) -> Tokenizer {
    Encodings::default().tokenizer(model)
}

/// Input tokens and output cap.
fn read(body: &[u8]) -> (u64, Option<u64>) {
    read_at(Endpoint::ChatCompletions, body)
}

fn read_at(endpoint: Endpoint, body: &[u8]) -> (u64, Option<u64>) {
    let body = Body::new(body);
    let request = Request::read(endpoint, &body);
    (count(&request, tokenizer(request.first_model())), request.output_cap().tokens)
}

/// Input tokens of a request for the first model that it names.
fn count(request: &Request<'_>, tokenizer: Tokenizer) -> u64 {
    let text = request.text_tokens(&Meter::unlimited(tokenizer));
    request.input_tokens(text, request.first_model(), tokenizer)
}

fn input_tokens_at(endpoint: Endpoint, body: &Value) -> u64 {
    read_at(endpoint, body.to_string().as_bytes()).0
}

fn input_tokens(body: &Value) -> u64 {
    read(body.to_string().as_bytes()).0
}

/// Input tokens of a request without a fault for `model`, whose text counts as that of an unknown model.
fn input_tokens_for(model: &str, endpoint: Endpoint, body: &Value) -> u64 {
    let text = body.to_string();
    let body = Body::new(text.as_bytes());
    let request = Request::read(endpoint, &body);
    assert_eq!(request.fault, None);
    let tokenizer = tokenizer(None);
    let tokens = request.text_tokens(&Meter::unlimited(tokenizer));
    request.input_tokens(tokens, Some(model), tokenizer)
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
    for example in published("texts.json")["expected"].as_array().unwrap() {
        for (encoding, expected) in example["counts"].as_object().unwrap() {
            let encoding: Encoding = serde_json::from_value(json!(encoding)).unwrap();
            let tokenizer = Tokenizer::new(Counting { encoding, factor: Factor::ONE });
            let count = tokenizer.count(example["text"].as_str().unwrap());
            assert_eq!(count, expected.as_u64().unwrap(), "{example} {encoding:?}");
        }
    }
}

#[test]
fn an_unknown_model_counts_as_gpt_4o() {
    let mut example = published("tools.json");
    for (model, expected) in [("gpt-4o", 101), ("some/model-9", 101), ("openai/gpt-4", 105)] {
        example["body"]["model"] = json!(model);
        assert_eq!(input_tokens(&example["body"]), expected);
    }
}

#[test]
fn the_factor_applies_to_text_alone() {
    let body = br#"{"messages":[{"role":"user","content":"hi"}]}"#;
    let factor = Factor::new(1.5).unwrap();
    let tokenizer = Tokenizer::new(Counting { encoding: Encoding::O200kBase, factor });
    let body = Body::new(body);
    // 3 + `user` + `hi`, times 1.5 and rounded up, + 3.
    assert_eq!(count(&Request::read(Endpoint::ChatCompletions, &body), tokenizer), 9);
}

/// Each content costs as much as a plain text, or so many tokens more.
#[test]
fn content_is_counted_by_its_parts() {
    let of = |message: Value| input_tokens(&json!({"model": "gpt-4o", "messages": [message]}));
    let plain = |text: &str| of(json!({"role": "user", "content": text}));
    let user = |content: Value| of(json!({"role": "user", "content": content}));
    let nothing = plain("");
    for (message, expected) in [
        (user(json!([{"type": "text", "text": "hello world"}])), plain("hello world")),
        (user(json!(["hello world"])), plain("hello world")),
        (user(json!([{"type": "text", "text": 7}, {"type": "text", "text": "hello"}])), plain("hello")),
        (user(json!([{"type": "image_url", "image_url": {"url": "data:…", "detail": "low"}}])), nothing + 85),
        (user(json!([{"type": "image_url", "image_url": {"url": "https://…"}}])), nothing + 1_445),
        (user(json!([{"type": "image_url", "image_url": "https://…"}])), nothing + 1_445),
        (user(json!([{"type": "video_url", "video_url": {"url": "AAAA"}}, {"type": "?"}, 3])), nothing + 4),
        (user(json!(null)), nothing),
        (user(json!({"text": "hello"})), plain("hello")),
        // The role, the name, twice, the arguments, and 5; ids and types are not part of the prompt.
        (
            of(json!({"role": "user", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "hello", "arguments": " world"}}]})),
            plain("hello world") + 1 + 5,
        ),
        (
            of(json!({"role": "user", "function_call": {"name": "hello", "arguments": " world"}})),
            plain("hello world") + 1 + 5,
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
fn functions_count_as_tools() {
    let example = published("tools.json");
    let mut legacy = example["body"].clone();
    let tools = legacy["tools"].take();
    let functions: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["function"].clone()).collect();
    legacy["functions"] = json!(functions);
    legacy["model"] = json!("gpt-4o");
    assert_eq!(input_tokens(&legacy), 101);
}

#[test]
fn requests_for_streams_are_recognized() {
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
fn whatever_some_reader_takes_for_true_asks_for_the_background() {
    for (body, expected) in [
        (r#"{"background":true}"#, true),
        (r#"{"Background":true,"background":false}"#, true),
        (r#"{"background":1}"#, true),
        (r#"{"background":"True"}"#, true),
        (r#"{"background":false}"#, false),
        (r#"{"background":null}"#, false),
        (r#"{"background":0}"#, false),
        (r#"{"background":"no"}"#, false),
        (r#"{"background":{"a":true}}"#, false),
        ("{}", false),
    ] {
        let body = Body::new(body.as_bytes());
        assert_eq!(Request::read(Endpoint::Responses, &body).background, expected, "{body:?}");
        assert!(!Request::read(Endpoint::ChatCompletions, &body).background);
    }
}

#[test]
fn a_body_without_a_prompt_is_charged_for_its_size() {
    let body = br#"{"model":"text-embedding-3-small","inputs":"hello","max_tokens":3}"#;
    for (endpoint, cap) in [
        (Endpoint::ChatCompletions, Some(3)),
        (Endpoint::Completions, Some(3)),
        (Endpoint::Embeddings, Some(0)),
        (Endpoint::Responses, None),
        (Endpoint::Messages, Some(3)),
    ] {
        assert_eq!(read_at(endpoint, body), (17, cap));
    }
}

/// Bodies that no reader reads, by mistake or on purpose. None may cause a panic.
#[test]
fn bodies_that_nobody_reads_have_a_fault() {
    for body in [
        &b""[..],
        b"not json at all!",
        b"null",
        b"7",
        b"\"text\"",
        b"[]",
        b"[[7]]",
        br#"{"max_tokens":5,"messages":[{"role":"user","content":"#,
        b"model=gpt-4o&messages=hi",
        b"\x1F\x8B\x08",
    ] {
        let read = Body::new(body);
        let request = Request::read(Endpoint::ChatCompletions, &read);
        assert!(request.fault.is_some() && !request.is_plain(), "{body:?}");
        assert_eq!((request.models(), request.size()), (Candidates::UNKNOWN, body.len() as u64));
    }
}

/// Bodies that some readers read, each as it reads them.
#[test]
fn bodies_that_only_some_readers_read_are_charged() {
    let deep = |times: usize| "[".repeat(times) + &"]".repeat(times);
    let ten_mb = "x".repeat(10_000_000);
    let hi = r#"[{"role":"user","content":"hi"}]"#;
    for (body, expected) in [
        (r#"{"messages":"hi there"}"#.into(), (8, None)),
        (r#"{"messages":{"role":"user","content":"hi"}}"#.into(), (8, None)),
        (r#"{"messages":[1,null,"x",[]]}"#.into(), (15, None)),
        (format!(r#"[{{"messages":{hi}}}]"#), (8, None)),
        (format!(r#"{{"messages":{hi}}} trailing"#), (8, None)),
        (format!(r#"{{"messages":{hi}}}{{"messages":{hi}}}"#), (13, None)),
        (format!(r#"{{"temperature":NaN,"max_tokens":5,"messages":{hi}}}"#), (8, Some(5))),
        (format!(r#"{{"messages":{hi},"Messages":{hi}}}"#), (13, None)),
        (r#"{"messages":[{"ROLE":"user","Content":"hi"}]}"#.into(), (8, None)),
        ("{'messages':[{role:user,content:hi,},],max_tokens:0x10} // that is all".into(), (8, Some(16))),
        // Depth is no fault, in any member.
        (format!(r#"{{"metadata":{},"messages":{hi}}}"#, deep(100_000)), (8, None)),
        (format!(r#"{{"max_tokens":{},"messages":{hi}}}"#, deep(100_000)), (8, None)),
        (format!(r#"{{"messages":{hi},"messages":{hi}}}"#), (13, None)),
        (format!("\u{FEFF}{{\"messages\":{hi}}}"), (8, None)),
        (r#"{"messages":[{"role":"user","content":"\ud83d"}]}"#.into(), (8, None)),
        (r#"{"messages":[{"role":"user","content":"\u0000"}]}"#.into(), (8, None)),
        (r#"{"mess\u0061ges":[{"role":"user","content":"hi"}]}"#.into(), (8, None)),
        (format!(r#"{{"user":"{ten_mb}","messages":{hi}}}"#), (8, None)),
    ] {
        let start: String = body.chars().take(60).collect();
        assert_eq!(read(body.as_bytes()), expected, "{start}");
        let body = Body::new(body.as_bytes());
        assert_eq!(Request::read(Endpoint::ChatCompletions, &body).fault, None, "{start}");
    }
    assert_eq!(read(b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xFF\"}]}"), (8, None));
    let nested = format!(
        r#"{{"messages":[{{"role":"user","content":{}"hi"{}}}],"max_tokens":5}}"#,
        "[".repeat(150),
        "]".repeat(150)
    );
    let (tokens, cap) = read(nested.as_bytes());
    assert!(tokens > 8 && cap == Some(5), "{tokens}");
}

#[test]
fn what_servers_put_into_a_prompt_beside_its_messages_counts_as_text() {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let with = |endpoint, name: &str, value: &Value| {
        let prompt = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::OllamaChat | Endpoint::CohereChat => {
                "messages"
            }
            Endpoint::CohereEmbed => "texts",
            Endpoint::Rerank => "documents",
            Endpoint::Completions | Endpoint::OllamaGenerate => "prompt",
            Endpoint::Embeddings | Endpoint::Responses | Endpoint::Other(_) => "input",
            Endpoint::Gemini | Endpoint::GeminiEmbeddings => "contents",
        };
        input_tokens_at(
            endpoint,
            &json!({prompt: if prompt == "messages" { hi.clone() } else { json!("hi") }, name: value}),
        )
    };
    let text = "Only the best of words";
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Responses,
        Endpoint::Messages,
    ] {
        let none = with(endpoint, "temperature", &json!(0.5));
        for name in [
            "documents",
            "guided_json",
            "guided_choice",
            "guided_regex",
            "guided_grammar",
            "structured_outputs",
            "chat_template",
            "chat_template_kwargs",
            "extra_body",
            "grammar",
            "json_schema",
            "preamble",
            "chat_history",
            "message",
            "system_prompt",
            "data_sources",
            "input_extra",
            "whatever_comes_next",
        ] {
            assert_eq!(with(endpoint, name, &json!(text)), none + tokens_of(text), "{endpoint:?} {name}");
            let list = json!([{"title": text, "n": 1}]);
            assert_eq!(
                with(endpoint, name, &list),
                none + tokens_of(&list.to_string()),
                "{endpoint:?} {name}"
            );
        }
        for (name, value) in [
            ("metadata", json!({"user": text})),
            ("user", json!(text)),
            ("stop", json!([text])),
            ("logit_bias", json!({"50256": -100})),
            ("provider", json!({"order": [text]})),
            ("whatever", json!([])),
            ("whatever", json!(12)),
        ] {
            assert_eq!(with(endpoint, name, &value), none, "{endpoint:?} {name}");
        }
    }
    let message = |name: &str, value: Value| {
        let mut message = json!({"role": "user", "content": "hi"});
        message[name] = value;
        input_tokens(&json!({"messages": [message]}))
    };
    assert_eq!(message("tool_plan", json!(text)), 8 + tokens_of(text));
    assert_eq!(message("reasoning", json!(text)), 8 + tokens_of(text));
    assert_eq!(message("tool_call_id", json!(text)), 8);
    let twice = json!({"role": "user", "content": "hi", "reasoning": text, "reasoning_content": text});
    assert_eq!(
        input_tokens(&json!({"messages": [twice]})),
        8 + tokens_of(text),
        "the same text under two names"
    );
}

fn tokens_of(text: &str) -> u64 {
    tokenizer(None).count(text)
}

/// JSON in a prompt counts the same however it is written.
#[test]
fn json_counts_in_its_shortest_form() {
    let body = |schema: &str| {
        let format = format!(r#"{{"type":"json_schema","json_schema":{{"name":"n","schema":{schema}}}}}"#);
        read(format!(r#"{{"messages":[{{}}],"response_format":{format}}}"#).as_bytes()).0
    };
    let shortest = body(r#"{"type":"object","title":"é"}"#);
    assert_eq!(body("{ \"type\" :\n\"object\",\t\"title\":\"\\u00e9\" }"), shortest);
}

/// Of several values of a member, the dearest counts, also where that is deep inside.
#[test]
fn no_member_hides_another_of_its_name() {
    let image = |members: &str| {
        let part = format!(r#"{{"type":"image_url","image_url":{{{members}}}}}"#);
        read(format!(r#"{{"model":"gpt-4o","messages":[{{"content":[{part}]}}]}}"#).as_bytes()).0
    };
    assert_eq!(image(r#""url":"x","detail":"high","detail":"low""#), image(r#""url":"x","detail":"high""#));
    assert!(image(r#""url":"x","url":"y""#) >= image(r#""url":"x""#));
    let tool = |members: &str| {
        read(format!(r#"{{"messages":[{{}}],"tools":[{{"function":{{"name":"f",{members}}}}}]}}"#).as_bytes())
            .0
    };
    let long = tool(r#""description":"a long description of what it does""#);
    assert!(tool(r#""description":"a long description of what it does","description":"""#) >= long);
    let source = |members: &str| {
        let data = "A".repeat(400_000);
        let source =
            format!(r#"{{"type":"document","source":{{"data":"{data}",{members}"type":"base64"}}}}"#);
        read(format!(r#"{{"messages":[{{"content":[{source}]}}]}}"#).as_bytes()).0
    };
    assert!(source(r#""data":"","#) >= source(""));
    assert!(source(r#""type":"text","#) >= source(""));
}

/// What is too deep or too large to be shown as types counts as its text.
#[test]
fn deep_tools_are_counted_as_text() {
    for depth in [100, 30_000] {
        let schema = r#"{"properties":{"a":"#.repeat(depth) + "{}" + &"}}".repeat(depth);
        let body = format!(
            r#"{{"messages":[{{}}],"tools":[{{"function":{{"name":"f","description":"d.","parameters":{schema}}}}}]}}"#
        );
        let tokens = read(body.as_bytes()).0;
        assert!(tokens >= depth as u64 && tokens <= body.len() as u64, "{tokens}");
    }
}
