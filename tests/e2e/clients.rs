//! The official clients, which back off and raise their own errors by what the filter answers.

use crate::gateway::Store;
use llm_rate_limit_tests::wasm::root;
use rstest::rstest;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The keys that these tests use; the clients' scripts know their names.
pub fn keys() -> Value {
    let of = |client: &str| {
        let soon = json!({"metric": "requests", "limit": 1, "window": "1500ms", "segments": 5});
        [
            json!({"key": format!("clients-{client}-refused"), "name": client, "rpm": 2}),
            json!({"key": format!("clients-{client}-soon"), "windows": [soon]}),
            json!({"key": format!("clients-{client}-small"), "output_tpm": 100}),
        ]
    };
    [of("python"), of("node")].concat().into()
}

#[rstest]
#[case::python("python", ".tools/venv/bin/python", "tests/clients/python/openai_client.py")]
#[case::node("node", "node", "tests/clients/node/openai_client.mjs")]
#[tokio::test]
async fn official_clients_understand_every_answer(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] name: &str,
    #[case] interpreter: &str,
    #[case] script: &str,
) {
    let gateway = store.gateway().await;
    let mut client = Command::new(interpreter);
    client.current_dir(root()).arg(script).args([&gateway.envoy.url("/v1"), name]);
    let output = client.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(60), output).await.expect("the client hangs").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let words = ["token"; 16].join(" ");
    assert_eq!(seen["answered"], words);
    assert_eq!(seen["streamed"], json!({"text": words, "completion_tokens": 16}));

    let refused = &seen["refused"];
    assert_eq!(refused["status"], 429);
    assert_eq!(refused["code"], "rate_limit_exceeded");
    assert_eq!(refused["type"], "requests");
    assert!(refused["retry_after_ms"].as_str().unwrap().parse::<u64>().is_ok());
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("Rate limit reached for {name} on requests per 1m: limit 2")),
        "{message}"
    );
    assert_eq!(seen["refused_stream"], "rate_limit_exceeded");

    // One attempt for the first of two requests; the second was told when to come back, and that was enough.
    assert_eq!(seen["attempts_of_two"], 3, "{seen}");
    let waited = seen["waited_ms"].as_u64().unwrap();
    assert!((1000..10_000).contains(&waited), "the window and its segment are 1800 ms: {waited}");

    assert_eq!(seen["too_large"]["code"], "rate_limit_exceeded");
    assert_eq!(seen["too_large"]["type"], "tokens");
    assert_eq!(seen["too_large"]["retry_after_ms"], Value::Null);
    assert_eq!(seen["too_large"]["attempts"], 1, "it was told not to retry");
}
