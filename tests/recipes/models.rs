//! The recipe of a plan with some models, and short answers.

use crate::recipe::{KEY, recipe};
use llm_rate_limit_tests::chat::{Answer, CHAT, client};
use llm_rate_limit_tests::mock_llm::MockLlm;
use serde_json::{Value, json};

#[tokio::test]
async fn small_models_for_trials() {
    let mock = MockLlm::start();
    let envoy = recipe("small-models-for-trials", &mock, &[]).start();
    let ask = async |key: &str, model: &str, more: Value| {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Hello!"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Answer::to(client().post(envoy.url(CHAT)).bearer_auth(key).json(&body)).await
    };
    let asked = || -> Value { serde_json::from_slice(&mock.received().pop().unwrap().body).unwrap() };
    for model in ["gpt-4o-mini", "openai/gpt-4o", "GPT-5-nano"] {
        assert_eq!(ask("a-trial", model, json!({"max_tokens": 4_000})).await.status, 200, "{model}");
        assert_eq!(asked()["max_tokens"], 500, "{model}");
    }
    assert_eq!(ask("a-trial", "gpt-4o", json!({})).await.status, 200);
    assert_eq!(asked()["max_tokens"], 500);
    let seen = mock.report().requests;
    for model in ["o3", "gpt-5-pro", "gpt-4", "claude-opus-4-5"] {
        let refused = ask("a-trial", model, json!({})).await;
        assert_eq!(refused.status, 403, "{model}");
        assert!(refused.message().contains(model), "{}", refused.message());
    }
    assert_eq!(mock.report().requests, seen, "none of them reaches the provider");
    assert_eq!(ask(KEY, "o3", json!({"max_completion_tokens": 4_000})).await.status, 200);
    assert_eq!(asked()["max_completion_tokens"], 4_000);
}
