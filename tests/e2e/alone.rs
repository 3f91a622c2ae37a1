//! Redis stops to answer, and an Envoy with `on_error: local` goes on from what it has admitted. When Redis is back, it
//! counts all that was admitted meanwhile.
//!
//! Redis is frozen, so that it keeps what it has. Windows are of an hour: nothing leaves them during a test.

use crate::caller::{Answer, Caller, count, hello_with, statuses};
use crate::gateway::{Gateway, Store, eventually};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

/// A configuration in which everybody has these limits in windows of an hour, and each of `replicas` Envoys its share
/// while Redis does not answer.
fn limits(metric: &str, limit: u64, replicas: u64) -> Value {
    json!({
        "store": {
            "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 300,
            "on_error": "local", "replicas": replicas,
        },
        "default": {"windows": [{"metric": metric, "limit": limit, "window": "1h"}]},
        "output_reservation": {"mode": "declared"},
    })
}

/// A gateway with two workers, each of which gets connections.
async fn gateway(limits: &Value) -> Gateway {
    Gateway::start_with(Store::Redis, |setup| setup.filter(limits).concurrency(2)).await
}

/// So many requests at once, each on a connection of its own, so that both workers get some.
async fn at_once(gateway: &Gateway, requests: usize) -> Vec<Answer> {
    let callers: Vec<Caller> = (0..requests).map(|_| gateway.caller("somebody")).collect();
    futures_util::future::join_all(callers.iter().map(Caller::hello)).await
}

/// Waits until Redis counts so many requests.
async fn redis_counts(gateway: &Gateway, used: u64) {
    eventually("what Redis has counted", Some(used), async || gateway.used("somebody", "requests").await).await;
}

fn freeze(gateway: &Gateway) {
    gateway.fleet.as_ref().unwrap().redis.freeze();
}

fn thaw(gateway: &Gateway) {
    gateway.fleet.as_ref().unwrap().redis.thaw();
}

fn output(caller: &Caller, max_tokens: u64) -> RequestBuilder {
    caller.chat(&hello_with(json!({"max_tokens": max_tokens})))
}

#[tokio::test]
async fn a_limit_that_is_used_up_in_redis_is_used_up() {
    let gateway = gateway(&limits("requests", 10, 1)).await;
    let answers = at_once(&gateway, 15).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (10, 5));
    redis_counts(&gateway, 10).await;
    freeze(&gateway);
    for _ in 0..2 {
        assert_eq!(statuses(&at_once(&gateway, 10).await), [429; 10]);
    }
    thaw(&gateway);
    assert_eq!(gateway.mock.report().requests, 10);
    redis_counts(&gateway, 10).await;
}

#[tokio::test]
async fn of_a_limit_that_is_half_used_the_rest_is_left_and_redis_counts_it_later() {
    let gateway = gateway(&limits("requests", 10, 1)).await;
    assert_eq!(statuses(&at_once(&gateway, 4).await), [200; 4]);
    redis_counts(&gateway, 4).await;
    freeze(&gateway);
    let answers = at_once(&gateway, 20).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (6, 14));
    thaw(&gateway);
    redis_counts(&gateway, 10).await;
    assert_eq!(statuses(&at_once(&gateway, 4).await), [429; 4]);
    assert_eq!(gateway.mock.report().requests, 10);
}

#[tokio::test]
async fn an_envoy_that_has_admitted_its_share_of_the_limit_admits_no_more() {
    let gateway = gateway(&limits("requests", 10, 2)).await;
    assert_eq!(statuses(&at_once(&gateway, 7).await), [200; 7]);
    redis_counts(&gateway, 7).await;
    freeze(&gateway);
    assert_eq!(statuses(&at_once(&gateway, 6).await), [429; 6], "7 of 5 are admitted");
    thaw(&gateway);
    // Nothing was lost, and nothing was charged twice.
    redis_counts(&gateway, 7).await;
    let answers = at_once(&gateway, 6).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (3, 3));
}

#[tokio::test]
async fn what_requests_did_not_use_is_left_too() {
    let gateway = gateway(&limits("output_tokens", 1_000, 1)).await;
    let caller = gateway.caller("somebody");
    for _ in 0..2 {
        assert_eq!(Answer::to(output(&caller, 400)).await.status, 200);
    }
    let used = async || gateway.used("somebody", "output_tokens").await;
    eventually("two answers of 16 tokens", Some(32), used).await;
    freeze(&gateway);
    assert_eq!(Answer::to(output(&caller, 969)).await.status, 429);
    assert_eq!(Answer::to(output(&caller, 968)).await.status, 200);
    thaw(&gateway);
    eventually("three answers of 16 tokens", Some(48), used).await;
}

#[tokio::test]
async fn redis_counts_what_still_runs_when_it_is_back() {
    let gateway = gateway(&limits("requests", 10, 1)).await;
    let caller = gateway.caller("somebody");
    assert_eq!(caller.hello().await.status, 200);
    redis_counts(&gateway, 1).await;
    freeze(&gateway);
    let request = caller.chat(&hello_with(json!({"max_tokens": 9}))).header("x-mock-gate", "alone");
    let (open, ()) = tokio::join!(Answer::to(request), async {
        eventually("the request is upstream", 2, async || gateway.mock.report().requests).await;
        thaw(&gateway);
        // Redis learns of it from the worker that has it, when that gets an answer.
        eventually("what is charged", true, async || {
            at_once(&gateway, 1).await;
            gateway.used("somebody", "requests").await.is_some_and(|used| used == gateway.mock.report().requests)
        })
        .await;
        assert_eq!(gateway.envoy.stat("http.llm.downstream_rq_active"), Some(1), "it still runs");
        gateway.mock.let_through("alone", 1);
    });
    assert_eq!(open.status, 200);
    let all = gateway.mock.report().requests;
    eventually("nothing is charged twice", Some(all), async || gateway.used("somebody", "requests").await).await;
}

/// Of two retired configurations that are the same, Envoy keeps the later (docs/envoy.md#retired-root-contexts).
#[tokio::test]
async fn redis_learns_all_although_the_configuration_changes_back_and_forth() {
    let versions = [3, 4].map(|max_waiting| {
        let mut limits = limits("requests", 10, 1);
        limits["max_waiting"] = json!(max_waiting);
        limits
    });
    let mut gateway =
        Gateway::start_with(Store::Redis, |setup| setup.filter(&versions[0]).reloadable()).await;
    freeze(&gateway);
    let keys: Vec<String> = (0..6).map(|n| format!("during {n}")).collect();
    for (key, next) in keys.iter().zip(versions.iter().rev().cycle()) {
        let caller = gateway.caller(key);
        assert_eq!(statuses(&caller.hellos(3).await), [200; 3]);
        drop(caller);
        gateway.envoy.reload(&next.to_string()).unwrap();
    }
    thaw(&gateway);
    for key in &keys {
        eventually(key, Some(3), async || gateway.used(key, "requests").await).await;
    }
}
