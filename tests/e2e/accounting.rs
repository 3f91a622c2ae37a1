//! The configuration of costs, and of streams that cost more than their limit allows.

use crate::api::Api;
use crate::caller::{Answer, body_in_parts, hello, hello_with};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, eventually, strangers};
use futures_util::StreamExt;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// Starts a gateway with the limits for strangers and these members in its configuration.
async fn gateway(store: Store, members: Value) -> Gateway {
    Gateway::start(store, strangers(members)).await
}

#[rstest]
#[tokio::test]
async fn usage_is_requested_and_hidden_from_clients_that_did_not_request_it(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = gateway(store, json!({"stream_usage": "inject"})).await;
    for (key, include_usage) in [("silent", None), ("declining", Some(false)), ("asking", Some(true))] {
        let mut chat = hello_with(json!({"stream": true}));
        if let Some(include_usage) = include_usage {
            chat["stream_options"] = json!({"include_usage": include_usage});
        }
        let mut request = gateway.caller(key).chat(&chat).header("x-mock-prompt-tokens", "77");
        let is_shown = include_usage == Some(true);
        if !is_shown {
            // The filter could not remove usage from a compressed stream.
            request = request.header("accept-encoding", "gzip").header("x-mock-compress", "1");
        }
        let answer = Answer::to(request).await;
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        assert_eq!(answer.text().contains(r#""usage":{"#), is_shown, "{}", answer.text());
        let received = gateway.mock.received().pop().unwrap();
        let length: usize = received.headers["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(length, received.body.len());
        let mut body: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(body["stream_options"].take(), json!({"include_usage": true}));
        chat["stream_options"] = Value::Null;
        assert_eq!(body, chat, "nothing else is changed");
        gateway.charged(key, 1, 77, 16).await;
    }
}

/// A body in chunks, even with trailers, has no `content-length` to correct.
#[rstest]
#[case::chunks(false)]
#[case::trailers(true)]
#[tokio::test]
async fn usage_is_requested_in_bodies_of_unknown_length(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] ends_with_trailer: bool,
) {
    let gateway = gateway(store, json!({"stream_usage": "inject"})).await;
    let caller = gateway.caller("unknown-length").over_http2();
    let text = Api::Chat.streamed_hello(60, false).to_string();
    let (head, tail) = text.split_at(30);
    let body = body_in_parts(&[head, tail], ends_with_trailer);
    let request = caller.request(Method::POST, Api::Chat.path()).body(body);
    let answer = Answer::to(request.header("x-mock-prompt-tokens", "77")).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n") && !answer.text().contains("usage\":{"));
    let received: Value = serde_json::from_slice(&gateway.mock.received()[0].body).unwrap();
    assert_eq!(received["stream_options"], json!({"include_usage": true}));
    gateway.charged("unknown-length", 1, 77, 16).await;
}

#[rstest]
#[tokio::test]
async fn a_stream_past_its_limit_is_finished(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(Api::Chat, Api::Completions, Api::Responses, Api::Messages)] api: Api,
) {
    let keys = json!([{"key": "over", "output_tpm": 100}]);
    let gateway = gateway(store, json!({"on_stream_over": "finish", "keys": keys})).await;
    let request = gateway
        .caller("over")
        .request(Method::POST, api.path())
        .json(&api.streamed_hello(20, false))
        .header("x-mock-completion-tokens", "2000")
        .header("x-mock-chunk-delay-ms", "5")
        // The filter could not end a compressed stream.
        .header("accept-encoding", "gzip")
        .header("x-mock-compress", "1");
    let answer = Answer::to(request).await;
    let text = answer.text();
    let (reason, end) = match api {
        Api::Chat | Api::Completions => (r#""finish_reason":"length""#, "data: [DONE]\n\n"),
        Api::Messages => (r#""stop_reason":"max_tokens""#, "data: {\"type\":\"message_stop\"}\n\n"),
        Api::Responses => (r#""reason":"max_output_tokens""#, "}\n\n"),
        Api::Embeddings => unreachable!(),
    };
    assert!(text.ends_with(end) && text.contains(reason), "{text}");
    let words = crate::endings::words(&text);
    assert!((20..1500).contains(&words), "{words} words passed");
    // The upstream goes on, and all of its output is charged.
    eventually("output left", 0, async || {
        gateway.caller("over").too_large().await.number("x-ratelimit-remaining-output-tokens")
    })
    .await;
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
