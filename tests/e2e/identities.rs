//! The owner of a request: a key in one header or another, a key known by its digest, or else the client's address.

use crate::caller::{Answer, CHAT, Caller, hello};
use crate::gateway::{Store, eventually};
use reqwest::{Client, Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The keys that these tests use.
pub fn keys() -> Value {
    json!([
        {"key": "identities-one", "rpm": 3},
        // The SHA-256 of "identities-digest".
        {"key_sha256": "179b6bf520591bf2073d52eadc0e2dbb53b5b6a7af8c92ba1ad7f8e69900b9d9", "name": "digest", "rpm": 2},
    ])
}

/// A client without a key that connects from this address.
fn without_key(base: &str, address: &str) -> Caller {
    let address: IpAddr = address.parse().unwrap();
    Caller::anonymous(Client::builder().local_address(address).build().unwrap(), base)
}

#[rstest]
#[tokio::test]
async fn a_key_is_the_same_in_every_header(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = without_key(&gateway.envoy.url(""), "127.0.0.9");
    let forms: [fn(RequestBuilder) -> RequestBuilder; 4] = [
        |request| request.header("authorization", "Bearer identities-one"),
        |request| request.header("authorization", "bearer  identities-one "),
        |request| request.header("authorization", "identities-one"),
        |request| request.header("X-Api-Key", "identities-one"),
    ];
    for (at, form) in forms.into_iter().enumerate() {
        let answer = Answer::to(form(caller.chat(&hello()))).await;
        assert_eq!(answer.status, if at < 3 { 200 } else { 429 });
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), 2_u64.saturating_sub(at as u64));
    }
    let neither = caller.chat(&hello()).bearer_auth("identities-other").header("x-api-key", "identities-more");
    assert_eq!(Answer::to(neither).await.status, 200, "of unknown keys, the first decides");
}

#[rstest]
#[tokio::test]
async fn a_key_can_be_configured_by_its_digest(#[values(Store::Local, Store::Redis)] store: Store) {
    let caller = store.gateway().await.caller("identities-digest");
    assert_eq!(caller.hello().await.number("x-ratelimit-limit-requests"), 2);
    assert_eq!(caller.hello().await.status, 200);
    assert!(caller.hello().await.message().contains(" for digest on requests "));
}

#[rstest]
#[tokio::test]
async fn a_client_without_a_key_is_known_by_its_address(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let base = gateway.envoy.url("");
    let (one, other) = (without_key(&base, "127.0.0.2"), without_key(&base, "127.0.0.3"));
    for (caller, left) in [(&one, 999), (&one, 998), (&other, 999), (&one, 997), (&other, 998)] {
        assert_eq!(caller.hello().await.number("x-ratelimit-remaining-requests"), left);
    }
    // No header can forge an address, and a key that looks like an address is a key.
    let forged = one
        .request(Method::POST, CHAT)
        .header("x-forwarded-for", "127.0.0.3")
        .header("x-real-ip", "127.0.0.3")
        .header("forwarded", "for=127.0.0.3")
        .json(&hello());
    assert_eq!(Answer::to(forged).await.number("x-ratelimit-remaining-requests"), 996);
    let posing = gateway.caller("127.0.0.2").hello().await;
    assert_eq!(posing.number("x-ratelimit-remaining-requests"), 999);
}

#[rstest]
#[tokio::test]
async fn strangers_have_counters_of_their_own(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    for key in ["identities-stranger-1", "identities-stranger-2", "identities-stranger-3"] {
        let answer = gateway.caller(key).hello().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (200, 999));
    }
}

/// A key is a secret: the upstream gets it, and nobody else.
#[tokio::test]
async fn no_key_is_written_anywhere() {
    let key = "identities-secret-key";
    let gateway = Store::Redis.gateway().await;
    let path = "/identities-secret/v1/chat/completions";
    let request = gateway.caller(key).request(Method::POST, path).json(&hello());
    assert_eq!(Answer::to(request).await.status, 200);
    // By the time the access log has the request, Envoy has written everything else about it.
    eventually("the request in the access log", true, async || {
        gateway.envoy.access_log().iter().any(|line| line["request"] == format!("POST {path}"))
    })
    .await;
    assert_eq!(gateway.mock.received_from(key).len(), 1);
    let fleet = gateway.fleet.as_ref().unwrap();
    gateway.used(key, "requests").await;
    let keys: Vec<String> = fleet.redis.ask(&["KEYS", "*"]);
    assert!(keys.iter().any(|name| name.starts_with("llmrl:3::{")), "{keys:?}");
    for name in &keys {
        let kind: String = fleet.redis.ask(&["TYPE", name]);
        let value: Vec<String> = match kind.as_str() {
            "hash" => fleet.redis.ask(&["HGETALL", name]),
            "string" => vec![fleet.redis.ask(&["GET", name])],
            "none" => continue,
            kind => panic!("{name} is a {kind}"),
        };
        assert!(!name.contains(key) && !value.concat().contains(key), "{name}: {value:?}");
    }
    for (what, text) in [
        ("Envoy's log", gateway.envoy.log()),
        ("the metrics", gateway.envoy.admin("/stats")),
        ("the sidecar's log", fleet.sidecar.log()),
    ] {
        assert!(!text.contains(key), "{what} has the key");
    }
}
