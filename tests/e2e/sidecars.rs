//! Sidecars that not everybody can call: on a unix socket, and with a token.

use crate::gateway::{Fleet, Gateway, Store};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::right(Some("of-the-sidecar"), 200)]
#[case::wrong(Some("of-another"), 503)]
#[case::none(None, 503)]
#[tokio::test]
async fn a_sidecar_on_a_socket_answers_callers_with_its_token(#[case] token: Option<&str>, #[case] status: u16) {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let sidecar = Sidecar::start_unix(&socket, &redis.url(), &[("AUTH_TOKEN", "of-the-sidecar")]);
    sidecar.wait_until_ready_is(200).await;
    let mut limits = json!({"store": Store::Redis.configuration(), "default": {"rpm": 2}});
    if let Some(token) = token {
        limits["store"]["auth_token"] = json!(token);
    }
    // `Local` starts no sidecar; the gateway gets this one.
    let change = |setup: llm_rate_limit_tests::envoy::Setup| setup.sidecar_socket(&socket).filter(&limits);
    let mut gateway = Gateway::start_with(Store::Local, change).await;
    gateway.fleet = Some(Fleet { sidecar, redis });
    let caller = gateway.caller("anybody");
    assert_eq!(caller.hello().await.status, status);
    if status == 200 {
        assert_eq!(caller.hello().await.status, 200);
        assert_eq!(caller.hello().await.status, 429);
    } else {
        assert!(gateway.envoy.log().contains("the sidecar answered 401"), "{}", gateway.envoy.log());
    }
    for token in ["of-the-sidecar", "of-another"] {
        assert!(!gateway.envoy.log().contains(token), "the token is a secret");
    }
}
