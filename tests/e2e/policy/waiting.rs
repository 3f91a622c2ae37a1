//! A request that fits soon waits instead of being refused: in its turn, within bounds, and only as long as its client
//! stays. The clock of the store decides when a request fits.

use crate::caller::{Answer, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Instant;

/// One request in any window of this duration; a request that comes too early waits.
fn limits(window: &str, max_waiting: u64) -> Value {
    let window = json!({"metric": "requests", "limit": 1, "window": window, "segments": 1});
    json!({"default": {"windows": [window], "max_wait_ms": 20_000}, "max_waiting": max_waiting})
}

/// Waits until Envoy has this many requests under way. Its one worker hands each request to the filter before it reads
/// the next, so the order in which they arrive is the order in which they are counted.
async fn under_way(gateway: &Gateway, requests: u64) {
    eventually("requests under way", Some(requests), async || {
        gateway.envoy.stat("http.llm.downstream_rq_active")
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn requests_are_forwarded_in_the_order_of_their_arrival(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits("1s", 10)).await;
    let caller = gateway.caller("waiting-turns");
    assert_eq!(caller.hello().await.header("x-ratelimit-waited-ms"), None);
    let one = async || (caller.hello().await, Instant::now());
    let later = async || {
        under_way(&gateway, 1).await;
        one().await
    };
    let ((first, first_at), (second, second_at)) = futures_util::future::join(one(), later()).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert!(first_at < second_at, "the first to come goes first");
    for answer in [first, second] {
        assert!((1..20_000).contains(&answer.number("x-ratelimit-waited-ms")));
    }
}

#[rstest]
#[tokio::test]
async fn bodies_of_requests_that_wait_are_bounded(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut limits = limits("8s", 10);
    limits["default"]["input_tpm"] = json!(1_000_000);
    limits["max_waiting_bytes"] = json!(150_000);
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("waiting-bodies");
    assert_eq!(caller.hello().await.status, 200);
    let large = hello_with(json!({"messages": [{"role": "user", "content": " word".repeat(20_000)}]}));
    let waiting = tokio::spawn({
        let request = caller.chat(&large);
        async move { Answer::to(request).await }
    });
    under_way(&gateway, 1).await;
    assert_eq!(Answer::to(caller.chat(&large)).await.status, 429, "there is room for one such body");
    let small = tokio::spawn({
        let caller = caller.clone();
        async move { caller.hello().await }
    });
    under_way(&gateway, 2).await;
    waiting.abort();
    small.abort();
}

#[rstest]
#[tokio::test]
async fn the_waiting_room_has_bounds_and_departures_make_way(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits("3s", 1)).await;
    let caller = gateway.caller("waiting-room");
    assert_eq!(caller.hello().await.status, 200);
    let waiting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.hello().await }
    });
    under_way(&gateway, 1).await;
    assert_eq!(caller.hello().await.status, 429, "the one place is taken");
    waiting.abort();
    under_way(&gateway, 0).await;
    eventually("a place", (200, true), async || {
        let answer = caller.hello().await;
        (answer.status, answer.header("x-ratelimit-waited-ms").is_some())
    })
    .await;
    assert_eq!(gateway.mock.report().requests, 2, "the client that left is not forwarded");
}
