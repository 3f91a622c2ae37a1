//! The most output tokens that a key may ask for: more is refused, or lowered before the upstream sees it.

use crate::caller::{Answer, hello_with};
use crate::gateway::{Gateway, Store};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// A gateway where one key may not ask for more than 100 tokens, and another's requests are lowered to that.
async fn gateway(store: Store) -> Gateway {
    let limits = json!({
        "plans": {"strict": {"tpm": 10_000_000, "max_output_tokens": 100}},
        "keys": [
            {"key": "refused-key", "plan": "strict"},
            {"key": "clamped-key", "plan": "strict", "clamp": true},
        ],
    });
    Gateway::start(store, limits).await
}

#[rstest]
#[tokio::test]
async fn more_output_than_allowed_is_refused_or_lowered(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = gateway(store).await;
    let refused = Answer::to(gateway.caller("refused-key").chat(&hello_with(json!({"max_tokens": 101})))).await;
    assert_eq!((refused.status, gateway.mock.report().requests), (400, 0), "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("invalid_value")));
    let fits = Answer::to(gateway.caller("refused-key").chat(&hello_with(json!({"max_tokens": 100})))).await;
    assert_eq!(fits.status, 200);

    let clamped = gateway.caller("clamped-key");
    let large = "word ".repeat(100_000);
    for (members, expected) in [
        (json!({"max_tokens": 5_000}), 100),
        (json!({"max_tokens": 7}), 7),
        (json!({}), 100),
        (json!({"stream": true}), 100),
        (json!({"stream": true, "max_tokens": 101}), 100),
        (json!({"user": large}), 100),
        (json!({"user": large, "max_tokens": 101}), 100),
    ] {
        let sent = hello_with(members);
        let answer = Answer::to(clamped.chat(&sent)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = gateway.mock.received().pop().unwrap();
        let length: usize = received.headers["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(length, received.body.len());
        let received: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(received["max_tokens"], expected);
        assert_eq!((&received["messages"], &received["user"]), (&sent["messages"], &sent["user"]));
    }
}

/// Each API has its own member, in which a maximum is lowered, or set where there is none.
#[rstest]
#[case::responses("/v1/responses", json!({"model": "gpt-4o", "input": "Hello!"}), "/max_output_tokens")]
#[case::completions("/v1/completions", json!({"model": "gpt-4o", "prompt": "Hello!"}), "/max_tokens")]
#[case::claude(
    "/v1/messages",
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}),
    "/max_tokens"
)]
#[case::gemini(
    "/v1beta/models/gpt-4o:generateContent",
    json!({"contents": [{"parts": [{"text": "Hello!"}]}], "generationConfig": {"temperature": 0}}),
    "/generationConfig/maxOutputTokens"
)]
#[case::gemini_that_configures_nothing(
    "/v1beta/models/gpt-4o:streamGenerateContent?alt=sse",
    json!({"contents": [{"parts": [{"text": "Hello!"}]}]}),
    "/generationConfig/maxOutputTokens"
)]
#[case::ollama(
    "/api/chat",
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}),
    "/options/num_predict"
)]
#[tokio::test]
async fn the_member_of_each_api_is_lowered(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] path: &str,
    #[case] body: Value,
    #[case] member: &str,
) {
    let gateway = gateway(store).await;
    let with = |tokens: Option<u64>| {
        let mut body = body.clone();
        if let Some(tokens) = tokens {
            let (object, name) = member.rsplit_once('/').unwrap();
            if !object.is_empty() && body.pointer(object).is_none() {
                body[object.trim_start_matches('/')] = json!({});
            }
            body.pointer_mut(object).unwrap()[name] = json!(tokens);
        }
        body
    };
    for (asked, expected) in [(Some(5_000), 100), (Some(7), 7), (None, 100)] {
        let sent = with(asked);
        let answer =
            Answer::to(gateway.caller("clamped-key").request(Method::POST, path).json(&sent)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = gateway.mock.received().pop().unwrap();
        let received: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(received, with(Some(expected)), "{asked:?}");
    }
    let seen = gateway.mock.report().requests;
    let refused =
        Answer::to(gateway.caller("refused-key").request(Method::POST, path).json(&with(Some(101)))).await;
    assert_eq!((refused.status, gateway.mock.report().requests), (400, seen), "{}", refused.text());
    let error = refused.json();
    // Ollama's error is the message alone.
    let message = error["error"]["message"].as_str().or(error["error"].as_str()).unwrap();
    assert!(message.contains("100"), "{message}");
}
