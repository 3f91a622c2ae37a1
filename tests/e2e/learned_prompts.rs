//! Counts of prompts that are corrected by what earlier answers have reported.

use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Fleet, Gateway, STRANGER_TOKENS, Store, eventually, strangers};
use llm_rate_limit_tests::envoy::Setup;
use rstest::rstest;
use serde_json::{Value, json};

/// A model that nobody knows, so that its prompts are estimates.
const MODEL: &str = "a-model-of-our-own";

/// Tokens of [`prompt`] by the rules.
const BY_RULES: u64 = 100;

/// A chat of so many tokens: 3 for the message, 1 for its role, 3 before the reply, and the text.
fn prompt() -> Value {
    let text = " a".repeat(usize::try_from(BY_RULES).unwrap() - 7);
    hello_with(json!({"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 5}))
}

/// Sends the prompt, whose answer reports so many tokens. Returns the tokens that were reserved for it: the answer
/// begins before its request is settled, so its headers show the reservation.
async fn reserved(caller: &Caller, reported: u64, used: u64) -> u64 {
    let request = caller.chat(&prompt()).header("x-mock-prompt-tokens", reported);
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens") - used
}

/// Sends `count` prompts from each of these keys, one after the other.
async fn teach(gateway: &Gateway, keys: &[&str], count: usize, reported: u64) {
    for key in keys {
        let caller = gateway.caller(key);
        for _ in 0..count {
            assert_eq!(
                Answer::to(caller.chat(&prompt()).header("x-mock-prompt-tokens", reported)).await.status,
                200
            );
        }
    }
}

/// Waits until the prompt of a new key has so many tokens.
async fn counts(gateway: &Gateway, expected: u64) {
    let number = std::cell::Cell::new(0);
    eventually("tokens of a prompt", expected, async || {
        number.set(number.get() + 1);
        // Its answer says nothing, so that it teaches nothing.
        let caller = gateway.caller(&format!("asks-{expected}-{}", number.get()));
        let answer = Answer::to(caller.chat(&prompt()).header("x-mock-no-usage", "1")).await;
        STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens")
    })
    .await;
}

fn learning() -> Value {
    strangers(json!({"prompt_estimates": "learned"}))
}

#[rstest]
#[tokio::test]
async fn after_twenty_answers_a_prompt_counts_what_they_reported(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, learning()).await;
    assert_eq!(reserved(&gateway.caller("first"), 130, 0).await, BY_RULES);
    teach(&gateway, &["a", "b", "c"], 6, 130).await;
    counts(&gateway, BY_RULES).await;
    teach(&gateway, &["d"], 1, 130).await;
    counts(&gateway, 130).await;
    // The settlement replaces it all the same.
    teach(&gateway, &["exact"], 1, 117).await;
    gateway.charged("exact", 1, 117, 5).await;
}

#[rstest]
#[tokio::test]
async fn a_flood_from_one_sender_is_one_vote(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, learning()).await;
    teach(&gateway, &["a", "b", "c", "d"], 5, 110).await;
    counts(&gateway, 110).await;
    teach(&gateway, &["flood"], 200, 900).await;
    gateway.settled().await;
    teach(&gateway, &["a"], 1, 110).await;
    counts(&gateway, 110).await;
}

#[tokio::test]
async fn a_new_envoy_begins_with_what_the_fleet_has_learned() {
    let limits = {
        let mut limits = learning();
        limits["store"] = Store::Redis.configuration();
        limits
    };
    let first = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
    teach(&first, &["a", "b"], 10, 130).await;
    counts(&first, 130).await;
    let Fleet { sidecar, .. } = first.fleet.as_ref().unwrap();
    let address = sidecar.address().parse().unwrap();
    let change = |setup: Setup| setup.sidecar(address).filter(&limits).concurrency(1);
    let second = Gateway::start_with(Store::Local, change).await;
    counts(&second, 130).await;
}

#[rstest]
#[tokio::test]
async fn by_the_rules_alone_nothing_is_learned(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, strangers(json!({"prompt_estimates": "rules"}))).await;
    teach(&gateway, &["a", "b"], 11, 130).await;
    gateway.at_rest().await;
    assert_eq!(reserved(&gateway.caller("later"), 130, 0).await, BY_RULES);
}

#[tokio::test]
async fn what_is_counted_exactly_is_not_corrected() {
    let gateway = Gateway::start(Store::Local, learning()).await;
    let mut chat = prompt();
    chat["model"] = json!("gpt-4o");
    for key in ["a", "b", "c"] {
        for _ in 0..10 {
            let request = gateway.caller(key).chat(&chat).header("x-mock-prompt-tokens", 130);
            assert_eq!(Answer::to(request).await.status, 200);
        }
    }
    teach(&gateway, &["d", "e"], 10, 130).await;
    counts(&gateway, 130).await;
    let answer = Answer::to(gateway.caller("later").chat(&chat)).await;
    assert_eq!(STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens"), BY_RULES);
}
