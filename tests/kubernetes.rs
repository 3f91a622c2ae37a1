//! What `deploy/` says to the sidecar and to Envoy, run: the sidecar with the settings and probes of its Deployment,
//! and the filter in Envoy as each form for Istio and Envoy Gateway configures it.
//!
//! No cluster runs here. The tests do by hand with the files as the control planes and the gateway's agent would, and
//! comments say how. `tests/kubernetes/check.py` holds the files against the schemas of a cluster.

use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use yaml_serde::Deserializer;

/// The token that every shipped file has until somebody chooses another.
const SHIPPED_TOKEN: &str = "change-this-token";

/// The key that every shipped file has, and how many requests a minute it may make.
const SHIPPED_KEY: (&str, usize) = ("demo-key", 20);

/// A file of `deploy/`, which is YAML of one document.
fn shipped(file: &str) -> Value {
    let text = fs::read_to_string(wasm::root().join("deploy").join(file)).unwrap();
    yaml_serde::from_str(&text).unwrap()
}

/// What `kubectl apply -k` sends of a folder of `deploy/`, with components of it.
fn applied(folder: &str, components: &[&str]) -> Vec<Value> {
    let scratch = tempfile::tempdir().unwrap();
    // kustomize takes a relative path only.
    let here = scratch.path().canonicalize().unwrap();
    let deploy = wasm::root().join("deploy").canonicalize().unwrap();
    let up =
        "../".repeat(here.components().count() - 1) + deploy.strip_prefix("/").unwrap().to_str().unwrap();
    let place = |name: &&str| format!("{up}/{name}");
    let components: Vec<String> = components.iter().map(place).collect();
    let overlay = json!({"kind": "Kustomization", "resources": [place(&folder)], "components": components});
    fs::write(here.join("kustomization.yaml"), overlay.to_string()).unwrap();
    let kubectl = wasm::root().join(".tools/venv/bin/kubectl");
    assert!(kubectl.exists(), "no {}; run make setup", kubectl.display());
    let output = Command::new(kubectl).arg("kustomize").arg(here).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// The object of this kind.
fn of_kind(objects: Vec<Value>, kind: &str) -> Value {
    objects.into_iter().find(|object| object["kind"] == kind).unwrap()
}

/// Merges `patch` into `value` as protobuf does: messages by field, lists by appending, all else by replacing.
fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (name, change) in patch {
                merge(value.entry(name).or_insert(Value::Null), change);
            }
        }
        (Value::Array(value), Value::Array(patch)) => value.extend(patch.clone()),
        (value, patch) => *value = patch.clone(),
    }
}

/// The configuration that a proxy of Istio runs with this EnvoyFilter. The agent replaces the module's address with the
/// file that it fetched; the control plane makes a cluster of the sidecar's Service.
fn patched(mut setup: Setup, document: &Value) -> Setup {
    for patch in document["spec"]["configPatches"].as_array().unwrap() {
        let value = &patch["patch"]["value"];
        match patch["applyTo"].as_str().unwrap() {
            "EXTENSION_CONFIG" => *setup.http_filter() = value.clone(),
            "HTTP_FILTER" => {
                let discovered = setup.http_filter();
                assert_eq!(value["name"], discovered["name"], "Envoy discovers a filter by its name");
                let plugin = discovered["typed_config"]["@type"].clone();
                assert_eq!(value["config_discovery"]["type_urls"], json!([plugin]));
            }
            "LISTENER" => merge(&mut setup.config()["static_resources"]["listeners"][0], value),
            "NETWORK_FILTER" => {
                let listener = &mut setup.config()["static_resources"]["listeners"][0];
                merge(&mut listener["filter_chains"][0]["filters"][0], value);
            }
            "CLUSTER" => {
                setup.config()["static_resources"]["clusters"].as_array_mut().unwrap().push(value.clone())
            }
            kind => panic!("this test does not know what Istio does with {kind}"),
        }
    }
    setup.plugin()["vm_config"]["code"] = json!({"local": {"filename": wasm::filter()}});
    with_service(setup)
}

