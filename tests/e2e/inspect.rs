//! The filter answers about itself where `inspect` says so, to whoever has the token, and to nobody else.

use crate::caller::Answer;
use crate::gateway::{Gateway, Store, eventually};
use llm_rate_limit::config::Fingerprint;
use llm_rate_limit::identity::Identity;
use reqwest::Method;
use serde_json::{Value, json};

/// `printf %s open-sesame | sha256sum`
const TOKEN: (&str, &str) =
    ("Bearer open-sesame", "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7");

const PATH: &str = "/llm-rate-limit";

fn limits(store: Value) -> Value {
    json!({
        "store": store,
        "inspect": {"path": PATH, "token_sha256": TOKEN.1},
        "keys": [
            {"key": "first", "name": "one", "group": "team-a", "rpm": 10},
            {"key": "second", "windows": [{"metric": "requests", "limit": 2, "window": "1h"}]},
        ],
        "groups": {"team-a": {"tpm": 100_000}},
        "default": "reject",
    })
}

async fn ask(gateway: &Gateway, method: Method, path: &str, authorization: &str) -> Answer {
    let request = reqwest::Client::new().request(method, gateway.envoy.url(path));
    Answer::to(if authorization.is_empty() { request } else { request.header("authorization", authorization) }).await
}

async fn inspection(gateway: &Gateway) -> Value {
    let answer = ask(gateway, Method::GET, PATH, TOKEN.0).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn the_filter_shows_its_counters_and_its_configuration() {
    let limits = limits(json!({"type": "local"}));
    let gateway = Gateway::start_with(Store::Local, |setup| setup.filter(&limits)).await;
    assert_eq!(inspection(&gateway).await["counters"], json!([]));
    for (key, requests) in [("first", 3), ("second", 1)] {
        assert!(gateway.caller(key).hellos(requests).await.iter().all(|answer| answer.status == 200));
    }
    gateway.at_rest().await;
    let inspection = inspection(&gateway).await;
    let hash = Fingerprint::of(limits.to_string().as_bytes()).to_string();
    assert_eq!(inspection["configuration"], json!({"hash": hash, "dry_run": false, "keys": 2}));
    assert_eq!(inspection["headers"], json!({"mode": "auto", "state": "held"}));
    assert_eq!(inspection["store"], json!({"type": "local", "namespace": "", "state": "up"}));
    let counters = inspection["counters"].as_array().unwrap();
    let of = |counter: &Value| {
        let text = |name: &str| counter[name].as_str().unwrap_or_default().to_owned();
        (text("owner"), text("id"), text("name"), text("limit"), counter["used"].as_u64().unwrap())
    };
    let id = |key: &str| Identity::of_key(key).id().to_string();
    let expected = [
        ("key".to_owned(), id("second"), String::new(), "requests/1h".to_owned(), 1),
        ("key".to_owned(), id("first"), "one".to_owned(), "requests/1m".to_owned(), 3),
    ];
    assert_eq!(counters.iter().take(2).map(of).collect::<Vec<_>>(), expected, "the fullest first");
    let group = of(&counters[2]);
    assert_eq!((group.0.as_str(), group.3.as_str(), counters.len()), ("group team-a", "total_tokens/1m", 3));
    assert!(group.4 > 0);
    let text = inspection.to_string();
    assert!(!text.contains("\"first\"") && !text.contains("open-sesame") && !text.contains(TOKEN.1), "{text}");
}

#[tokio::test]
async fn nobody_else_sees_more_than_a_404_and_nothing_goes_on() {
    let limits = limits(json!({"type": "local"}));
    let gateway = Gateway::start_with(Store::Local, |setup| setup.filter(&limits)).await;
    for (method, path, authorization) in [
        (Method::GET, PATH, ""),
        (Method::GET, PATH, "Bearer open-sesam"),
        (Method::GET, PATH, "Bearer first"),
        (Method::GET, PATH, "open-sesame"),
        (Method::GET, "/llm-rate-limit?token=open-sesame", "Bearer x"),
        (Method::POST, PATH, TOKEN.0),
        (Method::OPTIONS, PATH, ""),
    ] {
        let answer = ask(&gateway, method.clone(), path, authorization).await;
        let not_found = (404, json!({"error": "not found"}));
        assert_eq!((answer.status, answer.json()), not_found, "{method} {path} {authorization}");
    }
    assert_eq!(ask(&gateway, Method::GET, "/llm-rate-limit?x", TOKEN.0).await.status, 200);
    assert_eq!(gateway.mock.report().requests, 0, "no request has gone on");
    // Other paths are as they would be.
    assert_eq!(ask(&gateway, Method::GET, "/llm-rate-limit/", TOKEN.0).await.status, 401);
    assert_eq!(gateway.caller("first").hello().await.status, 200);
}

#[tokio::test]
async fn without_the_setting_the_path_is_like_any_other() {
    let gateway = Gateway::start(Store::Local, json!({"default": "reject"})).await;
    assert_eq!(ask(&gateway, Method::GET, PATH, TOKEN.0).await.status, 401);
}

#[tokio::test]
async fn the_filter_says_whether_it_reaches_redis_and_how_fast() {
    let cluster = "rate-limit-sidecar";
    let store = json!({"type": "redis", "cluster": cluster, "timeout_ms": 3_000, "on_error": "local", "replicas": 3});
    let limits = limits(store);
    let mut gateway = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
    let state = async |gateway: &Gateway| {
        let store = inspection(gateway).await["store"].clone();
        (store["state"].as_str().unwrap().to_owned(), store["answered_in_ms"].is_u64(), store["failure"].is_string())
    };
    eventually("the store answers", ("up".to_owned(), true, false), async || state(&gateway).await).await;
    let store = inspection(&gateway).await["store"].clone();
    assert_eq!(
        [&store["type"], &store["cluster"], &store["timeout_ms"], &store["on_error"], &store["replicas"]],
        [&json!("redis"), &json!("rate-limit-sidecar"), &json!(3_000), &json!("local"), &json!(3)]
    );
    gateway.fleet.as_mut().unwrap().sidecar.process().kill();
    // Nobody asks while no request comes.
    gateway.caller("first").hello().await;
    eventually("it does not", ("down".to_owned(), true, true), async || state(&gateway).await).await;
}
