//! A dry run, of everything or of one limit: nothing is refused, and what would have been is told in three places.

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
async fn what_would_be_refused_is_told(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] limits: Value,
    #[case] third: u16,
) {
    let mut gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("dry");
    for told in [None, Some("requests")] {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.header("x-ratelimit-dry-run")), (200, told));
    }
    eventually("the metric", Some(1), async || {
        gateway.envoy.stat("wasmcustom.llm_rate_limit.dry_run_over_limit")
    })
    .await;
    assert_eq!(caller.hello().await.status, third, "limits outside the dry run hold");
    gateway.envoy.wait_for_log(r#""dry_run":"requests""#, Duration::from_secs(20));
}
