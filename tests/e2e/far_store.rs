//! A Redis that is far away: limits hold to the last request, and nobody is turned away for the distance.
//!
//! The proxy before Redis delays by its own clock, and the filter's timeout is Envoy's.

use crate::gateway::{Fleet, Gateway, Store, eventually};
use llm_rate_limit_tests::far::Far;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

/// A gateway that is `round_trip` away from its Redis, and waits `timeout` for it, both in milliseconds.
async fn gateway(on_error: &str, round_trip: u64, timeout: u64) -> (Gateway, Far) {
    let redis = Redis::start();
    let far = Far::from(redis.port(), Duration::from_millis(round_trip));
    let sidecar = Sidecar::start(&format!("redis://{}", far.address()), &[]);
    sidecar.wait_until_ready_is(200).await;
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": timeout, "on_error": on_error},
        "keys": [{"key": "crowd", "windows": [{"metric": "requests", "limit": 300, "window": "1h"}]}],
    });
    let address = sidecar.address().parse().unwrap();
    let mut gateway =
        Gateway::start_with(Store::Local, |setup| setup.sidecar(address).filter(&limits)).await;
    gateway.fleet = Some(Fleet { sidecar, redis });
    (gateway, far)
}

/// What becomes of 800 requests under a limit of 300: admitted, refused, unanswered.
async fn flood(on_error: &str, round_trip: u64, timeout: u64) -> [usize; 3] {
    let (gateway, _far) = gateway(on_error, round_trip, timeout).await;
    let caller = gateway.caller("crowd");
    let clients = (0..40).map(async |_| {
        let mut statuses = Vec::new();
        for _ in 0..20 {
            statuses.push(caller.hello().await.status);
        }
        statuses
    });
    let statuses = futures_util::future::join_all(clients).await.concat();
    eventually("the requests in the fleet's window", Some(300), async || {
        gateway.used("crowd", "requests").await
    })
    .await;
    [200, 429, 503].map(|status| statuses.iter().filter(|seen| **seen == status).count())
}

/// Where each callout had only what an earlier one left of the timeout, no attempt came near this.
#[rstest]
#[tokio::test]
async fn a_limit_holds_exactly_up_to_two_thirds_of_the_timeout(
    #[values("allow", "deny", "local")] on_error: &str,
    #[values((24, 50), (200, 300))] (round_trip, timeout): (u64, u64),
) {
    let mut seen = Vec::new();
    // A machine that stands still for the rest of the timeout is as good as a Redis that does: then it does it again.
    while seen.len() < 5 && seen.last() != Some(&[300, 500, 0]) {
        let [admitted, refused, unanswered] = flood(on_error, round_trip, timeout).await;
        assert_eq!(admitted + refused + unanswered, 800);
        assert!(admitted <= 300 || on_error != "deny", "{admitted} admitted");
        seen.push([admitted, refused, unanswered]);
    }
    assert_eq!(seen.last(), Some(&[300, 500, 0]), "{seen:?}");
}