/// Gives the cluster of the sidecar the name that the filter's configuration says, unless there is such a cluster.
fn with_service(mut setup: Setup) -> Setup {
    let store = store(&mut setup);
    let clusters = setup.config()["static_resources"]["clusters"].as_array().unwrap();
    if !clusters.iter().any(|cluster| cluster["name"] == store["cluster"]) {
        setup.cluster("rate-limit-sidecar")["name"] = store["cluster"].clone();
    }
    setup
}

/// The store in the filter's configuration, which is a `Struct` or JSON in a `StringValue`.
fn store(setup: &mut Setup) -> Value {
    let value = setup.plugin()["configuration"]["value"].clone();
    let limits = value.as_str().map_or(value.clone(), |text| serde_json::from_str(text).unwrap());
    limits["store"].clone()
}

/// The configuration that a proxy of Istio runs with a WasmPlugin, or with the `wasm` of a TrafficExtension: the
/// plugin's configuration reaches the filter as JSON text, and nothing allows waiting for a body.
fn plugged(setup: Setup, name: &str, spec: &Value) -> Setup {
    let mut setup = setup.filter(&spec["pluginConfig"]);
    let plugin = setup.plugin();
    plugin["name"] = json!(name);
    plugin["root_id"] = spec["pluginName"].clone();
    plugin["failure_policy"] = spec["failStrategy"].clone();
    plugin["vm_config"].as_object_mut().unwrap().remove("vm_id");
    plugin.as_object_mut().unwrap().remove("allow_on_headers_stop_iteration");
    with_service(setup)
}

/// The gateways that an EnvoyFilter is shipped for.
const GATEWAYS: [&str; 6] =
    ["ingressgateway", "helm-gateway", "gateway-api", "model-server", "egress", "waypoint"];

/// The EnvoyFilter in a folder of `deploy/istio/`, with components.
fn envoy_filter(folder: &str, components: &[&str]) -> Value {
    let components: Vec<String> = components.iter().map(|name| format!("istio/components/{name}")).collect();
    let components: Vec<&str> = components.iter().map(String::as_str).collect();
    of_kind(applied(&format!("istio/{folder}"), &components), "EnvoyFilter")
}

/// What a WasmPlugin and a TrafficExtension make of `setup`, in which headers go first.
fn headers_first_forms(setup: &Setup) -> [Setup; 2] {
    let wasm = of_kind(applied("istio/wasmplugin", &[]), "WasmPlugin");
    let traffic = of_kind(applied("istio/trafficextension", &[]), "TrafficExtension");
    [
        plugged(setup.clone(), "istio-system.llm-rate-limit", &wasm["spec"]),
        plugged(setup.clone(), "models.llm-rate-limit", &traffic["spec"]["wasm"]),
    ]
}

