//! What Prometheus makes of the filter's metrics: the same names and labels under the shipped Envoy configuration and
//! under the bootstrap that Istio writes.

use llm_rate_limit::telemetry::access_log::Field;
use llm_rate_limit::telemetry::series::{FAMILIES, Kind, tags};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::prometheus::Prometheus;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use strum::IntoEnumIterator;

/// The annotations of `deploy/istio/telemetry/gateway.yaml`.
fn annotation(name: &str) -> String {
    let text = fs::read_to_string(wasm::root().join("deploy/istio/telemetry/gateway.yaml")).unwrap();
    let values: Value = yaml_serde::from_str(&text).unwrap();
    values["podAnnotations"][format!("sidecar.istio.io/{name}")].as_str().unwrap().to_owned()
}

/// `stats_config` as Istio's agent writes it for a pod with these annotations
/// (<https://github.com/istio/istio/blob/master/tools/packaging/common/envoy_bootstrap.json>), but for the patterns of
/// statistics that have nothing to do with the filter.
fn istio_stats_config() -> Value {
    let tag = |name: &str, regex: &str| json!({"tag_name": name, "regex": regex});
    let mut stats_tags = vec![
        tag("cluster_name", r"^cluster(\.(.+);)"),
        tag("thread_name", r"^server(\.(.+))\.watchdog"),
        tag("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        tag("response_code", r"_rq(_(\d{3}))$"),
        tag("response_code_class", r"_rq(_(\dxx))$"),
        tag("mongo_prefix", r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"),
    ];
    for extra in annotation("extraStatTags").split(',') {
        stats_tags.push(tag(extra, &format!(r"({extra}=\.=(.*?);\.;)")));
    }
    stats_tags.extend([
        tag("cache", r"(cache\.(.+?)\.)"),
        tag("component", r"(component\.(.+?)\.)"),
        tag("tag", r"(tag\.(.+?);\.)"),
        tag("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
        tag("authz_enforce_result", r"rbac(\.(allowed|denied))"),
        tag("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
        tag("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
    ]);
    let buckets: Value = serde_json::from_str(&annotation("statsHistogramBuckets")).unwrap();
    let setting =
        |(prefix, buckets): (&String, &Value)| json!({"match": {"prefix": prefix}, "buckets": buckets});
    let prefixes = ["reporter=", "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm"];
    let patterns: Vec<Value> = prefixes.iter().map(|prefix| json!({"prefix": prefix})).collect();
    json!({
        "use_all_default_tags": false,
        "stats_tags": stats_tags,
        "histogram_bucket_settings":
            buckets.as_object().unwrap().iter().map(setting).collect::<Vec<_>>(),
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    })
}

/// An Envoy that has served requests of all kinds.
fn envoy(istio: bool, mock: &MockLlm, sidecar: &Sidecar) -> Envoy {
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "namespace": if istio { "a" } else { "b" }},
        "plans": {"free=;": {"rpm": 2, "tpm": 100_000, "warn_at": 1}},
        "groups": {"team-a": {"rpm": 100}},
        "keys": [
            {"key": "key", "name": "Ann", "plan": "free=;", "group": "team-a"},
            {"key": "free", "unlimited": true},
        ],
        "default": "reject",
        "metrics_by_name": true,
    });
    let mut setup = Setup::new(mock.address()).sidecar(sidecar.address().parse().unwrap()).filter(&limits);
    if istio {
        setup.config()["stats_config"] = istio_stats_config();
    }
    let envoy = setup.start();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = json!({"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    for (key, expected) in [("key", 200), ("key", 200), ("key", 429), ("free", 200), ("stranger", 401)] {
        let request = agent.post(envoy.url("/v1/chat/completions")).header("authorization", key);
        let mut answer = request.send(body.to_string()).unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{key}");
        // A client that leaves before the end has another outcome.
        answer.body_mut().read_to_string().unwrap();
    }
    envoy
}

/// The time series of the filter that `job` has, without the labels that Prometheus and the configuration add.
fn series(prometheus: &Prometheus, job: &str) -> BTreeSet<String> {
    let found = prometheus.query(&format!("{{job={job:?},__name__=~\"llm_rate_limit_.*\"}}"));
    let plain = |(mut labels, _): (Value, f64)| {
        let labels = labels.as_object_mut().unwrap();
        labels.retain(|name, _| !["job", "instance", "hash"].contains(&name.as_str()));
        Value::Object(labels.clone()).to_string()
    };
    found.into_iter().map(plain).collect()
}

#[test]
fn prometheus_reads_the_same_from_a_plain_envoy_and_from_istios() {
    let (mock, redis) = (MockLlm::start(), Redis::start());
    let sidecar = Sidecar::start(&redis.url(), &[]);
    tokio::runtime::Runtime::new().unwrap().block_on(sidecar.wait_until_ready_is(200));
    let envoys = [false, true].map(|istio| envoy(istio, &mock, &sidecar));
    let [plain, istio] = envoys.each_ref().map(|envoy| format!("{}/stats/prometheus", envoy.admin_address()));
    let of_sidecar = format!("{}/metrics", sidecar.address());
    let prometheus = Prometheus::start(&[("plain", plain), ("istio", istio), ("sidecar", of_sidecar)]);
    let value = |query: &str| prometheus.query(query).iter().map(|(_, value)| *value).sum::<f64>();
    for (query, expected) in [
        (r#"llm_rate_limit_requests{plan="free__",group="team-a",key_name="Ann",decision="admitted"}"#, 2.0),
        (
            r#"llm_rate_limit_requests{plan="free__",group="team-a",key_name="Ann",decision="over_limit"}"#,
            1.0,
        ),
        (r#"llm_rate_limit_requests{plan="",decision="unknown_identity"}"#, 1.0),
        (r#"llm_rate_limit_refusals{owner="key",metric="requests",window="1m"}"#, 1.0),
        (r#"llm_rate_limit_not_limited{reason="unlimited_key"}"#, 1.0),
        (r#"llm_rate_limit_tokens{kind="output",family="gpt-4o"}"#, 10.0),
        (r#"llm_rate_limit_settled{outcome="reported"}"#, 2.0),
        ("llm_rate_limit_store_up", 2.0),
        ("llm_rate_limit_config_info", 2.0),
        (r#"llm_rate_limit_request_tokens_bucket{kind="output",le="10"}"#, 2.0),
    ] {
        for job in ["plain", "istio"] {
            let query = format!("sum by (job) ({query} and on (job, instance) up{{job={job:?}}})");
            let seen = |_: &Prometheus| (value(&query) - expected).abs() < f64::EPSILON;
            prometheus.wait_until(&format!("{query} {expected}"), seen);
        }
    }
    prometheus.wait_until("the sidecar", |_| value("process_open_fds{job=\"sidecar\"}") > 0.0);
    let (mut plain, mut istio) = (BTreeSet::new(), BTreeSet::new());
    prometheus.wait_until("the same time series", |prometheus| {
        (plain, istio) = (series(prometheus, "plain"), series(prometheus, "istio"));
        plain == istio
    });
    for family in FAMILIES {
        let suffix = if family.kind == Kind::Histogram { "_bucket" } else { "" };
        let name = format!("\"__name__\":\"llm_rate_limit_{}{suffix}\"", family.name);
        let is_rare = ["continued", "dry_run_requests", "wait_ms"].contains(&family.name);
        assert!(is_rare || plain.iter().any(|series| series.contains(&name)), "{name}: {plain:?}");
    }
    assert!(plain.iter().all(|series| !series.contains("=.=")), "{plain:?}");
    every_shipped_query_has_an_answer(&prometheus);
}

/// The dashboard's queries find something in what a gateway and a sidecar show, and Prometheus reads those of alerts.
fn every_shipped_query_has_an_answer(prometheus: &Prometheus) {
    let read = |name: &str| fs::read_to_string(wasm::root().join("deploy/observability").join(name)).unwrap();
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut queries = Vec::new();
    collect("expr", &dashboard, &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    for query in queries {
        // A window that holds several scrapes, of one a second.
        let query = query.replace("$__rate_interval", "20s");
        prometheus.wait_until(&query, |prometheus| !prometheus.query(&query).is_empty());
    }
    let alerts: Value = yaml_serde::from_str(&read("alerts.yaml")).unwrap();
    let mut queries = Vec::new();
    collect("expr", &alerts, &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    queries.iter().for_each(|query| drop(prometheus.query(query)));
}

/// All texts that members called `name` have.
fn collect(name: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == name => found.push(text.clone()),
                    _ => collect(name, member, found),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect(name, element, found)),
        _ => {}
    }
}

/// The output of a command that must succeed, in `deploy/observability`.
fn succeeds(program: &str, arguments: &[&str]) {
    let root = wasm::root();
    let mut command = Command::new(root.join(".tools").join(program));
    let output = command.args(arguments).current_dir(root.join("deploy/observability")).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn alerts_fire_by_what_they_are_about() {
    succeeds("promtool", &["check", "rules", "alerts.yaml"]);
    succeeds("promtool", &["test", "rules", "alerts_test.yaml"]);
}

#[test]
fn the_dashboard_is_what_its_program_writes() {
    succeeds("venv/bin/python", &["dashboard.py", "--check"]);
}

/// Each alert says what to do about it.
#[test]
fn every_alert_has_its_place_in_the_runbook() {
    let alerts = fs::read_to_string(wasm::root().join("deploy/observability/alerts.yaml")).unwrap();
    let page = fs::read_to_string(wasm::root().join("docs/operations.md")).unwrap();
    let slug = |heading: &str| heading.to_lowercase().replace(' ', "-").replace([',', '\'', '.'], "");
    let headings: BTreeSet<String> =
        page.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ')).map(slug).collect();
    let alerts: Value = yaml_serde::from_str(&alerts).unwrap();
    let mut places = Vec::new();
    collect("runbook", &alerts, &mut places);
    assert!(places.len() > 10);
    for place in places {
        let anchor = place.strip_prefix("docs/operations.md#").unwrap();
        assert!(headings.contains(anchor), "docs/operations.md has no {anchor}");
    }
}

/// Both shipped files name every label.
#[test]
fn the_shipped_files_have_the_tag_of_every_label() {
    assert_eq!(annotation("extraStatTags").split(',').collect::<Vec<_>>(), tags());
    let mesh = fs::read_to_string(wasm::root().join("deploy/istio/telemetry/mesh.yaml")).unwrap();
    let mesh: Value = yaml_serde::from_str(&mesh).unwrap();
    let mesh = &mesh["meshConfig"];
    let listed = mesh["defaultConfig"]["extraStatTags"].as_array().unwrap().iter();
    assert_eq!(
        listed.map(|tag| tag.as_str().unwrap()).collect::<BTreeSet<_>>(),
        tags().into_iter().collect::<BTreeSet<_>>()
    );
    let labels = &mesh["extensionProviders"][0]["envoyFileAccessLog"]["logFormat"]["labels"];
    for field in Field::iter() {
        let name = field.name();
        assert_eq!(
            labels[name.trim_start_matches("llm_rate_limit.")],
            format!("%FILTER_STATE(wasm.{name}:PLAIN)%")
        );
    }
    let config = Setup::configured(&[]).config().clone();
    let found: Vec<_> = config["stats_config"]["stats_tags"].as_array().unwrap().iter().collect();
    let expected: Vec<_> = tags()
        .iter()
        .map(|tag| json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")}))
        .collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
    let of_envoy = &config["stats_config"]["histogram_bucket_settings"];
    assert_eq!(of_envoy, &istio_stats_config()["histogram_bucket_settings"]);
}
