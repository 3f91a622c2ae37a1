//! A crowd of invented keys: those that are known do not notice, and memory stays bounded, in both stores.

use crate::caller::{Caller, statuses};
use crate::gateway::{Gateway, Store, eventually};
use serde_json::{Value, json};
use std::time::Instant;

/// Two shards for strangers, with room for 32 of them.
fn limits(keys: usize) -> Value {
    let window = json!([{"metric": "requests", "limit": 2, "window": "1h"}]);
    let keys: Vec<Value> =
        (0..keys).map(|n| json!({"key": format!("crowd-named-{n}"), "windows": window})).collect();
    json!({
        "store": {"type": "local", "max_identities": 16},
        "keys": keys,
        "plans": {"stranger": {"windows": window}},
        "default": {"plan": "stranger"},
    })
}

#[tokio::test]
async fn a_crowd_of_invented_keys_refuses_no_key_of_the_configuration() {
    let mut gateway = Gateway::start_with(Store::Local, |setup| {
        setup.filter(&limits(100)).reloadable()
    })
    .await;
    let url = gateway.envoy.url("");
    let hello = async |key: String| Caller::new(&url, &key).hello().await.status;
    let mut admitted = 0;
    for n in 0..200 {
        admitted += usize::from(hello(format!("crowd-invented-{n}")).await == 200);
    }
    assert!((18..=36).contains(&admitted), "{admitted}: places of their own, and two counters for all others");
    for n in 0..100 {
        assert_eq!(hello(format!("crowd-named-{n}")).await, 200, "{n}");
    }

    // A reload that names more keys keeps what the others have used.
    gateway.envoy.reload(&limits(130).to_string()).unwrap();
    // Until then it is one of the crowd, whose counter is used up.
    eventually("the new keys", 200, async || hello("crowd-named-129".to_owned()).await).await;
    for n in [0, 50, 99] {
        let caller = Caller::new(&url, &format!("crowd-named-{n}"));
        assert_eq!(statuses(&caller.hellos(2).await).iter().filter(|status| **status == 200).count(), 1, "{n}");
    }
    for n in 100..129 {
        assert_eq!(hello(format!("crowd-named-{n}")).await, 200, "{n}");
    }
}

#[tokio::test]
async fn a_crowd_of_invented_keys_takes_no_more_of_redis_than_its_seconds_allow() {
    const NEW_PER_SECOND: u64 = 5;
    let window = json!([{"metric": "requests", "limit": 4, "window": "1h"}]);
    let limits = json!({
        "keys": [{"key": "named", "windows": [{"metric": "requests", "limit": 1000, "window": "1h"}]}],
        "default": {"windows": window, "max_new_identities_per_second": NEW_PER_SECOND},
    });
    let gateway = Gateway::start(Store::Redis, limits).await;
    let began = Instant::now();
    assert_eq!(gateway.caller("early").hello().await.status, 200);
    // Twenty clients, with a key of its own for each request.
    let crowd = (0..20).map(async |client| {
        let mut answers = Vec::new();
        for n in (client..500).step_by(20) {
            answers.push((n, gateway.caller(&format!("crowd-{n}")).hello().await.status));
        }
        answers
    });
    let known = async {
        let mut statuses = Vec::new();
        for _ in 0..50 {
            statuses.push(gateway.caller("named").hello().await.status);
        }
        statuses.extend([gateway.caller("early").hello().await.status, gateway.caller("early").hello().await.status]);
        statuses
    };
    let (crowd, known) = tokio::join!(futures_util::future::join_all(crowd), known);
    let crowd = crowd.concat();
    let seconds = began.elapsed().as_secs() + 2;
    assert_eq!(known, [200; 52], "whoever is known does not notice");

    let mut own = 0;
    for n in 0..500 {
        own += u64::from(gateway.used(&format!("crowd-{n}"), "requests").await.unwrap() > 0);
    }
    assert!(own >= NEW_PER_SECOND - 1 && own <= NEW_PER_SECOND * seconds, "{own} in {seconds} s");
    let admitted = crowd.iter().filter(|(_, status)| *status == 200).count() as u64;
    assert_eq!(admitted, own + 4, "one of each that has a counter, and the limit of the one that all others share");
    assert!(crowd.iter().all(|(_, status)| [200, 429].contains(status)));
    gateway.at_rest().await;
    // A counter and an index for each owner: those of the crowd, the two that are known, and what is shared. Beside
    // them, what was reserved is remembered for a minute.
    let redis = &gateway.fleet.as_ref().unwrap().redis;
    let counters = async || {
        let keys = redis.ask::<Vec<String>>(&["KEYS", "llmrl:*"]).into_iter();
        keys.filter(|key| !key.contains(":reservation:")).count() as u64
    };
    eventually("keys in Redis", true, async || counters().await <= 2 * (own + 3)).await;

    // After the second, one of the crowd gets a counter of its own.
    let (late, _) = crowd.iter().find(|(_, status)| *status == 429).unwrap();
    let late = gateway.caller(&format!("crowd-{late}"));
    eventually("a counter of its own", 200, async || late.hello().await.status).await;
}
