//! Upstreams that refuse to be asked for a stream's usage.

use crate::api::Api;
use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Gateway, Store, strangers};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

fn model(name: &str) -> Value {
    hello_with(json!({"stream": true, "model": name}))
}

/// Sends a stream to an upstream that refuses `stream_options` with `status`, with these headers.
async fn send(caller: &Caller, body: &Value, status: &str, headers: &[(&str, &str)]) -> Answer {
    let request = caller.chat(body).header("x-mock-no-stream-options", status);
    Answer::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

#[rstest]
#[tokio::test]
async fn an_objection_costs_one_repeated_request(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values("400", "422")] status: &str,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    for (name, headers) in [
        ("whole", &[][..]),
        ("compressed", &[("x-mock-compress", "always")][..]),
        ("parts", &[("x-mock-chunk-bytes", "10"), ("x-mock-chunk-delay-ms", "5")][..]),
        ("parts-of-compressed", &[("x-mock-compress", "always"), ("x-mock-chunk-bytes", "9")][..]),
        ("headers", &[("x-mock-header", "retry-after: 77")][..]),
    ] {
        for http2 in [false, true] {
            let key = format!("{name}-{http2}");
            let body = model(&key);
            let mut caller = gateway.caller(&key);
            if http2 {
                caller = caller.over_http2();
            }
            let refused = send(&caller, &body, status, headers).await;
            assert_eq!(refused.status, 503, "{key}: {}", refused.text());
            assert_eq!(refused.header("x-should-retry"), Some("true"));
            assert_eq!(refused.header("retry-after-ms"), Some("1"));
            assert_eq!(refused.header("retry-after"), None);
            assert_eq!(refused.header("content-encoding"), None);
            assert_eq!(refused.header("content-type"), Some("application/json"));
            assert_eq!(refused.json()["error"]["code"], "stream_usage_unavailable");

            let answer = send(&caller, &body, status, headers).await;
            assert_eq!(answer.status, 200, "{key}: {}", answer.text());
            let received = gateway.mock.received_from(&key);
            assert_eq!(received.len(), 2);
            assert_eq!(received[1].body, body.to_string(), "it goes as it came");
            gateway.charged(&key, 1, crate::caller::HELLO_TOKENS, 16).await;

            let other = gateway.caller(&format!("{key}-other"));
            assert_eq!(send(&other, &body, status, headers).await.status, 200, "nobody else pays for it");
        }
    }
    let log = gateway.envoy.log();
    let lines = log.lines().filter(|line| line.contains("to stream_options for the model \"whole-false\"")).count();
    assert_eq!(lines, 1, "one line for each upstream");
}

#[rstest]
#[tokio::test]
async fn every_other_error_is_the_clients_own(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let direct = Caller::new(&format!("http://{}", gateway.mock.address()), "direct");
    let long = "x".repeat(7_000);
    for (status, headers) in [
        ("400", &[("x-mock-error-message", "Unsupported value: 'model'")][..]),
        ("422", &[("x-mock-error-message", "messages: field required"), ("x-mock-chunk-bytes", "7")][..]),
        ("400", &[("x-mock-error-message", "no such model"), ("x-mock-compress", "always")][..]),
        ("400", &[("x-mock-error-message", long.as_str()), ("x-mock-chunk-bytes", "11")][..]),
        ("404", &[("x-mock-error-message", "no stream_options here")][..]),
        ("500", &[("x-mock-error-message", "no stream_options here")][..]),
    ] {
        let body = model("any");
        let (expected, seen) = (
            send_failing(&direct, &body, status, headers).await,
            send_failing(&gateway.caller("wrong"), &body, status, headers).await,
        );
        assert_eq!((seen.status, &seen.body), (expected.status, &expected.body));
        for name in ["content-type", "content-encoding", "content-length"] {
            assert_eq!(seen.header(name), expected.header(name), "{name}");
        }
        assert!(seen.header("x-ratelimit-remaining-requests").is_some(), "it has the headers of its limits");
        let received = gateway.mock.received_from("wrong").pop().unwrap();
        assert!(String::from_utf8_lossy(&received.body).contains("include_usage"), "it is asked again");
    }
    gateway.charged("wrong", 6, 0, 0).await;
}

async fn send_failing(caller: &Caller, body: &Value, status: &str, headers: &[(&str, &str)]) -> Answer {
    let request = caller.chat(body).header("x-mock-status", status);
    Answer::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// A client can make an error name the option by naming it itself. That turns nothing off for others.
#[rstest]
#[tokio::test]
async fn nobody_turns_it_off_for_others(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let mut body = model("gpt-4o");
    body["messages"][0]["role"] = json!("stream_options");
    let mischievous = gateway.caller("mischievous");
    assert_eq!(send(&mischievous, &body, "400", &[]).await.status, 503);
    assert_eq!(send(&mischievous, &body, "400", &[]).await.status, 200);
    let answer = Answer::to(gateway.caller("honest").chat(&model("gpt-4o")).header("x-mock-prompt-tokens", "77")).await;
    assert_eq!(answer.status, 200);
    gateway.charged("honest", 1, 77, 16).await;
}

/// Slots are freed, and leases kept, as for every other answer.
#[rstest]
#[tokio::test]
async fn a_held_error_frees_its_slot(#[values(Store::Local, Store::Redis)] store: Store) {
    let members = json!({"keys": [{"key": "one", "max_concurrency": 1, "tpm": 100_000}]});
    let gateway = Gateway::start(store, strangers(members)).await;
    let caller = gateway.caller("one");
    for expected in [503, 200] {
        crate::gateway::eventually("the status", expected, async || {
            send(&caller, &Api::Chat.streamed_hello(9, false), "400", &[]).await.status
        })
        .await;
    }
    let completions = caller.request(Method::POST, Api::Completions.path());
    let request = completions.json(&Api::Completions.streamed_hello(9, false)).header("x-mock-status", "400");
    let answer = Answer::to(request).await;
    assert!([400, 429].contains(&answer.status), "{}", answer.text());
}
