//! Limits on a key, its group, the model and all requests: all are charged or none, and the answer names the one that
//! refused.

use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Gateway, Store};
use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Cluster;
use llm_rate_limit_tests::sidecar::Sidecar;
use rstest::rstest;
use serde_json::{Value, json};

fn limits() -> Value {
    json!({
        "groups": {"team": {"rpm": 2}},
        "keys": [
            {"key": "hierarchy-a", "name": "a", "rpm": 1, "group": "team"},
            {"key": "hierarchy-b", "name": "b", "rpm": 5, "group": "team"},
            {"key": "hierarchy-c", "name": "c", "rpm": 5},
        ],
        "models": {"gpt-4o*": {"rpm": 3}},
        "global": {"rpm": 4},
    })
}

/// Each limit refuses in its turn. A refusal must leave the other limits unchanged, or the fourth request would not be
/// admitted.
async fn each_refuses_in_its_turn(base: &str) {
    let story = [
        ("a", "gpt-4o", None),
        ("a", "gpt-4o", Some("a")),
        ("b", "gpt-4o", None),
        ("b", "gpt-4o", Some("group team")),
        ("c", "gpt-4o", None),
        ("c", "gpt-4o", Some("model gpt-4o*")),
        ("c", "o3", None),
        ("c", "o3", Some("all requests (global)")),
    ];
    for (at, (key, model, refused_by)) in story.into_iter().enumerate() {
        let caller = Caller::new(base, &format!("hierarchy-{key}"));
        let answer = Answer::to(caller.chat(&hello_with(json!({"model": model})))).await;
        match refused_by {
            None => assert_eq!(answer.status, 200, "request {at}: {}", answer.text()),
            Some(by) => {
                assert_eq!(answer.status, 429, "request {at}");
                let message = answer.message();
                assert!(message.starts_with(&format!("Rate limit reached for {by} on ")), "{at}: {message}");
            }
        }
    }
}

#[rstest]
#[tokio::test]
async fn the_limit_that_refuses_is_named(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits()).await;
    each_refuses_in_its_turn(&gateway.envoy.url("")).await;
    assert_eq!(gateway.mock.report().requests, 4);
}

#[tokio::test]
async fn a_cluster_charges_scopes_on_different_masters_together() {
    let cluster = Cluster::start();
    let sidecar = Sidecar::start(&cluster.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let mock = MockLlm::start();
    let mut limits = limits();
    limits["store"] = Store::Redis.configuration();
    let setup = Setup::new(mock.address()).concurrency(1).sidecar(sidecar.address().parse().unwrap());
    let envoy = setup.filter(&limits).start();
    each_refuses_in_its_turn(&envoy.url("")).await;
    assert_eq!(mock.report().requests, 4);
    let holding = cluster.nodes().iter().filter(|node| node.ask::<u64>(&["DBSIZE"]) > 0).count();
    assert!(holding > 1, "the scopes are all on one master, so this proves nothing");
}
