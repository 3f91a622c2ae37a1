//! Models that a key may not use.

use crate::caller::{Answer, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

/// One request in an hour: a refused model costs none of it, and nothing of a refused request reaches the upstream.
#[rstest]
#[tokio::test]
async fn a_model_that_is_denied_is_answered_403_and_costs_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let limits = json!({
        "plans": {"small": {
            "windows": [{"metric": "requests", "limit": 1, "window": "1h"}], "allow_models": ["gpt-4o*"]
        }},
        "groups": {"team": {"deny_models": ["*-audio*"]}},
        "keys": [{"key": "models-key", "name": "Ann", "plan": "small", "group": "team"}],
    });
    let mut gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("models-key");
    for (model, at) in [("o3", 0), ("gpt-4o-audio-preview", 1)] {
        let refused = Answer::to(caller.chat(&hello_with(json!({"model": model})))).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        let error = &refused.json()["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("model_not_found")));
        assert_eq!(refused.message(), format!("The model \"{model}\" is not available to this key."));
        assert_eq!(gateway.mock.report().requests, 0, "after {at}");
    }
    let unnamed = json!({"messages": [{"role": "user", "content": "Hello!"}]});
    assert_eq!(Answer::to(caller.chat(&unnamed)).await.status, 403);
    assert_eq!(caller.hello().await.status, 200);
    assert_eq!(caller.hello().await.status, 429);
    let refused = "wasmcustom.llm_rate_limit.reason=.=model;.;refused";
    eventually("the metric", Some(3), async || gateway.envoy.stat(refused)).await;
    gateway.envoy.wait_for_log(r#""decision":"refused""#, Duration::from_secs(20));
    gateway.envoy.wait_for_log(r#""reason":"model""#, Duration::from_secs(20));
}
