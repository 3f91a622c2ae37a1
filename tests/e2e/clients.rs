//! The official clients of OpenAI and Anthropic on every endpoint. They follow the answers of the filter: they back
//! off, and raise their own errors.

use crate::api::Api;
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, eventually, strangers};
use llm_rate_limit_tests::wasm::root;
use rstest::rstest;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any client runs: most of the time it loads its libraries, which a busy machine does slowly.
const RUNS_WITHIN: Duration = Duration::from_secs(240);

/// The interpreter that has the clients for Python.
pub const PYTHON: &str = ".tools/venv/bin/python";

/// The keys with limits of their own; the scripts in `tests/clients` know their names. All other keys are strangers.
pub fn keys() -> Value {
    let of = |client: &str| {
        // Long enough for a slow machine to send the second request within it.
        let soon = json!({"metric": "requests", "limit": 1, "window": "3s", "segments": 5});
        [
            json!({"key": format!("clients-{client}-refused"), "name": client, "rpm": 2}),
            json!({"key": format!("clients-{client}-soon"), "windows": [soon]}),
            json!({"key": format!("clients-{client}-small"), "output_tpm": 100}),
        ]
    };
    ["python", "node", "anthropic-python", "anthropic-node", "google"].map(of).concat().into()
}

/// Runs a client's script, which prints JSON.
pub async fn run(interpreter: &str, script: &str, arguments: &[&str]) -> Value {
    let mut client = Command::new(interpreter);
    client.current_dir(root()).arg(format!("tests/clients/{script}")).args(arguments);
    let output = client.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(RUNS_WITHIN, output).await.expect("the client hangs").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The text of the mock's answer.
fn answer() -> String {
    ["token"; 16].join(" ")
}

/// Checks the refusal of the third request under a limit of two.
fn assert_is_refused(refused: &Value, name: &str) {
    assert_eq!(refused["status"], 429);
    assert!(refused["retry_after_ms"].as_str().unwrap().parse::<u64>().is_ok());
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("Rate limit reached for {name} on requests per 1m: limit 2")),
        "{message}"
    );
}

/// Checks that the client waited as its refusal said and was then admitted. The filter's clock decides when.
fn assert_has_waited(seen: &Value) {
    let waited = seen["waited_ms"].as_u64().unwrap();
    assert!((1000..10_000).contains(&waited), "the window and its segment are 3600 ms: {waited}");
}

#[rstest]
#[case::python("python", PYTHON, "python/openai_refusals.py")]
#[case::node("node", "node", "node/openai_refusals.mjs")]
#[tokio::test]
async fn openais_clients_understand_refusals(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] name: &str,
    #[case] interpreter: &str,
    #[case] script: &str,
) {
    let gateway = store.gateway().await;
    let seen = run(interpreter, script, &[&gateway.envoy.url("/v1"), name]).await;
    assert_eq!(seen["answered"], answer());
    assert_eq!(seen["streamed"], json!({"text": answer(), "completion_tokens": 16}));

    let refused = &seen["refused"];
    assert_is_refused(refused, name);
    assert_eq!(refused["code"], "rate_limit_exceeded");
    assert_eq!(refused["type"], "requests");
    assert_eq!(seen["refused_stream"], "rate_limit_exceeded");

    // One attempt for the first request, and two for the second.
    assert_eq!(seen["attempts_of_two"], 3, "{seen}");
    assert_has_waited(&seen);

    assert_eq!(seen["too_large"]["code"], "rate_limit_exceeded");
    assert_eq!(seen["too_large"]["type"], "tokens");
    assert_eq!(seen["too_large"]["retry_after_ms"], Value::Null);
    assert_eq!(seen["too_large"]["attempts"], 1, "the refusal says not to retry");
}

#[rstest]
#[case::python("python", PYTHON, "python/openai_endpoints.py")]
#[case::node("node", "node", "node/openai_endpoints.mjs")]
#[tokio::test]
async fn the_calls_of_openais_clients_are_charged(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] name: &str,
    #[case] interpreter: &str,
    #[case] script: &str,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    // The client leaves a stream after five words, and the upstream sends it no more than these.
    gateway.mock.let_through("left", Api::Chat.events_before_words() as usize + 8);
    let seen = run(interpreter, script, &[&gateway.envoy.url("/v1"), name]).await;
    gateway.at_rest().await;
    for (call, input, output) in [
        ("chat", 40, 16),
        ("chat-stream", 40, 16),
        // The request does not ask for usage, so the filter does.
        ("chat-silent-stream", 40, 16),
        ("completions", 40, 16),
        ("completions-stream", 40, 16),
        ("embeddings", 40, 0),
        ("responses", 40, 16),
        ("responses-stream", 40, 16),
    ] {
        let expected = if call == "embeddings" { json!([0.25, -0.5, 0.125]) } else { json!(answer()) };
        assert_eq!(seen[call], expected, "{call}");
        gateway.charged(&format!("endpoints-{name}-{call}"), 1, input, output).await;
    }
    assert_is_left_and_timed_out(&gateway, name, &seen, Api::Chat.hello_tokens()).await;
}

