//! A dry run of the whole configuration or of one limit: nothing is refused, and a header, a metric and the log report
//! what would have been.

use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

fn everything() -> Value {
    json!({"default": {"rpm": 1}, "dry_run": true})
}

fn one_limit() -> Value {
    let hour = json!({"metric": "requests", "limit": 1, "window": "1h", "dry_run": true});
    json!({"default": {"rpm": 2, "windows": [hour]}})
}

#[rstest]
#[case::everything(everything(), 200)]
#[case::one_limit(one_limit(), 429)]
#[tokio::test]
async fn a_dry_run_reports_what_it_would_refuse(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] limits: Value,
    #[case] third: u16,
) {
    let mut gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("dry");
    for header in [None, Some("requests")] {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.header("x-ratelimit-dry-run")), (200, header));
    }
    let labels = [("decision", "over_limit")];
    eventually("the metric", 1, async || gateway.envoy.metric("dry_run_requests", &labels)).await;
    assert_eq!(caller.hello().await.status, third, "limits outside the dry run hold");
    gateway.envoy.wait_for_log(r#""dry_run":"key/requests/1"#, Duration::from_secs(20));
}
