//! Tokens: the reservation before a request is forwarded, and the charge after its answer.

use crate::caller::{Answer, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{STRANGER_TOKENS, Store};
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The keys with limits of their own; all others are strangers.
pub fn keys() -> Value {
    json!([
        {"key": "tokens-far-too-large", "input_tpm": 1000},
        {"key": "tokens-excess", "name": "excess", "input_tpm": 1000, "output_tpm": 1000},
    ])
}

/// A chat with published counts.
struct Published {
    name: &'static str,
    body: Value,
    /// For each model, the tokens of its prompt.
    expected: BTreeMap<String, u64>,
}

/// The chats in `tests/data/counts`.
fn published() -> [Published; 2] {
    [
        ("messages", include_str!("../data/counts/messages.json")),
        ("tools", include_str!("../data/counts/tools.json")),
    ]
    .map(|(name, text)| {
        let mut file: Value = serde_json::from_str(text).unwrap();
        let expected = serde_json::from_value(file["expected"].take()).unwrap();
        Published { name, body: file["body"].take(), expected }
    })
}

#[rstest]
#[tokio::test]
async fn prompts_cost_what_openai_publishes(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    for Published { name, body, expected } in published() {
        assert!(expected.len() >= 4);
        for (model, tokens) in expected {
            let key = format!("tokens-published-{name}-{model}");
            let caller = gateway.caller(&key);
            let mut chat = body.clone();
            chat["model"] = json!(model);
            // The answer begins before its request is settled, so its headers show the reservation.
            let answer = Answer::to(caller.chat(&chat).header("x-mock-no-usage", "1")).await;
            assert_eq!(answer.status, 200, "{name} {model}");
            let used = STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens");
            assert_eq!(used, tokens, "{name} {model}");
            // An answer without usage does not change the charge for the prompt; its text is counted, and a token more
            // where it might have been a call.
            let output = 16 + u64::from(chat.get("tools").is_some());
            gateway.charged(&key, 1, tokens, output).await;
        }
    }
}

#[rstest]
#[case::less("7", "5")]
#[case::more("20000", "3000")]
#[case::no_output("9", "0")]
#[tokio::test]
async fn the_usage_of_a_json_answer_is_charged(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] prompt: &str,
    #[case] completion: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("tokens-json-{prompt}");
    let request = gateway
        .caller(&key)
        .chat(&hello_with(json!({"max_tokens": 100})))
        .header("x-mock-prompt-tokens", prompt)
        .header("x-mock-completion-tokens", completion);
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), STRANGER_TOKENS - HELLO_TOKENS);
    assert_eq!(answer.number("x-ratelimit-remaining-output-tokens"), STRANGER_TOKENS - 100);
    gateway.charged(&key, 1, prompt.parse().unwrap(), completion.parse().unwrap()).await;
}

#[rstest]
#[tokio::test]
async fn an_answer_without_usage_is_counted(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let request = gateway
        .caller("tokens-no-usage")
        .chat(&hello_with(json!({"n": 3})))
        .header("x-mock-no-usage", "1")
        .header("x-mock-completion-tokens", "40");
    assert_eq!(Answer::to(request).await.status, 200);
    gateway.charged("tokens-no-usage", 1, HELLO_TOKENS, 120).await;
}

#[rstest]
#[tokio::test]
async fn usage_is_charged_however_the_answer_is_cut(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    for (at, bytes) in ["1", "7", "100"].into_iter().enumerate() {
        let key = format!("tokens-cut-{bytes}");
        let caller = gateway.caller(&key);
        for (stream, requests) in [(false, 1), (true, 2)] {
            let usage = json!({"include_usage": true});
            let members = json!({"stream": stream, "stream_options": usage, "max_tokens": 3});
            let request = caller
                .chat(&hello_with(members))
                .header("x-mock-chunk-bytes", bytes)
                .header("x-mock-prompt-tokens", 100 + at);
            assert_eq!(Answer::to(request).await.status, 200);
            gateway.charged(&key, requests, requests * (100 + at as u64), requests * 3).await;
        }
    }
}

#[rstest]
#[tokio::test]
async fn an_excess_over_the_limit_stays_charged(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("tokens-excess");
    let request = caller.chat(&hello()).header("x-mock-prompt-tokens", "1500");
    assert_eq!(Answer::to(request).await.status, 200);
    crate::gateway::eventually("input left", 0, async || {
        caller.too_large().await.number("x-ratelimit-remaining-input-tokens")
    })
    .await;
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429);
    let message = refused.message();
    let expected =
        "Rate limit reached for excess on input tokens per 1m: limit 1000, used 1500, requested 9.";
    assert!(message.starts_with(expected), "{message}");
}

/// The filter stops counting a prompt once it can never be admitted.
#[rstest]
#[tokio::test]
async fn the_refusal_of_a_far_too_large_prompt_gives_a_lower_bound(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let content = "All work and no play makes Jack a dull boy.\n".repeat(450_000);
    let chat = hello_with(json!({"messages": [{"role": "user", "content": content}]}));
    let refused = Answer::to(gateway.caller("tokens-far-too-large").chat(&chat)).await;
    assert_eq!(refused.status, 429);
    let message = refused.message();
    let requested =
        message.split("limit 1000, requested at least ").nth(1).unwrap_or_else(|| panic!("{message}"));
    let requested: u64 = requested.split('.').next().unwrap().parse().unwrap();
    assert!((1_000..100_000).contains(&requested), "{message}");
}

#[rstest]
#[case::one_cap(json!({"max_tokens": 300}), 300)]
#[case::the_larger_of_two(json!({"max_tokens": 10, "max_completion_tokens": 400}), 400)]
#[case::of_each_choice(json!({"max_tokens": 100, "n": 5}), 500)]
#[case::none(json!({}), 512)]
#[case::none_of_each_choice(json!({"n": 2}), 1024)]
#[case::null(json!({"max_tokens": null}), 512)]
#[case::nothing(json!({"max_tokens": 0}), 512)]
#[tokio::test]
async fn output_is_reserved_by_what_the_request_allows_itself(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] members: Value,
    #[case] reserved: u64,
) {
    let gateway = store.gateway().await;
    let key = format!("tokens-reserved-{members}");
    let answer = Answer::to(gateway.caller(&key).chat(&hello_with(members))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.number("x-ratelimit-remaining-output-tokens"), STRANGER_TOKENS - reserved);
    assert_eq!(answer.number("x-ratelimit-remaining-tokens"), 2 * STRANGER_TOKENS - reserved - HELLO_TOKENS);
}

#[rstest]
#[case::bad_request("400")]
#[case::over_its_own_limit("429")]
#[case::broken("500")]
#[case::overloaded("503")]
#[tokio::test]
async fn an_upstream_error_costs_a_request_and_no_tokens(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] status: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("tokens-error-{status}");
    let caller = gateway.caller(&key);
    let answer = Answer::to(caller.chat(&hello()).header("x-mock-status", status)).await;
    assert_eq!(answer.status.to_string(), status);
    assert_eq!(answer.json()["error"]["type"], "mock_error", "it is the upstream's own");
    // A 429 of the upstream says what the upstream says, and nothing of limits that are not its own.
    let remaining = answer.header("x-ratelimit-remaining-input-tokens").map(|text| text.parse().unwrap());
    let as_admitted = Some(STRANGER_TOKENS - HELLO_TOKENS);
    assert_eq!(remaining, if status == "429" { None } else { as_admitted });
    gateway.charged(&key, 1, 0, 0).await;
}
