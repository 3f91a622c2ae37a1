//! Windows of the calendar: they end when they do in their zone, by the clock of the store.
//!
//! The test sets that clock, and Envoy's, whose filter knows the calendar.

use crate::gateway::{Fleet, Gateway, Store, eventually};
use llm_rate_limit::identity::Identity;
use llm_rate_limit_tests::clock::Clock;
use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use rstest::rstest;
use serde_json::{Value, json};

/// 2031-03-10 04:00 UTC, when a day of 23 hours ends in New York, in milliseconds since the epoch.
const MIDNIGHT_MS: i64 = 1_930_881_600_000;

fn limits(store: Store) -> Value {
    let requests = |limit: u64, window: &str, zone: &str| {
        json!({"metric": "requests", "limit": limit, "window": window, "timezone": zone})
    };
    let day = requests(2, "1d", "America/New_York");
    let mut store = store.configuration();
    if let Some(members) = store.as_object_mut().filter(|store| store["type"] == "redis") {
        members.insert("timeout_ms".to_owned(), json!(10_000));
    }
    json!({
        "store": store,
        "keys": [
            {"key": "calendar-day", "windows": [day.clone()]},
            {"key": "calendar-zones", "windows": [day, requests(9, "1d", "Asia/Tokyo"), requests(9, "1y", "UTC")]},
        ],
    })
}

/// A gateway that lives by `clock`, with all that it starts.
async fn gateway(store: Store, clock: &Clock) -> Gateway {
    let mock = MockLlm::start();
    let mut setup = Setup::new(mock.address()).concurrency(2).filter(&limits(store));
    setup = setup.environment(clock.environment());
    let mut fleet = None;
    if let Store::Redis = store {
        let redis = Redis::start_in(clock.environment());
        let listen = format!("127.0.0.1:{}", free_port());
        let sidecar = Sidecar::start(&redis.url(), &[("LISTEN", &listen)]);
        sidecar.wait_until_ready_is(200).await;
        setup = setup.sidecar(fleet.insert(Fleet { sidecar, redis }).address());
    }
    Gateway { envoy: setup.start(), fleet, mock }
}

#[rstest]
#[tokio::test]
async fn a_day_ends_at_midnight_in_its_zone(#[values(Store::Local, Store::Redis)] store: Store) {
    let clock = Clock::new();
    clock.show(MIDNIGHT_MS - 1_800_000);
    let gateway = gateway(store, &clock).await;
    let caller = gateway.caller("calendar-day");
    let first = caller.hello().await;
    assert_eq!((first.status, first.number("x-ratelimit-remaining-requests")), (200, 1));
    assert!((900..=1_800).contains(&first.number("x-ratelimit-reset")), "{first:?}");
    assert_eq!(caller.hello().await.status, 200);
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains(" on requests per 1d: limit 2, used 2"), "{}", refused.message());
    // In half an hour, and not at the midnight of a day of 24 hours.
    assert!((900..=1_800).contains(&refused.number("retry-after")), "{refused:?}");

    clock.show(MIDNIGHT_MS);
    eventually("the next day", 200, async || caller.hello().await.status).await;
    let next = caller.hello().await;
    assert_eq!(next.number("x-ratelimit-remaining-requests"), 0);
    assert!((82_800..=86_400).contains(&next.number("x-ratelimit-reset")), "{next:?}");
}

#[rstest]
#[tokio::test]
async fn each_zone_has_a_counter(#[values(Store::Local, Store::Redis)] store: Store) {
    let clock = Clock::new();
    clock.show(MIDNIGHT_MS - 1_800_000);
    let gateway = gateway(store, &clock).await;
    let caller = gateway.caller("calendar-zones");
    for status in [200, 200, 429] {
        assert_eq!(caller.hello().await.status, status);
    }
    clock.show(MIDNIGHT_MS);
    eventually("the next day in New York", 200, async || caller.hello().await.status).await;
    if let Some(fleet) = &gateway.fleet {
        let id = Identity::of_key("calendar-zones");
        let url = format!("http://{}/v1/usage?identity={}", fleet.address(), id.id());
        let usage: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let windows = usage["windows"].as_array().unwrap();
        let used = |label: &str| {
            let window = windows.iter().find(|window| window["window"] == label);
            window.map(|window| window["used"].clone())
        };
        assert_eq!(used("1d-America/New_York"), Some(json!(1)));
        assert_eq!([used("1d-Asia/Tokyo"), used("1y-UTC")], [Some(json!(3)), Some(json!(3))]);
    }
}
