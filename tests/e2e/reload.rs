//! Limits change while Envoy runs: a valid change applies at once and keeps all counters, and an invalid one changes
//! nothing.

use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::{Value, json};

/// A configuration that allows this many requests a minute.
fn limits(store: Store, rpm: u64) -> Value {
    json!({
        "store": store.configuration(),
        "keys": [{"key": "reloaded", "rpm": rpm, "output_tpm": 100_000}],
    })
}

/// The limit on requests and how many are left, without a charge.
async fn requests_left(caller: &Caller) -> (u64, u64) {
    let answer = caller.too_large().await;
    let of = |what: &str| answer.number(&format!("x-ratelimit-{what}-requests"));
    (of("limit"), of("remaining"))
}

#[rstest]
#[tokio::test]
async fn limits_change_and_counters_stay(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut gateway = Gateway::start_with(store, |setup| setup.filter(&limits(store, 5)).reloadable()).await;
    let url = gateway.envoy.url("");
    let caller = Caller::new(&url, "reloaded");
    for _ in 0..3 {
        assert_eq!(caller.hello().await.status, 200);
    }
    eventually("before any change", (5, 2), async || requests_left(&caller).await).await;

    // Envoy refuses invalid ones, and its log says why.
    let mut wrong = limits(store, 5);
    wrong["keys"][0]["rpm"] = json!("a lot");
    for text in [wrong.to_string(), "{".to_owned()] {
        let why = gateway.envoy.reload(&text).unwrap_err();
        assert!(why.contains("the configuration is refused"), "{why}");
    }
    assert!(gateway.envoy.log().contains("keys[0].rpm: expected"));
    assert_eq!(requests_left(&caller).await, (5, 2));

    // A valid one applies at once, also to an open stream.
    let request = caller
        .chat(&hello_with(json!({"stream": true, "max_tokens": 30})))
        .header("x-mock-chunk-delay-ms", "50");
    let open = request.send().await.unwrap();
    assert_eq!(open.headers()["x-ratelimit-limit-requests"], "5");
    gateway.envoy.reload(&limits(store, 10).to_string()).unwrap();
    eventually("a higher limit", (10, 6), async || requests_left(&caller).await).await;
    let text = open.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "the stream that was open is whole: {text}");
    eventually("the stream is settled", 100_000 - 4 * 16, async || {
        caller.too_large().await.number("x-ratelimit-remaining-output-tokens")
    })
    .await;

    gateway.envoy.reload(&limits(store, 4).to_string()).unwrap();
    eventually("a lower limit", (4, 0), async || requests_left(&caller).await).await;
    assert_eq!(caller.hello().await.status, 429);
    assert_eq!(gateway.mock.received().len(), 4);
}

/// The limits change five times under load: every request is answered, and none is counted twice.
#[rstest]
#[tokio::test]
async fn changes_under_load_lose_no_request_and_no_count(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut gateway =
        Gateway::start_with(store, |setup| setup.filter(&limits(store, 900)).reloadable().concurrency(2))
            .await;
    let caller = Caller::new(&gateway.envoy.url(""), "reloaded");
    let busy = tokio::spawn({
        let caller = caller.clone();
        async move {
            let mut answers = Vec::new();
            for _ in 0..40 {
                let chat = hello_with(json!({"max_tokens": 1}));
                let batch = (0..5).map(|_| Answer::to(caller.chat(&chat)));
                answers.extend(futures_util::future::join_all(batch).await);
            }
            answers
        }
    });
    for rpm in 901..=905 {
        // Some requests must pass under each limit.
        let before = gateway.mock.report().requests;
        eventually("requests go on", true, async || {
            gateway.mock.report().requests > before || busy.is_finished()
        })
        .await;
        gateway.envoy.reload(&limits(store, rpm).to_string()).unwrap();
    }
    let answers = busy.await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    // Requests reach both workers, so this holds once both have the last limit.
    eventually("the last limit, and all requests counted", (905, 705), async || requests_left(&caller).await)
        .await;
}
