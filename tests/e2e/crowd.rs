//! A crowd of invented keys in the local store: those that the configuration names do not notice.

use crate::caller::{Caller, statuses};
use crate::gateway::{Gateway, Store};
use serde_json::{Value, json};

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
    crate::gateway::eventually("the new keys", 200, async || hello("crowd-named-129".to_owned()).await).await;
    for n in [0, 50, 99] {
        let caller = Caller::new(&url, &format!("crowd-named-{n}"));
        assert_eq!(statuses(&caller.hellos(2).await).iter().filter(|status| **status == 200).count(), 1, "{n}");
    }
    for n in 100..129 {
        assert_eq!(hello(format!("crowd-named-{n}")).await, 200, "{n}");
    }
}
