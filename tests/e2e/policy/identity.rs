//! The owner of a request, by each source that a configuration can name: address, path, query, metadata, a constant, or
//! several together.

use crate::caller::{Answer, CHAT, Caller, hello};
use crate::gateway::{Gateway, Store};
use llm_rate_limit::identity::Identity;
use reqwest::{Client, Method};
use serde_json::json;
use std::net::IpAddr;

/// Sends a request to `path` with these headers from this address, and returns how many more its owner may send.
async fn left(gateway: &Gateway, address: &str, path: &str, headers: &[(&str, &str)]) -> u64 {
    let address: IpAddr = address.parse().unwrap();
    let http = Client::builder().local_address(address).build().unwrap();
    let caller = Caller::anonymous(http, &gateway.envoy.url(""));
    let request = caller.request(Method::POST, path).json(&hello());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::to(request).await.number("x-ratelimit-remaining-requests")
}

#[tokio::test]
async fn every_source_tells_clients_apart() {
    let limits = json!({
        "store": {"type": "local"},
        "identity": [
            {"all": [{"header": "x-team"}, {"query": "user"}]},
            {"metadata": ["gateway", "tenant"]},
            {"query": "tenant"},
            {"path_segment": 4},
            {"client_ip": {"ipv4_prefix": 24}},
        ],
        "default": {"rpm": 10},
    });
    let gateway = Gateway::start_with(Store::Local, |mut setup| {
        let present = json!({"metadata_namespace": "gateway", "key": "tenant", "type": "STRING"});
        let rule = json!({"header": "x-tenant", "on_header_present": present, "remove": true});
        let filter = json!({"name": "envoy.filters.http.header_to_metadata", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [rule],
        }});
        setup.http_filters().as_array_mut().unwrap().insert(0, filter);
        setup.filter(&limits)
    })
    .await;
    let somewhere = "127.0.7.1";
    for (address, expected) in [("127.0.5.1", 9), ("127.0.5.2", 8), ("127.0.6.1", 9)] {
        assert_eq!(left(&gateway, address, CHAT, &[]).await, expected, "{address}");
    }
    for (tenant, expected) in [("acme", 9), ("acme", 8), ("other", 9)] {
        let path = format!("{CHAT}?tenant=query-{tenant}");
        assert_eq!(left(&gateway, somewhere, &path, &[]).await, expected, "query {tenant}");
        let path = format!("/some/where/of/path-{tenant}{CHAT}");
        assert_eq!(left(&gateway, somewhere, &path, &[]).await, expected, "path {tenant}");
        let headers = [("x-tenant", tenant)];
        assert_eq!(left(&gateway, somewhere, CHAT, &headers).await, expected, "metadata {tenant}");
    }
    for (team, user, expected) in
        [("red", "ann", 9), ("red", "bob", 9), ("blue", "ann", 9), ("red", "ann", 8)]
    {
        let path = format!("{CHAT}?user={user}");
        assert_eq!(left(&gateway, somewhere, &path, &[("x-team", team)]).await, expected, "{team} {user}");
    }
}

/// With a constant all clients have one owner, and with a secret the store does not reveal the owner of a counter.
#[tokio::test]
async fn a_constant_is_one_owner_and_a_secret_hides_the_owner() {
    let limits = json!({
        "identity": [{"header": "authorization"}, {"constant": "everybody"}],
        "hash_secret": "a secret of more than sixteen bytes",
        "default": {"rpm": 10},
    });
    let gateway = Gateway::start(Store::Redis, limits).await;
    for (address, expected) in [("127.0.5.1", 9), ("127.0.6.1", 8)] {
        assert_eq!(left(&gateway, address, CHAT, &[]).await, expected, "{address}");
    }
    assert_eq!(gateway.caller("identity-hidden").hello().await.status, 200);
    let names: Vec<String> = gateway.fleet.as_ref().unwrap().redis.ask(&["KEYS", "llmrl:*"]);
    assert!(names.len() >= 2, "{names:?}");
    let plain = Identity::of_key("identity-hidden");
    assert!(names.iter().all(|name| !name.contains(&**plain.id())), "{names:?}");
}
