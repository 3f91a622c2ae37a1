//! Requests that go on over a limit: counted, with a header by which Envoy chooses another route, or for another model.

use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use crate::routes::connection_manager;
use llm_rate_limit_tests::envoy::Setup;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

/// The header by which Envoy chooses the route that answers by itself.
const ROUTE: &str = "x-llm-route";

/// A route that the header chooses, whose answer has its name and no upstream.
fn add_route(setup: &mut Setup) {
    let chosen = json!({"match": {"prefix": "/", "headers": [{"name": ROUTE, "string_match": {"exact": "cheap"}}]},
        "direct_response": {"status": 200, "body": {"inline_string": "the cheap route"}}});
    let host = &mut connection_manager(setup)["route_config"]["virtual_hosts"][0];
    host["routes"].as_array_mut().unwrap().insert(0, chosen);
}

async fn gateway(store: Store, mut limits: Value) -> Gateway {
    limits["store"] = store.configuration();
    Gateway::start_with(store, |mut setup| {
        add_route(&mut setup);
        setup.filter(&limits)
    })
    .await
}

/// Sends a chat with these members.
async fn ask(caller: &Caller, members: Value) -> Answer {
    Answer::to(caller.chat(&hello_with(members))).await
}

#[rstest]
#[case::by_headers(json!({"rpm": 1}))]
#[case::by_bodies(json!({"rpm": 1, "tpm": 1_000_000}))]
#[tokio::test]
async fn a_request_over_a_limit_goes_on_by_another_route(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] mut limits: Value,
) {
    limits["on_limit"] = json!({"continue": true, "header": {"name": ROUTE, "value": "cheap"}});
    let hour = json!({"metric": "requests", "limit": 3, "window": "1h", "on_limit": "refuse"});
    limits["windows"] = json!([hour]);
    let mut gateway = gateway(store, json!({"default": limits})).await;
    let caller = gateway.caller("going-on");
    let stolen = Answer::to(caller.chat(&hello_with(json!({}))).header(ROUTE, "cheap")).await;
    assert_eq!(stolen.status, 200);
    assert_ne!(stolen.text(), "the cheap route", "no client chooses the route");
    assert!(gateway.mock.received().pop().unwrap().headers.get(ROUTE).is_none());

    for _ in 0..2 {
        let over = ask(&caller, json!({})).await;
        assert_eq!((over.status, &*over.text()), (200, "the cheap route"));
        assert_eq!(over.number("x-ratelimit-remaining-requests"), 0);
    }
    let refused = ask(&caller, json!({})).await;
    assert_eq!(refused.status, 429, "another limit refuses, and all three have counted");
    assert!(refused.text().contains("per 1h"), "{}", refused.text());
    assert_eq!(gateway.mock.report().requests, 1);
    let labels = [("owner", "key"), ("metric", "requests"), ("window", "1m")];
    eventually("the metric", 2, async || gateway.envoy.metric("continued", &labels)).await;
    gateway.envoy.wait_for_log(r#""reason":"over_limit""#, Duration::from_secs(20));
}

fn falling_back() -> Value {
    json!({
        "default": {"rpm": 100, "models": {
            "gpt-4o": {"rpm": 1, "on_limit": {
                "continue": true, "model": "gpt-4o-mini", "header": {"name": "x-fell-back", "value": "yes"}}},
            "gpt-4o-mini": {"rpm": 2},
        }},
        "on_unreadable": "charge",
    })
}

#[rstest]
#[tokio::test]
async fn a_request_over_a_limit_goes_on_for_another_model(#[values(Store::Local, Store::Redis)] store: Store) {
    let mut gateway = gateway(store, falling_back()).await;
    let caller = gateway.caller("falling-back");
    assert_eq!(ask(&caller, json!({})).await.status, 200);
    // A stream, whose usage the filter asks for, and a body that is read in steps.
    let large = "word ".repeat(50_000);
    for members in [json!({"stream": true}), json!({"user": large, "x": 1})] {
        let sent = hello_with(members);
        let answer = Answer::to(caller.chat(&sent)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = gateway.mock.received().pop().unwrap();
        assert_eq!(received.headers["x-fell-back"], "yes");
        let length: usize = received.headers["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(length, received.body.len());
        let body: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(body["model"], "gpt-4o-mini");
        assert_eq!((&body["messages"], &body["user"]), (&sent["messages"], &sent["user"]));
    }
    let refused = ask(&caller, json!({})).await;
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("gpt-4o-mini"), "the other model's limit refuses: {}", refused.text());
    let requests = gateway.mock.report().requests;
    assert_eq!(requests, 3);
    let line = r#""model":"gpt-4o-mini""#;
    gateway.envoy.wait_for_log(line, Duration::from_secs(20));
    let left = ask(&caller, json!({"model": "o3"})).await.number("x-ratelimit-remaining-requests");
    assert_eq!(left, 96, "each has counted once, and the refused one not at all");
}

#[rstest]
#[tokio::test]
async fn a_body_that_may_not_be_changed_is_refused(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = gateway(store, falling_back()).await;
    let caller = gateway.caller("sealed");
    assert_eq!(ask(&caller, json!({})).await.status, 200);
    let sealed = caller.chat(&hello_with(json!({}))).header("content-digest", "sha-256=:AAAA:");
    assert_eq!(Answer::to(sealed).await.status, 429);
    let several = ask(&caller, json!({"models": ["gpt-4o", "o3"]})).await;
    assert_eq!(several.status, 429, "readers may take either");
    let path = "/openai/deployments/gpt-4o/chat/completions";
    let azure = Answer::to(caller.request(Method::POST, path).json(&hello_with(json!({})))).await;
    assert_eq!(azure.status, 429, "its model is in the path");
    assert_eq!(ask(&caller, json!({})).await.status, 200);
}
