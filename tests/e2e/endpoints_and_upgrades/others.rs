//! Endpoints that are no LLM's: a request each, with the tokens that can be known.

use crate::caller::{Answer, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{Gateway, Store, eventually, strangers};
use crate::raw::Connection;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// The keys that these tests use.
pub fn keys() -> Value {
    json!([
        {"key": "others-requests", "rpm": 2},
        {"key": "others-exhausted", "rpm": 100, "tpm": HELLO_TOKENS},
        {"key": "others-models", "rpm": 100, "models": {"dall-e-3": {"rpm": 1}}},
        {"key": "others-deployments", "rpm": 100, "models": {"dear": {"rpm": 1}}},
    ])
}

#[rstest]
#[tokio::test]
async fn any_request_counts_unless_it_only_reads(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("others-requests");
    let send = async |method: Method, path: &str| {
        Answer::to(caller.request(method, path).json(&hello())).await
    };
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for path in ["/v1/files", "/v1/chat/completions", "/"] {
            let answer = send(method.clone(), path).await;
            assert_eq!((answer.status, answer.limit_headers()), (200, vec![]), "{method} {path}");
        }
    }
    let first = send(Method::POST, "/v1/files").await;
    assert_eq!((first.status, first.number("x-ratelimit-remaining-requests")), (200, 1));
    let second = send(Method::DELETE, "/v1/vector_stores/vs_1").await;
    assert_eq!((second.status, second.number("x-ratelimit-remaining-requests")), (200, 0));
    for (method, path) in [
        (Method::POST, "/v1/files"),
        (Method::PUT, "/v1/chat/completions"),
        (Method::PATCH, "/anything"),
        (Method::POST, "/v1/messages/count_tokens"),
        (Method::POST, "/health"),
    ] {
        let answer = send(method.clone(), path).await;
        assert_eq!(answer.status, 429, "{method} {path}");
    }
    assert_eq!(send(Method::POST, "/v1/chat/completions").await.status, 429, "one counter for all");
    assert_eq!(send(Method::GET, "/v1/files").await.status, 200);
    let cancel = send(Method::POST, "/v1/responses/resp_1/cancel").await;
    assert_eq!((cancel.status, cancel.limit_headers()), (200, vec![]), "no limit refuses it");
}

#[rstest]
#[case::reported("others-reported", &[("x-mock-prompt-tokens", "37"), ("x-mock-completion-tokens", "11")], (37, 11))]
#[case::not_reported("others-not-reported", &[("x-mock-no-usage", "1")], (16, 0))]
#[case::failed("others-failed", &[("x-mock-status", "500")], (0, 0))]
#[tokio::test]
async fn json_costs_its_size_until_the_answer_reports_its_usage(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] key: &str,
    #[case] headers: &[(&str, &str)],
    #[case] (input, output): (u64, u64),
) {
    let gateway = store.gateway().await;
    let body = r#"{"model": "gpt-image-1", "prompt": "a cat on a mat", "n": 1  }"#;
    assert_eq!(body.len().div_ceil(4), 16);
    let request = gateway.caller(key).request(Method::POST, "/v1/images/generations");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = Answer::to(request.header("content-type", "application/json").body(body)).await;
    let before = crate::gateway::STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens");
    assert_eq!(before, 16, "{answer:?}");
    gateway.charged(key, 1, input, output).await;
}

#[rstest]
#[tokio::test]
async fn requests_without_tokens_pass_when_tokens_are_gone(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("others-exhausted");
    let chat = hello_with(json!({"max_tokens": 0}));
    let request = caller.chat(&chat).header("x-mock-prompt-tokens", HELLO_TOKENS);
    assert_eq!(Answer::to(request.header("x-mock-completion-tokens", 20)).await.status, 200);
    eventually("the excess of the first", 429, async || Answer::to(caller.chat(&chat)).await.status).await;
    for path in ["/v1/messages/count_tokens", "/v1/responses/input_tokens", "/tokenize", "/v1/moderations"] {
        let answer = Answer::to(caller.request(Method::POST, path).json(&chat)).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-limit-tokens")), (200, None), "{path}");
    }
    let counted = Answer::to(caller.request(Method::POST, "/v1/images/generations").json(&chat)).await;
    assert_eq!(counted.status, 429);
}

#[rstest]
#[tokio::test]
async fn the_model_that_is_named_has_its_limits(#[values(Store::Local, Store::Redis)] store: Store) {
    let caller = store.gateway().await.caller("others-models");
    let send = async |model: &str| {
        let request = caller.request(Method::POST, "/v1/images/generations").json(&json!({"model": model}));
        Answer::to(request).await.status
    };
    assert_eq!([send("dall-e-3").await, send("dall-e-2").await, send("dall-e-3").await], [200, 200, 429]);
}

/// Azure serves the deployment, whatever model the body names.
#[rstest]
#[tokio::test]
async fn the_deployment_in_the_path_is_the_model(#[values(Store::Local, Store::Redis)] store: Store) {
    let caller = store.gateway().await.caller("others-deployments");
    let send = async |deployment: &str, model: &str| {
        let path = format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21");
        Answer::to(caller.request(Method::POST, &path).json(&hello_with(json!({"model": model})))).await.status
    };
    let statuses = [send("dear", "cheap").await, send("cheap", "dear").await, send("dear", "cheap").await];
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!([send("de%61r", "cheap").await, send("dear;a=b/", "cheap").await], [429; 2]);
    let path = "/OpenAI/Deployments/dear/audio/transcriptions";
    let multipart = caller.request(Method::POST, path).header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(Answer::to(multipart.body("--x--")).await.status, 429);
}

#[rstest]
#[tokio::test]
async fn only_json_is_held_back(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    // Once the filter has seen a first body, it waits for others as long as it takes.
    assert_eq!(gateway.caller("others-first").hello().await.status, 200);
    let mut held = Connection::open(gateway.envoy.address()).await;
    let json = ["authorization: Bearer others-held", "content-type: application/json", "content-length: 64"];
    held.post("/v1/images/edits", &json).await;
    held.send(r#"{"model": "gpt-image-1", "#).await;
    for kind in ["multipart/form-data; boundary=x", "application/grpc", "text/event-stream", "application/x-thing"] {
        let mut connection = Connection::open(gateway.envoy.address()).await;
        let kind = format!("content-type: {kind}");
        let headers = ["authorization: Bearer others-held", "transfer-encoding: chunked", &kind];
        connection.post("/v1/images/edits", &headers).await;
        connection.send("3\r\n--x\r\n").await;
        eventually("the request upstream, before its body is complete", 1, async || {
            gateway.mock.report().in_flight
        })
        .await;
        drop(connection);
        eventually("requests upstream", 0, async || gateway.mock.report().in_flight).await;
    }
    drop(held);
    gateway.at_rest().await;
    // The four that were forwarded, of which the filter has not read the bodies.
    gateway.charged("others-held", 4, 0, 0).await;
}
