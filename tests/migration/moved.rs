//! Ours, as moved from ratelimit, LiteLLM and Kuadrant, in a real Envoy with sidecar and Redis.

use futures_util::future::join_all;
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, client, statuses};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::jwt::Issuer;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::recipe::{KEY, chat_of, held_chat, setup};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use reqwest::RequestBuilder;
use serde_json::json;

/// Slow stores have tests of their own.
const PATIENT: (&str, &str) =
    ("cluster: rate-limit-sidecar", "cluster: rate-limit-sidecar, timeout_ms: 10000");

/// A running fleet of one.
struct Fleet {
    envoy: Envoy,
    _sidecar: Sidecar,
    _redis: Redis,
    mock: MockLlm,
}

impl Fleet {
    /// Starts it with the file, each of `replacements` made, after `change`.
    async fn start(file: &str, replacements: &[(&str, &str)], change: impl FnOnce(Setup) -> Setup) -> Self {
        let (mock, redis) = (MockLlm::start(), Redis::start());
        let sidecar = Sidecar::start(&redis.url(), &[]);
        sidecar.wait_until_ready_is(200).await;
        let setup = setup(file, &mock, &[&[PATIENT], replacements].concat());
        let envoy = change(setup.sidecar(sidecar.address().parse().unwrap())).start();
        Self { envoy, _sidecar: sidecar, _redis: redis, mock }
    }

    /// A small chat with a model.
    fn chat_with(&self, model: &str) -> RequestBuilder {
        let body =
            json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]});
        client().post(self.envoy.url(CHAT)).json(&body).header("x-mock-completion-tokens", "1")
    }
}

#[tokio::test]
async fn descriptors_of_ratelimit() {
    let fleet = Fleet::start("docs/migration/ratelimit.yaml", &[], |setup| setup).await;
    let ask = |key: &str| chat(fleet.envoy.url(CHAT)).bearer_auth(key);
    // A descriptor without a value: each value counts by itself.
    assert_eq!(statuses(4, || ask("one-of-many")).await, [200, 200, 200, 429]);
    assert_eq!(statuses(1, || ask("another")).await, [200]);
    // One with a value has a limit of its own, and the nested one holds beside it.
    let most = statuses(21, || ask(KEY)).await;
    assert_eq!((&most[..20], most[20]), (&[200; 20][..], 429));
    let refused = Answer::to(ask(KEY)).await;
    assert!(refused.message().contains("requests per 1h: limit 20"), "{}", refused.message());
    assert_eq!(statuses(1, || fleet.chat_with("gpt-4o-mini").bearer_auth(KEY)).await, [200]);
    // shadow_mode: more tokens than the limit pass, and the answer says so.
    let shadowed = Answer::to(chat_of(&fleet.envoy, 150_000).bearer_auth("another")).await;
    assert_eq!(shadowed.status, 200);
    assert!(shadowed.header("x-ratelimit-dry-run").is_some(), "{shadowed:?}");
}

