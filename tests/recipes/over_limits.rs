//! Recipes in which requests go on over a limit: by another route, and for another model.

use crate::recipe::{KEY, recipe};
use llm_rate_limit_tests::chat::{Answer, CHAT, client};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use rstest::rstest;
use serde_json::{Value, json};

/// Asks `model` for so many tokens, prompt included.
async fn ask(envoy: &Envoy, model: &str, tokens: u64) -> Answer {
    let body = json!({"model": model, "max_tokens": tokens - 9,
        "messages": [{"role": "user", "content": "Hello!"}]});
    let request = client().post(envoy.url(CHAT)).bearer_auth(KEY).json(&body);
    let request = request.header("x-mock-prompt-tokens", "9").header("x-llm-route", "cheap");
    Answer::to(request.header("x-mock-completion-tokens", tokens - 9)).await
}

/// A fleet's store, if the recipe is to use one.
struct Fleet {
    sidecar: Sidecar,
    _redis: Redis,
}

impl Fleet {
    async fn start() -> Self {
        let redis = Redis::start();
        let sidecar = Sidecar::start(&redis.url(), &[]);
        sidecar.wait_until_ready_is(200).await;
        Self { sidecar, _redis: redis }
    }
}

async fn fleet(is_shared: bool) -> Option<Fleet> {
    if is_shared { Some(Fleet::start().await) } else { None }
}

/// The recipe with the store of `fleet`.
fn setup(file: &str, mock: &MockLlm, fleet: Option<&Fleet>) -> Setup {
    let Some(fleet) = fleet else { return recipe(file, mock, &[]) };
    let store = "store: {type: redis, cluster: rate-limit-sidecar, timeout_ms: 10000}\ndefault:\n";
    let setup = recipe(file, mock, &[("default:\n", store)]);
    setup.sidecar(fleet.sidecar.address().parse().unwrap())
}

#[rstest]
#[tokio::test]
async fn a_route_to_a_cheaper_model(#[values(false, true)] is_shared: bool) {
    let (mock, cheap, fleet) = (MockLlm::start(), MockLlm::start(), fleet(is_shared).await);
    let mut setup = setup("a-route-to-a-cheaper-model", &mock, fleet.as_ref());
    let mut other = setup.cluster("llm").clone();
    other["name"] = json!("cheap-llm");
    let address = &mut other["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
    address["socket_address"] = json!({"address": "127.0.0.1", "port_value": cheap.address().port()});
    setup.config()["static_resources"]["clusters"].as_array_mut().unwrap().push(other);
    let envoy = setup.start();
    for (tokens, status, [dear_ones, cheap_ones]) in
        [(10_000, 200, [1, 0]), (15_000, 200, [1, 1]), (25_000, 200, [1, 2]), (10, 429, [1, 2])]
    {
        assert_eq!(ask(&envoy, "gpt-4o", tokens).await.status, status, "{tokens}");
        assert_eq!([mock.report().requests, cheap.report().requests], [dear_ones, cheap_ones], "{tokens}");
    }
}

#[rstest]
#[tokio::test]
async fn another_model_at_the_limit(#[values(false, true)] is_shared: bool) {
    let (mock, fleet) = (MockLlm::start(), fleet(is_shared).await);
    let envoy = setup("another-model-at-the-limit", &mock, fleet.as_ref()).start();
    for (tokens, status) in [(10_000, 200), (5_000, 200), (15_000, 200), (10, 429)] {
        assert_eq!(ask(&envoy, "gpt-4o", tokens).await.status, status, "{tokens}");
    }
    let models: Vec<Value> = mock
        .received()
        .iter()
        .map(|received| serde_json::from_slice::<Value>(&received.body).unwrap()["model"].clone())
        .collect();
    assert_eq!(models, ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]);
}
