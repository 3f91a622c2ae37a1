//! Clients and the LLM speak HTTP/2 over TLS, and everybody shows a certificate.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{CHAT, hello};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::tls::Authority;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Command, Output};

const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";

/// Where the example has its certificates.
const FILES: &str = "/etc/envoy/tls/";

fn files(authority: &Authority) -> String {
    format!("{}/", authority.file("").to_str().unwrap().trim_end_matches('/'))
}

/// Adds a provider at this port in front of `mock`: a listener that speaks HTTP/2 over TLS and asks for Envoy's
/// certificate.
fn add_provider(setup: &mut Setup, authority: &Authority, provider: u16, mock: SocketAddr) {
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [{
                "certificate_chain": {"filename": authority.path("server.crt")},
                "private_key": {"filename": authority.path("server.key")},
            }],
            "validation_context": {"trusted_ca": {"filename": authority.path("ca.crt")}},
        },
    });
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "0s"}});
    let manager = json!({
        "@type": format!("{NETWORK}.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "provider",
        "codec_type": "HTTP2",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }}],
        "route_config": {"virtual_hosts": [{"name": "mock", "domains": ["*"], "routes": [route]}]},
    });
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let listener = json!({"name": "provider", "address": address(provider), "filter_chains": [{
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    }]});
    let cluster = json!({"name": "mock", "load_assignment": {"cluster_name": "mock", "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": address(mock.port())}}]},
    ]}});
    let resources = &mut setup.config()["static_resources"];
    resources["listeners"].as_array_mut().unwrap().push(listener);
    resources["clusters"].as_array_mut().unwrap().push(cluster);
}

/// Sends `count` chats at once with curl, over HTTP/2, with more arguments.
fn curl(envoy: &Envoy, authority: &Authority, count: usize, arguments: &[&str]) -> Output {
    let url = format!("https://{}{CHAT}?[1-{count}]", envoy.address());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--http2", "--parallel", "--max-time", "60", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_version} %{response_code}\\n", "--data", &hello().to_string()]);
    curl.args(["--header", "content-type: application/json", "--cacert", &authority.path("ca.crt")]);
    curl.args(arguments).arg(url).output().unwrap()
}

/// How many of the answers have each status; each must be in HTTP/2.
fn statuses(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let (ok, refused) = (text.matches("2 200\n").count(), text.matches("2 429\n").count());
    assert_eq!(ok + refused, text.lines().count(), "{text}");
    json!({"200": ok, "429": refused})
}

#[test]
fn a_certificate_owns_the_limits_and_envoy_shows_its_own() {
    let (mock, authority) = (MockLlm::start(), Authority::create());
    let provider = free_port();
    let place = format!("address: localhost, {}", port(([127, 0, 0, 1], provider).into()));
    let replacements = [("address: llm.example.com, port_value: 443", &*place), (FILES, &files(&authority))];
    let mut setup = example("mtls", &replacements);
    setup.cluster("llm")["dns_lookup_family"] = json!("V4_ONLY");
    add_provider(&mut setup, &authority, provider, mock.address());
    let envoy = setup.start();

    let with = |name: &str| {
        let files = [authority.path(&format!("{name}.crt")), authority.path(&format!("{name}.key"))];
        ["--cert".to_owned(), files[0].clone(), "--key".to_owned(), files[1].clone()]
    };
    let ask = |count: usize, arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        curl(&envoy, &authority, count, &arguments)
    };
    assert_eq!(statuses(&ask(30, &with("client"))), json!({"200": 10, "429": 20}));
    // The certificate counts, not what a client says about it.
    let pretence = ["--header".to_owned(), "x-client-certificate: CN=batch".to_owned()];
    assert_eq!(statuses(&ask(1, &[&with("client")[..], &pretence].concat())), json!({"200": 0, "429": 1}));
    assert_eq!(statuses(&ask(12, &with("server"))), json!({"200": 10, "429": 2}), "another certificate");
    assert_eq!(mock.report().requests, 20);

    assert!(!ask(1, &[]).status.success(), "a client without a certificate has no connection");
    assert!(envoy.stat("cluster.llm.upstream_cx_http2_total").unwrap() > 0);
    assert_eq!(envoy.stat("cluster.llm.upstream_cx_http1_total"), Some(0));
}
