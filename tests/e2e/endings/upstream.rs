//! Upstreams that break off, fail, are too slow or do not exist.

use super::{prompt_of_part, stream, words};
use crate::api::Api;
use crate::caller::{Answer, CHAT, hello, hello_with};
use crate::gateway::{STRANGER_TOKENS, Store, eventually};
use crate::routes::{ABORTED, HASTY, HTTP2, NOWHERE, RETRIED};
use futures_util::StreamExt;
use reqwest::Method;
use rstest::rstest;
use serde_json::json;

#[rstest]
#[tokio::test]
async fn an_upstream_that_breaks_off_is_paid_for_what_it_sent(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(Api::Chat, Api::Completions, Api::Responses, Api::Messages)] api: Api,
    #[values("", HTTP2)] prefix: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("endings-reset-{api:?}{prefix}");
    // Four words arrive; then the connection breaks, or over HTTP/2 the stream is reset.
    let request = stream(&gateway.caller(&key), api, prefix)
        .header("x-mock-prompt-tokens", "40")
        .header("x-mock-chunk-delay-ms", "30")
        .header("x-mock-reset-after", api.events_before_words() + 4);
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    let broken = loop {
        match body.next().await {
            Some(Ok(piece)) => text.push_str(std::str::from_utf8(&piece).unwrap()),
            other => break other,
        }
    };
    assert!(broken.is_some(), "the client learns that the stream is not complete");
    assert_eq!(words(&text), 4);
    // A response of OpenAI's has a token beside its text.
    let output = if api == Api::Responses { 5 } else { 4 };
    gateway.charged(&key, 1, prompt_of_part(api, 40), output).await;
}

#[rstest]
#[case::nobody_listens(NOWHERE, 503)]
#[case::another_filter_answers(ABORTED, 418)]
#[tokio::test]
async fn a_request_that_never_reached_an_upstream_costs_no_tokens(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(Api::Chat, Api::Embeddings, Api::Responses, Api::Messages)] api: Api,
    #[case] prefix: &str,
    #[case] status: u16,
) {
    let gateway = store.gateway().await;
    let key = format!("endings{prefix}-{api:?}");
    let path = format!("{prefix}{}", api.path());
    let request = gateway.caller(&key).request(Method::POST, &path).json(&api.hello(30));
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, status);
    let left = if api == Api::Messages {
        "anthropic-ratelimit-requests-remaining"
    } else {
        "x-ratelimit-remaining-requests"
    };
    assert_eq!(answer.number(left), 999);
    gateway.charged(&key, 1, 0, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_stream_that_envoy_gives_up_on_is_charged_what_has_passed(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-hasty-stream";
    let caller = gateway.caller(key);
    let request = stream(&caller, Api::Chat, HASTY)
        .header("x-mock-completion-tokens", "400")
        .header("x-mock-gate", key);
    gateway.mock.let_through(key, 1 + 20);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "it is cut off");
    eventually("output charged by the text that passed", true, async || {
        let answer = caller.too_large().await;
        let output = STRANGER_TOKENS - answer.number("x-ratelimit-remaining-output-tokens");
        // The reservation was 60.
        (1..40).contains(&output)
    })
    .await;
}

/// A request that Envoy retries is one request, and costs what its last attempt did.
#[rstest]
#[case::twice("2", 200, 3, (70, 16))]
#[case::in_vain("3", 503, 3, (0, 0))]
#[tokio::test]
async fn a_retried_request_is_charged_once(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] streamed: bool,
    #[case] failures: &str,
    #[case] status: u16,
    #[case] attempts: usize,
    #[case] (input, output): (u64, u64),
) {
    let gateway = store.gateway().await;
    let key = format!("endings-retried-{failures}-{streamed}");
    let body = if streamed { Api::Chat.streamed_hello(60, true) } else { Api::Chat.hello(60) };
    let request = gateway.caller(&key).request(Method::POST, &format!("{RETRIED}{CHAT}")).json(&body);
    let request = request.header("x-mock-fail-attempts", failures).header("x-mock-prompt-tokens", "70");
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, status);
    assert_eq!(gateway.mock.received_from(&key).len(), attempts);
    gateway.charged(&key, 1, input, output).await;
}

#[rstest]
#[tokio::test]
async fn an_answer_that_ends_with_trailers_is_charged_as_any_other(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] streamed: bool,
    #[values(false, true)] reports_usage: bool,
) {
    let gateway = store.gateway().await;
    let key = format!("endings-trailers-{streamed}-{reports_usage}");
    let body = if streamed { Api::Chat.streamed_hello(60, true) } else { hello_with(json!({"n": 1})) };
    let caller = gateway.caller(&key).over_http2();
    let mut request = caller.request(Method::POST, &format!("{HTTP2}{CHAT}")).json(&body);
    request = request.header("x-mock-trailers", "1").header("x-mock-prompt-tokens", "70");
    if !reports_usage {
        request = request.header("x-mock-no-usage", "1").header("x-mock-no-done", "1");
    }
    assert_eq!(Answer::to(request).await.status, 200);
    let input = if reports_usage { 70 } else { Api::Chat.hello_tokens() };
    gateway.charged(&key, 1, input, 16).await;
}

/// An error after the usage must not make the filter settle a second time.
#[rstest]
#[tokio::test]
async fn an_upstream_that_breaks_off_after_its_usage_is_paid_by_it(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-reset-late";
    // The role, three words, the reason to finish and the usage; [DONE] is missing.
    let request = gateway
        .caller(key)
        .chat(&Api::Chat.streamed_hello(3, true))
        .header("x-mock-prompt-tokens", "70")
        .header("x-mock-chunk-delay-ms", "30")
        .header("x-mock-reset-after", "6");
    assert!(request.send().await.unwrap().text().await.is_err());
    gateway.charged(key, 1, 70, 3).await;
}

#[rstest]
#[tokio::test]
async fn an_error_that_is_no_json_is_an_error(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let request = gateway.caller("endings-html").chat(&hello());
    let request =
        request.header("x-mock-status", "502").header("x-mock-header", "content-encoding: something");
    assert_eq!(Answer::to(request).await.status, 502);
    gateway.charged("endings-html", 1, 0, 0).await;
}
