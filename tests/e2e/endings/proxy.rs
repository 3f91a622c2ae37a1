//! Envoy itself ends a request, or stops accepting new ones.

use super::stream;
use crate::api::Api;
use crate::caller::HELLO_TOKENS;
use crate::gateway::{Gateway, Store, eventually, strangers};
use crate::raw::Connection;
use crate::routes::connection_manager;
use futures_util::StreamExt;
use rstest::rstest;
use serde_json::json;

/// A gateway with one of the connection manager's timeouts set to `duration`. Envoy's clock decides when it is over.
async fn impatient(store: Store, timeout: &str, duration: &str) -> Gateway {
    let mut limits = strangers(json!({}));
    limits["store"] = store.configuration();
    Gateway::start_with(store, |setup| {
        let mut setup = setup.filter(&limits);
        connection_manager(&mut setup)[timeout] = json!(duration);
        setup
    })
    .await
}

/// A draining Envoy accepts no new connection and finishes the streams that it has begun.
#[rstest]
#[tokio::test]
async fn a_stream_that_outlives_the_listener_is_charged_by_its_usage(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let caller = gateway.caller("drained");
    let request = caller
        .chat(&Api::Chat.streamed_hello(60, true))
        .header("x-mock-prompt-tokens", "70")
        .header("x-mock-completion-tokens", "30")
        .header("x-mock-chunk-delay-ms", "50");
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = body.next().await.unwrap().unwrap().to_vec();
    gateway.envoy.post("/drain_listeners");
    eventually("new connections refused", true, async || {
        tokio::net::TcpStream::connect(gateway.envoy.address()).await.is_err()
    })
    .await;
    while let Some(piece) = body.next().await {
        text.extend(piece.unwrap());
    }
    assert!(text.ends_with(b"data: [DONE]\n\n"), "the stream is whole");
    let tokens = |kind| ("tokens", [("kind", kind)]);
    for ((family, labels), value) in
        [(("settled", [("outcome", "reported")]), 1), (tokens("input"), 70), (tokens("output"), 30)]
    {
        eventually(family, value, async || gateway.envoy.metric(family, &labels)).await;
    }
    if store == Store::Redis {
        eventually("tokens in Redis", Some(100), async || gateway.used("drained", "total_tokens").await)
            .await;
    }
}

/// The filter decides when it has the body, so a request without one is never charged.
#[rstest]
#[tokio::test]
async fn a_client_that_does_not_finish_its_body_in_time_is_charged_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = impatient(store, "request_timeout", "0.5s").await;
    let mut connection = Connection::open(gateway.envoy.address()).await;
    connection.post(Api::Chat.path(), &["authorization: Bearer slow", "content-length: 1000"]).await;
    connection.send(r#"{"model": "gpt-4o", "mess"#).await;
    assert_eq!(connection.answer().await.status, 408);
    drop(connection);
    gateway.at_rest().await;
    gateway.charged("slow", 0, 0, 0).await;
}

/// An upstream stops sending in the middle of a stream, and Envoy's timeout ends it.
#[rstest]
#[tokio::test]
async fn a_stream_that_falls_silent_is_charged_what_has_passed(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = impatient(store, "stream_idle_timeout", "3s").await;
    let caller = gateway.caller("silent");
    let request = stream(&caller, Api::Chat, "").header("x-mock-chunk-delay-ms", "20000");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "it is cut off");
    gateway.charged("silent", 1, HELLO_TOKENS, 0).await;
}
