//! Request bodies in every form that HTTP allows: the decision and the forwarded bytes stay the same.

use crate::caller::{Answer, CHAT, HELLO_TOKENS, body_in_parts, hello, hello_with};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, strangers};
use crate::raw::Connection;
use bytes::Bytes;
use llm_rate_limit_tests::mock_llm::MockLlm;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

/// The keys with limits of their own; all others are strangers.
pub fn keys() -> Value {
    json!([
        {"key": "bodies-once", "input_tpm": 1000, "rpm": 1},
    ])
}

/// The last body that the mock has received from this key.
fn received(mock: &MockLlm, key: &str) -> Bytes {
    mock.received_from(key).pop().unwrap_or_else(|| panic!("no request came from {key}")).body
}

#[rstest]
#[tokio::test]
async fn a_body_in_chunks_of_a_byte_is_one_body(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let body = hello().to_string();
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let headers = ["authorization: Bearer bodies-bytes", "transfer-encoding: chunked"];
    connection.post(CHAT, &headers).await;
    for byte in body.as_bytes() {
        connection.send([b"1\r\n", &[*byte][..], b"\r\n"].concat()).await;
    }
    connection.send("0\r\n\r\n").await;
    let answer = connection.answer().await;
    assert_eq!(answer.status, 200);
    let left = STRANGER_TOKENS - HELLO_TOKENS;
    assert!(
        answer.head.contains(&format!("x-ratelimit-remaining-input-tokens: {left}\r\n")),
        "{}",
        answer.head
    );
    assert_eq!(received(&gateway.mock, "bodies-bytes"), body);
}

#[rstest]
#[tokio::test]
async fn a_slow_body_is_waited_for(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    // Once the filter has seen a first body, it waits for a slow one as long as it takes.
    assert_eq!(gateway.caller("bodies-first").hello().await.status, 200);
    let body = hello().to_string();
    let (head, tail) = body.split_at(20);
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let length = format!("content-length: {}", body.len());
    connection.post(CHAT, &["authorization: Bearer bodies-slow", &length]).await;
    connection.send(head).await;
    // The client's own pace: longer than the filter waits for a body before it has seen one.
    tokio::time::sleep(Duration::from_millis(700)).await;
    connection.send(tail).await;
    assert_eq!(connection.answer().await.status, 200);
    assert_eq!(received(&gateway.mock, "bodies-slow"), body);
}

#[rstest]
#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let body = hello().to_string();
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let length = format!("content-length: {}", body.len());
    let headers = ["authorization: Bearer bodies-continue", "expect: 100-continue", &length];
    connection.post(CHAT, &headers).await;
    assert!(connection.read_until(b"\r\n\r\n").await.starts_with(b"HTTP/1.1 100 Continue"));
    connection.send(&body).await;
    assert_eq!(connection.answer().await.status, 200);
}

#[rstest]
#[tokio::test]
async fn no_body_at_all_costs_a_request(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    for (key, headers) in
        [("bodies-none", "content-length: 0"), ("bodies-none-chunked", "transfer-encoding: chunked")]
    {
        let mut connection = Connection::open(gateway.envoy.address()).await;
        connection.post(CHAT, &[&format!("authorization: Bearer {key}"), headers]).await;
        if headers.ends_with("chunked") {
            connection.send("0\r\n\r\n").await;
        }
        let answer = connection.answer().await;
        assert_eq!(answer.status, 400, "by the upstream: {answer:?}");
        assert!(answer.body.contains("mock_error"));
        gateway.charged(key, 1, 0, 0).await;
    }
}

#[rstest]
#[tokio::test]
async fn a_body_larger_than_envoy_buffers_is_refused_and_leaves_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let mut connection = Connection::open(gateway.envoy.address()).await;
    connection.post(CHAT, &["authorization: Bearer bodies-huge", "transfer-encoding: chunked"]).await;
    let chunk = [b"100000\r\n", &vec![b' '; 1 << 20][..], b"\r\n"].concat();
    for _ in 0..32 {
        connection.send(&chunk).await;
    }
    // Envoy may have closed the connection before this chunk, which is one too many.
    let _ = connection.try_send(&chunk).await;
    assert_eq!(connection.answer().await.status, 413);
    drop(connection);
    gateway.at_rest().await;
    gateway.charged("bodies-huge", 0, 0, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_large_body_is_forwarded_whole(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let content = "All work and no play makes Jack a dull boy.\n".repeat(24_000);
    let chat = hello_with(json!({"messages": [{"role": "user", "content": content}]}));
    let answer = Answer::to(gateway.caller("bodies-large").chat(&chat)).await;
    assert_eq!(answer.status, 200);
    // tiktoken counts 11 tokens a line, and the message around them adds 7.
    assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), STRANGER_TOKENS - 24_000 * 11 - 7);
    assert_eq!(received(&gateway.mock, "bodies-large"), chat.to_string());
}

#[rstest]
#[tokio::test]
async fn requests_over_http2_are_limited_too(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("bodies-http2").over_http2();
    let answers = caller.hellos(20).await;
    let mut left: Vec<_> =
        answers.iter().map(|answer| answer.number("x-ratelimit-remaining-requests")).collect();
    left.sort_unstable();
    assert_eq!(left, (980..1000).collect::<Vec<_>>());
}

#[rstest]
#[tokio::test]
async fn a_body_may_end_with_trailers(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("bodies-trailers").over_http2();
    let text = hello().to_string();
    let (head, tail) = text.split_at(30);
    let request = caller.request(Method::POST, CHAT).body(body_in_parts(&[head, tail], true));
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), STRANGER_TOKENS - HELLO_TOKENS);
    assert_eq!(received(&gateway.mock, "bodies-trailers"), text);
}

#[rstest]
#[tokio::test]
async fn a_connection_can_be_used_after_a_refusal(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let body = hello().to_string();
    let length = format!("content-length: {}", body.len());
    let mut connection = Connection::open(gateway.envoy.address()).await;
    for (key, status) in [
        ("bodies-once", 200),
        ("bodies-once", 429),
        ("bodies-after", 200),
        ("bodies-once", 429),
        ("bodies-after", 200),
    ] {
        connection.post(CHAT, &[&format!("authorization: Bearer {key}"), &length]).await;
        connection.send(&body).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, status, "{key}: {answer:?}");
        assert!(!answer.head.contains("connection: close"), "{}", answer.head);
    }
}

/// The filter decides when it has the body, so a client that never sends it is charged nothing.
#[rstest]
#[tokio::test]
async fn a_client_that_leaves_before_its_body_is_complete_is_charged_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    for part in ["", r#"{"model": "gpt-4o", "mess"#] {
        let mut connection = Connection::open(gateway.envoy.address()).await;
        connection.post(CHAT, &["authorization: Bearer bodies-left", "content-length: 1000"]).await;
        connection.send(part).await;
    }
    gateway.at_rest().await;
    assert!(gateway.envoy.stat("http.llm.downstream_rq_rx_reset").unwrap() >= 2, "both are given up");
    gateway.charged("bodies-left", 0, 0, 0).await;
}
