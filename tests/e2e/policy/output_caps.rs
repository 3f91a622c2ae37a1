//! The most output tokens that a key may ask for: more is refused, or lowered before the upstream sees it.

use crate::caller::{Answer, hello_with};
use crate::gateway::{Gateway, Store};
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[tokio::test]
async fn more_output_than_allowed_is_refused_or_lowered(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "plans": {"strict": {"tpm": 10_000_000, "max_output_tokens": 100}},
        "keys": [
            {"key": "refused-key", "plan": "strict"},
            {"key": "clamped-key", "plan": "strict", "clamp": true},
        ],
    });
    let gateway = Gateway::start(store, limits).await;
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
