//! What is configured about what a request costs, and about streams that cost more than they may.

use crate::caller::{Answer, hello, hello_with};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, eventually, strangers};
use futures_util::StreamExt;
use rstest::rstest;
use serde_json::{Value, json};

/// A gateway where everybody is a stranger as in the shared ones, with these members in its configuration.
async fn gateway(store: Store, members: Value) -> Gateway {
    Gateway::start(store, strangers(members)).await
}

#[rstest]
#[tokio::test]
async fn usage_is_asked_for_and_hidden_from_who_did_not_ask(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = gateway(store, json!({"stream_usage": "inject"})).await;
    for (key, asks) in [("silent", false), ("asking", true)] {
        let chat = hello_with(json!({"stream": true, "stream_options": {"include_usage": asks}}));
        let request = gateway.caller(key).chat(&chat).header("x-mock-prompt-tokens", "77");
        let answer = Answer::to(request).await;
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        assert_eq!(answer.text().contains(r#""usage":{"#), asks, "{}", answer.text());
        let received: Value = serde_json::from_slice(&gateway.mock.received().last().unwrap().body).unwrap();
        assert_eq!(received["stream_options"]["include_usage"], true);
        gateway.charged(key, 1, 77, 16).await;
    }
}

#[rstest]
#[tokio::test]
async fn a_stream_past_its_limit_is_finished(#[values(Store::Local, Store::Redis)] store: Store) {
    let keys = json!([{"key": "over", "output_tpm": 100}]);
    let gateway = gateway(store, json!({"on_stream_over": "finish", "keys": keys})).await;
    let request = gateway.caller("over").chat(&hello_with(json!({"stream": true, "max_tokens": 20})));
    let request = request.header("x-mock-completion-tokens", "2000").header("x-mock-chunk-delay-ms", "5");
    let answer = Answer::to(request).await;
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains(r#""finish_reason":"length""#), "{text}");
    let words = text.matches("token").count();
    assert!((20..1500).contains(&words), "{words} words passed");
}

#[rstest]
#[tokio::test]
async fn others_see_what_a_stream_spends_while_it_runs(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("accounting-running");
    let request = caller.chat(&hello_with(json!({"stream": true, "max_tokens": 10})));
    let request = request.header("x-mock-completion-tokens", "100000").header("x-mock-chunk-delay-ms", "5");
    let mut body = request.send().await.unwrap().bytes_stream();
    let reading = tokio::spawn(async move { while body.next().await.is_some() {} });
    eventually("more than was reserved is spent", true, async || {
        let left = caller.too_large().await.number("x-ratelimit-remaining-output-tokens");
        STRANGER_TOKENS - left > 60
    })
    .await;
    assert!(!reading.is_finished(), "the stream still runs");
    reading.abort();
}

#[rstest]
#[tokio::test]
async fn a_request_that_failed_can_be_given_back(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = gateway(store, json!({"refund_requests_on_error": true})).await;
    let answer = Answer::to(gateway.caller("failed").chat(&hello()).header("x-mock-status", "500")).await;
    assert_eq!(answer.status, 500);
    gateway.charged("failed", 0, 0, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_token_counts_as_often_as_its_model_says(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = gateway(store, json!({"weights": {"models": {"gpt-4o": 2}}})).await;
    let request = gateway.caller("heavy").chat(&hello()).header("x-mock-prompt-tokens", "30");
    assert_eq!(Answer::to(request).await.status, 200);
    gateway.charged("heavy", 1, 60, 32).await;
}

#[rstest]
#[tokio::test]
async fn a_spent_budget_refuses(#[values(Store::Local, Store::Redis)] store: Store) {
    let budget = json!({"metric": "cost_usd", "limit": 0.5, "window": "1d", "algorithm": "fixed_window"});
    let keys = json!([{"key": "budget", "windows": [budget]}]);
    let prices = json!({"gpt-4o": {"input": 10, "output": 30}});
    let gateway = gateway(store, json!({"keys": keys, "prices": prices})).await;
    let caller = gateway.caller("budget");
    let request = caller.chat(&hello()).header("x-mock-prompt-tokens", "60000");
    assert_eq!(Answer::to(request).await.status, 200);
    eventually("the status once 0.60 dollars are spent", 429, async || caller.hello().await.status).await;
}
