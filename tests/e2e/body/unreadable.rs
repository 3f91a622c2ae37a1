//! Bodies that nobody reads: charged the most that they could cost, or refused.

use crate::caller::{Answer, CHAT, hello};
use crate::gateway::{Gateway, Store, eventually};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// Bodies that no reader of JSON reads.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("garbage", vec![b'x'; 5_000]),
        ("cut-off", hello().to_string().into_bytes()[..40].to_vec()),
        ("form", b"model=cheap&messages=hi".to_vec()),
        ("text", b"\"{}\"".to_vec()),
        ("noise", (0..=255).collect()),
    ]
}

fn limits(members: Value) -> Value {
    let hour = |metric: &str, limit: u64| json!([{"metric": metric, "limit": limit, "window": "1h"}]);
    let mut limits = json!({
        "plans": {"usual": {
            "windows": hour("total_tokens", 1000),
            "models": {
                "cheap": {"windows": hour("requests", 1)},
                "gpt-4*": {"windows": hour("requests", 1)},
                "o3": {"windows": hour("output_tokens", 1000)},
            },
        }},
        "default": {"plan": "usual"},
        "output_reservation": {"mode": "declared"},
    });
    limits.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    limits
}

/// The answer waits at a gate, so that its request is charged as reserved meanwhile.
#[rstest]
#[tokio::test]
async fn it_is_admitted_alone_and_charged_to_every_model(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits(json!({}))).await;
    for (name, body) in bodies() {
        let caller = gateway.caller(name);
        let arrived = async || gateway.mock.received_from(name).len();
        let held = caller.request(Method::POST, CHAT).body(body.clone()).header("x-mock-lax", "1");
        let held = held.header("x-mock-prompt-tokens", "1").header("x-mock-model", "o3-2025-04-16");
        let held = tokio::spawn(Answer::to(held.header("x-mock-gate", name)));
        eventually("requests upstream", 1, arrived).await;
        for model in ["cheap", "gpt-4o"] {
            let request = json!({"model": model, "messages": [], "max_tokens": 1});
            let refused = Answer::to(caller.chat(&request)).await;
            assert_eq!(refused.status, 429, "{name}: {model} is in use");
        }
        gateway.mock.let_through(name, 1_000);
        assert_eq!(held.await.unwrap().status, 200, "{name}");
        drop(caller);
        gateway.at_rest().await;
        let caller = gateway.caller(name);
        // The answer was another model's, so theirs have been given back; so have been the tokens beyond its usage.
        for model in ["cheap", "gpt-4o"] {
            let request = json!({"model": model, "messages": [], "max_tokens": 1});
            let answer = Answer::to(caller.chat(&request).header("x-mock-prompt-tokens", "1")).await;
            assert_eq!(answer.status, 200, "{name}: {model} is free again: {}", answer.text());
        }
    }
}

#[rstest]
#[tokio::test]
async fn no_more_is_charged_than_the_tightest_limit_holds(#[values(Store::Local, Store::Redis)] store: Store) {
    let hour = |metric: &str, limit: u64| json!({"metric": metric, "limit": limit, "window": "1h"});
    let windows = [hour("input_tokens", 700), hour("total_tokens", 100_000), hour("output_tokens", 9_000)];
    let limits = json!({
        "default": {"windows": windows},
        "output_reservation": {"mode": "declared"},
    });
    let gateway = Gateway::start(store, limits).await;
    for (size, input) in [(300, 300), (700, 700), (9_000_000, 700)] {
        let caller = gateway.caller(&format!("sender of {size}"));
        let request = caller.request(Method::POST, CHAT).body("x".repeat(size)).header("x-mock-status", "500");
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, 500);
        let left = |what: &str| answer.number(&format!("x-ratelimit-remaining-{what}"));
        assert_eq!(700 - left("input-tokens"), input);
        assert_eq!(100_000 - left("tokens"), input + 512);
        assert_eq!(9_000 - left("output-tokens"), 512);
    }
}

#[rstest]
#[case::chat(CHAT)]
#[case::messages("/v1/messages")]
#[case::responses("/v1/responses")]
#[tokio::test]
async fn it_may_be_refused_with_what_was_wrong_and_where(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] path: &str,
) {
    let members = json!({
        "on_unreadable": "refuse",
        "keys": [
            {"key": "counted", "rpm": 100},
            {"key": "unlimited", "unlimited": true},
            {"key": "tried", "plan": "usual", "dry_run": true},
        ],
    });
    let gateway = Gateway::start(store, limits(members)).await;
    let body = "{\"model\": \"gpt-4o\",\n\"messages\": [}";
    let send = async |key: &str| {
        let request = gateway.caller(key).request(Method::POST, path).body(body);
        Answer::to(request.header("x-mock-lax", "1")).await
    };
    let refused = send("a stranger").await;
    assert_eq!(refused.status, 400);
    let error = refused.json()["error"].clone();
    assert_eq!(error["type"], "invalid_request_error");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("expected a value or \"]\", found \"}\" at line 2, column 14"), "{message}");
    assert_eq!(refused.json()["type"] == "error", path.ends_with("messages"), "in the API's shape");
    for key in ["counted", "unlimited", "tried"] {
        assert_eq!(send(key).await.status, 200, "{key}");
    }
    assert_eq!(gateway.mock.report().requests, 3);
    eventually("lines of the log", 4, async || gateway.envoy.access_log().len()).await;
    let log = gateway.envoy.access_log();
    let of = |status: u64, field: &str| {
        let lines = log.iter().filter(|line| line["status"] == status);
        lines.filter_map(|line| line[field].as_str().map(ToOwned::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!((of(400, "decision"), of(400, "reason")), (vec!["refused".to_owned()], vec!["unreadable".to_owned()]));
    assert_eq!(of(200, "reason"), ["unlimited_key", "unreadable"], "the second is in the dry run");
    for (family, labels) in [
        ("refused", &[("reason", "unreadable")][..]),
        ("dry_run_requests", &[("decision", "refused")]),
        ("unreadable", &[]),
    ] {
        eventually(family, 1, async || gateway.envoy.metric(family, labels)).await;
    }
}

#[rstest]
#[tokio::test]
async fn it_is_charged_and_logged_by_default(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits(json!({}))).await;
    let request = gateway.caller("a stranger").request(Method::POST, CHAT).body("no JSON");
    assert_eq!(Answer::to(request.header("x-mock-lax", "1")).await.status, 200);
    eventually("lines of the log", 1, async || gateway.envoy.access_log().len()).await;
    let line = &gateway.envoy.access_log()[0];
    assert_eq!([&line["decision"], &line["reason"]], ["admitted", "unreadable"]);
    let name = "wasmcustom.llm_rate_limit.unreadable";
    eventually(name, Some(1), async || gateway.envoy.stat(name)).await;
}
