//! What `deploy/` says to the sidecar and to Envoy, run: the sidecar with the settings and probes of its Deployment.
//!
//! No cluster runs here. `tests/kubernetes/check.py` holds the files against the schemas of a cluster.

use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;

/// A file of `deploy/`, which is YAML of one document.
fn shipped(file: &str) -> Value {
    let text = fs::read_to_string(wasm::root().join("deploy").join(file)).unwrap();
    yaml_serde::from_str(&text).unwrap()
}

/// The sidecar's container in its Deployment.
fn container() -> Value {
    shipped("kubernetes/base/deployment.yaml")["spec"]["template"]["spec"]["containers"][0].clone()
}

/// The path that a probe of the container asks.
fn probe(name: &str) -> String {
    container()[name]["httpGet"]["path"].as_str().unwrap().to_owned()
}

#[test]
fn a_pod_is_ready_once_it_has_reached_redis_and_stays_so_without_it() {
    let container = container();
    assert_eq!(container["args"], json!(["sidecar"]));
    let settings: Vec<(&str, &str)> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|setting| setting["name"] != "LISTEN")
        .filter_map(|setting| Some((setting["name"].as_str()?, setting["value"].as_str()?)))
        .collect();
    assert!(settings.contains(&("LOG_FORMAT", "json")));
    let mut redis = Redis::start();
    // Its log is JSON with these settings, and the test reads the address from a log for people.
    let settings: Vec<_> = settings.into_iter().filter(|(name, _)| *name != "LOG_FORMAT").collect();
    let sidecar = Sidecar::start(&redis.url(), &settings);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        sidecar.wait_until_ready_is(200).await;
        assert_eq!(sidecar.get(&probe("startupProbe")).await.0, 200);
        redis.kill();
        sidecar.wait_until_ready_is(503).await;
        assert_eq!(sidecar.get(&probe("startupProbe")).await.0, 503, "a new pod is not ready without Redis");
        assert_eq!(sidecar.get(&probe("readinessProbe")).await.0, 200);
        assert_eq!(sidecar.get(&probe("livenessProbe")).await.0, 200);
    });
}
