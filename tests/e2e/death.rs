//! A VM dies, with all requests of its worker in it: what those see, and what is left.
//!
//! The filter here is the real one, but for one callback, which ends its VM: that for the trailers of a response.

use crate::caller::{Answer, hello};
use crate::gateway::{Gateway, Store, eventually};
use crate::routes::{HTTP2, connection_manager};
use llm_rate_limit_tests::wasm;
use reqwest::Method;
use serde_json::json;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Envoy's clock: the longest that a stream may be silent. The shipped configuration has ten minutes.
const IDLE: Duration = Duration::from_secs(4);

#[tokio::test]
async fn those_who_wait_get_no_answer_of_a_filter_that_died_and_all_others_are_served() {
    let filter = wasm::filter_that_traps_in("proxy_on_response_trailers");
    let window = |limit: u64, window: &str| json!([{"metric": "requests", "limit": limit, "window": window}]);
    let limits = json!({
        "store": {"type": "local"},
        "keys": [
            {"key": "counted", "windows": window(5, "1h")},
            {"key": "waits", "windows": window(1, "55s"), "max_wait_ms": 60_000},
        ],
    });
    let mut gateway = Gateway::start_with(Store::Local, |setup| {
        let mut setup = setup.filter(&limits);
        connection_manager(&mut setup)["stream_idle_timeout"] = json!(format!("{}s", IDLE.as_secs()));
        setup.plugin()["vm_config"]["code"]["local"]["filename"] = json!(filter.path());
        setup
    })
    .await;
    let caller = gateway.caller("counted");
    assert_eq!(caller.hello().await.number("x-ratelimit-remaining-requests"), 4);

    let waits = gateway.caller("waits");
    assert_eq!(waits.hello().await.status, 200);
    let waiting = tokio::spawn(async move {
        let began = Instant::now();
        (waits.hello().await, began.elapsed())
    });
    let streaming = tokio::spawn({
        let request = caller.chat(&hello()).header("x-mock-gate", "streaming");
        async move { request.send().await.unwrap().bytes().await }
    });
    eventually("both are under way", Some(2), async || {
        gateway.envoy.stat("http.llm.downstream_rq_active")
    })
    .await;
    eventually("the upstream has one of them", 3, async || gateway.mock.report().requests).await;

    let path = format!("{HTTP2}{}", crate::caller::CHAT);
    let deadly = caller.request(Method::POST, &path).json(&hello()).header("x-mock-trailers", 1).send().await;
    drop(deadly);
    gateway.envoy.wait_for_log("Function: proxy_on_response_trailers failed", Duration::from_secs(30));

    // Envoy waits a moment before it makes a new VM, and answers 503 meanwhile.
    let first = RefCell::new(None);
    eventually("a new VM", 200, async || {
        let answer = caller.hello().await;
        let status = answer.status;
        *first.borrow_mut() = Some(answer);
        status
    })
    .await;
    // Shared data survives: two were charged before, and the deadly one.
    assert_eq!(first.into_inner().unwrap().number("x-ratelimit-remaining-requests"), 1);
    let (answer, took) = waiting.await.unwrap();
    assert_eq!(answer.status, 503);
    // Envoy's timers go by the time at which its loop woke up.
    assert!(took >= IDLE - Duration::from_millis(500), "nobody resumes those who wait: {took:?}");
    gateway.mock.let_through("streaming", 10);
    assert!(streaming.await.unwrap().is_err(), "a stream that reaches its next callback is cut off");
    let again = Answer::to(caller.chat(&hello())).await;
    assert_eq!((again.status, again.number("x-ratelimit-remaining-requests")), (200, 0));
    assert_eq!(caller.hello().await.status, 429, "the limit holds");
}
