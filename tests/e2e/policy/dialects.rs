//! Refusals in the format of the called API, with the headers of the IETF's draft, and in the client's language.

use crate::caller::{Answer, hello};
use crate::gateway::{Gateway, Store};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn anthropics_clients_get_anthropics_headers_and_errors() {
    let gateway = Gateway::start(Store::Local, json!({"default": {"rpm": 1}})).await;
    let caller = gateway.caller("dialects-anthropic");
    let message = json!({
        "model": "claude-sonnet-4", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello!"}]
    });
    let send = async || Answer::to(caller.request(Method::POST, "/v1/messages").json(&message)).await;
    for status in [200, 429] {
        let answer = send().await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.number("anthropic-ratelimit-requests-limit"), 1);
        assert_eq!(answer.number("anthropic-ratelimit-requests-remaining"), 0);
        let reset = answer.header("anthropic-ratelimit-requests-reset").unwrap();
        assert!(reset.contains('T') && reset.ends_with('Z'), "{reset}");
        if status == 429 {
            let error = answer.json();
            assert_eq!(
                (&error["type"], &error["error"]["type"]),
                (&json!("error"), &json!("rate_limit_error"))
            );
        }
    }
}

#[tokio::test]
async fn the_drafts_headers_and_the_clients_language() {
    let limits = json!({
        "default": {"rpm": 1},
        "headers": "ietf",
        "rejection": {"message": {
            "default": "Slow down: {limit} {metric} per {window}.",
            "de": "Langsamer: {limit} pro {window}.",
            "zh-CN": "请慢点！",
        }},
    });
    let gateway = Gateway::start(Store::Local, limits).await;
    let caller = gateway.caller("dialects-ietf");
    let answer = caller.hello().await;
    assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=1;w=60"));
    let state = answer.header("ratelimit").unwrap();
    assert!(state.starts_with("\"requests\";r=0;t="), "{state}");
    assert_eq!(answer.limit_headers(), [""; 0]);
    for (accepted, expected) in [
        ("fr", "Slow down: 1 requests per 1m."),
        ("fr, de-AT;q=0.8, en;q=0.1", "Langsamer: 1 pro 1m."),
        ("zh", "请慢点！"),
    ] {
        let answer = Answer::to(caller.chat(&hello()).header("accept-language", accepted)).await;
        assert_eq!((answer.status, answer.message().as_str()), (429, expected), "{accepted}");
    }
}
