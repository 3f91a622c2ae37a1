//! Clients have keys of the gateway, and the LLM sees the provider's.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::wasm::root;
use serde_json::{Value, json};
use std::process::Command;

/// The key of which the example has the digest.
const KEY: &str = "client-key-1";

const PROVIDERS: &str = "the-providers-secret";

/// What OpenAI's and Anthropic's clients get with each of `keys`.
fn official(gateway: &str, keys: [&str; 3]) -> Value {
    let mut python = Command::new(root().join(".tools/venv/bin/python"));
    python.arg(root().join("tests/clients/python/ask.py")).arg(gateway).args(keys);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_llm_sees_the_providers_key_and_never_a_clients() {
    let mock = MockLlm::start();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), PROVIDERS).unwrap();
    let file = secret.path().to_str().unwrap();
    let envoy = example(
        "provider-key",
        &[("port_value: 8000", &port(mock.address())), ("/etc/envoy/provider-key", file)],
    )
    .start();
    // Nor may a client bring the provider's own.
    let seen = official(&envoy.url(""), [KEY, "an-invented-key", PROVIDERS]);
    let text = ["token"; 16].join(" ");
    assert_eq!(seen, json!([[text, 401, 401], [text, 401, 401]]));
    let received = mock.received();
    assert_eq!(received.len(), 2);
    for request in &received {
        assert_eq!(request.headers.get("authorization").unwrap(), &format!("Bearer {PROVIDERS}"));
        let shown = format!("{:?} {}", request.headers, String::from_utf8_lossy(&request.body));
        assert!(!shown.contains(KEY), "{shown}");
    }
    let third = Answer::to(chat(envoy.url(CHAT)).bearer_auth(KEY)).await;
    assert_eq!(third.number("x-ratelimit-remaining-requests"), 97, "both headers are the same key");
    for text in [envoy.admin("/config_dump"), envoy.log()] {
        assert!(!text.contains(PROVIDERS) && !text.contains(KEY));
    }
}
