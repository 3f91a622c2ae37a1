//! Streams that do not ask for usage: the filter asks in their place, and no client sees a difference.

use crate::api::Api;
use crate::caller::{Answer, CHAT, Caller, hello, hello_with};
use crate::gateway::{Gateway, Store, strangers};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;

/// A client of the mock itself.
fn direct(gateway: &Gateway) -> Caller {
    Caller::new(&format!("http://{}", gateway.mock.address()), "direct")
}

/// The body of the last request that the upstream got.
fn last_body(gateway: &Gateway) -> Vec<u8> {
    gateway.mock.received().pop().unwrap().body.to_vec()
}

fn is_asked(gateway: &Gateway) -> bool {
    String::from_utf8_lossy(&last_body(gateway)).contains("include_usage")
}

#[rstest]
#[tokio::test]
async fn a_stream_is_charged_by_its_usage_and_looks_the_same(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(Api::Chat, Api::Completions, Api::Responses, Api::Messages)] api: Api,
    #[values(None, Some("7"))] chunk_bytes: Option<&str>,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let send = async |caller: &Caller| {
        let request = caller.request(Method::POST, api.path()).json(&api.streamed_hello(60, false));
        let request = request.header("x-mock-prompt-tokens", "77").header("x-mock-completion-tokens", "20");
        let request = chunk_bytes.iter().fold(request, |request, bytes| request.header("x-mock-chunk-bytes", *bytes));
        Answer::to(request).await
    };
    let expected = send(&direct(&gateway)).await;
    let seen = send(&gateway.caller("silent")).await;
    assert_eq!(is_asked(&gateway), matches!(api, Api::Chat | Api::Completions));
    assert_eq!(seen.text(), expected.text());
    assert_eq!(seen.header("content-type"), expected.header("content-type"));
    gateway.charged("silent", 1, 77, 20).await;
}

/// Hidden reasoning is not in the text of a stream; the usage has it.
#[rstest]
#[tokio::test]
async fn dollars_are_charged_by_usage_too(#[values(Store::Local, Store::Redis)] store: Store) {
    let budget = json!({"metric": "cost_usd", "limit": 0.5, "window": "1d", "algorithm": "fixed_window"});
    let limits = json!({
        "default": {"windows": [budget]},
        "prices": {"gpt-4o": {"input": 10, "output": 30}},
    });
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("budget");
    let stream = hello_with(json!({"stream": true}));
    let answer = Answer::to(caller.chat(&stream).header("x-mock-prompt-tokens", "60000")).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n") && !answer.text().contains("usage"));
    crate::gateway::eventually("the status once 0.60 dollars are spent", 429, async || caller.hello().await.status)
        .await;
}

#[rstest]
#[tokio::test]
async fn what_the_option_could_break_goes_as_it_came(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut members = strangers(json!({}));
    members["keys"] = json!([{"key": "requests", "rpm": 1000}]);
    let gateway = Gateway::start(store, members).await;
    let stream = hello_with(json!({"stream": true}));
    let of_data = hello_with(json!({"stream": true, "data_sources": [{"type": "azure_search"}]}));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(stream.to_string().as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let caller = gateway.caller("as-it-came");
    let plain = |body: &Value| body.to_string().into_bytes();
    let asking = hello_with(json!({"stream": true, "stream_options": {"include_usage": true}}));
    for (caller, header, body) in [
        (&caller, None, plain(&of_data)),
        (&caller, None, plain(&asking)),
        (&caller, None, plain(&hello())),
        (&caller, Some(("content-encoding", "gzip")), gzip),
        (&caller, Some(("content-digest", "sha-256=:AA==:")), plain(&stream)),
        (&gateway.caller("requests"), None, plain(&stream)),
    ] {
        let request = caller.request(Method::POST, CHAT).body(body.clone()).header("x-mock-lax", "1");
        let request = header.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        assert_eq!(Answer::to(request).await.status, 200);
        assert_eq!(last_body(&gateway), body);
    }
}

#[tokio::test]
async fn where_headers_cannot_be_held_nothing_is_asked() {
    let limits = strangers(json!({}));
    let gateway = Gateway::start_with(Store::Local, |setup| {
        let mut setup = setup.filter(&limits);
        setup.plugin().as_object_mut().unwrap().remove("allow_on_headers_stop_iteration");
        setup
    })
    .await;
    let stream = hello_with(json!({"stream": true}));
    for _ in 0..5 {
        let answer = Answer::to(gateway.caller("early").chat(&stream)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(last_body(&gateway), stream.to_string().into_bytes());
    }
}
