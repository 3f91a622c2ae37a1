//! Windows of every kind: which request fits, which does not, and when it will.

use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use llm_rate_limit::identity::Identity;
use llm_rate_limit_tests::envoy::Setup;
use reqwest::Response;
use rstest::rstest;
use serde_json::{Value, json};
use llm_rate_limit::quantity::Millis;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = Millis::DAY.get() / 1000;

fn limits() -> Value {
    let requests = |limit: u64, window: &str, algorithm: &str| {
        json!({"metric": "requests", "limit": limit, "window": window, "algorithm": algorithm})
    };
    let mut bucket = requests(60, "1h", "token_bucket");
    bucket["burst"] = json!(3);
    json!({
        "keys": [
            {"key": "windows-day", "windows": [requests(5, "1d", "fixed_window")]},
            {"key": "windows-bucket", "windows": [bucket]},
            {"key": "windows-several", "rpm": 2, "windows": [requests(100, "1mo", "fixed_window")]},
            {"key": "windows-slot", "max_concurrency": 1},
            {"key": "windows-lease", "max_concurrency": 1, "lease_ttl": "5s"},
            {"key": "windows-small", "output_tpm": 100},
        ],
        "default": "reject",
    })
}

/// Opens a stream that stays open until it is dropped; `None` if it is refused.
async fn open_stream(caller: &Caller) -> Option<Response> {
    let chat = hello_with(json!({"stream": true, "max_tokens": 1000}));
    let headers = [("x-mock-chunk-delay-ms", "100"), ("x-mock-completion-tokens", "1000")];
    let request = caller.chat(&chat);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Some(request.send().await.unwrap()).filter(|response| response.status() == 200)
}

#[rstest]
#[tokio::test]
async fn each_kind_admits_what_it_says(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits()).await;

    let answer = gateway.caller("windows-day").hello().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (reset, midnight) = (answer.number("x-ratelimit-reset"), DAY_S - now % DAY_S);
    let apart = reset.abs_diff(midnight);
    assert!(apart.min(DAY_S - apart) <= 5, "{reset}, but the day ends in {midnight}");

    let bucket = gateway.caller("windows-bucket");
    for left in [2, 1, 0] {
        assert_eq!(bucket.hello().await.number("x-ratelimit-remaining-requests"), left);
    }
    let wait = bucket.hello().await.number("retry-after-ms");
    assert!((30_000..=60_000).contains(&wait), "one a minute comes back, not in {wait} ms");

    let several = gateway.caller("windows-several");
    for left in [1, 0] {
        assert_eq!(several.hello().await.number("x-ratelimit-remaining-requests"), left);
    }
    assert!(several.hello().await.message().contains(" on requests per 1m: limit 2, used 2"));
    if let Some(fleet) = &gateway.fleet {
        let id = Identity::of_key("windows-several");
        let url = format!("http://{}/v1/usage?identity={}", fleet.address(), id.id());
        let usage: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let windows = usage["windows"].as_array().unwrap();
        let month = windows.iter().find(|window| window["window"] == "1mo").unwrap();
        assert_eq!((&month["used"], &month["limit"]), (&json!(2), &json!(100)));
        assert!(month["reset_ms"].as_u64().unwrap() <= 31 * DAY_S * 1000);
    }

    // A request of exactly the limit fits; one token more never does.
    let small = gateway.caller("windows-small");
    let large = Answer::to(small.chat(&hello_with(json!({"max_tokens": 101})))).await;
    assert_eq!((large.status, large.header("x-should-retry")), (429, Some("false")));
    assert!(large.message().ends_with("the maximum is 100."), "{}", large.message());
    assert_eq!(Answer::to(small.chat(&hello_with(json!({"max_tokens": 100})))).await.status, 200);
}

#[rstest]
#[tokio::test]
async fn a_slot_is_free_again_when_its_request_ends(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits()).await;
    let caller = gateway.caller("windows-slot");
    assert_eq!(caller.hello().await.status, 200);
    eventually("a slot after an answer", 200, async || caller.hello().await.status).await;
    // The answer arrives before its slot is free, so this tries until a stream is open.
    let open = RefCell::new(None);
    eventually("a stream", true, async || {
        *open.borrow_mut() = open_stream(&caller).await;
        open.borrow().is_some()
    })
    .await;
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("concurrent requests"), "{}", refused.message());
    drop(open);
    eventually("a slot after its client has left", 200, async || caller.hello().await.status).await;
}

/// The clock of Redis decides when the lease of the dead Envoy expires.
#[tokio::test]
async fn an_envoy_that_dies_gives_its_slots_back() {
    let mut first = Gateway::start(Store::Redis, limits()).await;
    let mut limits = limits();
    limits["store"] = Store::Redis.configuration();
    let address = first.fleet.as_ref().unwrap().address();
    let second = Setup::new(first.mock.address()).concurrency(1).sidecar(address).filter(&limits).start();
    let other = Caller::new(&second.url(""), "windows-lease");
    let _open = open_stream(&first.caller("windows-lease")).await.unwrap();
    assert_eq!(other.hello().await.status, 429);
    first.envoy.process().kill();
    assert_eq!(other.hello().await.status, 429, "the lease still runs");
    eventually("the dead Envoy's slot", 200, async || other.hello().await.status).await;
}
