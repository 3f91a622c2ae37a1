//! However a request ends, its reservation is settled once, to what is known of its cost by then.

use crate::caller::{Answer, CHAT, Caller, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

fn stream(caller: &Caller) -> RequestBuilder {
    caller.chat(&hello_with(json!({"stream": true})))
}

/// Waits until the upstream has as many requests of `key` as this.
async fn arrived(gateway: &Arc<Gateway>, key: &str, requests: usize) {
    let value = format!("Bearer {key}");
    eventually("requests upstream", requests, async || {
        gateway.mock.received().iter().filter(|request| request.headers["authorization"] == value).count()
    })
    .await;
}

/// The upstream may have done all the work by then, and will not tell: what was reserved stays charged.
#[rstest]
#[tokio::test]
async fn who_leaves_before_the_answer_begins_is_charged_what_was_reserved(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-no-answer";
    let request = gateway.caller(key).chat(&hello_with(json!({"max_tokens": 30})));
    let answer = tokio::spawn(request.header("x-mock-delay-ms", "20000").send());
    arrived(&gateway, key, 1).await;
    answer.abort();
    gateway.charged(key, 1, HELLO_TOKENS, 30).await;
}

#[rstest]
#[tokio::test]
async fn who_leaves_in_the_middle_of_a_stream_is_charged_what_has_passed(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-mid-stream";
    let request = stream(&gateway.caller(key))
        .header("x-mock-completion-tokens", "400")
        .header("x-mock-chunk-delay-ms", "40");
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while text.matches("token").count() < 5 {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    let seen = text.matches("token").count() as u64;
    drop(body);
    // A few words more may have passed Envoy by the time it knew.
    let caller = gateway.caller(key);
    eventually("output charged by the text that passed", true, async || {
        let answer = caller.too_large().await;
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), 999);
        let output = 1_000_000 - answer.number("x-ratelimit-remaining-output-tokens");
        output >= seen && output < seen + 100
    })
    .await;
    let answer = caller.too_large().await;
    assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), 1_000_000 - HELLO_TOKENS);
}

/// Leaving at every moment at once: whatever was going on is settled, and what is left over is nothing.
#[rstest]
#[tokio::test]
async fn who_leaves_at_any_moment_leaves_nothing_behind(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let key = "endings-any-moment";
    let caller = gateway.caller(key);
    let requests = (0..60).map(async |at| {
        let request = stream(&caller).header("x-mock-chunk-delay-ms", "5").header("x-mock-no-usage", "1");
        let _ = tokio::time::timeout(Duration::from_millis(at), Answer::to(request)).await;
    });
    futures_util::future::join_all(requests).await;
    // 16 words each if all had their whole answer, 512 if a reservation were never settled.
    let output = || async {
        let answer = caller.too_large().await;
        let requests = 1000 - answer.number("x-ratelimit-remaining-requests");
        let input = 1_000_000 - answer.number("x-ratelimit-remaining-input-tokens");
        assert_eq!(input, requests * HELLO_TOKENS);
        assert!(requests <= 60);
        1_000_000 - answer.number("x-ratelimit-remaining-output-tokens")
    };
    eventually("nothing in flight", 0, async || gateway.mock.report().in_flight).await;
    let settled = output().await;
    eventually("the same as a moment ago", settled, output).await;
}

#[rstest]
#[tokio::test]
async fn an_upstream_that_breaks_off_is_paid_for_what_it_sent(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-reset";
    // The role and four words arrive; then the connection breaks.
    let request =
        stream(&gateway.caller(key)).header("x-mock-chunk-delay-ms", "30").header("x-mock-reset-after", "5");
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    let broken = loop {
        match body.next().await {
            Some(Ok(piece)) => text.push_str(std::str::from_utf8(&piece).unwrap()),
            other => break other,
        }
    };
    assert!(broken.is_some(), "the client is told that the stream is not whole");
    assert_eq!(text.matches("token").count(), 4);
    gateway.charged(key, 1, HELLO_TOKENS, 4).await;
}

#[rstest]
#[case::nobody_listens("/nowhere", 503, "")]
#[case::it_takes_too_long("/hasty", 504, "20000")]
#[tokio::test]
async fn an_upstream_that_envoy_gives_up_on_costs_a_request_and_no_tokens(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] route: &str,
    #[case] status: u16,
    #[case] delay_ms: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("endings{route}");
    let mut request = gateway.caller(&key).request(Method::POST, &format!("{route}{CHAT}")).json(&hello());
    if !delay_ms.is_empty() {
        request = request.header("x-mock-delay-ms", delay_ms);
    }
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, status);
    assert_eq!(answer.number("x-ratelimit-remaining-requests"), 999);
    gateway.charged(&key, 1, 0, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_stream_that_envoy_gives_up_on_is_charged_what_has_passed(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-hasty-stream";
    let request = gateway
        .caller(key)
        .request(Method::POST, &format!("/hasty{CHAT}"))
        .json(&hello_with(json!({"stream": true})))
        .header("x-mock-completion-tokens", "400")
        .header("x-mock-chunk-delay-ms", "50");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "it is cut off");
    let caller = gateway.caller(key);
    eventually("output charged by the text that passed", true, async || {
        let answer = caller.too_large().await;
        let output = 1_000_000 - answer.number("x-ratelimit-remaining-output-tokens");
        (1..100).contains(&output)
    })
    .await;
}
