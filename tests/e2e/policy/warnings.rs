//! Limits that are nearly used: a header, a metric and the log warn, and refuse nothing.

use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

/// Five requests, of which four are 0.8, and more tokens than anybody uses.
#[rstest]
#[tokio::test]
async fn answers_warn_from_the_threshold_on(#[values(Store::Local, Store::Redis)] store: Store) {
    let hour = |metric: &str, limit: u64| json!({"metric": metric, "limit": limit, "window": "1h"});
    let silent = json!({"metric": "requests", "limit": 4, "window": "1d", "warn_at": 1});
    let limits = json!({"default": {
        "warn_at": 0.8, "windows": [hour("requests", 5), hour("total_tokens", 1_000_000), silent]
    }});
    let mut gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("nearly");
    for _ in 0..3 {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.header("x-ratelimit-warning")), (200, None));
    }
    let answer = caller.hello().await;
    let warning = "requests;w=3600;used=0.80, requests;w=86400;used=1.00";
    assert_eq!((answer.status, answer.header("x-ratelimit-warning")), (200, Some(warning)));
    let refused = caller.hello().await;
    assert_eq!((refused.status, refused.header("x-ratelimit-warning")), (429, Some(warning)));
    let warned = "wasmcustom.llm_rate_limit.owner=.=key;.;metric=.=requests;.;window=.=1d;.;warnings";
    eventually("the metric", Some(1), async || gateway.envoy.stat(warned)).await;
    gateway
        .envoy
        .wait_for_log(r#""warning":"key/requests/1h, key/requests/1d""#, Duration::from_secs(20));
}
