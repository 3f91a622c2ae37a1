//! Routes on which requests end in ways that neither a client nor the mock can cause, each under its own prefix.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::process::free_port;
use serde_json::{Value, json};

/// Envoy gives up after two seconds, by its own clock.
pub const HASTY: &str = "/hasty";

/// Nobody listens.
pub const NOWHERE: &str = "/nowhere";

/// Envoy retries twice if the upstream fails.
pub const RETRIED: &str = "/retried";

/// Envoy talks HTTP/2, which has trailers, to the upstream.
pub const HTTP2: &str = "/http2";

/// A filter after this one answers with 418 in place of the upstream.
pub const ABORTED: &str = "/aborted";

/// Adds all of these routes.
pub fn add(setup: &mut Setup) {
    add_clusters(setup);
    let route = |prefix: &str, cluster: &str, members: Value| {
        let mut action = json!({"cluster": cluster, "timeout": "0s"});
        action.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"match": {"prefix": format!("{prefix}/")}, "route": action})
    };
    let again = json!({"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.01s"}});
    let mut aborted = route(ABORTED, "llm", json!({}));
    aborted["typed_per_filter_config"] = json!({FAULT: {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "abort": {"http_status": 418, "percentage": {"numerator": 100}},
    }});
    let host = &mut connection_manager(setup)["route_config"]["virtual_hosts"][0];
    host["include_request_attempt_count"] = json!(true);
    let mut routes = vec![
        route(HASTY, "llm", json!({"timeout": "2s"})),
        route(NOWHERE, "nowhere", json!({"timeout": "5s"})),
        route(RETRIED, "llm", json!({"retry_policy": again})),
        route(HTTP2, "llm-http2", json!({})),
        aborted,
    ];
    routes.append(host["routes"].as_array_mut().unwrap());
    host["routes"] = routes.into();

    let filters = setup.http_filters().as_array_mut().unwrap();
    let fault = json!({"name": FAULT, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
    }});
    // The router must stay the last.
    filters.insert(filters.len() - 1, fault);
}

const FAULT: &str = "envoy.filters.http.fault";

/// The listener's HTTP connection manager.
pub fn connection_manager(setup: &mut Setup) -> &mut Value {
    &mut setup.config()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

fn add_clusters(setup: &mut Setup) {
    // By default Envoy retries at most three requests at a time.
    setup.cluster("llm")["circuit_breakers"]["thresholds"][0]["max_retries"] = json!(1000);
    let mut nowhere = setup.cluster("llm").clone();
    let mut http2 = nowhere.clone();
    nowhere["name"] = json!("nowhere");
    nowhere["load_assignment"] = json!({
        "cluster_name": "nowhere",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": "127.0.0.1", "port_value": free_port()}
        }}}]}],
    });
    http2["name"] = json!("llm-http2");
    http2["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    });
    let clusters = setup.config()["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters.extend([nowhere, http2]);
}
