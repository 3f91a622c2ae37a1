//! Envoy answers in the upstream's place. Whether the upstream may have worked on the request decides what it costs.

use crate::api::Api;
use crate::caller::{Answer, HELLO_TOKENS};
use crate::gateway::{Gateway, Store, strangers};
use crate::routes::{self, connection_manager};
use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::process::free_port;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};

/// Output tokens that each request reserves.
const RESERVED: u64 = 30;

/// An upstream that reads each request and closes the connection.
fn slams_the_door() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.unwrap().read(&mut [0; 64 << 10]);
        }
    });
    address
}

/// Adds a cluster like the mock's, with one endpoint at `port`, or none.
fn add_cluster(setup: &mut Setup, name: &str, port: Option<u16>) {
    let mut cluster = setup.cluster("llm").clone();
    cluster["name"] = json!(name);
    let endpoint = |port: u16| {
        json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}})
    };
    let endpoints: Vec<Value> = port.map(endpoint).into_iter().collect();
    cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
    setup.config()["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
}

/// A gateway in which the first segment of a path chooses how the request ends.
async fn gateway(store: Store, members: Value) -> Gateway {
    let mut limits = strangers(members);
    limits["store"] = store.configuration();
    Gateway::start_with(store, |setup| {
        let mut setup = setup.filter(&limits);
        add_cluster(&mut setup, "slams", Some(slams_the_door().port()));
        add_cluster(&mut setup, "nobody", Some(free_port()));
        add_cluster(&mut setup, "empty", None);
        add_cluster(&mut setup, "full", Some(slams_the_door().port()));
        let full = setup.cluster("full");
        full["circuit_breakers"] =
            json!({"thresholds": [{"max_connections": 0, "max_pending_requests": 0, "max_requests": 0}]});
        let again = |on: &str| {
            json!({"retry_on": on, "num_retries": 1, "retry_back_off": {"base_interval": "0.01s"}})
        };
        let to = |cluster: &str, members: Value| {
            let mut action = json!({"cluster": cluster, "timeout": "0s"});
            action.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            json!({"route": action})
        };
        let routes = [
            ("late", to("llm", json!({"timeout": "0.5s"}))),
            ("slams", to("slams", json!({}))),
            ("slams-twice", to("slams", json!({"retry_policy": again("reset")}))),
            // The connection manager keeps this limit, and its reply has no flag.
            ("stays-too-long", to("llm", json!({"max_stream_duration": {"max_stream_duration": "0.5s"}}))),
            ("nobody", to("nobody", json!({}))),
            ("nobody-twice", to("nobody", json!({"retry_policy": again("connect-failure")}))),
            ("empty", to("empty", json!({}))),
            ("full", to("full", json!({}))),
            ("no-cluster", json!({"route": {"cluster_header": "x-no-such-header"}})),
            ("direct", json!({"direct_response": {"status": 503}})),
        ];
        let host = &mut connection_manager(&mut setup)["route_config"]["virtual_hosts"][0];
        let mut all: Vec<Value> = routes
            .into_iter()
            .map(|(name, mut route)| {
                route["match"] = json!({"prefix": format!("/{name}/")});
                route
            })
            .collect();
        all.append(host["routes"].as_array_mut().unwrap());
        host["routes"] = all.into();
        setup
    })
    .await
}

async fn ask(gateway: &Gateway, name: &str, streamed: bool) -> Answer {
    let body = if streamed { Api::Chat.streamed_hello(RESERVED, true) } else { Api::Chat.hello(RESERVED) };
    let path = format!("/{name}{}", Api::Chat.path());
    let request = gateway.caller(name).request(Method::POST, &path).json(&body);
    Answer::to(request.header("x-mock-delay-ms", "20000")).await
}

#[rstest]
#[tokio::test]
async fn what_an_upstream_may_have_worked_on_stays_as_reserved(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] streamed: bool,
    #[values(false, true)] refunds_requests: bool,
) {
    let gateway = gateway(store, json!({"refund_requests_on_error": refunds_requests})).await;
    for (name, statuses) in [
        ("late", &[504][..]),
        ("slams", &[503]),
        ("slams-twice", &[503]),
        // The connection manager's reply or the router's: both have a timer, and either may be the first.
        ("stays-too-long", &[408, 504]),
        ("nobody-twice", &[503]),
    ] {
        let status = ask(&gateway, name, streamed).await.status;
        assert!(statuses.contains(&status), "{name}: {status}");
    }
    gateway.at_rest().await;
    for name in ["late", "slams", "slams-twice", "stays-too-long", "nobody-twice"] {
        gateway.charged(name, 1, HELLO_TOKENS, RESERVED).await;
    }
}

#[rstest]
#[tokio::test]
async fn what_was_never_sent_costs_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] refunds_requests: bool,
) {
    let gateway = gateway(store, json!({"refund_requests_on_error": refunds_requests})).await;
    let requests = u64::from(!refunds_requests);
    for (name, status) in
        [("nobody", 503), ("empty", 503), ("full", 503), ("no-cluster", 503), ("direct", 503)]
    {
        assert_eq!(ask(&gateway, name, false).await.status, status, "{name}");
        gateway.charged(name, requests, 0, 0).await;
    }
}

/// The upstream's own error is one, whatever it answered and however often Envoy asked.
#[rstest]
#[tokio::test]
async fn an_upstreams_own_error_costs_no_tokens(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(400, 408, 429, 500, 503, 504)] status: u16,
    #[values("", routes::RETRIED)] prefix: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("envoys-replies-upstream-{status}{prefix}");
    let path = format!("{prefix}{}", Api::Chat.path());
    let request = gateway.caller(&key).request(Method::POST, &path).json(&Api::Chat.hello(RESERVED));
    assert_eq!(Answer::to(request.header("x-mock-status", status)).await.status, status);
    gateway.charged(&key, 1, 0, 0).await;
}
