//! Caps and reports of any size: refused before anybody is asked, and never more than a store can count.

use crate::api::Api;
use crate::caller::{Answer, count, hello, hello_with};
use crate::gateway::{Gateway, Store, eventually, strangers};
use crate::outages::Impostor;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// 2^53 - 1, the largest number that JSON, Lua and a `google.protobuf.Struct` hold exactly.
const LARGEST: u64 = (1 << 53) - 1;

/// Members that make a chat as large as they can.
fn largest() -> [Value; 5] {
    [
        json!({"max_tokens": LARGEST}),
        json!({"max_completion_tokens": LARGEST - 1, "n": 128}),
        json!({"max_tokens": LARGEST - 100, "n": LARGEST}),
        json!({"max_tokens": "18446744073709551615"}),
        json!({"n_predict": 1e300}),
    ]
}

fn limits() -> Value {
    let dollars = json!({"metric": "cost_usd", "limit": 5, "window": "1d"});
    json!({
        "default": {"rpm": 1000, "tpm": 10_000, "output_tpm": 10_000, "windows": [dollars]},
        "weights": {"models": {"gpt-4o": 1000}},
        "prices": {"gpt-4o": {"input": 1_000_000, "output": 1_000_000}},
        "output_reservation": {"mode": "declared"},
    })
}

fn assert_never_fits(answer: &Answer, context: &str) {
    assert_eq!(answer.status, 429, "{context}: {}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{context}");
    assert_eq!(answer.header("retry-after"), None, "{context}");
    assert!(answer.message().contains("This request can never be admitted"), "{context}: {}", answer.text());
}

#[rstest]
#[tokio::test]
async fn what_never_fits_is_refused_and_charged_nothing(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits()).await;
    let caller = gateway.caller("greedy");
    for members in largest() {
        let answer = Answer::to(caller.chat(&hello_with(members.clone()))).await;
        assert_never_fits(&answer, &members.to_string());
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), 1000, "the counters are shown");
    }
    for api in [Api::Completions, Api::Responses, Api::Messages] {
        let request = caller.request(Method::POST, api.path()).json(&api.hello(LARGEST));
        let answer = Answer::to(request).await;
        assert_eq!((answer.status, answer.header("x-should-retry")), (429, Some("false")), "{api:?}");
    }
    assert_eq!(gateway.mock.report().requests, 0);
}

/// No limit in a dry run refuses anything, and what it counts can be settled.
#[rstest]
#[tokio::test]
async fn a_dry_run_forwards_every_cap(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut limits = limits();
    limits["dry_run"] = json!(true);
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("greedy");
    for members in largest() {
        let chat = hello_with(members.clone());
        let answer = Answer::to(caller.chat(&chat).header("x-mock-lax", "1")).await;
        assert_eq!(answer.status, 200, "{members}: {}", answer.text());
    }
    drop(caller);
    gateway.at_rest().await;
}

/// Whatever becomes of the store, what never fits is not forwarded.
#[rstest]
#[tokio::test]
async fn no_outage_lets_through_what_never_fits(#[values("allow", "deny", "local")] on_error: &str) {
    let mut limits = limits();
    limits["store"] =
        json!({"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 300, "on_error": on_error});
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start_with(Store::Local, |setup| setup.sidecar(nobody).filter(&limits)).await;
    let caller = gateway.caller("greedy");
    let greedy = (0..20).map(async |_| Answer::to(caller.chat(&hello_with(json!({"max_tokens": LARGEST})))).await);
    for answer in futures_util::future::join_all(greedy).await {
        assert_never_fits(&answer, on_error);
        let shows = answer.header("x-ratelimit-remaining-requests").is_some();
        assert_eq!(shows, on_error == "local", "only a share has counters: {:?}", answer.headers);
    }
    assert_eq!(gateway.mock.report().requests, 0);
}

/// An answer that refuses a call is not a missing answer.
#[tokio::test]
async fn a_call_that_the_sidecar_refuses_is_not_forwarded_uncounted() {
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 2000, "on_error": "allow"},
        "default": {"rpm": 1000},
    });
    let answer = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let error = r#"{"error": "charges[0]: cost is too large"}"#;
    let sentences = [
        (answer("400 Bad Request", error), 503),
        (answer("401 Unauthorized", error), 503),
        (answer("413 Payload Too Large", error), 503),
        (answer("422 Unprocessable", error), 503),
        (answer("200 OK", &format!("[{error}]")), 503),
        (answer("200 OK", r#"[{"error": "Redis: LOADING", "unavailable": true}]"#), 200),
        (answer("429 Too Many Requests", error), 200),
        (answer("500 Oops", error), 200),
        (answer("503 Service Unavailable", error), 200),
    ];
    let (sentences, expected): (Vec<_>, Vec<u16>) = sentences.into_iter().unzip();
    let impostor = Impostor::start(sentences).await;
    let gateway =
        Gateway::start_with(Store::Local, |setup| setup.sidecar(impostor.address).filter(&limits)).await;
    let caller = gateway.caller("anybody");
    let mut statuses = Vec::new();
    for _ in &expected {
        statuses.push(caller.hello().await.status);
    }
    assert_eq!(statuses, expected);
    assert!(gateway.envoy.log().contains("the sidecar refused a reservation"));
}

/// Whatever an upstream reports, the settlement is one that the store takes, and others do not wait behind it.
#[rstest]
#[tokio::test]
async fn a_report_of_any_size_is_settled(#[values(Store::Local, Store::Redis)] store: Store) {
    let members = json!({"weights": {"models": {"gpt-4o": 1000}}});
    let gateway = Gateway::start(store, strangers(members)).await;
    let boastful = gateway.caller("boastful");
    let request = boastful.chat(&hello()).header("x-mock-prompt-tokens", LARGEST);
    assert_eq!(Answer::to(request).await.status, 200);
    eventually("nothing is left of what the report used up", 429, async || boastful.hello().await.status).await;
    let modest = gateway.caller("modest");
    assert_eq!(Answer::to(modest.chat(&hello()).header("x-mock-prompt-tokens", "30")).await.status, 200);
    drop((boastful, modest));
    gateway.at_rest().await;
    gateway.charged("modest", 1, 30_000, 16_000).await;
}

#[rstest]
#[tokio::test]
async fn a_cost_that_equals_the_capacity_fits(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({"default": {"output_tpm": 100}, "output_reservation": {"mode": "declared"}});
    let gateway = Gateway::start(store, limits).await;
    let send = async |key: &str, max_tokens: u64| {
        Answer::to(gateway.caller(key).chat(&hello_with(json!({"max_tokens": max_tokens})))).await
    };
    assert_eq!(send("exact", 100).await.status, 200);
    assert_never_fits(&send("over", 101).await, "101");
    let answers = [send("halves", 100).await, send("halves", 101).await];
    assert_eq!(count(&answers, 200), 1);
}