/// The configuration that Envoy Gateway's proxy runs: the policy's filter, disabled but on the routes that it is for;
/// the cluster that the bootstrap gets; and what a patch adds to the filter, which it finds by its name.
fn gateway(setup: Setup, objects: &[Value]) -> Setup {
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind);
    let policy = of_kind("EnvoyExtensionPolicy").unwrap();
    let [extension] = &policy["spec"]["wasm"].as_array().unwrap()[..] else {
        panic!("the policy has one filter")
    };
    let (namespace, name) = (&policy["metadata"]["namespace"], &policy["metadata"]["name"]);
    let (namespace, name) = (namespace.as_str().unwrap(), name.as_str().unwrap());
    let resource = format!("envoyextensionpolicy/{namespace}/{name}/wasm/0");
    let mut setup = setup.filter(&extension["config"]);
    let plugin = setup.plugin().as_object_mut().unwrap();
    plugin.remove("allow_on_headers_stop_iteration");
    plugin.remove("failure_policy");
    plugin["vm_config"]["vm_id"] = json!(resource);
    plugin.insert("root_id".to_owned(), extension["rootID"].clone());
    plugin.insert("fail_open".to_owned(), extension["failOpen"].clone());
    if let Some(patches) = of_kind("EnvoyPatchPolicy") {
        for patch in patches["spec"]["jsonPatches"].as_array().unwrap() {
            let operation = &patch["operation"];
            let place = format!(
                "..http_filters[?(@.name=='envoy.filters.http.wasm/{resource}')].typed_config.config"
            );
            assert_eq!((&operation["op"], &operation["jsonPath"]), (&json!("add"), &json!(place)));
            let field = operation["path"].as_str().unwrap().trim_start_matches('/');
            plugin.insert(field.to_owned(), operation["value"].clone());
        }
    }
    setup.http_filter()["disabled"] = json!(true);
    let listener = &mut setup.config()["static_resources"]["listeners"][0];
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"] = json!({
        "llm-rate-limit": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}},
    });
    let [patch] = &of_kind("EnvoyProxy").unwrap()["spec"]["bootstrap"]["jsonPatches"].as_array().unwrap()[..]
    else {
        panic!("the bootstrap has one patch");
    };
    assert_eq!((&patch["op"], &patch["path"]), (&json!("add"), &json!("/static_resources/clusters/-")));
    *setup.cluster("rate-limit-sidecar") = patch["value"].clone();
    setup
}

/// Redis and a sidecar that uses it, with the token of the shipped files.
fn redis_and_sidecar() -> (Redis, Sidecar) {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[("AUTH_TOKEN", SHIPPED_TOKEN)]);
    tokio::runtime::Runtime::new().unwrap().block_on(sidecar.wait_until_ready_is(200));
    (redis, sidecar)
}

/// Starts Envoy in front of the sidecar.
fn start(mut setup: Setup, sidecar: &Sidecar) -> Envoy {
    let cluster = store(&mut setup)["cluster"].as_str().unwrap().to_owned();
    setup.sidecar_of(&cluster, sidecar.address().parse().unwrap()).start()
}

/// Sends requests with the shipped key until one is refused, and returns the number of answers before.
fn answered_before_429(envoy: &Envoy, body: &str) -> usize {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let (key, limit) = SHIPPED_KEY;
    for sent in 0..=limit {
        let request =
            agent.post(envoy.url("/v1/chat/completions")).header("authorization", format!("Bearer {key}"));
        match request.send(body).unwrap().status().as_u16() {
            200 => {}
            429 => return sent,
            status => panic!("the answer is {status}:\n{}", envoy.log()),
        }
    }
    panic!("the limit is {limit} requests a minute, and one more got an answer");
}

/// A chat of `size` bytes of a text that one token stands for much of.
fn chat(size: usize) -> String {
    let content = " ".repeat(size);
    json!({"model": "gpt-4o", "max_tokens": 1, "messages": [{"role": "user", "content": content}]})
        .to_string()
}

/// The container of the sidecar in its Deployment.
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
    let mut redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[("AUTH_TOKEN", SHIPPED_TOKEN)]);
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

/// So that Envoy need not run each.
#[test]
fn the_forms_differ_in_nothing_that_the_filter_sees() {
    let setup = Setup::configured(&[]);
    let mut first = patched(setup.clone(), &envoy_filter("base", &[]));
    for folder in GATEWAYS {
        let mut form = patched(setup.clone(), &envoy_filter(folder, &[]));
        assert_eq!(form.config(), first.config(), "{folder}");
    }
    let [mut wasm, mut traffic] = headers_first_forms(&setup);
    wasm.plugin()["name"] = traffic.plugin()["name"].clone();
    assert_eq!(wasm.config(), traffic.config());
}

