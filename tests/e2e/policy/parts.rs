//! Limits on the parts of prompts and answers that only answers report: Anthropic's input tokens per minute, which
//! leave out what a cache has, and reasoning.

use crate::api::Api;
use crate::caller::{Answer, Caller, HELLO_TOKENS, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};

/// A message that is answered with `answer`.
fn message(caller: &Caller, answer: &str) -> RequestBuilder {
    let request = caller.request(Method::POST, Api::Messages.path()).json(&Api::Messages.hello(8));
    request.header("x-mock-answer", answer)
}

async fn give(gateway: &Gateway, name: &str, usage: Value) {
    let answer = json!({"type": "message", "content": [{"type": "text", "text": "Hi"}], "usage": usage});
    gateway.mock.give(name, "application/json", answer.to_string()).await;
}

#[rstest]
#[tokio::test]
async fn tokens_from_a_cache_do_not_count(#[values(Store::Local, Store::Redis)] store: Store) {
    let limit = json!([{"metric": "uncached_input_tokens", "limit": 1000, "window": "1h"}]);
    let gateway =
        Gateway::start(store, json!({"keys": [{"key": "cache-reader-key", "windows": limit}]})).await;
    let caller = gateway.caller("cache-reader-key");
    let failing = || message(&caller, "cached").header("x-mock-status", "500");
    // Written and read for 5 minutes: 200 and 50 count, 100000 do not.
    give(
        &gateway,
        "cached",
        json!({"input_tokens": 50, "cache_read_input_tokens": 100_000, "cache_creation_input_tokens": 200,
            "output_tokens": 3}),
    )
    .await;
    for _ in 0..3 {
        assert_eq!(Answer::to(message(&caller, "cached")).await.status, 200);
    }
    // A request that fails is given back; while its answer passes, its estimate is still reserved.
    let left = 1_000 - 3 * 250 - HELLO_TOKENS;
    eventually("tokens left", left, async || {
        Answer::to(failing()).await.number("anthropic-ratelimit-input-tokens-remaining")
    })
    .await;
    give(&gateway, "fresh", json!({"input_tokens": 400, "output_tokens": 3})).await;
    assert_eq!(Answer::to(message(&caller, "fresh")).await.status, 200, "it was expected to be small");
    eventually("the status once 1150 of 1000 tokens are spent", 429, async || {
        Answer::to(message(&caller, "cached")).await.status
    })
    .await;
    let refused = Answer::to(message(&caller, "cached")).await;
    assert!(refused.text().contains("uncached input tokens per 1h: limit 1000"), "{}", refused.text());
}

#[rstest]
#[tokio::test]
async fn reasoning_has_a_limit_of_its_own(#[values(Store::Local, Store::Redis)] store: Store) {
    let limit = json!([{"metric": "reasoning_tokens", "limit": 500, "window": "1h"}]);
    let gateway = Gateway::start(store, json!({"keys": [{"key": "thinker-key", "windows": limit}]})).await;
    let caller = gateway.caller("thinker-key");
    let answer = json!({"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5_000,
            "completion_tokens_details": {"reasoning_tokens": 300}}});
    gateway.mock.give("thought", "application/json", answer.to_string()).await;
    let ask = || caller.chat(&hello_with(json!({"model": "o3"}))).header("x-mock-answer", "thought");
    assert_eq!(Answer::to(ask()).await.status, 200);
    // 200 are left, and a thought of unknown length waits until nothing is reserved.
    eventually("the status once 300 of 500 tokens are spent", 429, async || Answer::to(ask()).await.status)
        .await;
    let refused = Answer::to(ask()).await;
    assert!(refused.message().contains("reasoning tokens per 1h: limit 500, used 300"), "{refused:?}");
    let plain = Answer::to(caller.chat(&hello_with(json!({"model": "gpt-4o"})))).await;
    assert_eq!(plain.status, 200, "a model that does not reason");
}
