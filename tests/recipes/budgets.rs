//! Recipes with budgets: of tokens a day, of dollars a month, and as Anthropic's tiers.

use crate::recipe::{KEY, chat_of, recipe};
use llm_rate_limit_tests::chat::{Answer, CHAT, client, eventually};
use llm_rate_limit_tests::clock::Clock;
use llm_rate_limit_tests::envoy::Envoy;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::json;

const HOUR_MS: i64 = 3_600_000;

/// 2031-04-01 04:00 UTC, in milliseconds since the epoch.
const APRIL_IN_NEW_YORK_MS: i64 = 1_932_782_400_000;

/// The clock of Envoy is the test's.
#[tokio::test]
async fn tokens_a_day_with_bursts() {
    let (mock, clock) = (MockLlm::start(), Clock::new());
    let setup = recipe("tokens-a-day-with-bursts", &mock, &[]);
    let envoy = setup.environment(clock.environment()).start();
    // Nine tokens of each are the prompt's.
    let ask = async |tokens: u64| Answer::to(chat_of(&envoy, tokens - 9).bearer_auth(KEY)).await;
    assert_eq!(ask(15_000).await.status, 200, "a burst");
    let refused = ask(10_000).await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("total tokens per 1h"), "{}", refused.message());
    // An hour later, less the moments that the test has taken.
    assert!((3_500..=3_600).contains(&refused.number("retry-after")), "{refused:?}");

    for hour in 1..=8 {
        clock.set(hour * HOUR_MS);
        assert_eq!(ask(10_000).await.status, 200, "hour {hour}");
    }
    clock.set(10 * HOUR_MS);
    assert_eq!(ask(5_000).await.status, 200, "100000 in ten hours");
    let refused = ask(5_000).await;
    assert!(
        refused.message().contains("total tokens per 1d: limit 100000, used 100000"),
        "{}",
        refused.message()
    );
    // The burst of the first hour leaves after 24 hours, and at most a segment more.
    clock.set(24 * HOUR_MS + HOUR_MS / 2);
    assert_eq!(ask(5_000).await.status, 200);
}

/// Asks a model for a word, with a prompt that the provider counts as so many tokens.
async fn ask(envoy: &Envoy, model: &str, input_tokens: u64) -> Answer {
    let body = json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]});
    let request = client().post(envoy.url(CHAT)).bearer_auth(KEY).json(&body);
    let request = request.header("x-mock-prompt-tokens", input_tokens);
    Answer::to(request.header("x-mock-completion-tokens", "1")).await
}

#[tokio::test]
async fn dollars_a_month() {
    let (mock, redis) = (MockLlm::start(), Redis::start());
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    // Slow stores have tests of their own.
    let patient = [("cluster: rate-limit-sidecar", "cluster: rate-limit-sidecar, timeout_ms: 10000")];
    let setup = recipe("dollars-a-month", &mock, &patient).sidecar(sidecar.address().parse().unwrap());
    let used = async || {
        let key = llm_rate_limit::identity::Identity::of_key(KEY);
        let usage = sidecar.usage(reqwest::Method::GET, &format!("identity={}", key.id())).await;
        usage["windows"][0]["used"].clone()
    };
    let envoy = setup.clone().start();
    assert_eq!(ask(&envoy, "gpt-4o", 12_000_000).await.status, 200, "30 dollars, and a token of output");
    eventually("millionths of dollars of gpt-4o", json!(30_000_010), used).await;
    assert_eq!(
        ask(&envoy, "a-model-without-a-price", 1_000_000).await.status,
        200,
        "15 dollars, and a token"
    );
    eventually("millionths of both", json!(45_000_085), used).await;
    assert_eq!(ask(&envoy, "gpt-4o-mini", 40_000_000).await.status, 200, "6 dollars: more than was left");
    eventually("millionths of all", json!(51_000_086), used).await;
    let refused = ask(&envoy, "gpt-4o-mini", 10).await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("per 1mo"), "{}", refused.message());
    // Until the first of the next month at the latest.
    assert!(refused.number("retry-after") <= 31 * 86_400, "{refused:?}");

    drop(envoy);
    let envoy = setup.start();
    assert_eq!(ask(&envoy, "gpt-4o-mini", 10).await.status, 429, "a new Envoy goes on");
}

/// A prompt of 100000 tokens, of which all but 1000 come from the cache.
#[tokio::test]
async fn tiers_of_anthropic() {
    let mock = MockLlm::start();
    let envoy = recipe("tiers-of-anthropic", &mock, &[]).start();
    let usage = |read: u64, written: u64| {
        json!({"type": "message", "content": [{"type": "text", "text": "Hi"}], "usage": {
            "input_tokens": 100_000 - read - written, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written, "output_tokens": 10}})
    };
    mock.give("cached", "application/json", usage(99_000, 900).to_string()).await;
    mock.give("written", "application/json", usage(0, 99_000).to_string()).await;
    let ask = async |answer: &str| {
        let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 10,
            "messages": [{"role": "user", "content": "Hello!"}]});
        let request = client().post(envoy.url("/v1/messages")).header("x-api-key", KEY).json(&body);
        Answer::to(request.header("x-mock-answer", answer)).await
    };
    for _ in 0..10 {
        assert_eq!(ask("cached").await.status, 200, "a million tokens, of which ten thousand count");
    }
    assert_eq!(ask("written").await.status, 200);
    eventually("the status once the cache was written", 429, async || ask("cached").await.status).await;
    let refused = ask("cached").await;
    assert!(refused.text().contains("uncached input tokens per 1m: limit 30000"), "{}", refused.text());
}

/// The clocks of Envoy and Redis are the test's, which sets them to a time around the end of a month in New York.
#[tokio::test]
async fn dollars_a_month_in_new_york() {
    let (mock, clock) = (MockLlm::start(), Clock::new());
    // Fifteen minutes before March ends there. In UTC it has been April for hours.
    clock.show(APRIL_IN_NEW_YORK_MS - 900_000);
    let redis = Redis::start_in(clock.environment());
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let patient = [("cluster: rate-limit-sidecar", "cluster: rate-limit-sidecar, timeout_ms: 10000")];
    let setup = recipe("dollars-a-month-in-new-york", &mock, &patient);
    let setup = setup.sidecar(sidecar.address().parse().unwrap()).environment(clock.environment());
    let envoy = setup.start();
    assert_eq!(ask(&envoy, "gpt-4o", 21_000_000).await.status, 200, "52 dollars");
    eventually("a refusal", 429, async || ask(&envoy, "gpt-4o-mini", 10).await.status).await;
    clock.show(APRIL_IN_NEW_YORK_MS - 900_000);
    let refused = ask(&envoy, "gpt-4o-mini", 10).await;
    assert!(refused.message().contains("per 1mo"), "{}", refused.message());
    // A quarter of an hour, less the moments that the test has taken.
    assert!((600..=900).contains(&refused.number("retry-after")), "{refused:?}");

    clock.show(APRIL_IN_NEW_YORK_MS);
    eventually("April in New York", 200, async || ask(&envoy, "gpt-4o-mini", 10).await.status).await;
}