#[tokio::test]
async fn keys_and_teams_of_litellm() {
    let fleet = Fleet::start("docs/migration/litellm.yaml", &[], |setup| setup).await;
    // model_rpm_limit, and the other model of the key.
    assert_eq!(statuses(4, || fleet.chat_with("gpt-4o").bearer_auth(KEY)).await, [200, 200, 200, 429]);
    assert_eq!(statuses(1, || fleet.chat_with("openai/gpt-4o-mini").bearer_auth(KEY)).await, [200]);
    // models: no other.
    let refused = Answer::to(fleet.chat_with("claude-sonnet-4-5").bearer_auth(KEY)).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("model_not_found")));
    assert_eq!(statuses(1, || fleet.chat_with("gpt-4o").bearer_auth("sk-unknown")).await, [401]);

    // max_parallel_requests.
    // Each has a gate of its own: behind one, a single answer could take what all are to have.
    let held = |n: usize| {
        held_chat(&fleet.envoy, &format!("parallel-{n}")).bearer_auth("test-key-2").json(&json!({
            "model": "gpt-4o-mini", "stream": true, "max_tokens": 1, "messages": []
        }))
    };
    (0..4).for_each(|n| fleet.mock.let_through(&format!("parallel-{n}"), 1));
    let running = join_all((0..4).map(held).map(RequestBuilder::send)).await;
    assert!(running.iter().all(|answer| answer.as_ref().unwrap().status() == 200), "{running:?}");
    assert_eq!(statuses(1, || fleet.chat_with("gpt-4o-mini").bearer_auth("test-key-2")).await, [429]);
    (0..4).for_each(|n| fleet.mock.let_through(&format!("parallel-{n}"), 1000));
    drop(running);

    // tpm_limit of the team: what one of them has used is gone for the other.
    let large = |key: &str| {
        let body = json!({"model": "gpt-4o-mini", "max_tokens": 19_000, "messages": []});
        let request = client().post(fleet.envoy.url(CHAT)).json(&body).bearer_auth(key);
        request.header("x-mock-completion-tokens", "19000")
    };
    assert_eq!(statuses(2, || large(KEY)).await, [200, 429]);
}

#[tokio::test]
async fn budgets_of_litellm() {
    let roomy = [("    tpm: 20000\n", "")];
    let fleet = Fleet::start("docs/migration/litellm.yaml", &roomy, |setup| setup).await;
    let spend = |key: &str, input_tokens: u64| {
        fleet.chat_with("gpt-4o-mini").bearer_auth(key).header("x-mock-prompt-tokens", input_tokens)
    };
    // Nine dollars, and then more than the tenth.
    assert_eq!(statuses(1, || spend(KEY, 60_000_000)).await, [200]);
    assert_eq!(statuses(1, || spend(KEY, 20_000_000)).await, [200]);
    let refused = loop {
        // The price is known when the answer has ended.
        let answer = Answer::to(spend(KEY, 10)).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert!(refused.message().contains("per 1d"), "{}", refused.message());
    // The team has 38 dollars left, and each of its keys its own ten.
    assert_eq!(statuses(1, || spend("test-key-2", 10)).await, [200]);
}

#[tokio::test]
async fn a_token_rate_limit_policy_of_kuadrant() {
    let issuer = Issuer::create();
    let jwks = [("/etc/envoy/jwks.json", issuer.jwks())];
    let jwks = jwks.each_ref().map(|(from, to)| (*from, to.as_str()));
    let fleet = Fleet::start("docs/migration/kuadrant.yaml", &jwks, |setup| setup).await;
    let spend = |tier: &str, user: &str, tokens: u64| {
        let token = issuer.token(&json!({"sub": user, "tier": tier}));
        chat_of(&fleet.envoy, tokens - 9).bearer_auth(token)
    };
    // All at once: no more than fits, where a counter that is read before and written after admits all.
    let burst = join_all((0..30).map(|_| Answer::to(spend("free", "ann", 2_000)))).await;
    assert_eq!(burst.iter().filter(|answer| answer.status == 200).count(), 10);
    // A user of the same tier has counters of its own.
    assert_eq!(statuses(2, || spend("free", "bob", 20_000)).await, [200, 429]);
    // The shorter of two windows: more than it has never fits.
    let refused = Answer::to(spend("gold", "carol", 10_001)).await;
    assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")));
    assert_eq!(statuses(1, || spend("gold", "carol", 10_000)).await, [200]);
    // The model's limit, whoever asks: 50000 are used.
    for user in ["dan", "eve"] {
        assert_eq!(statuses(1, || spend("free", user, 20_000)).await, [200]);
    }
    let refused = Answer::to(spend("free", "fay", 20_000)).await;
    assert!(refused.message().contains("limit 100000"), "{}", refused.message());
    let none = chat(fleet.envoy.url(CHAT)).bearer_auth(issuer.token(&json!({"sub": "gus"})));
    assert_eq!(Answer::to(none).await.status, 401);
}
