//! Upstreams that report usage, errors and text in ways of their own: requests cost what the provider bills, and never
//! less because an answer was hard to read.

use crate::api::Api;
use crate::caller::{Answer, HELLO_TOKENS, hello_with};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, eventually, strangers};
use crate::routes::HTTP2;
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

/// A stream of these events, with `[DONE]` at its end.
fn stream(events: &[Value]) -> String {
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    events.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// A stream of events that have names, as Anthropic's and those of the Responses API.
fn named(events: &[Value]) -> String {
    let named = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(named).collect()
}

fn text(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

fn stop() -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
}

fn with(mut object: Value, members: Value) -> Value {
    object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    object
}

/// A request for at most 60 tokens that is answered with what was given under `answer`.
fn ask(gateway: &Gateway, key: &str, api: Api, answer: &str) -> RequestBuilder {
    let request = gateway.caller(key).request(Method::POST, api.path()).json(&api.hello(60));
    request.header("x-mock-answer", answer)
}

/// Every answer is charged in one request, and what follows must be charged too: nothing stays in the way.
async fn assert_charged(gateway: &Gateway, key: &str, api: Api, kind: &str, body: String, expected: (u64, u64)) {
    gateway.mock.give(key, kind, body).await;
    let request = ask(gateway, key, api, key);
    assert_eq!(Answer::to(request).await.status, 200, "{key}");
    let (input, output) = expected;
    gateway.charged(key, 1, input, output).await;
}

#[rstest]
#[tokio::test]
async fn parts_that_do_not_add_up_are_charged_as_the_total_says(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] streamed: bool,
) {
    // A gateway of its own: a model that has reported reasoning once is charged more for an answer that breaks off.
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    for (name, usage, expected) in [
        (
            "reasoning",
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94}}),
            (32, 103),
        ),
        ("thoughts", json!({"prompt_tokens": 8, "completion_tokens": 12, "total_tokens": 82}), (8, 74)),
        (
            "sound",
            json!({"prompt_tokens": 11, "completion_tokens": 15, "total_tokens": 401,
                "prompt_tokens_details": {"audio_tokens": 375}}),
            (386, 15),
        ),
    ] {
        let (kind, body) = if streamed {
            (SSE, stream(&[text("Hi"), with(stop(), json!({"usage": usage}))]))
        } else {
            (JSON, json!({"choices": [{"message": {"content": "Hi"}}], "usage": usage}).to_string())
        };
        let key = format!("upstreams-total-{name}-{streamed}");
        assert_charged(&gateway, &key, Api::Chat, kind, body, expected).await;
    }
}

