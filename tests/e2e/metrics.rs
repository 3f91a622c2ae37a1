//! The metrics and the access log that an operator finds in Envoy, after requests with known numbers.

use crate::caller::{Answer, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use llm_rate_limit::telemetry::access_log::{Field, MAX_FIELDS};
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use strum::IntoEnumIterator as _;

#[rstest]
#[tokio::test]
async fn every_request_is_in_the_metrics(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "plans": {"a=b;c": {"rpm": 4, "input_tpm": 100_000, "output_tpm": 100_000}},
        "groups": {"team-a": {"rpm": 1000}},
        "keys": [
            {"key": "counted", "name": "Ann", "plan": "a=b;c", "group": "team-a"},
            {"key": "free", "unlimited": true},
        ],
        "default": "reject",
        "metrics_by_name": true,
    });
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("counted");
    let answered = caller.chat(&hello()).header("x-mock-prompt-tokens", "30");
    assert_eq!(Answer::to(answered).await.status, 200);
    let streamed = caller.chat(&hello_with(json!({"stream": true}))).header("x-mock-completion-tokens", "5");
    let streamed = streamed.header("x-mock-no-usage", "1");
    assert_eq!(Answer::to(streamed).await.status, 200);
    let failed = caller.chat(&hello()).header("x-mock-status", "500");
    assert_eq!(Answer::to(failed).await.status, 500);
    assert_eq!(caller.too_large().await.status, 429);
    assert_eq!(caller.too_large().await.status, 429);
    assert_eq!(gateway.caller("unknown").hello().await.status, 401);
    assert_eq!(gateway.caller("free").hello().await.status, 200);

    let workers = u64::from(store == Store::Redis);
    let sender = [("plan", "a_b_c"), ("group", "team-a"), ("key_name", "Ann")];
    let of_sender = |decision| [&sender[..], &[("decision", decision)]].concat();
    let gpt_4o = |kind| vec![("kind", kind), ("family", "gpt-4o")];
    let refused = vec![("owner", "key"), ("metric", "output_tokens"), ("window", "1m")];
    for (family, labels, value) in [
        ("requests", of_sender("admitted"), 3),
        ("requests", of_sender("over_limit"), 2),
        ("requests", vec![("decision", "unknown_identity")], 1),
        ("requests", vec![("decision", "not_limited")], 1),
        ("not_limited", vec![("reason", "unlimited_key")], 1),
        ("refusals", refused, 2),
        ("settled", vec![("outcome", "reported")], 1),
        ("settled", vec![("outcome", "counted")], 1),
        ("settled", vec![("outcome", "failed")], 1),
        ("tokens", gpt_4o("input"), 30 + HELLO_TOKENS),
        ("tokens", gpt_4o("output"), 16 + 5),
        // Three prompts and answers, of which one failed.
        ("estimated_tokens", gpt_4o("input"), 3 * HELLO_TOKENS),
        ("estimated_tokens", gpt_4o("output"), 3 * 512),
        ("estimate_error_tokens", vec![("direction", "under"), ("family", "gpt-4o")], 30 - HELLO_TOKENS),
        ("request_tokens_count", vec![("kind", "input")], 2),
        ("stream_usage_refused", vec![], 0),
        ("store_errors", vec![], 0),
        ("decided_locally", vec![], 0),
        ("settlements_dropped", vec![], 0),
        ("store_up", vec![], workers),
        ("workers_without_store", vec![], 0),
        ("waiting", vec![], 0),
        ("contexts", vec![], 0),
        ("config_info", vec![], 1),
    ] {
        let what = format!("{family} {labels:?}");
        eventually(&what, value, async || gateway.envoy.metric(family, &labels)).await;
    }
    if store == Store::Redis {
        for family in ["callout_ms_count", "batch_size_count"] {
            for call in ["reserve", "settle"] {
                assert!(gateway.envoy.metric(family, &[("call", call)]) > 0, "{family} {call}");
            }
        }
    }
    let old = ["admitted", "over_limit", "input_tokens", "reserved_tokens.gpt-4o", "store_errors_allowed"];
    for name in old {
        assert_eq!(gateway.envoy.stat(&format!("wasmcustom.llm_rate_limit.{name}")), None);
    }
}

/// The gauge of an old configuration goes to 0, and those of requests follow them.
#[tokio::test]
async fn gauges_show_the_configuration_in_force_and_the_requests_under_way() {
    let config = |rpm: u64| json!({"default": {"rpm": rpm}});
    let mut gateway =
        Gateway::start_with(Store::Local, |setup| setup.concurrency(2).reloadable().filter(&config(5))).await;
    let hash = |envoy: &llm_rate_limit_tests::envoy::Envoy| {
        let text = envoy.admin("/stats/prometheus?filter=config_info");
        let lines = text.lines().filter_map(|line| line.strip_prefix("llm_rate_limit_config_info{hash=\""));
        let mut all: Vec<_> = lines.map(|line| line.replace('"', "")).collect();
        all.sort();
        all
    };
    let in_force = |config: &Value| llm_rate_limit::config::Fingerprint::of(config.to_string().as_bytes());
    let first = in_force(&config(5));
    eventually("the first", vec![format!("{first}}} 2")], async || hash(&gateway.envoy)).await;
    let caller = gateway.caller("anybody");
    let running = caller.chat(&hello_with(json!({"stream": true}))).header("x-mock-gate", "running");
    let running = tokio::spawn(Answer::to(running));
    eventually("a request", 1, async || gateway.envoy.metric("contexts", &[])).await;
    gateway.envoy.reload(&config(6).to_string()).unwrap();
    let second = in_force(&config(6));
    let mut both = vec![format!("{first}}} 0"), format!("{second}}} 2")];
    both.sort();
    eventually("the second", both, async || hash(&gateway.envoy)).await;
    assert_eq!(gateway.envoy.metric("contexts", &[]), 1, "it is still under way");
    gateway.mock.let_through("running", 100);
    running.await.unwrap();
    eventually("no request", 0, async || gateway.envoy.metric("contexts", &[])).await;
}