#[test]
fn every_form_has_the_sidecars_token() {
    let setup = Setup::configured(&[]);
    let [wasm, traffic] = headers_first_forms(&setup);
    let beside = patched(setup.clone(), &envoy_filter("ingressgateway", &["beside"]));
    for mut form in [patched(setup, &envoy_filter("base", &[])), beside, wasm, traffic] {
        assert_eq!(store(&mut form)["auth_token"], SHIPPED_TOKEN);
    }
    let secret = of_kind(applied("kubernetes/overlays/trial", &[]), "Secret");
    // The Secret's data is base64, of which this is the token's.
    assert_eq!(secret["data"]["AUTH_TOKEN"], "Y2hhbmdlLXRoaXMtdG9rZW4=");
}

#[test]
fn an_envoy_filter_limits_in_redis_and_shows_the_upstream_nothing_of_refusals() {
    let (redis, sidecar) = redis_and_sidecar();
    let upstream = MockLlm::start();
    let form = patched(Setup::new(upstream.address()), &envoy_filter("ingressgateway", &[]));
    let envoy = start(form, &sidecar);
    assert_eq!(answered_before_429(&envoy, &chat(5)), SHIPPED_KEY.1);
    assert!(!redis.ask::<Vec<String>>(&["KEYS", "llmrl:*"]).is_empty(), "the counters are in Redis");
    assert_eq!(upstream.report().requests, u64::try_from(SHIPPED_KEY.1).unwrap());
    assert!(!envoy.log().contains("allow_on_headers_stop_iteration"), "{}", envoy.log());
}

#[test]
fn the_sidecar_beside_the_gateway_is_reached_on_loopback() {
    let (redis, sidecar) = redis_and_sidecar();
    let upstream = MockLlm::start();
    let document = envoy_filter("ingressgateway", &["beside", "local-module"]);
    let mut form = patched(Setup::new(upstream.address()), &document);
    let assignment = &form.cluster("llm-rate-limit-sidecar")["load_assignment"];
    let place = &assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
    assert_eq!(place, &json!({"address": "127.0.0.1", "port_value": 8081}));
    let envoy = start(form, &sidecar);
    assert_eq!(answered_before_429(&envoy, &chat(5)), SHIPPED_KEY.1);
    assert!(!redis.ask::<Vec<String>>(&["KEYS", "llmrl:*"]).is_empty(), "the counters are in Redis");
}

#[test]
fn headers_first_limits_in_redis_from_the_first_request_on() {
    let upstream = MockLlm::start();
    let (redis, sidecar) = redis_and_sidecar();
    let [_, form] = headers_first_forms(&Setup::new(upstream.address()));
    let envoy = start(form, &sidecar);
    assert_eq!(answered_before_429(&envoy, &chat(5)), SHIPPED_KEY.1);
    assert!(!redis.ask::<Vec<String>>(&["KEYS", "llmrl:*"]).is_empty(), "the counters are in Redis");
    // What the filter says where it has to find out by itself, with requests that wait for it.
    assert!(!envoy.log().contains("allow_on_headers_stop_iteration"), "{}", envoy.log());
}

#[test]
fn the_patches_let_large_bodies_in_over_both_versions_of_http() {
    let upstream = MockLlm::start();
    let mut setup = Setup::new(upstream.address());
    let listener = &mut setup.config()["static_resources"]["listeners"][0];
    listener.as_object_mut().unwrap().remove("per_connection_buffer_limit_bytes");
    let manager = listener["filter_chains"][0]["filters"][0]["typed_config"].as_object_mut().unwrap();
    manager.remove("http2_protocol_options");
    let mut form = patched(setup, &envoy_filter("ingressgateway", &[]));
    let listener = form.config()["static_resources"]["listeners"][0].clone();
    let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
    let large = json!(32 << 20);
    assert_eq!(listener["per_connection_buffer_limit_bytes"], large);
    assert_eq!(manager["http2_protocol_options"]["initial_stream_window_size"], large);
    assert_eq!(manager["stat_prefix"], "llm", "what was there is there");
    let (_redis, sidecar) = redis_and_sidecar();
    let envoy = start(form, &sidecar);
    let body = chat(2 << 20);
    let http1 = reqwest::Client::builder().http1_only().build().unwrap();
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for client in [http1, http2] {
            let request = client.post(envoy.url("/v1/chat/completions")).bearer_auth(SHIPPED_KEY.0);
            let response = request.body(body.clone()).send().await.unwrap();
            // The prompt is more than the limit on tokens: what matters is that the filter has read it.
            assert_eq!(response.status(), 429);
        }
    });
}

