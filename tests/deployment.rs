//! The shipped deployments: Envoy accepts the configuration in each of them, and the filter in it enforces limits.
//!
//! No container engine and no cluster run here. The tests do by hand with the files as those would, and comments say
//! how. `make check` validates the files against their schemas, `compose/` runs the containers, and `kubernetes.rs`
//! is on the files in `deploy/`.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::process::Command;

/// The token that every shipped file has until somebody chooses another.
const SHIPPED_TOKEN: &str = "change-this-token";

/// The filter's configuration within an Envoy configuration.
fn limits(setup: &mut Setup) -> Value {
    let configuration = setup.plugin()["configuration"]["value"].clone();
    serde_json::from_str(configuration.as_str().unwrap()).unwrap()
}

/// Sends requests with the key `demo-key` until one is refused, and returns the number of answers before.
fn answered_before_429(url: &str, at_most: usize) -> usize {
    let body =
        json!({"model": "gpt-4o", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]});
    let body = body.to_string();
    for sent in 0..=at_most {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let response = agent.post(url).header("authorization", "Bearer demo-key").send(&body).unwrap();
        match response.status().as_u16() {
            200 => assert!(response.headers().contains_key("x-ratelimit-remaining-requests")),
            429 => {
                assert!(response.headers().contains_key("retry-after"));
                return sent;
            }
            status => panic!("the answer is {status}"),
        }
    }
    panic!("the limit is {at_most} requests a minute, and {} got an answer", at_most + 1);
}

#[test]
fn envoy_accepts_both_stores_and_an_https_provider() {
    for settings in [
        [("STORE", "local"), ("LLM_UPSTREAM", "http://127.0.0.1:8000")],
        [("STORE", "redis"), ("LLM_UPSTREAM", "https://api.openai.com")],
    ] {
        Setup::configured(&settings).validate().unwrap_or_else(|why| panic!("{settings:?}: {why}"));
    }
}

#[test]
fn envoy_accepts_the_configuration_as_a_struct() {
    let mut setup = Setup::configured(&[]);
    let limits = limits(&mut setup);
    setup.filter_struct(&limits).validate().unwrap();
}

#[test]
fn envoy_speaks_tls_to_an_https_provider_under_its_own_name() {
    let mut setup = Setup::configured(&[("LLM_UPSTREAM", "https://api.openai.com")]);
    let cluster = setup.cluster("llm");
    let place = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
    assert_eq!(place["socket_address"], json!({"address": "api.openai.com", "port_value": 443}));
    let tls = &cluster["transport_socket"]["typed_config"];
    assert_eq!((&tls["auto_host_sni"], &tls["auto_sni_san_validation"]), (&json!(true), &json!(true)));
    assert!(Setup::configured(&[]).cluster("llm").get("transport_socket").is_none());
}

#[test]
fn configure_refuses_an_invalid_setting_by_name() {
    for (name, value, complaint) in [
        ("LISTEN", "10000", "LISTEN: expected host:port, found '10000'"),
        ("SIDECAR", "side car:1", "SIDECAR: expected a host name or IPv4 address, found 'side car'"),
        ("ADMIN", "localhost:x", "ADMIN: expected a port number, found 'x'"),
        (
            "LLM_UPSTREAM",
            "api.openai.com",
            "LLM_UPSTREAM: expected http://host or https://host, found 'api.openai.com'",
        ),
        (
            "LLM_UPSTREAM",
            "http://a/v1",
            "LLM_UPSTREAM: expected no path, found 'http://a/v1' (clients send the path)",
        ),
        ("STORE", "redis", "AUTH_TOKEN: expected letters, digits and ._~+/=- only"),
        ("STORE", "memory", "STORE: expected local or redis, found 'memory'"),
        (
            "DISCOVERY",
            "/run/filter.yaml",
            "DISCOVERY: expected neither STORE nor FILTER, which /run/filter.yaml has",
        ),
    ] {
        let script = wasm::root().join("envoy/configure.sh");
        let output = Command::new("sh")
            .arg(script)
            .env("AUTH_TOKEN", "an \"odd\" one")
            .env("FILTER", "a.wasm")
            .env(name, value)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap().trim(), format!("configure.sh: {complaint}"));
        assert!(!output.status.success());
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn envoy_enforces_the_shipped_limits() {
    let upstream = MockLlm::start();
    let envoy = Setup::new(upstream.address()).start();
    assert_eq!(answered_before_429(&envoy.url("/v1/chat/completions"), 3), 3);
    assert_eq!(upstream.report().requests, 3);
}

#[test]
fn envoy_enforces_the_same_limits_as_a_struct() {
    let upstream = MockLlm::start();
    let mut setup = Setup::new(upstream.address());
    let limits = limits(&mut setup);
    let envoy = setup.filter_struct(&limits).start();
    assert_eq!(answered_before_429(&envoy.url("/v1/chat/completions"), 3), 3);
}

#[test]
fn the_configuration_has_the_sidecars_token() {
    let mut setup = Setup::configured(&[("STORE", "redis"), ("AUTH_TOKEN", SHIPPED_TOKEN)]);
    assert_eq!(limits(&mut setup)["store"]["auth_token"], SHIPPED_TOKEN);
    assert!(limits(&mut Setup::configured(&[("STORE", "redis")]))["store"].get("auth_token").is_none());
}