/// The shipped format of the access log names every field, and Envoy prints those that a request has.
#[rstest]
#[tokio::test]
async fn the_access_log_shows_every_field(#[values("json_format", "text_format")] form: &str) {
    let limits = json!({
        "plans": {"pro": {"input_tpm": 10_000, "max_concurrency": 5}},
        "groups": {"team-a": {"output_tpm": 600}},
        "keys": [{"key": "Ann's", "name": "Ann", "plan": "pro", "group": "team-a"}],
        "default": "reject",
        "prices": {"gpt-4o": {"input": 2.5, "output": 10.0}},
    });
    let gateway = Gateway::start_with(Store::Local, |setup| formatted(setup.filter(&limits), form)).await;
    let caller = gateway.caller("Ann's");
    let used = json!({"prompt_tokens": 9, "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 1}});
    let answer = json!({"model": "gpt-4o", "choices": [], "usage": used});
    gateway.mock.give("usage", "application/json", answer.to_string()).await;
    let answered = caller.chat(&hello()).header("x-mock-answer", "usage");
    assert_eq!(Answer::to(answered).await.status, 200);
    assert_eq!(caller.hello().await.status, 200);
    assert_eq!(Answer::to(caller.chat(&hello_with(json!({"max_tokens": 599})))).await.status, 429);
    let lines = async || lines(&gateway.envoy.log(), form);
    eventually("lines", 3, async || lines().await.len()).await;
    let lines = lines().await;
    let field = |line: usize, name: &str| lines[line].get(name).cloned();
    let is = |line, name: &str, value: &str| assert_eq!(field(line, name), Some(value.to_owned()), "{name}");
    for (name, value) in [
        ("decision", "admitted"),
        ("name", "Ann"),
        ("plan", "pro"),
        ("group", "team-a"),
        ("model", "gpt-4o"),
        ("store", "local"),
        ("outcome", "reported"),
        ("input_tokens", "9"),
        ("output_tokens", "4"),
        ("cost_usd", "0.000063"),
        ("cached_input_tokens", "2"),
        ("reasoning_tokens", "1"),
    ] {
        is(0, name, value);
    }
    for (name, value) in [
        ("decision", "over_limit"),
        ("reason", "used_up"),
        ("limit", "group team-a/output_tokens/1m"),
        ("limit_amount", "600"),
        ("estimated_input_tokens", &HELLO_TOKENS.to_string()),
        ("reserved_output_tokens", "599"),
    ] {
        is(2, name, value);
    }
    let known: BTreeSet<String> =
        Field::iter().map(|field| field.name().replace("llm_rate_limit.", "")).collect();
    for line in &lines {
        let written = line.keys().filter(|name| known.contains(*name)).count();
        assert!(written <= MAX_FIELDS, "{line:?}");
    }
}

/// The gateway's access log in a form of the shipped format.
fn formatted(
    mut setup: llm_rate_limit_tests::envoy::Setup,
    form: &str,
) -> llm_rate_limit_tests::envoy::Setup {
    let manager = &mut setup.config()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
        ["typed_config"];
    let format = &mut manager["access_log"][0]["typed_config"]["log_format"];
    let printed = format["json_format"].to_string();
    for field in Field::iter() {
        let name = field.name().replace("llm_rate_limit.", "");
        assert_eq!(format["json_format"][&name], format!("%FILTER_STATE(wasm.{}:PLAIN)%", field.name()));
        assert_eq!(printed.matches(&format!("wasm.{}:PLAIN", field.name())).count(), 1);
    }
    if form == "text_format" {
        let page = std::fs::read_to_string(llm_rate_limit_tests::wasm::root().join("docs/observability.md"));
        let page = page.unwrap();
        let text = page.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
        let text = text.replace('\n', " ").trim().to_owned() + "\n";
        for field in Field::iter() {
            let name = field.name().replace("llm_rate_limit.", "");
            let printed = format!("{name}=\"%FILTER_STATE(wasm.{}:PLAIN)%\"", field.name());
            assert!(text.contains(&printed), "{printed}");
        }
        *format = json!({"text_format_source": {"inline_string": text}});
    }
    setup
}

/// The name and the value of ` name="value"`.
fn field<'l>(pair: &[&'l str]) -> Option<(&'l str, &'l str)> {
    Some((pair[0].trim().strip_suffix('=')?.rsplit(' ').next()?, pair[1]))
}

/// The lines of the access log as fields; `-` in a text stands for none.
fn lines(log: &str, form: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let of_json = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = line.as_object()?.iter();
        Some(fields.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect())
    };
    let of_text = |line: &str| {
        let parts: Vec<&str> = line.split('"').collect();
        let fields = parts.chunks_exact(2).filter_map(field);
        let fields = fields.filter(|(_, value)| *value != "-");
        Some(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    };
    match form {
        "json_format" => log.lines().filter(|line| line.starts_with('{')).filter_map(of_json).collect(),
        _ => log.lines().filter(|line| line.contains(" decision=\"")).filter_map(of_text).collect(),
    }
}