#[test]
fn the_watched_file_takes_the_place_of_the_object() {
    let document =
        of_kind(applied("istio/ingressgateway", &["istio/components/watched-file"]), "EnvoyFilter");
    let patches = document["spec"]["configPatches"].as_array().unwrap();
    assert!(patches.iter().all(|patch| patch["applyTo"] != "EXTENSION_CONFIG"));
    let mut filter =
        patches.iter().find(|patch| patch["applyTo"] == "HTTP_FILTER").unwrap()["patch"]["value"].clone();
    let folder = tempfile::tempdir().unwrap();
    let built = wasm::filter();
    let file = fs::read_to_string(wasm::root().join("envoy/reload/filter.yaml")).unwrap();
    let file = file.replace("target/wasm32-wasip1/release/llm_rate_limit.wasm", built.to_str().unwrap());
    fs::write(folder.path().join("filter.yaml"), file).unwrap();
    let source = &mut filter["config_discovery"]["config_source"]["path_config_source"];
    let here = Path::new(source["watched_directory"]["path"].as_str().unwrap());
    assert_eq!(source["path"], here.join("filter.yaml").to_str().unwrap());
    source["path"] = json!(folder.path().join("filter.yaml"));
    source["watched_directory"]["path"] = json!(folder.path());
    let upstream = MockLlm::start();
    let mut setup = Setup::new(upstream.address());
    *setup.http_filter() = filter;
    let envoy = setup.start();
    assert_eq!(answered_before_429(&envoy, &chat(5)), 3, "the limit of demo-key in the file");
}

#[test]
fn envoy_gateways_policy_limits_in_redis_on_the_routes_that_it_is_for() {
    let (redis, sidecar) = redis_and_sidecar();
    let upstream = MockLlm::start();
    let mut form = gateway(Setup::new(upstream.address()), &applied("envoy-gateway/with-patch", &[]));
    assert_eq!(form.plugin()["allow_on_headers_stop_iteration"], true);
    assert_eq!(form.plugin()["failure_policy"], "FAIL_RELOAD");
    assert_eq!(store(&mut form)["auth_token"], SHIPPED_TOKEN);
    let envoy = start(form, &sidecar);
    assert_eq!(answered_before_429(&envoy, &chat(5)), SHIPPED_KEY.1);
    assert!(!redis.ask::<Vec<String>>(&["KEYS", "llmrl:*"]).is_empty(), "the counters are in Redis");
    assert_eq!(upstream.report().requests, u64::try_from(SHIPPED_KEY.1).unwrap());
    assert!(!envoy.log().contains("allow_on_headers_stop_iteration"), "{}", envoy.log());
}

#[test]
fn envoy_gateways_policy_sends_headers_first_without_the_patch() {
    let setup = Setup::configured(&[]);
    let form = |folder: &str| {
        let mut setup = gateway(setup.clone(), &applied(folder, &[]));
        let limits = setup.plugin()["configuration"]["value"].take();
        let is_held = setup.plugin().get("allow_on_headers_stop_iteration").is_some();
        (serde_json::from_str::<Value>(limits.as_str().unwrap()).unwrap(), is_held)
    };
    let (mut limits, is_held) = form("envoy-gateway/base");
    assert_eq!(
        (limits.as_object_mut().unwrap().remove("headers_mode"), is_held),
        (Some(json!("headers_first")), false)
    );
    assert_eq!((limits, true), form("envoy-gateway/with-patch"));
}
