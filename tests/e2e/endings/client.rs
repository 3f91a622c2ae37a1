//! Clients that leave before their answer is complete, at every stage of a request.

use super::{prompt_of_part, stream, words};
use crate::api::Api;
use crate::caller::{Answer, HELLO_TOKENS, hello_with};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, eventually, strangers, used_by};
use crate::raw::Connection;
use futures_util::StreamExt;
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

/// Waits until the upstream has received `requests` requests of `key`.
async fn arrived(gateway: &Gateway, key: &str, requests: usize) {
    eventually("requests upstream", requests, async || gateway.mock.received_from(key).len()).await;
}

/// The upstream may have done all the work by then, and nobody learns how much: the whole reservation stays charged.
#[rstest]
#[tokio::test]
async fn a_client_that_leaves_before_the_answer_pays_the_reservation(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] http2: bool,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let key = "no-answer";
    let mut caller = gateway.caller(key);
    if http2 {
        caller = caller.over_http2();
    }
    let request = caller.chat(&hello_with(json!({"max_tokens": 30})));
    let answer = tokio::spawn(request.header("x-mock-delay-ms", "20000").send());
    arrived(&gateway, key, 1).await;
    answer.abort();
    drop(caller);
    gateway.at_rest().await;
    gateway.charged(key, 1, HELLO_TOKENS, 30).await;
}

#[rstest]
#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_pays_for_what_has_passed(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(Api::Chat, Api::Completions, Api::Responses, Api::Messages)] api: Api,
    #[values(false, true)] http2: bool,
) {
    let gateway = store.gateway().await;
    let key = format!("endings-mid-stream-{api:?}-{http2}");
    let mut caller = gateway.caller(&key);
    if http2 {
        caller = caller.over_http2();
    }
    let request = stream(&caller, api, "")
        .header("x-mock-prompt-tokens", "40")
        .header("x-mock-completion-tokens", "400")
        .header("x-mock-gate", &key);
    // The client cannot leave too late: the upstream sends five words and no more.
    gateway.mock.let_through(&key, api.events_before_words() as usize + 5);
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while words(&text) < 5 {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    let seen = words(&text);
    drop(body);
    eventually("output charged by the text that passed", true, async || {
        let answer = caller.too_large().await;
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), 999);
        let output = STRANGER_TOKENS - answer.number("x-ratelimit-remaining-output-tokens");
        // The reservation was 60.
        output >= seen && output < 30
    })
    .await;
    let answer = caller.too_large().await;
    let input = STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens");
    assert_eq!(input, prompt_of_part(api, 40));
}

/// Sixty clients leave at sixty moments: every request is settled, and no reservation stays behind.
#[rstest]
#[tokio::test]
async fn clients_that_leave_at_any_moment_leave_nothing_behind(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut limits = strangers(json!({}));
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| setup.filter(&limits).concurrency(2)).await;
    let key = "any-moment";
    let caller = gateway.caller(key);
    let requests = (0..60).map(async |at| {
        let request = caller
            .chat(&hello_with(json!({"stream": true})))
            .header("x-mock-chunk-delay-ms", "5")
            .header("x-mock-no-usage", "1");
        let _ = tokio::time::timeout(Duration::from_millis(at), Answer::to(request)).await;
    });
    futures_util::future::join_all(requests).await;
    drop(caller);
    gateway.at_rest().await;
    let charged = |field: &str| {
        let lines = gateway.envoy.access_log();
        let tokens = lines.iter().filter_map(|line| line[field].as_str());
        tokens.map(|tokens| tokens.parse().unwrap()).collect::<Vec<u64>>()
    };
    // A whole answer has 16 words; a reservation that is never settled would stay charged with 512.
    let outputs = charged("output_tokens");
    let requests = outputs.len() as u64;
    assert!(requests <= 60);
    let (input, output) = (charged("input_tokens").iter().sum::<u64>(), outputs.iter().sum::<u64>());
    assert_eq!(input, requests * HELLO_TOKENS);
    let left = used_by(&gateway.caller(key).too_large().await);
    assert_eq!(left, [requests, input, output, input + output], "no more is charged than the log says");
}

/// A client that has sent its whole request may close its half of an HTTP/1.1 connection. Envoy treats that as the end
/// of the connection, so to the filter the client has left.
#[rstest]
#[tokio::test]
async fn a_client_that_closes_half_of_its_connection_has_left(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let key = "half-closed";
    let body = hello_with(json!({"max_tokens": 30})).to_string();
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let length = format!("content-length: {}", body.len());
    let headers = [&*format!("authorization: Bearer {key}"), &length, "x-mock-delay-ms: 20000"];
    connection.post(Api::Chat.path(), &headers).await;
    connection.send(&body).await;
    arrived(&gateway, key, 1).await;
    connection.close_half().await;
    gateway.at_rest().await;
    gateway.charged(key, 1, HELLO_TOKENS, 30).await;
}

/// A client leaves one stream of a connection and reads the other to its end.
#[rstest]
#[tokio::test]
async fn a_client_that_leaves_one_of_two_streams_pays_for_both(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let key = "endings-one-of-two";
    let caller = gateway.caller(key).over_http2();
    let send = |words: &str, delay_ms: &str| {
        caller
            .chat(&Api::Chat.streamed_hello(60, true))
            .header("x-mock-prompt-tokens", "70")
            .header("x-mock-completion-tokens", words)
            .header("x-mock-chunk-delay-ms", delay_ms)
            .send()
    };
    let (left, stays) = (send("400", "5000").await.unwrap(), send("20", "20").await.unwrap());
    drop(left);
    assert!(stays.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    // The abandoned stream has sent nothing but the role.
    gateway.charged(key, 2, HELLO_TOKENS + 70, 20).await;
}

/// Its line says so, and the metric of requests has it: nobody is let pass unseen by leaving.
#[rstest]
#[tokio::test]
async fn a_client_that_leaves_before_a_decision_is_in_the_log_and_in_the_metrics(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let window = json!({"metric": "requests", "limit": 1, "window": "30s"});
    let waiting = json!({"windows": [window], "input_tpm": 1_000_000, "max_wait_ms": 60_000});
    let gateway = Gateway::start(store, json!({"default": waiting})).await;
    let line = async |decision: &str| {
        eventually("a line", true, async || {
            let is_it = |line: &serde_json::Value| line["decision"] == decision && line["reason"] == "client_left";
            gateway.envoy.access_log().iter().any(is_it)
        })
        .await;
        let labels = [("decision", decision)];
        eventually("a request in the metric", 1, async || gateway.envoy.metric("requests", &labels)).await;
    };
    // Its body does not come.
    let mut connection = Connection::open(gateway.envoy.address()).await;
    connection.post(Api::Chat.path(), &["authorization: Bearer leaves", "content-length: 100"]).await;
    connection.send("{\"model\"").await;
    eventually("a request under way", Some(1), async || gateway.envoy.stat("http.llm.downstream_rq_active")).await;
    drop(connection);
    line("not_limited").await;
    // It waits until it fits.
    let caller = gateway.caller("waits");
    assert_eq!(caller.hello().await.status, 200);
    let waiting = tokio::spawn(async move { caller.hello().await });
    eventually("a request under way", Some(1), async || gateway.envoy.stat("http.llm.downstream_rq_active")).await;
    waiting.abort();
    line("over_limit").await;
}
