//! The metrics that an operator finds in Envoy, after requests with known numbers.

use crate::caller::{Answer, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::json;

#[rstest]
#[tokio::test]
async fn every_request_is_in_the_metrics(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "keys": [{"key": "counted", "rpm": 4, "input_tpm": 100_000, "output_tpm": 100_000}],
        "default": "reject",
    });
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("counted");
    let answered = caller.chat(&hello()).header("x-mock-prompt-tokens", "30");
    assert_eq!(Answer::to(answered).await.status, 200);
    let streamed = caller.chat(&hello_with(json!({"stream": true}))).header("x-mock-completion-tokens", "5");
    let streamed = streamed.header("x-mock-no-usage", "1");
    assert_eq!(Answer::to(streamed).await.status, 200);
    let failed = caller.chat(&hello()).header("x-mock-status", "500");
    assert_eq!(Answer::to(failed).await.status, 500);
    assert_eq!(caller.too_large().await.status, 429);
    assert_eq!(caller.too_large().await.status, 429);
    assert_eq!(gateway.caller("unknown").hello().await.status, 401);

    for (name, value) in [
        ("admitted", 3),
        ("over_limit", 2),
        ("unknown_identity", 1),
        ("settled", 3),
        ("input_tokens", 30 + HELLO_TOKENS),
        ("output_tokens", 16 + 5),
        // Three prompts and answers, of which one failed.
        ("reserved_tokens.gpt-4o", 3 * (HELLO_TOKENS + 512)),
        ("settled_tokens.gpt-4o", 30 + HELLO_TOKENS + 16 + 5),
        ("stream_usage_refused", 0),
        ("store_errors", 0),
        ("store_errors_allowed", 0),
        ("store_errors_denied", 0),
        ("settlements_dropped", 0),
        ("store_up", u64::from(store == Store::Redis)),
        ("workers_without_store", 0),
    ] {
        let name = format!("wasmcustom.llm_rate_limit.{name}");
        eventually(&name, Some(value), async || gateway.envoy.stat(&name)).await;
    }
}
