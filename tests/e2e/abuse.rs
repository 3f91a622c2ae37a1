//! Whatever a client sends reaches the upstream unchanged, is charged, and harms no other client.

use crate::caller::{Answer, CHAT, hello};
use crate::gateway::{Gateway, Store};
use crate::hostile;
use llm_rate_limit_tests::envoy::Envoy;
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use llm_rate_limit::quantity::MAX_EXACT;
use std::time::{Duration, Instant};

/// A limit that no request exceeds, so that everything is forwarded.
const NO_END: u64 = MAX_EXACT;

/// The longest that the largest of these bodies may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

#[rstest]
#[tokio::test]
async fn no_body_stops_the_filter_and_every_one_is_forwarded_as_it_is(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let limits = json!({
        "default": {"rpm": 1000, "input_tpm": NO_END, "output_tpm": NO_END},
        // It would ask for usage in the place of some of them.
        "stream_usage": "count",
    });
    let gateway = Gateway::start(store, limits).await;
    let machines = machines(&gateway.envoy);
    let bodies = hostile::bodies();
    assert!(bodies.len() >= 90, "{}", bodies.len());
    for (at, (name, body)) in bodies.iter().enumerate() {
        let began = Instant::now();
        // The charge for one must not make the next too large.
        let caller = gateway.caller(&format!("sender-{at}"));
        let request = caller.request(Method::POST, CHAT).header("content-type", "application/json");
        let answer = Answer::to(request.header("x-case", at).body(body.clone())).await;
        let took = began.elapsed();
        assert!(matches!(answer.status, 200 | 400), "{name}: {} {}", answer.status, answer.text());
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), 999, "{name}");
        assert!(took < PATIENCE, "{name} took {took:?}");
        let received = gateway.mock.received();
        let received = received.iter().rev().find(|request| request.headers["x-case"] == at.to_string());
        assert!(received.is_some_and(|received| received.body == *body), "{name} was changed on its way");
    }
    assert_eq!(gateway.mock.report().requests, bodies.len() as u64);
    check_unharmed(&gateway.envoy, &machines);
}

/// Every limited path takes every body, not only chats. Bodies above half a megabyte are left out: they take long, and
/// differ from the others only in the counting, which is the same on every path.
#[tokio::test]
async fn no_endpoint_is_weaker_than_another() {
    let limits = json!({"default": {"rpm": 1000, "input_tpm": NO_END, "output_tpm": NO_END}});
    let gateway = Gateway::start(Store::Local, limits).await;
    let machines = machines(&gateway.envoy);
    let bodies = || hostile::bodies().into_iter().filter(|(_, body)| body.len() <= 1 << 19);
    for path in ["/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"] {
        for (at, (name, body)) in bodies().enumerate() {
            let caller = gateway.caller(&format!("{path}-{at}"));
            let answer = Answer::to(caller.request(Method::POST, path).body(body)).await;
            assert!(matches!(answer.status, 200 | 400), "{path} {name}: {}", answer.status);
        }
    }
    check_unharmed(&gateway.envoy, &machines);
}

/// Headers and paths that are strange but legal.
#[rstest]
#[tokio::test]
async fn no_header_or_path_stops_the_filter(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let machines = machines(&gateway.envoy);
    let long = "k".repeat(20_000);
    let keys: [&[u8]; 9] = [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe",
        b"\xe4\xb8\xad",
        b"a,b",
        b"{\"",
        long.as_bytes(),
    ];
    let caller = gateway.caller("");
    for key in keys {
        let request =
            caller.request(Method::POST, CHAT).header("x-api-key", key).json(&hello()).build().unwrap();
        let mut headers = request.headers().clone();
        headers.insert("authorization", key.try_into().unwrap());
        let answer = Answer::to(caller.request(Method::POST, CHAT).headers(headers).json(&hello())).await;
        assert_eq!(answer.status, 200, "{:?}", String::from_utf8_lossy(key));
    }
    for path in [
        "/chat/completions?\u{e9}",
        "/%FF/%/chat/completions",
        "/chat%2fcompletions",
        "//chat//completions//",
    ] {
        let answer = Answer::to(caller.request(Method::POST, path).json(&hello())).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    check_unharmed(&gateway.envoy, &machines);
}

/// Envoy's statistics of its virtual machines. They stay the same as long as none crashes.
fn machines(envoy: &Envoy) -> String {
    let stats = envoy.admin("/stats?filter=%5Ewasm%5C.%28envoy%7Cllm-rate-limit%29");
    assert!(stats.contains("runtime.v8.created") && stats.contains("vm_reload"), "{stats}");
    stats
}

/// Checks that no virtual machine has stopped or started, and nothing has panicked.
fn check_unharmed(envoy: &Envoy, before: &str) {
    assert_eq!(machines(envoy), before);
    let log = envoy.log();
    for sign in ["panicked", "Wasm VM failed", "Function: proxy_on_", "RuntimeError", "[critical]"] {
        assert!(!log.contains(sign), "the log has {sign:?}");
    }
}
