//! The calls between Envoy and the filter that a plain request takes. Their number is the same on any machine, and most
//! of what the filter costs: a call that returns bytes takes about two microseconds, since Envoy enters the VM again to
//! allocate them, and any other a fraction of one (docs/envoy.md#host-call-costs).

use crate::gateway::{Gateway, Store, eventually};
use futures_util::StreamExt as _;
use llm_rate_limit::telemetry::access_log::MAX_FIELDS;
use llm_rate_limit_tests::calls::Calls;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Requests that are counted together, and how many of them run at a time.
const REQUESTS: usize = 320;
const AT_A_TIME: usize = 32;

/// Sends `requests` with `key` after one that has left nothing to do, and returns their calls.
async fn calls(gateway: &Gateway, key: &str, requests: usize) -> Calls {
    assert_eq!(gateway.caller(key).hello().await.status, 200);
    gateway.at_rest().await;
    gateway.envoy.post("/logging?wasm=trace");
    let begin = gateway.envoy.log().len();
    let caller = gateway.caller(key);
    let sent = futures_util::stream::iter((0..requests).map(async |_| caller.hello().await.status));
    let statuses: Vec<u16> = sent.buffer_unordered(AT_A_TIME).collect().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    drop(caller);
    let log = || gateway.envoy.log().get(begin..).unwrap_or_default().to_owned();
    let ended = async || log().matches("[host->vm] proxy_on_delete(").count();
    eventually("requests that have ended in the log", requests, ended).await;
    gateway.settled().await;
    gateway.envoy.post("/logging?wasm=info");
    Calls::of(&log())
}

/// What a request may take on average: calls, those of them that return bytes, and entries into the VM. Where tokens
/// are counted, two of the calls give histograms their values.
#[rstest]
#[case::local_requests(Store::Local, json!({"rpm": 100_000}), [13, 3, 10])]
#[case::local_all(Store::Local, all(), [32, 6, 10])]
#[case::redis_all(Store::Redis, all(), [36, 8, 11])]
#[tokio::test]
async fn requests_take_few_calls(#[case] store: Store, #[case] limits: Value, #[case] most: [usize; 3]) {
    let gateway = Gateway::start(store, json!({"default": limits})).await;
    let calls = calls(&gateway, "calls", REQUESTS).await;
    let found = [calls.without_log_fields(), calls.allocations, calls.all_entries()];
    let is_within = found.iter().zip(most).all(|(found, most)| *found <= most * REQUESTS);
    assert!(is_within, "{found:?} for {REQUESTS} requests, {most:?} for each: {calls:?}");
    assert!(calls.of_log_fields() <= MAX_FIELDS * REQUESTS, "{calls:?}");
}

/// A request that is alone on Redis shares its callouts with none.
#[tokio::test]
async fn a_lone_request_on_redis_takes_few_calls() {
    let gateway = Gateway::start(Store::Redis, json!({"default": all()})).await;
    let calls = calls(&gateway, "lone", 1).await;
    assert!(calls.allocations <= 10 && calls.all_entries() <= 14, "{calls:?}");
}

/// An unlimited key on a limited path. Its line of the log has two fields, and of its answer the filter reads the
/// status and removes a header.
#[tokio::test]
async fn what_is_not_limited_takes_as_good_as_no_calls() {
    let limits = json!({"default": {"rpm": 100_000}, "keys": [{"key": "free", "unlimited": true}]});
    let gateway = Gateway::start(Store::Local, limits).await;
    let calls = calls(&gateway, "free", REQUESTS).await;
    let found = calls.without_log_fields();
    assert!(found <= 4 * REQUESTS && calls.allocations <= 2 * REQUESTS, "{found}: {calls:?}");
    assert_eq!(calls.of_log_fields(), 2 * REQUESTS, "{calls:?}");
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
    let calls = calls(&gateway, "headers", 1).await;
    assert_eq!(calls.calls.get("get_header_map_value"), None, "{calls:?}");
}

/// A place that several limits are from takes one call, and nothing asks where no limit does.
#[tokio::test]
async fn a_claim_takes_one_call() {
    let claim = |default: Value| json!({"metadata": ["gateway", "tier"], "default": default, "max": 100_000});
    let fixed = json!({"rpm": 100_000, "tpm": 10_000_000});
    let claimed = json!({"rpm": claim(json!(50_000)), "tpm": claim(json!(60_000))});
    let mut properties = Vec::new();
    for limits in [fixed, claimed] {
        let limits = json!({"default": {"rpd": 100_000, "rpm": limits["rpm"], "tpm": limits["tpm"]}});
        let gateway = Gateway::start(Store::Local, limits).await;
        let calls = calls(&gateway, "claims", REQUESTS).await;
        properties.push(calls.calls.get("get_property").copied().unwrap_or_default());
    }
    assert_eq!(properties[1] - properties[0], REQUESTS, "{properties:?}");
}

/// What Redis admits is written to the local store by ticks, and not by the requests.
#[tokio::test]
async fn a_request_takes_no_more_calls_where_this_envoy_may_have_to_count_alone() {
    let mut counts = Vec::new();
    for on_error in ["deny", "local"] {
        let store = json!({
            "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000, "on_error": on_error,
        });
        let limits = json!({"store": store, "default": {"rpm": 100_000, "tpm": 10_000_000}});
        let gateway = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
        let calls = calls(&gateway, "alone", REQUESTS).await;
        let of = |calls: &BTreeMap<String, usize>| {
            ["get_shared_data", "set_shared_data"].map(|call| calls.get(call).copied().unwrap_or_default())
        };
        assert_eq!(of(&calls.calls), of(&calls.of_ticks), "{on_error}: {calls:?}");
        let [reads, writes] = of(&calls.of_ticks);
        // The roll of workers and the one scope are read at each tick at most.
        assert!(reads <= 2 * calls.ticks, "{on_error}: {calls:?}");
        counts.push(writes);
    }
    assert!(counts[0] < counts[1], "writes of shared data: {counts:?}");
}

/// Limits on requests, and on input, output and all tokens.
fn all() -> Value {
    json!({"rpm": 100_000, "tpm": 10_000_000, "input_tpm": 10_000_000, "output_tpm": 10_000_000})
}
