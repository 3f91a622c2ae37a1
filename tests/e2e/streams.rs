//! Streams pass event by event, and are charged by the usage that they report, or else by their text.

use crate::caller::{Answer, HELLO_TOKENS, hello_with};
use crate::gateway::Store;
use futures_util::StreamExt;
use reqwest::RequestBuilder;
use rstest::rstest;
use serde_json::{Value, json};

fn stream(include_usage: bool, members: Value) -> Value {
    let mut chat = hello_with(members);
    chat["stream"] = json!(true);
    if include_usage {
        chat["stream_options"] = json!({"include_usage": true});
    }
    chat
}

/// Sends a request and returns the pieces of the body as they arrive.
async fn pieces(request: RequestBuilder) -> Vec<String> {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let pieces = response.bytes_stream().map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap());
    pieces.collect().await
}

#[rstest]
#[tokio::test]
async fn every_event_passes_when_it_comes(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let chat = stream(true, json!({"max_tokens": 5}));
    let direct = crate::caller::Caller::new(&format!("http://{}", gateway.mock.address()), "").chat(&chat);
    let direct = pieces(direct).await.concat();
    // A role, five words, a reason to finish, the usage and [DONE].
    let events: Vec<&str> = direct.split_inclusive("\n\n").collect();
    assert_eq!(events.len(), 9);
    let through = gateway.caller("streams-pass").chat(&chat).header("x-mock-gate", "streams-pass");
    let mut through = through.send().await.unwrap().bytes_stream();
    for event in events {
        // The upstream sends the next event only after the client has read this one.
        gateway.mock.let_through("streams-pass", 1);
        let mut seen = Vec::new();
        while seen.len() < event.len() {
            seen.extend(through.next().await.unwrap().unwrap());
        }
        assert_eq!(String::from_utf8(seen).unwrap(), event, "not a byte is changed");
    }
    assert!(through.next().await.is_none());
    gateway.charged("streams-pass", 1, chat.to_string().len() as u64 / 4, 5).await;
}

#[rstest]
#[tokio::test]
async fn a_stream_is_charged_by_its_usage(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let request = gateway
        .caller("streams-usage")
        .chat(&stream(true, json!({"n": 2})))
        .header("x-mock-prompt-tokens", "77")
        .header("x-mock-completion-tokens", "30");
    assert!(pieces(request).await.concat().ends_with("data: [DONE]\n\n"));
    gateway.charged("streams-usage", 1, 77, 60).await;
}

#[rstest]
#[case::whole_events(None)]
#[case::cut_anywhere(Some("3"))]
#[tokio::test]
async fn a_stream_without_usage_is_charged_by_its_text(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] chunk_bytes: Option<&str>,
) {
    let gateway = store.gateway().await;
    let key = format!("streams-text-{}", chunk_bytes.is_some());
    let mut request =
        gateway.caller(&key).chat(&stream(false, json!({}))).header("x-mock-completion-tokens", "25");
    // The filter asks for usage in the client's place.
    request = request.header("x-mock-no-usage", "1");
    if let Some(bytes) = chunk_bytes {
        request = request.header("x-mock-chunk-bytes", bytes);
    }
    let text = pieces(request).await.concat();
    assert!(!text.contains("usage"), "nothing is added to the stream");
    gateway.charged(&key, 1, HELLO_TOKENS, 25).await;
}

#[rstest]
#[case::with_usage(true, 50)]
#[case::without(false, HELLO_TOKENS)]
#[tokio::test]
async fn a_stream_without_done_is_settled_all_the_same(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] include_usage: bool,
    #[case] input: u64,
) {
    let gateway = store.gateway().await;
    let key = format!("streams-no-done-{include_usage}");
    let request = gateway
        .caller(&key)
        .chat(&stream(include_usage, json!({})))
        .header("x-mock-prompt-tokens", "50")
        .header("x-mock-no-done", "1");
    let request = if include_usage { request } else { request.header("x-mock-no-usage", "1") };
    assert!(!pieces(request).await.concat().contains("DONE"));
    gateway.charged(&key, 1, input, 16).await;
}

/// Many clients close the connection after the last event that they need.
#[rstest]
#[tokio::test]
async fn a_client_that_leaves_with_the_usage_is_charged_by_it(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let request = gateway
        .caller("streams-early")
        .chat(&stream(true, json!({"max_tokens": 3})))
        .header("x-mock-prompt-tokens", "50")
        .header("x-mock-chunk-delay-ms", "100");
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut seen = String::new();
    while !seen.contains(r#""usage":{"#) {
        seen.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    drop(body);
    gateway.charged("streams-early", 1, 50, 3).await;
}

#[rstest]
#[tokio::test]
async fn a_stream_over_http2_is_charged_too(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("streams-http2").over_http2();
    let request = caller.chat(&stream(true, json!({}))).header("x-mock-prompt-tokens", "12");
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    gateway.charged("streams-http2", 1, 12, 16).await;
}
