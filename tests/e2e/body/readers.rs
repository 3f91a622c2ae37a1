//! Bodies that only some readers of JSON read: limits by model, caps and prompts hold for them as for any other.

use crate::caller::{Answer, CHAT, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{Gateway, Store};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// Two requests for `gpt-4o`, and a thousand tokens of output.
pub fn keys() -> Value {
    let models = json!({
        "gpt-4o": {"windows": [{"metric": "requests", "limit": 2, "window": "1h"}]},
        "other": {"windows": [{"metric": "requests", "limit": 2, "window": "1h"}]},
    });
    let of_models = bodies().into_iter().map(|(name, _)| json!({"key": format!("readers-{name}"), "models": models}));
    let of_tokens = (0..16).map(|at| {
        json!({"key": format!("readers-tokens-{at}"), "windows": [
            {"metric": "input_tokens", "limit": 100, "window": "1h"},
            {"metric": "output_tokens", "limit": 1000, "window": "1h"},
        ]})
    });
    of_models.chain(of_tokens).collect()
}

fn in_utf16(text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
}

fn in_utf32(text: &str, bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
    text.chars().flat_map(|c| bytes(c.into())).collect()
}

/// Chats with `gpt-4o`, each as some reader reads it.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let plain = hello().to_string();
    let messages = hello()["messages"].to_string();
    let deep = "[".repeat(150) + &"]".repeat(150);
    let text = |text: String| text.into_bytes();
    vec![
        ("utf-16", in_utf16(&plain, b"", u16::to_le_bytes)),
        ("utf-16-be", in_utf16(&plain, b"", u16::to_be_bytes)),
        ("utf-16-marked", in_utf16(&plain, b"\xFF\xFE", u16::to_le_bytes)),
        ("utf-16-be-marked", in_utf16(&plain, b"\xFE\xFF", u16::to_be_bytes)),
        ("utf-32", in_utf32(&plain, u32::to_le_bytes)),
        ("utf-32-be", in_utf32(&plain, u32::to_be_bytes)),
        ("utf-8-marked", [b"\xEF\xBB\xBF", plain.as_bytes()].concat()),
        ("overlong", [&b"{\"mod\xC1\xA5l\":\"gpt-4o\","[..], &plain.as_bytes()[1..]].concat()),
        ("nan", text(format!(r#"{{"temperature":NaN,"model":"gpt-4o","messages":{messages}}}"#))),
        ("infinity", text(format!(r#"{{"a":[-Infinity],"model":"gpt-4o","messages":{messages}}}"#))),
        ("case", text(format!(r#"{{"model":"other","Model":"gpt-4o","MESSAGES":{messages}}}"#))),
        ("case-alone", text(format!(r#"{{"MODEL":"gpt-4o","messages":{messages}}}"#))),
        ("long-s", text(format!(r#"{{"model":"gpt-4o","meſſageſ":{messages}}}"#))),
        ("twice", text(format!(r#"{{"model":"gpt-4o","messages":{messages},"model":"other"}}"#))),
        ("model-case", text(format!(r#"{{"model":" GPT-4o ","messages":{messages}}}"#))),
        ("fallbacks", text(format!(r#"{{"model":"other","messages":{messages},"fallbacks":["gpt-4o"]}}"#))),
        ("escapes", text(format!(r#"{{"\u006dodel":"\u0067pt-4o","messages":{messages}}}"#))),
        ("deep", text(format!(r#"{{"messages":[{{"role":"user","content":{deep}}}],"model":"gpt-4o"}}"#))),
        ("comments", text(format!("/* a */{{\"model\":\"gpt-4o\", // b\n\"messages\":{messages}}} # c"))),
        ("trailing-commas", text(format!(r#"{{"model":"gpt-4o","messages":{messages},}}"#))),
        ("single-quotes", text(format!("{{'model':'gpt-4o','messages':{messages}}}"))),
        ("no-quotes", text(format!(")]}}'\n{{model=gpt-4o;messages=>{messages}}}"))),
        ("control", text(format!("{{\"user\":\"a\tb\u{1}\",\"model\":\"gpt-4o\",\"messages\":{messages}}}"))),
        ("half-pair", text(format!(r#"{{"stop":"\ud83d","model":"gpt-4o","messages":{messages}}}"#))),
        ("not-utf-8", [&b"{\"user\":\"\xFF\",\"model\":\"gpt-4o\","[..], &plain.as_bytes()[1..]].concat()),
        ("array", text(format!("[{plain}]"))),
        ("followed", text(format!("{plain} and more"))),
        ("two-documents", text(format!("{plain}{{\"model\":\"other\"}}"))),
    ]
}

/// The mock takes what is not strict JSON for an empty object, so that its answer names no model.
#[rstest]
#[tokio::test]
async fn limits_by_model_hold_however_the_body_is_written(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    for (name, body) in bodies() {
        let key = format!("readers-{name}");
        let caller = gateway.caller(&key);
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let request = caller.request(Method::POST, CHAT).header("x-mock-lax", "1").body(body.clone());
            statuses.push(Answer::to(request).await.status);
        }
        assert_eq!(statuses, [200, 200, 429], "{name}");
        let received = gateway.mock.received_from(&key);
        let as_it_came = received.len() == 2 && received.iter().all(|request| request.body == body);
        assert!(as_it_came, "{name} is forwarded as it came");
    }
}

#[rstest]
#[tokio::test]
async fn a_budget_is_charged_however_the_body_is_written(#[values(Store::Local, Store::Redis)] store: Store) {
    let budget = json!([{"metric": "cost_usd", "limit": 0.01, "window": "1d"}]);
    let keys: Value = bodies().iter().map(|(name, _)| json!({"key": name, "windows": budget})).collect();
    let limits = json!({
        "keys": keys,
        "default": "reject",
        // 512 tokens of output are reserved: two thirds of the budget.
        "prices": {"gpt-4o": {"input": 2.5, "output": 13}, "other": {"input": 0.1, "output": 0.1}},
        "output_reservation": {"mode": "declared"},
    });
    let gateway = Gateway::start(store, limits).await;
    for (name, body) in bodies() {
        let request = || {
            let request = gateway.caller(name).request(Method::POST, CHAT).body(body.clone());
            let request = request.header("x-mock-lax", "1").header("x-mock-model", "gpt-4o");
            request.header("x-mock-prompt-tokens", "9").header("x-mock-completion-tokens", "512")
        };
        assert_eq!(Answer::to(request()).await.status, 200, "{name}");
        gateway.at_rest().await;
        assert_eq!(Answer::to(request()).await.status, 429, "{name}");
    }
}

/// Each request's reservation, as its own answer shows it.
#[rstest]
#[tokio::test]
async fn caps_and_prompts_count_however_they_are_written(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let words = "word ".repeat(60);
    let cases = [
        (json!({"max_tokens": 700}), Some((HELLO_TOKENS, 700))),
        (json!({"max_tokens": "700"}), Some((HELLO_TOKENS, 700))),
        (json!({"max_tokens": 1, "max_completion_tokens": 600}), Some((HELLO_TOKENS, 600))),
        (json!({"n_predict": 600}), Some((HELLO_TOKENS, 600))),
        // No caps of this endpoint, or none at all.
        (json!({"max_output_tokens": 1}), Some((HELLO_TOKENS, 512))),
        (json!({"max_tokens": 0}), Some((HELLO_TOKENS, 512))),
        (json!({"max_tokens": null}), Some((HELLO_TOKENS, 512))),
        (json!({"max_tokens": -1}), Some((HELLO_TOKENS, 512))),
        (json!({"max_tokens": 1.5}), Some((HELLO_TOKENS, 512))),
        // One that not every reader finds.
        (json!({"MAX_TOKENS": 1}), Some((HELLO_TOKENS, 512))),
        (json!({"MAX_TOKENS": 900}), Some((HELLO_TOKENS, 900))),
        (json!({"MAX_TOKENS": 1001}), None),
        // What servers put into a prompt beside its messages.
        (json!({"documents": [words]}), Some((HELLO_TOKENS + 62, 512))),
        (json!({"guided_grammar": words}), Some((HELLO_TOKENS + 61, 512))),
        (json!({"chat_template_kwargs": {"a": words}}), Some((HELLO_TOKENS + 64, 512))),
        (json!({"metadata": {"a": words}}), Some((HELLO_TOKENS, 512))),
    ];
    for (at, (members, expected)) in cases.into_iter().enumerate() {
        let request = gateway.caller(&format!("readers-tokens-{at}")).chat(&hello_with(members.clone()));
        let answer = Answer::to(request.header("x-mock-status", "500")).await;
        let Some((input, output)) = expected else {
            assert_eq!(answer.status, 429, "{members}");
            continue;
        };
        assert_eq!(answer.status, 500, "{members}: {}", answer.text());
        let left = |what: &str| answer.number(&format!("x-ratelimit-remaining-{what}-tokens"));
        assert_eq!((100 - left("input"), 1000 - left("output")), (input, output), "{members}");
    }
}