#[rstest]
#[tokio::test]
async fn usage_is_found_in_every_place_and_under_every_name(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let usage = json!({"prompt_tokens": 70, "completion_tokens": 5, "total_tokens": 75});
    let in_choice = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}]});
    let of_groq = with(stop(), json!({"x_groq": {"id": "r", "usage": usage}}));
    let in_delta = json!({"choices": [{"index": 0, "delta": {"usage": usage}, "finish_reason": "stop"}]});
    let of_gateway = json!({"result": {"response": "Hi", "usage": usage}, "success": true});
    let beside = json!({"type": "response.completed", "response": {"output": []}, "usage": usage});
    let deepseek = json!({"prompt_tokens": 70, "completion_tokens": 5, "total_tokens": 75,
        "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 6});
    let iteration = |kind: &str, input: u64, output: u64| {
        json!({"type": kind, "input_tokens": input, "output_tokens": output, "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0})
    };
    let compacted = json!({"input_tokens": 23_000, "output_tokens": 1_000,
        "iterations": [iteration("compaction", 180_000, 3_500), iteration("message", 23_000, 1_000)]});
    let content = json!([{"type": "text", "text": "Hi"}]);
    let message = |usage: &Value| json!({"type": "message", "content": content, "usage": usage});
    let messages = |start: Value, last: Value| {
        named(&[
            json!({"type": "message_start", "message": {"usage": start}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last}),
            json!({"type": "message_stop"}),
        ])
    };
    let cached = json!({"input_tokens": 100, "cache_read_input_tokens": 55_096, "output_tokens": 7});
    let zeros = json!({"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 15});
    let later = json!({"input_tokens": 181, "cache_read_input_tokens": 0, "output_tokens": 8});
    for (name, api, kind, body, expected) in [
        ("choice", Api::Chat, SSE, stream(&[text("Hi"), in_choice.clone()]), (70, 5)),
        ("groq", Api::Chat, SSE, stream(&[text("Hi"), of_groq]), (70, 5)),
        ("deepseek", Api::Chat, JSON, json!({"choices": [], "usage": deepseek}).to_string(), (70, 5)),
        ("choice-body", Api::Chat, JSON, in_choice.to_string(), (70, 5)),
        ("compacted", Api::Messages, JSON, message(&compacted).to_string(), (203_000, 4_500)),
        ("compacted-stream", Api::Messages, SSE, messages(later.clone(), compacted), (203_000, 4_500)),
        ("delta", Api::Chat, SSE, stream(&[text("Hi"), in_delta]), (70, 5)),
        ("gateway", Api::Chat, JSON, of_gateway.to_string(), (70, 5)),
        ("beside", Api::Responses, SSE, named(&[beside]), (70, 5)),
        ("zeros", Api::Messages, SSE, messages(cached.clone(), zeros), (55_196, 15)),
        ("later", Api::Messages, SSE, messages(cached, later), (181, 8)),
    ] {
        let key = format!("upstreams-places-{name}");
        assert_charged(&gateway, &key, api, kind, body, expected).await;
    }
}

/// As Perplexity does: beside each new word the whole message so far.
#[rstest]
#[tokio::test]
async fn text_that_comes_twice_is_charged_once_and_finishes_no_stream(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let keys = json!([{"key": "twice", "windows": [{"metric": "output_tokens", "limit": 500, "window": "1h"}]}]);
    let gateway = Gateway::start(store, strangers(json!({"on_stream_over": "finish", "keys": keys}))).await;
    let chunk = |words: usize| {
        let message = json!({"role": "assistant", "content": " word".repeat(words), "reasoning": null});
        json!({"choices": [{"index": 0, "delta": {"content": " word"}, "message": message}]})
    };
    let chunks: Vec<Value> = (1..=300).map(chunk).collect();
    let body = stream(&chunks);
    gateway.mock.give("twice", SSE, body.clone()).await;
    let request = ask(&gateway, "twice", Api::Chat, "twice").header("x-mock-chunk-delay-ms", "1");
    assert_eq!(Answer::to(request).await.text(), body, "it passes to its end");
    eventually("output left", 200, async || {
        gateway.caller("twice").too_large().await.number("x-ratelimit-remaining-output-tokens")
    })
    .await;

    let thought = |text: &str| json!({"choices": [{"delta": {"reasoning": text, "reasoning_content": text}}]});
    let thoughts = stream(&[thought(" one"), thought(" two"), thought(" three")]);
    // The answer shows reasoning and reports no usage: it costs at least what such answers mostly do, within its cap.
    assert_charged(&gateway, "thoughts", Api::Chat, SSE, thoughts, (HELLO_TOKENS, 60)).await;
}

#[rstest]
#[tokio::test]
async fn an_error_behind_a_200_costs_no_tokens_unless_output_came_before_it(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let error = json!({"error": {"message": "overloaded", "code": 502}});
    let failed = json!({"type": "response.failed",
        "response": {"status": "failed", "error": {"code": "server_error"}, "output": [], "usage": null}});
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error"}});
    let role = json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]});
    let said = json!({"choices": [{"message": {"content": "one two three"}}], "error": {"code": 502}});
    for (name, api, kind, body, expected) in [
        ("object", Api::Chat, JSON, error.to_string(), (0, 0)),
        ("text", Api::Completions, JSON, json!({"error": "no"}).to_string(), (0, 0)),
        ("event", Api::Chat, SSE, stream(&[role.clone(), error.clone()]), (0, 0)),
        ("named", Api::Chat, SSE, "event: error\ndata: out of memory\n\n".to_owned(), (0, 0)),
        ("anthropic", Api::Messages, SSE, named(&[overloaded]), (0, 0)),
        ("status", Api::Responses, JSON, failed["response"].to_string(), (0, 0)),
        ("failed", Api::Responses, SSE, named(&[failed]), (0, 0)),
        ("said", Api::Chat, JSON, said.to_string(), (HELLO_TOKENS, 3)),
        ("said-stream", Api::Chat, SSE, stream(&[role, text("one two three"), error]), (HELLO_TOKENS, 3)),
        ("ended-early", Api::Chat, JSON, r#"{"id":"c","choices":[{"ind"#.to_owned(), (0, 0)),
        // Nobody knows how the last number went on.
        (
            "ended-in-usage",
            Api::Chat,
            JSON,
            r#"{"choices":[{"message":{"content":"one two three"}}],"usage":{"prompt_tokens":1,"completion_tokens":1"#
                .to_owned(),
            (HELLO_TOKENS, 3),
        ),
        (
            "ended-in-text",
            Api::Chat,
            JSON,
            r#"{"choices":[{"message":{"content":"one two three"#.to_owned(),
            (HELLO_TOKENS, 3),
        ),
    ] {
        let key = format!("upstreams-errors-{name}");
        assert_charged(&gateway, &key, api, kind, body, expected).await;
    }
}

/// The connection breaks within the body: by the upstream it is all that there is of it, by the client it is not.
#[rstest]
#[case::by_the_upstream_before_any_text("x", 12, false, (0, 0))]
#[case::by_the_upstream_in_the_text("one two three four", 80, false, (HELLO_TOKENS, 3))]
#[case::by_the_client("one two three four", 80, true, (HELLO_TOKENS, 60))]
#[tokio::test]
async fn a_body_that_breaks_off_is_charged_by_who_broke_it(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] over_http2: bool,
    #[case] said: &str,
    #[case] bytes: usize,
    #[case] client_leaves: bool,
    #[case] (input, output): (u64, u64),
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let key = "broken";
    let body = format!(r#"{{"id":"c","object":"chat.completion","choices":[{{"message":{{"content":"{said}"}}}}]}}"#);
    // The end of the third word of four.
    let bytes = body.find(" four").unwrap_or(bytes);
    gateway.mock.give(key, JSON, body).await;
    let (mut caller, mut path) = (gateway.caller(key), Api::Chat.path().to_owned());
    if over_http2 {
        // On both sides: streams are reset where connections would close.
        (caller, path) = (caller.over_http2(), format!("{HTTP2}{path}"));
    }
    let request = caller.request(Method::POST, &path).json(&Api::Chat.hello(60));
    let mut request = request.header("x-mock-answer", key).header("x-mock-chunk-bytes", bytes);
    if client_leaves {
        request = request.header("x-mock-gate", key);
        gateway.mock.let_through(key, 1);
    } else {
        request = request.header("x-mock-reset-after", "1").header("x-mock-chunk-delay-ms", "50");
    }
    let mut seen = request.send().await.unwrap().bytes_stream();
    assert_eq!(seen.next().await.unwrap().unwrap().len(), bytes);
    if !client_leaves {
        assert!(seen.next().await.unwrap().is_err());
    }
    drop((seen, caller));
    gateway.at_rest().await;
    gateway.charged(key, 1, input, output).await;
}

#[rstest]
#[tokio::test]
async fn usage_is_found_in_an_event_of_any_size(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let image = json!({"type": "image_generation_call", "result": "iVBORw0KGgo".repeat(150_000)});
    let last = |usage: Value| {
        named(&[
            json!({"type": "response.created", "response": {"status": "in_progress", "usage": null}}),
            json!({"type": "response.completed", "response": {"output": [image], "usage": usage}}),
        ])
    };
    let usage = json!({"input_tokens": 70, "output_tokens": 5, "total_tokens": 75});
    assert_charged(&gateway, "large", Api::Responses, SSE, last(usage), (70, 5)).await;
    // Nothing tells what it cost: the reservation stays.
    let input = Api::Responses.hello_tokens();
    gateway.mock.give("gap", SSE, last(Value::Null)).await;
    assert_eq!(Answer::to(ask(&gateway, "gap", Api::Responses, "gap")).await.status, 200);
    gateway.at_rest().await;
    gateway.charged("gap", 1, input, 60).await;
}

#[rstest]
#[tokio::test]
async fn numbers_that_cannot_be_are_charged_and_delay_nobody(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let reports = |usage: &str| format!(r#"{{"choices":[],"usage":{usage}}}"#);
    for (name, number) in [("largest", "9007199254740991"), ("beyond", "18446744073709551616"), ("float", "1e300")] {
        let key = format!("upstreams-absurd-{name}");
        let usage = format!(r#"{{"prompt_tokens":{number},"completion_tokens":{number}}}"#);
        gateway.mock.give(&key, JSON, reports(&usage)).await;
        assert_eq!(Answer::to(ask(&gateway, &key, Api::Chat, &key)).await.status, 200);
        eventually("tokens left", [0; 3], async || {
            let answer = gateway.caller(&key).too_large().await;
            ["input-tokens", "output-tokens", "tokens"]
                .map(|what| answer.number(&format!("x-ratelimit-remaining-{what}")))
        })
        .await;
    }
    // A settlement that could not be done would be tried for ever, before all others.
    let key = "upstreams-absurd-next";
    let body = reports(r#"{"prompt_tokens":70,"completion_tokens":5}"#);
    assert_charged(&gateway, key, Api::Chat, JSON, body, (70, 5)).await;
    let key = "upstreams-absurd-negative";
    let body = r#"{"choices":[{"message":{"content":"one two three"}}],
        "usage":{"prompt_tokens":-70,"completion_tokens":-5,"total_tokens":-75}}"#;
    assert_charged(&gateway, key, Api::Chat, JSON, body.to_owned(), (HELLO_TOKENS, 3)).await;
}

/// The upstream may have reasoned at length before the client left.
#[rstest]
#[case::reasons("o3", None, 512)]
#[case::reasons_within_a_cap("gpt-5-mini", Some(60), 60)]
#[case::does_not("gpt-4o", None, 5)]
#[tokio::test]
async fn a_stream_that_the_client_cuts_costs_what_the_answers_of_its_model_mostly_do(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] model: &str,
    #[case] cap: Option<u64>,
    #[case] output: u64,
) {
    let gateway = store.gateway().await;
    let key = format!("upstreams-cut-{model}");
    let caller = gateway.caller(&key);
    let mut chat = hello_with(json!({"model": model, "stream": true}));
    if let Some(cap) = cap {
        chat["max_completion_tokens"] = json!(cap);
    }
    let request = caller.chat(&chat).header("x-mock-completion-tokens", "400").header("x-mock-gate", &key);
    gateway.mock.let_through(&key, 1 + 5);
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut seen = String::new();
    while crate::endings::words(&seen) < 5 {
        seen.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    drop(body);
    // A later request shows that the first is settled.
    eventually("requests upstream", 0, async || gateway.mock.report().in_flight).await;
    let request = caller.chat(&hello_with(json!({}))).header("x-mock-prompt-tokens", "70");
    assert_eq!(Answer::to(request).await.status, 200);
    eventually("output of both", output + 16, async || {
        STRANGER_TOKENS - caller.too_large().await.number("x-ratelimit-remaining-output-tokens")
    })
    .await;
}
