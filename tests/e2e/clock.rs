//! A clock that an operator sets back by an hour: nobody is refused for an hour, and no limit admits more. One that is
//! set forward cannot be told from time that has passed: each limit admits what it admits once more.
//!
//! Clients wait as long as a refusal says, which is seconds of the store's clock.

use crate::gateway::{Fleet, Gateway, Store};
use crate::routes;
use llm_rate_limit_tests::clock::Clock;
use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;

/// The longest wait: a window, a segment, and a moment.
const LONGEST_MS: u64 = 3_000 + 50 + 100;

/// What the store has refused, a worker refuses for 100 ms without asking it, and does not learn of the store's clock.
const ASKS_AFTER: Duration = Duration::from_millis(150);

fn limits(store: Store, window: &str) -> Value {
    let key = |name: &str, algorithm: &str| {
        let window = json!({"metric": "requests", "limit": 3, "window": window, "algorithm": algorithm});
        json!({"key": format!("clock-{name}"), "windows": [window]})
    };
    json!({
        "store": store.configuration(),
        "keys": [key("sliding", "sliding_window"), key("fixed", "fixed_window"), key("bucket", "token_bucket")],
    })
}

/// A gateway whose store lives by `clock`, with limits of three requests in each `window`.
async fn gateway(store: Store, window: &str, clock: &Clock) -> Gateway {
    let mock = MockLlm::start();
    let mut setup = Setup::new(mock.address()).concurrency(2).filter(&limits(store, window));
    let mut fleet = None;
    match store {
        Store::Local => setup = setup.environment(clock.environment()),
        Store::Redis => {
            let redis = Redis::start_in(clock.environment());
            let listen = format!("127.0.0.1:{}", free_port());
            let sidecar = Sidecar::start(&redis.url(), &[("LISTEN", &listen)]);
            sidecar.wait_until_ready_is(200).await;
            let started = fleet.insert(Fleet { sidecar, redis });
            setup = setup.sidecar(started.address());
        }
    }
    routes::add(&mut setup);
    Gateway { envoy: setup.start(), fleet, mock }
}

#[rstest]
#[tokio::test]
async fn a_clock_set_back_an_hour_delays_by_a_window(#[values(Store::Local, Store::Redis)] store: Store) {
    let clock = Clock::new();
    let gateway = gateway(store, "3s", &clock).await;
    for name in ["sliding", "fixed", "bucket"] {
        clock.set(0);
        let caller = gateway.caller(&format!("clock-{name}"));
        // A fixed window may end between two requests, so a second round fills the next.
        while caller.hello().await.status == 200 {}
        clock.set(-HOUR_MS);
        tokio::time::sleep(ASKS_AFTER).await;
        let refused = caller.hello().await;
        // The fixed window of the new clock may have ended between the two, too.
        if name != "fixed" {
            assert_eq!(refused.status, 429, "{name}: never over");
        }
        for _ in 0..3 {
            let answer = caller.hello().await;
            if answer.status == 429 {
                let wait = answer.number("retry-after-ms");
                assert!(wait <= LONGEST_MS, "{name}: {wait} ms");
                tokio::time::sleep(Duration::from_millis(wait)).await;
                assert_eq!(caller.hello().await.status, 200, "{name}: after its wait of {wait} ms");
            }
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_clock_set_forward_admits_a_limit_once_more(#[values(Store::Local, Store::Redis)] store: Store) {
    let clock = Clock::new();
    let gateway = gateway(store, "31d", &clock).await;
    for name in ["sliding", "fixed", "bucket"] {
        clock.set(0);
        let caller = gateway.caller(&format!("clock-{name}"));
        let admitted = async || {
            let mut admitted = 0;
            while caller.hello().await.status == 200 {
                admitted += 1;
            }
            admitted
        };
        assert_eq!(admitted().await, 3, "{name}");
        clock.set(63 * 24 * HOUR_MS);
        tokio::time::sleep(ASKS_AFTER).await;
        assert_eq!(admitted().await, 3, "{name}: after the step");
    }
}
