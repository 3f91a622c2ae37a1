//! Admission: as many requests as the limit says, charged to all limits or none, and again at the time that a refusal
//! names.

use crate::caller::{Answer, HELLO_TOKENS, hello, hello_with};
use crate::gateway::Store;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

/// The keys that these tests use.
pub fn keys() -> Value {
    json!([
        {"key": "admission-five", "rpm": 5},
        {"key": "admission-none", "rpm": 0},
        {"key": "admission-paths", "rpm": 1},
        {"key": "admission-unlimited", "unlimited": true},
        {"key": "admission-models", "rpm": 4, "models": {"gpt-4*": {"rpm": 2}, "*mini": {"output_tpm": 100}}},
        {"key": "admission-all-or-nothing", "rpm": 3, "input_tpm": 100, "output_tpm": 1000},
        {"key": "admission-input", "input_tpm": 100},
        {"key": "admission-soon", "windows": [
            {"metric": "requests", "limit": 2, "window": "1500ms", "segments": 5}
        ]},
        {"key": "admission-soon-tokens", "windows": [
            {"metric": "input_tokens", "limit": 20, "window": "1500ms", "segments": 5}
        ]},
    ])
}

#[rstest]
#[tokio::test]
async fn five_requests_a_minute_and_not_a_sixth(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("admission-five");
    for left in (0..5).rev() {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (200, left));
    }
    for _ in 0..3 {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (429, 0));
    }
}

#[rstest]
#[tokio::test]
async fn a_limit_of_nothing_admits_nobody_ever(#[values(Store::Local, Store::Redis)] store: Store) {
    let answer = store.gateway().await.caller("admission-none").hello().await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.limit_headers().iter().find(|name| name.starts_with("retry-after")), None);
}

#[rstest]
#[tokio::test]
async fn requests_that_only_read_are_not_touched(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("admission-paths");
    assert_eq!(caller.hello().await.status, 200);
    assert_eq!(caller.hello().await.status, 429);
    for (method, path) in [
        (Method::GET, "/v1/models"),
        (Method::GET, "/v1/chat/completions"),
        (Method::HEAD, "/v1/chat/completions"),
        (Method::OPTIONS, "/v1/chat/completions"),
    ] {
        let request = caller.request(method.clone(), path);
        let answer = Answer::to(request.header("x-mock-header", "x-ratelimit-limit: its own")).await;
        // The mock answers 400 to a request without a body.
        assert_eq!(answer.status, 400, "{method} {path}");
        assert_eq!(answer.header("x-ratelimit-limit"), Some("its own"), "{method} {path}");
        assert_eq!(answer.limit_headers(), ["x-ratelimit-limit"], "{method} {path}");
    }
    for path in ["/v1/chat/completions?stream=1", "/any/where/chat/completions"] {
        let answer = Answer::to(caller.request(Method::POST, path).json(&hello())).await;
        assert_eq!(answer.status, 429, "{path}");
    }
}

#[rstest]
#[tokio::test]
async fn an_unlimited_key_is_not_touched(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("admission-unlimited");
    for _ in 0..30 {
        let request = caller.chat(&hello()).header("x-mock-header", "x-ratelimit-remaining-requests: 7");
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.limit_headers(), ["x-ratelimit-remaining-requests"]);
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("7"));
    }
}

#[rstest]
#[tokio::test]
async fn a_model_can_have_limits_of_its_own(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("admission-models");
    let send = async |model: &str| Answer::to(caller.chat(&hello_with(json!({"model": model})))).await;
    assert_eq!(send("gpt-4o").await.status, 200);
    assert_eq!(send("gpt-4-turbo").await.status, 200);
    let refused = send("gpt-4o").await;
    assert_eq!((refused.status, refused.number("x-ratelimit-limit")), (429, 2));
    // The model's limit refused, so the key's own has counted two.
    let other = send("o3").await;
    assert_eq!((other.status, other.number("x-ratelimit-remaining-requests")), (200, 1));
    let capped = Answer::to(caller.chat(&hello_with(json!({"model": "o3-mini", "max_tokens": 101})))).await;
    assert_eq!((capped.status, capped.number("x-ratelimit-limit-output-tokens")), (429, 100));
    assert_eq!(send("o3").await.status, 200);
    let refused = send("o3").await;
    assert_eq!((refused.status, refused.number("x-ratelimit-limit")), (429, 4));
}

#[rstest]
#[tokio::test]
async fn a_request_is_charged_to_all_limits_or_to_none(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("admission-all-or-nothing");
    let long = "word ".repeat(100);
    let too_much = [
        json!({"messages": [{"role": "user", "content": long}]}),
        json!({"max_tokens": 1001}),
        json!({"max_completion_tokens": 501, "n": 2}),
    ];
    for members in too_much {
        let answer = Answer::to(caller.chat(&hello_with(members.clone()))).await;
        assert_eq!(answer.status, 429, "{members}");
        assert_eq!(answer.json()["error"]["type"], "tokens");
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), 3);
        assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), 100);
        assert_eq!(answer.number("x-ratelimit-remaining-output-tokens"), 1000);
    }
    let answer = Answer::to(caller.chat(&hello_with(json!({"max_tokens": 500, "n": 2})))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.number("x-ratelimit-remaining-requests"), 2);
    assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), 100 - HELLO_TOKENS);
    assert_eq!(answer.number("x-ratelimit-remaining-output-tokens"), 0);
}

#[rstest]
#[tokio::test]
async fn as_many_prompts_are_admitted_as_fit(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("admission-input");
    let send = || caller.chat(&hello()).header("x-mock-prompt-tokens", HELLO_TOKENS);
    for admitted in 1..=100 / HELLO_TOKENS {
        let answer = Answer::to(send()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), 100 - admitted * HELLO_TOKENS);
    }
    let answer = Answer::to(send()).await;
    assert_eq!((answer.status, answer.number("x-ratelimit-remaining-input-tokens")), (429, 1));
}

/// The clock of the store decides when; the test waits as long as the refusal says.
#[rstest]
#[case("admission-soon")]
#[case("admission-soon-tokens")]
#[tokio::test]
async fn a_request_is_admitted_after_the_wait_that_its_refusal_names(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] key: &str,
) {
    let gateway = store.gateway().await;
    let caller = gateway.caller(key);
    let send = || caller.chat(&hello()).header("x-mock-prompt-tokens", HELLO_TOKENS);
    for _ in 0..3 {
        let refused = loop {
            let answer = Answer::to(send()).await;
            if answer.status == 429 {
                break answer;
            }
        };
        let wait = refused.number("retry-after-ms");
        assert!((1..=1800).contains(&wait), "a unit is gone after the window and a segment: {wait} ms");
        assert_eq!(refused.number("retry-after"), wait.div_ceil(1000));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(Answer::to(send()).await.status, 200);
    }
}
