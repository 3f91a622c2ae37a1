//! The calls from the filter to Envoy that a plain request takes. Each that returns bytes costs two microseconds.
//!
//! Envoy logs every callback and every call at the level `trace`.

use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::HashMap;

/// The call that reads the clock: one in every callback, and their number depends on how the bytes arrive.
const CLOCK: &str = "get_current_time_nanoseconds";

/// The calls within callbacks about one request, in order, each with the callback that it was made in.
fn calls_of(stream: &str, log: &str) -> Vec<(String, String)> {
    let mut callbacks: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        // [time][thread][level][wasm] [file] [host->vm] proxy_on_log(3)
        let Some(thread) = line.split("][").nth(1) else { continue };
        if let Some((_, callback)) = line.split_once("[host->vm] proxy_on_")
            && !callback.starts_with("memory_allocate")
        {
            callbacks.insert(thread, callback);
        }
        let Some((_, call)) = line.split_once("[vm->host] env.proxy_") else { continue };
        let callback = callbacks.get(thread).and_then(|callback| callback.split_once('('));
        if let Some((callback, arguments)) = callback
            && arguments.split([',', ')']).next() == Some(stream)
        {
            calls.push((callback.to_owned(), call.split('(').next().unwrap().to_owned()));
        }
    }
    calls
}

/// Sends a second request, when the first has left nothing to do, and returns its calls.
async fn calls(gateway: &Gateway, key: &str) -> Vec<(String, String)> {
    assert_eq!(gateway.caller(key).hello().await.status, 200);
    gateway.at_rest().await;
    gateway.envoy.post("/logging?wasm=trace");
    let begin = gateway.envoy.log().len();
    assert_eq!(gateway.caller(key).hello().await.status, 200);
    let log = || gateway.envoy.log().get(begin..).unwrap_or_default().to_owned();
    eventually("the end of the request in the log", true, async || log().contains("[host<-vm] proxy_on_done return"))
        .await;
    gateway.envoy.post("/logging?wasm=info");
    let log = log();
    let (_, arguments) = log.split_once("[host->vm] proxy_on_request_headers(").unwrap();
    calls_of(arguments.split(',').next().unwrap(), &log)
}

#[rstest]
#[tokio::test]
async fn the_headers_of_a_request_are_read_at_once(#[values(Store::Local, Store::Redis)] store: Store) {
    // Each of these may take a header of its own.
    let limits = json!({
        "identity": [{"header": "x-absent"}, {"header": "x-api-key"}, {"header": "authorization"}],
        "default": {"rpm": 100, "tpm": 100_000},
        "rejection": {"message": {"default": "Slow down.", "de": "Langsamer."}},
    });
    let gateway = Gateway::start(store, limits).await;
    let calls = calls(&gateway, "headers").await;
    let of_headers = calls.iter().filter(|(callback, call)| callback == "request_headers" && call != CLOCK);
    let of_headers: Vec<&str> = of_headers.map(|(_, call)| call.as_str()).collect();
    assert_eq!(of_headers, ["get_header_map_pairs"], "{calls:?}");
}

/// The bounds are what it takes now: each call more is to be argued for.
#[rstest]
#[case::requests_alone(json!({"rpm": 100}), 53)]
#[case::tokens(json!({"rpm": 100, "tpm": 100_000}), 60)]
#[tokio::test]
async fn a_plain_request_takes_no_more_calls_than_it_did(#[case] limits: Value, #[case] most: usize) {
    let gateway = Gateway::start(Store::Local, json!({"default": limits})).await;
    let calls = calls(&gateway, "calls").await;
    let count = calls.iter().filter(|(_, call)| call != CLOCK).count();
    assert!(count <= most, "{count} calls: {calls:?}");
    assert!(calls.iter().any(|(callback, _)| callback == "response_body"), "{calls:?}");
}

/// What Redis admits is written to the local store by ticks, and not by the requests.
#[tokio::test]
async fn a_request_takes_no_more_calls_where_this_envoy_may_have_to_count_alone() {
    let mut counts = Vec::new();
    for on_error in ["deny", "local"] {
        let store = json!({
            "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000, "on_error": on_error,
        });
        let limits = json!({"store": store, "default": {"rpm": 100, "tpm": 100_000}});
        let gateway = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
        let calls = calls(&gateway, "alone").await;
        assert!(!calls.iter().any(|(_, call)| call.ends_with("shared_data")), "{on_error}: {calls:?}");
        counts.push(calls.iter().filter(|(_, call)| call != CLOCK).count());

        gateway.envoy.post("/logging?wasm=trace");
        let begin = gateway.envoy.log().len();
        for answer in gateway.caller("alone").hellos(30).await {
            assert_eq!(answer.status, 200);
        }
        gateway.at_rest().await;
        gateway.envoy.post("/logging?wasm=info");
        let log = gateway.envoy.log();
        let count = |what: &str| log.get(begin..).unwrap_or_default().matches(what).count();
        let ticks = count("[host->vm] proxy_on_tick(");
        let [reads, writes] = ["get", "set"].map(|verb| count(&format!("env.proxy_{verb}_shared_data(")));
        if on_error == "local" {
            assert!((1..=ticks).contains(&reads), "{reads} reads of the one scope in {ticks} ticks");
            assert_eq!(reads, writes);
        } else {
            assert_eq!((reads, writes), (0, 0));
        }
    }
    assert_eq!(counts[0], counts[1], "calls of a request");
}
