//! Requests that name no model, or several: charged to all that they may be for, until the answer names one.

use crate::api::Api;
use crate::caller::Answer;
use crate::gateway::{Gateway, Store, eventually};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

fn limits() -> Value {
    let once = json!({"windows": [{"metric": "requests", "limit": 1, "window": "1h"}]});
    json!({
        "default": {"models": {"alpha": once, "beta*": once, "gamma": once}},
        "output_reservation": {"mode": "declared"},
    })
}

/// `hello` with `models` in the place of `model`; without either if there are none.
fn naming(api: Api, stream: bool, models: &[&str]) -> Value {
    let mut body = if stream { api.streamed_hello(4, true) } else { api.hello(4) };
    body.as_object_mut().unwrap().remove("model");
    if !models.is_empty() {
        body["models"] = json!(models);
    }
    body
}

fn for_model(model: &str) -> Value {
    let mut body = Api::Chat.hello(4);
    body["model"] = json!(model);
    body
}

#[rstest]
#[case::any(&[], [429, 429, 429], "gamma", [200, 200, 429])]
#[case::of_two(&["alpha", "beta-2"], [429, 429, 200], "beta-2-2026-01-01", [200, 429, 429])]
#[case::one(&["alpha"], [429, 200, 200], "gamma", [429, 429, 429])]
#[tokio::test]
async fn all_that_it_may_be_for_are_charged_until_the_answer_names_one(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] models: &[&str],
    #[case] meanwhile: [u16; 3],
    #[case] answered_by: &str,
    #[case] afterwards: [u16; 3],
) {
    let gateway = Gateway::start(store, limits()).await;
    for api in [Api::Chat, Api::Completions, Api::Embeddings, Api::Responses, Api::Messages] {
        for stream in [false, true] {
            if stream && api == Api::Embeddings {
                continue;
            }
            let key = format!("{api:?} {stream}");
            let caller = gateway.caller(&key);
            let request = caller.request(Method::POST, api.path()).json(&naming(api, stream, models));
            let held = request.header("x-mock-gate", &key).header("x-mock-model", answered_by);
            let held = tokio::spawn(Answer::to(held));
            eventually("requests upstream", 1, async || gateway.mock.received_from(&key).len()).await;
            let mut statuses = Vec::new();
            for model in ["alpha", "beta", "gamma"] {
                statuses.push(Answer::to(caller.chat(&for_model(model))).await.status);
            }
            assert_eq!(statuses, meanwhile, "{key}");
            gateway.mock.let_through(&key, 1_000);
            assert_eq!(held.await.unwrap().status, 200, "{key}");
            drop(caller);
            gateway.at_rest().await;
            let caller = gateway.caller(&key);
            let mut statuses = Vec::new();
            for model in ["alpha", "beta", "gamma"] {
                statuses.push(Answer::to(caller.chat(&for_model(model))).await.status);
            }
            assert_eq!(statuses, afterwards, "{key}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn an_answer_that_names_no_model_gives_nothing_back(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits()).await;
    let request = gateway.caller("silent").chat(&naming(Api::Chat, false, &[]));
    assert_eq!(Answer::to(request.header("x-mock-model", "")).await.status, 200);
    gateway.at_rest().await;
    for model in ["alpha", "beta", "gamma"] {
        assert_eq!(Answer::to(gateway.caller("silent").chat(&for_model(model))).await.status, 429, "{model}");
    }
}

/// The dearest price is reserved, and that of the model that answered is paid: two of ten thousand micro-dollars.
#[rstest]
#[tokio::test]
async fn the_price_is_the_dearest_until_the_answer_names_the_model(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let price = |dollars: f64| json!({"input": dollars, "output": dollars});
    let budget = json!({"windows": [{"metric": "cost_usd", "limit": 0.01, "window": "1d"}]});
    let limits = json!({
        "default": budget,
        "prices": {"cheap": price(1.0), "dear": price(1000.0), "other": price(5.0)},
        "output_reservation": {"mode": "declared"},
    });
    let gateway = Gateway::start(store, limits).await;
    for (key, models, statuses) in [
        // Ten tokens at a thousand dollars for a million are the whole budget.
        ("any", &[][..], [429, 200]),
        ("with the dear one", &["cheap", "dear"], [429, 200]),
        ("without it", &["cheap", "other"], [200, 200]),
    ] {
        let body = |tokens: u64| {
            let mut body = naming(Api::Chat, false, models);
            body["max_tokens"] = json!(tokens);
            body
        };
        assert_eq!(Answer::to(gateway.caller(key).chat(&body(2))).await.status, statuses[0], "{key}");
        let mut small = naming(Api::Completions, false, models);
        small["max_tokens"] = json!(4);
        let request = gateway.caller(key).request(Method::POST, Api::Completions.path()).json(&small);
        let request = request.header("x-mock-model", "cheap").header("x-mock-prompt-tokens", "2");
        assert_eq!(Answer::to(request).await.status, statuses[1], "{key}");
        gateway.at_rest().await;
        // Of 10,000 micro-dollars six are spent: nine tokens at a thousand dollars for a million still fit.
        let mut last = Api::Completions.hello(7);
        last["model"] = json!("dear");
        let request = gateway.caller(key).request(Method::POST, Api::Completions.path()).json(&last);
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
    }
}
