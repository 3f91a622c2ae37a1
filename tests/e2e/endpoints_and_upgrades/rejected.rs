//! Endpoints that the configuration rejects or lets pass, and senders that it rejects.

use crate::caller::{Answer, hello};
use crate::gateway::{Gateway, Store, eventually};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

async fn statuses(gateway: &Gateway, key: &str, requests: &[(Method, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (method, path) in requests {
        let request = gateway.caller(key).request(method.clone(), path).json(&hello());
        statuses.push(Answer::to(request).await.status);
    }
    statuses
}

#[rstest]
#[tokio::test]
async fn the_configuration_decides_about_paths(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "endpoints": {
            "/admin/*": "reject", "/admin/open*": "pass", "/llm": "chat_completions",
            "/v1/messages/batches": "reject", "*": "pass",
        },
        "keys": [{"key": "free", "unlimited": true}],
        "default": {"windows": [
            {"metric": "requests", "limit": 1, "window": "1h"},
            {"metric": "input_tokens", "limit": 1000, "window": "1h"},
        ]},
    });
    let mut gateway = Gateway::start(store, limits).await;
    let post = |path| (Method::POST, path);
    let asked = [post("/admin/users"), (Method::GET, "/Admin//users"), post("/admin/..%2fadmin/x"), post("/ADMIN/%6f")];
    assert_eq!(statuses(&gateway, "one", &asked).await, [403; 4]);
    let asked = [post("/admin/"), post("/admin//"), post("/admin/%2e"), post("/admin/;x")];
    assert_eq!(statuses(&gateway, "one", &asked).await, [403; 4], "the pattern stands for nothing too");
    let asked = [post("/admin/open"), post("/anything"), (Method::OPTIONS, "/admin/users"), post("/anything")];
    assert_eq!(statuses(&gateway, "one", &asked).await, [200; 4]);
    let llm = Answer::to(gateway.caller("one").request(Method::POST, "/llm").json(&hello())).await;
    assert_eq!((llm.status, llm.number("x-ratelimit-remaining-input-tokens")), (200, 991), "read as a chat");
    assert_eq!(statuses(&gateway, "one", &[post("/v1/embeddings"), post("/anything")]).await, [429, 200]);
    assert_eq!(statuses(&gateway, "free", &[post("/admin/users")]).await, [200]);
    let refused = Answer::to(gateway.caller("one").request(Method::POST, "/admin/x").json(&hello())).await;
    let error = &refused.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("endpoint_not_available")));
    assert_eq!(refused.limit_headers(), Vec::<&str>::new());
    let batches = gateway.caller("one").request(Method::POST, "/v1/messages/batches").json(&hello());
    let body = Answer::to(batches).await.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("permission_error")));
    let endpoint = [("reason", "endpoint")];
    eventually("the metric", 10, async || gateway.envoy.metric("refused", &endpoint)).await;
    gateway.envoy.wait_for_log(r#""decision":"refused""#, Duration::from_secs(20));
    gateway.envoy.wait_for_log(r#""reason":"endpoint""#, Duration::from_secs(20));
}

#[rstest]
#[tokio::test]
async fn strangers_are_rejected_everywhere_but_where_everybody_passes(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let limits = json!({
        "keys": [{"key": "known", "rpm": 100}], "default": "reject", "endpoints": {"/public/*": "pass"},
    });
    let gateway = Gateway::start(store, limits).await;
    let rejected = [
        (Method::POST, "/v1/chat/completions"),
        (Method::POST, "/v1/files"),
        (Method::GET, "/v1/models"),
        (Method::HEAD, "/v1/models"),
        (Method::DELETE, "/v1/responses/resp_1"),
        (Method::POST, "/v1/messages/count_tokens"),
        (Method::POST, "/v1/responses/resp_1/cancel"),
        (Method::POST, "/health"),
        (Method::GET, "/health/..%2fv1/models"),
    ];
    assert_eq!(statuses(&gateway, "stranger", &rejected).await, [401; 9]);
    assert_eq!(gateway.mock.report().requests, 0);
    let passes = [
        (Method::GET, "/health"),
        (Method::HEAD, "/healthz"),
        (Method::GET, "/livez/"),
        (Method::GET, "/readyz?verbose=1"),
        (Method::GET, "/ping"),
        (Method::OPTIONS, "/v1/chat/completions"),
        (Method::POST, "/public/thing"),
    ];
    assert_eq!(statuses(&gateway, "stranger", &passes).await, [200; 7]);
    assert_eq!(statuses(&gateway, "known", &rejected).await, [200; 9]);
    let anthropic = gateway.caller("stranger").request(Method::POST, "/v1/messages/count_tokens").json(&hello());
    assert_eq!(Answer::to(anthropic).await.json()["error"]["type"], "authentication_error");
}

#[rstest]
#[case::everything(json!({"dry_run": true, "default": {"rpm": 100}}))]
#[case::every_limit(json!({"default": {"rpm": 100, "dry_run": true}}))]
#[tokio::test]
async fn a_dry_run_refuses_no_endpoint(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] mut limits: Value,
) {
    limits["endpoints"] = json!({"/admin/*": "reject"});
    let mut gateway = Gateway::start(store, limits).await;
    assert_eq!(statuses(&gateway, "dry", &[(Method::POST, "/admin/x"), (Method::GET, "/admin/x")]).await, [200; 2]);
    let refused = [("decision", "refused")];
    eventually("the metric", 2, async || gateway.envoy.metric("dry_run_requests", &refused)).await;
    gateway.envoy.wait_for_log(r#""dry_run":"endpoint""#, Duration::from_secs(20));
}
