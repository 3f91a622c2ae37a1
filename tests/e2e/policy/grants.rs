//! What an operator grants or gives back by hand, as clients see it at once: only Redis has grants.

use crate::gateway::{Gateway, Store, eventually};
use llm_rate_limit_tests::command::{file, path, run};
use serde_json::{Value, json};

struct Granting {
    gateway: Gateway,
    config: tempfile::NamedTempFile,
}

impl Granting {
    async fn start() -> Self {
        let hour = |limit: u64| json!([{"metric": "requests", "limit": limit, "window": "1h"}]);
        let mut limits: Value = json!({
            "groups": {"grants-team": {"windows": hour(3)}},
            "keys": [
                {"key": "grants-key", "windows": hour(2)},
                {"key": "grants-refund", "windows": hour(2)},
                {"key": "grants-member", "windows": hour(100), "group": "grants-team"},
            ],
        });
        let gateway = Gateway::start(Store::Redis, limits.clone()).await;
        limits["store"] = Store::Redis.configuration();
        Self { gateway, config: file(&limits) }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let url = format!("http://{}", self.gateway.fleet.as_ref().unwrap().address());
        let place = ["--by", "ops", "--sidecar", &url, "--config", path(&self.config)];
        let ran = run(&[arguments, &place].concat());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        ran.out
    }

    /// The status of the next request of `key` once no refusal from memory is in its way.
    async fn is_admitted(&self, key: &str) -> bool {
        eventually("admitted", true, async || self.gateway.caller(key).hello().await.status == 200).await;
        true
    }
}

#[tokio::test]
async fn a_grant_admits_at_once_and_headers_have_it() {
    let granting = Granting::start().await;
    let caller = granting.gateway.caller("grants-key");
    for status in [200, 200, 429] {
        assert_eq!(caller.hello().await.status, status);
    }
    granting.run(&["grant", "--key", "grants-key", "--limit", "requests", "--add", "3", "--until", "1h"]);
    // The filter remembers a refusal for a tenth of a second at most.
    assert!(granting.is_admitted("grants-key").await);
    let answer = caller.hello().await;
    assert_eq!(answer.number("x-ratelimit-limit-requests"), 5);
    assert_eq!(answer.number("x-ratelimit-remaining-requests"), 1);
    assert_eq!(caller.hello().await.status, 200);
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.number("x-ratelimit-limit-requests"), 5);

    granting.run(&["grant", "--key", "grants-key", "--limit", "requests", "--revoke"]);
    assert_eq!(caller.hello().await.status, 429);
}

#[tokio::test]
async fn a_refund_makes_room_and_a_groups_grant_is_for_all_of_its_keys() {
    let granting = Granting::start().await;
    let refund = granting.gateway.caller("grants-refund");
    for status in [200, 200, 429] {
        assert_eq!(refund.hello().await.status, status);
    }
    let said = granting.run(&["refund", "--key", "grants-refund", "--limit", "requests", "--amount", "9"]);
    assert_eq!(said, "refunded: 2 of requests/1h; used 0 of 2\n");
    assert!(granting.is_admitted("grants-refund").await);

    let member = granting.gateway.caller("grants-member");
    for status in [200, 200, 200, 429] {
        assert_eq!(member.hello().await.status, status);
    }
    granting.run(&["grant", "--group", "grants-team", "--limit", "requests", "--add", "1", "--until", "1h"]);
    assert!(granting.is_admitted("grants-member").await);
    eventually("refused", 429, async || member.hello().await.status).await;
}