#[rstest]
#[case::python("anthropic-python", PYTHON, "python/anthropic_client.py")]
#[case::node("anthropic-node", "node", "node/anthropic_client.mjs")]
#[tokio::test]
async fn anthropics_clients_understand_every_answer_and_are_charged(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] name: &str,
    #[case] interpreter: &str,
    #[case] script: &str,
) {
    let gateway = Gateway::start(store, strangers(json!({"keys": keys()}))).await;
    // The client leaves a stream after five words, and the upstream sends it no more than these.
    gateway.mock.let_through("left", Api::Messages.events_before_words() as usize + 8);
    let seen = run(interpreter, script, &[&gateway.envoy.url(""), name]).await;
    gateway.at_rest().await;
    for call in ["messages", "messages-stream"] {
        assert_eq!(seen[call], json!({"text": answer(), "usage": [40, 16]}), "{call}");
        gateway.charged(&format!("endpoints-{name}-{call}"), 1, 40, 16).await;
    }
    // The stream reports its prompt before the client leaves.
    assert_is_left_and_timed_out(&gateway, name, &seen, 40).await;

    assert_is_refused(&seen["refused"], name);
    assert_eq!(seen["refused"]["type"], "rate_limit_error");
    assert_eq!(seen["refused"]["remaining"], "0");
    assert_eq!(seen["refused_stream"], "rate_limit_error");
    assert_has_waited(&seen);
    assert_eq!(seen["too_large"]["type"], "rate_limit_error");
    assert_eq!(seen["too_large"]["retry_after_ms"], Value::Null);
    assert_eq!(seen["too_large"]["attempts"], 1, "the refusal says not to retry");
}

/// To every client, a stream that the filter ends at its limit looks like one that has reached its maximum of tokens.
#[rstest]
#[tokio::test]
async fn the_clients_understand_a_stream_that_is_finished(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let limits = json!({"default": {"output_tpm": 100}, "on_stream_over": "finish"});
    let gateway = Gateway::start(store, limits).await;
    let seen = run(PYTHON, "python/finished_streams.py", &[&gateway.envoy.url("")]).await;
    for (api, reason) in [("chat", "length"), ("responses", "max_output_tokens"), ("messages", "max_tokens")]
    {
        assert_eq!(seen[api]["reason"], reason, "{api}");
        let words = seen[api]["words"].as_u64().unwrap();
        assert!((20..1500).contains(&words), "{api}: {words} words passed");
    }
}

/// Checks two charges: a client that leaves a stream of 400 words after five pays `input` and about the words that it
/// saw, and one that gives up before its answer begins pays the reservation.
async fn assert_is_left_and_timed_out(gateway: &Gateway, name: &str, seen: &Value, input: u64) {
    let words = seen["left"].as_str().unwrap().matches("token").count() as u64;
    let caller = gateway.caller(&format!("endpoints-{name}-left"));
    eventually("the charge for the abandoned stream", (input, true), async || {
        let answer = caller.too_large().await;
        let output = STRANGER_TOKENS - answer.number("x-ratelimit-remaining-output-tokens");
        let input = STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens");
        // The reservation was 60.
        (input, output >= words && output < 50)
    })
    .await;
    assert_eq!(seen["timed-out"], "APITimeoutError");
    let caller = gateway.caller(&format!("endpoints-{name}-timed-out"));
    eventually("the charge for the request that timed out", 60, async || {
        STRANGER_TOKENS - caller.too_large().await.number("x-ratelimit-remaining-output-tokens")
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn googles_client_is_counted_and_understands_refusals(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let seen = run(PYTHON, "python/google_client.py", &[&gateway.envoy.url("")]).await;
    for call in ["generate", "stream"] {
        assert_eq!(seen[call], json!({"text": answer(), "usage": [40, 16]}), "{call}");
        gateway.charged(&format!("endpoints-google-{call}"), 1, 40, 16).await;
    }
    let refused = &seen["refused"];
    assert_eq!((&refused["code"], &refused["status"]), (&json!(429), &json!("RESOURCE_EXHAUSTED")));
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("Rate limit reached for google on requests per 1m: limit 2"), "{message}");
    assert!(refused["retry"][0].as_str().unwrap().ends_with('s'), "{refused}");
}
