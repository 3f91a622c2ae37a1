//! The endpoints beside chat completions: their prompts are counted, and their answers charged by the usage they tell.

use crate::caller::{Answer, hello_with};
use crate::gateway::{STRANGER_TOKENS, Store};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::completions("completions", "/v1/completions", json!({"prompt": "Hello!", "max_tokens": 30}), (5, 7))]
#[case::completions_of_azure(
    "completions",
    "/any/openai/deployments/gpt-4o/completions?api-version=2024-10-21",
    json!({"prompt": ["Hello!"], "max_tokens": 30}),
    (5, 7)
)]
#[case::completions_streamed(
    "completions-stream",
    "/a/prefix/v1/completions",
    json!({"prompt": "Hello!", "max_tokens": 30, "stream": true, "stream_options": {"include_usage": true}}),
    (5, 2)
)]
#[case::embeddings("embeddings", "/v1/embeddings", json!({"input": "Hello!"}), (8, 0))]
#[case::embeddings_of_azure(
    "embeddings",
    "/openai/deployments/embed/embeddings?api-version=2024-10-21",
    json!({"input": [[1, 2]]}),
    (8, 0)
)]
#[case::responses("responses", "/v1/responses", json!({"input": "Hello!", "max_output_tokens": 30}), (37, 11))]
#[case::responses_streamed(
    "responses-stream",
    "/a/prefix/v1/responses",
    json!({"input": "Hello!", "max_output_tokens": 30, "stream": true}),
    (37, 11)
)]
#[case::messages(
    "messages",
    "/v1/messages",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30}),
    (2060, 6)
)]
#[case::messages_streamed(
    "messages-stream",
    "/anthropic/v1/messages",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30, "stream": true}),
    (25, 15)
)]
#[tokio::test]
async fn an_endpoint_is_counted_before_and_charged_after(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] recorded: &str,
    #[case] path: &str,
    #[case] mut body: Value,
    #[case] (input, output): (u64, u64),
) {
    let gateway = store.gateway().await;
    let key = format!("endpoints-{path}");
    body["model"] = json!("gpt-4o");
    let request = gateway.caller(&key).request(Method::POST, path).json(&body);
    let answer = Answer::to(request.header("x-mock-recorded", recorded)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let remaining = |what: &str| {
        let name = if recorded.starts_with("messages") {
            format!("anthropic-ratelimit-{what}-tokens-remaining")
        } else {
            format!("x-ratelimit-remaining-{what}-tokens")
        };
        STRANGER_TOKENS - answer.number(&name)
    };
    let estimated = remaining("input");
    assert!((2..20).contains(&estimated) && estimated != input, "{estimated} tokens of Hello!");
    assert_eq!(remaining("output"), if recorded == "embeddings" { 0 } else { 30 });
    gateway.charged(&key, 1, input, output).await;
}

#[rstest]
#[case::gzip("br, gzip;q=0.8, deflate", "gzip;q=0.8, deflate", "gzip")]
#[case::deflate("zstd, deflate", "deflate", "deflate")]
#[tokio::test]
async fn a_compressed_answer_is_charged_and_passes_untouched(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] stream: bool,
    #[case] accept: &str,
    #[case] narrowed: &str,
    #[case] encoding: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("endpoints-{encoding}-{stream}");
    let body = hello_with(json!({"stream": stream, "stream_options": {"include_usage": true}}));
    let ask = |caller: &crate::caller::Caller| {
        let request = caller.chat(&body).header("accept-encoding", accept);
        Answer::to(request.header("x-mock-compress", "1").header("x-mock-prompt-tokens", "70"))
    };
    let through = ask(&gateway.caller(&key)).await;
    let direct = ask(&crate::caller::Caller::new(&format!("http://{}", gateway.mock.address()), "")).await;
    assert_eq!(through.header("content-encoding"), Some(encoding));
    assert_eq!(through.body, direct.body, "not a byte is changed");
    let authorization = format!("Bearer {key}");
    let received = gateway.mock.received();
    let received = received.iter().find(|request| request.headers["authorization"] == authorization).unwrap();
    assert_eq!(received.headers["accept-encoding"], narrowed);
    gateway.charged(&key, 1, 70, 16).await;
}
