//! Settlements that can never be done, or not now: they delay no other.

use crate::gateway::{Gateway, Store, eventually};
use serde_json::json;

/// The requests whose records something else overwrites while they run.
const SPOILT: usize = 12;

#[tokio::test]
async fn a_settlement_that_can_never_be_done_is_dropped_and_delays_no_other() {
    let window = json!({"metric": "output_tokens", "limit": 1000, "window": "1h"});
    let limits = json!({"default": {"windows": [window]}, "output_reservation": {"mode": "declared"}});
    let gateway = Gateway::start(Store::Redis, limits).await;
    let spoilt = (0..SPOILT).map(async |n| {
        let caller = gateway.caller(&format!("spoilt {n}"));
        let request = caller.chat(&crate::caller::hello()).header("x-mock-gate", "spoilt");
        crate::caller::Answer::to(request).await.status
    });
    let spoil = async {
        eventually("requests upstream", SPOILT as u64, async || gateway.mock.report().requests).await;
        let redis = &gateway.fleet.as_ref().unwrap().redis;
        let records: Vec<String> = redis.ask(&["KEYS", "llmrl:*:reservation:*"]);
        assert_eq!(records.len(), SPOILT, "{records:?}");
        for record in records {
            // That of a reservation in three windows.
            let () = redis.ask(&["SET", &record, "1:1;1:1;1:1"]);
        }
        gateway.mock.let_through("spoilt", 4 * SPOILT);
    };
    let (statuses, ()) = tokio::join!(futures_util::future::join_all(spoilt), spoil);
    assert_eq!(statuses, [200; SPOILT]);
    eventually("settlements that were dropped", SPOILT as u64, async || {
        gateway.envoy.stat("wasmcustom.llm_rate_limit.settlements_refused").unwrap()
    })
    .await;
    assert_eq!(gateway.envoy.log().matches("a settlement can never be done").count(), 1, "it is logged once");
    assert_eq!(gateway.caller("sound").hello().await.status, 200);
    eventually("the tokens of a sound one", Some(16), async || {
        gateway.used("sound", "output_tokens").await
    })
    .await;
}
