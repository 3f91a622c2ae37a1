//! A flood from a key that is over its limit: the store is hardly asked.

use crate::caller::{Answer, Caller};
use crate::gateway::{Gateway, Store, eventually};
use serde_json::json;
use std::time::{Duration, Instant};

/// How often the filter has asked Redis to decide or to charge.
fn scripts_run(gateway: &Gateway) -> u64 {
    let redis = &gateway.fleet.as_ref().unwrap().redis;
    let stats: String = redis.ask(&["INFO", "commandstats"]);
    let evaluations = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    evaluations.filter_map(|line| line.split(',').next()?.parse::<u64>().ok()).sum()
}

/// Sixteen clients that send one request after the other for two seconds.
async fn flood(caller: &Caller) -> Vec<Answer> {
    let began = Instant::now();
    let clients = (0..16).map(async |_| {
        let mut answers = Vec::new();
        while began.elapsed() < Duration::from_secs(2) {
            answers.push(caller.hello().await);
        }
        answers
    });
    futures_util::future::join_all(clients).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_key_over_its_limit_asks_redis_ten_times_a_second() {
    let key = json!({"key": "flood", "rpm": 5, "tpm": 1_000_000, "group": "all"});
    let limits = json!({"keys": [key], "groups": {"all": {"rpm": 1_000}}});
    let gateway = Gateway::start(Store::Redis, limits).await;
    let caller = gateway.caller("flood");
    for _ in 0..5 {
        assert_eq!(caller.hello().await.status, 200);
    }
    // Until then, tokens are given back.
    gateway.settled().await;
    let first = caller.hello().await;
    assert_eq!(first.status, 429);
    let (before, began) = (scripts_run(&gateway), Instant::now());
    let answers = flood(&caller).await;
    let seconds = began.elapsed().as_secs() + 1;
    let ran = scripts_run(&gateway) - before;
    assert!(ran <= 10 * seconds, "{ran} scripts for {} requests", answers.len());
    assert!(answers.len() > 100 && answers.iter().all(|answer| answer.status == 429));
    let wait = |answer: &Answer| answer.number("retry-after-ms");
    let last = answers.iter().map(wait).min().unwrap();
    assert!(wait(&first) >= last + 1_500, "it counts down: {} {last}", wait(&first));
    for name in ["x-ratelimit-remaining-tokens", "x-ratelimit-limit-requests"] {
        assert!(answers.iter().all(|answer| answer.number(name) == first.number(name)), "{name}");
    }
    // What an operator resets is admitted, although the filter has not been told.
    let redis = &gateway.fleet.as_ref().unwrap().redis;
    redis.ask::<String>(&["FLUSHALL"]);
    eventually("requests after a reset", 200, async || caller.hello().await.status).await;
}
