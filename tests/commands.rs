//! The commands of `llm-rate-limit`, by the real binary: their output and their exit status.

use llm_rate_limit::identity::Identity;
use llm_rate_limit::store::wire::{Reserve, ScopeCharges};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::command::{Run, data, file, path, run, run_with};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::NamedTempFile;

#[test]
fn check_accepts_a_good_configuration() {
    for name in ["good/inspect.yaml", "good/nothing_is_limited.json"] {
        let Run { status, out, err } = run(&["check", &data(name)]);
        assert_eq!((status, out, err.as_str()), (0, format!("{}: ok\n", data(name)), ""));
    }
}

#[test]
fn check_hints_at_keys_in_plain_text() {
    let hint = "hint: Envoy's config_dump shows the keys: write each as \"key_sha256\"";
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    for (keys, is_hinted) in [
        (json!([{"key_sha256": digest, "rpm": 1}, {"key": "plain-secret", "rpm": 1}]), true),
        (json!([{"key_sha256": digest, "rpm": 1}]), false),
    ] {
        let config = file(&json!({"keys": keys}));
        let Run { status, out, err } = run(&["check", path(&config)]);
        assert_eq!((status, err.as_str()), (0, ""));
        assert_eq!((out.contains(hint), out.contains("plain-secret")), (is_hinted, false), "{out}");
    }
}

#[test]
fn check_hints_that_every_endpoint_counts() {
    let name = data("good/strangers_are_rejected.json");
    let Run { status, out, err } = run(&["check", &name]);
    assert_eq!((status, err.as_str()), (0, ""));
    let hint = format!(
        "{name}: hint: requests to endpoints that are no LLM's count too: on a gateway that serves other"
    );
    assert!(
        out.starts_with(&format!("{name}: ok\n")) && out.lines().any(|line| line.starts_with(&hint)),
        "{out}"
    );
}

#[test]
fn check_prints_every_problem_with_its_place() {
    let name = data("bad/misfits_and_bad_values.json");
    let Run { status, out, err } = run(&["check", &data("good/nothing_is_limited.json"), &name]);
    assert_eq!((status, err.as_str()), (1, ""));
    let problems = fs::read_to_string(Path::new(&name).with_extension("txt")).unwrap();
    let expected: Vec<_> = problems.lines().map(|problem| format!("{name}: {problem}")).collect();
    let (first, rest) = out.split_once('\n').unwrap();
    assert!(first.ends_with("good/nothing_is_limited.json: ok"), "{first}");
    assert_eq!(rest.lines().collect::<Vec<_>>(), expected);
    assert!(expected.len() > 5);
}

#[test]
fn check_reads_standard_input() {
    let checked = run_with(&["check", "-"], &[], "plans: {pro: {rpm: -1}}");
    let expected = "-: plans.pro.rpm: expected a whole number from 0 to 9007199254740991, found -1\n";
    assert_eq!((checked.status, checked.out.as_str()), (1, expected));
}

#[test]
fn check_reports_a_missing_file() {
    let Run { status, out, err } = run(&["check", "/nowhere.json"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("error: /nowhere.json: No such file"), "{err}");
}

#[test]
fn an_invalid_command_line_exits_with_two() {
    for arguments in [
        &[][..],
        &["check"],
        &["explain"],
        &["usage"],
        &["usage", "--key", "a", "--global"],
        &["reset", "--id", "a", "--group", "b"],
        &["explain", "a", "--key", "b", "--header", "c: d"],
        &["explain", "a", "--header", "b"],
        &["explain", "a", "--key", "b", "--header", "upgrade: websocket", "--header", "x-api-key: d"],
        &["explain", "a", "--method", "a b"],
        &["top", "--limit", "0"],
        &["doctor"],
        &["doctor", "--inspect", "/a"],
        &["completions", "csh"],
        &["usage", "--key", "a", "--scope", "b"],
        &["unknown"],
    ] {
        assert_eq!(run(arguments).status, 2, "{arguments:?}");
    }
}

#[test]
fn without_a_command_it_prints_help() {
    let Run { status, out, err } = run(&[]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("Usage: llm-rate-limit <COMMAND>"), "{err}");
    for command in
        ["sidecar", "check", "explain", "usage", "reset", "top", "doctor", "count", "completions", "man"]
    {
        assert!(err.contains(&format!("\n  {command} ")), "{command}: {err}");
    }
}

#[test]
fn commands_ignore_the_settings_of_the_server() {
    let environment = [("LISTEN", "127.0.0.1:1"), ("REDIS_URL", "redis://nowhere"), ("LOG", "debug")];
    let checked = run_with(&["check", &data("good/example.json")], &environment, "");
    assert_eq!((checked.status, checked.err.as_str()), (0, ""));
}

fn hierarchy() -> NamedTempFile {
    file(&json!({
        "prices": {"gpt-4*": {"input": 2.5, "output": 10}},
        "plans": {"pro": {
            "rpm": 1000, "max_wait_ms": 1500, "models": {"gpt-4*": {"tpm": 5000}},
            "windows": [
                {"metric": "cost_usd", "limit": 12.5, "window": "1mo"},
                {"metric": "requests", "limit": 600, "window": "1h", "algorithm": "token_bucket",
                 "burst": 20, "dry_run": true},
            ],
        }},
        "groups": {"team-a": {"max_concurrency": 8}},
        "keys": [
            {"key": "in-a-group", "name": "demo", "plan": "pro", "group": "team-a"},
            {"key": "free", "unlimited": true},
        ],
        "default": "reject",
        "models": {"gpt-4*": {"rpd": 9}},
        "global": {"rpm": 60000},
    }))
}

#[test]
fn explain_prints_the_windows_of_a_request() {
    let config = hierarchy();
    let explained = run(&["explain", path(&config), "--key", "in-a-group", "--model", "gpt-4o"]);
    let id = Identity::of_key("in-a-group").id().to_string();
    let expected = format!(
        "\"demo\", group \"team-a\", model \"gpt-4o\", id {id}
OWNER                  LIMIT ON             AMOUNT  CAPACITY  WINDOW      ALGORITHM       IF EXCEEDED
this key               requests               1000      1000  1m          sliding_window  waits up to 1.5s
this key               cost in USD            12.5      12.5  1mo         calendar_month  waits up to 1.5s
this key               requests                600        20  1h-bucket   token_bucket    forwarded (dry run)
this key               gpt-4*/total tokens    5000      5000  1m          sliding_window  waits up to 1.5s
group team-a           concurrent requests       8         8  10m-leases  concurrency     refused
model gpt-4*           requests                  9         9  1d          sliding_window  refused
all requests (global)  requests              60000     60000  1m          sliding_window  refused
"
    );
    assert_eq!((explained.status, explained.err.as_str()), (0, ""));
    assert_eq!(explained.out, expected, "{}", explained.out);
}

#[test]
fn explain_reports_unlimited_and_unknown_keys() {
    let config = hierarchy();
    let explain = |arguments: &[&str]| run(&[&["explain", path(&config)], arguments].concat()).out;
    assert_eq!(explain(&["--key", "free"]), "unlimited: nothing is counted\n");
    assert_eq!(explain(&["--key", "a stranger"]), "rejected: answered 401\n");
    assert_eq!(explain(&[]), "rejected: answered 401\n");
    let other_model = explain(&["--key", "in-a-group", "--model", "o3"]);
    assert!(other_model.contains("\nthis model has no price, so it costs nothing\n"), "{other_model}");
    assert!(!other_model.contains("gpt-4*"), "{other_model}");
    assert_eq!(explain(&["--key", "free", "--json"]), "{\n  \"access\": \"unlimited\"\n}\n");
}

#[test]
fn explain_says_what_a_request_may_not_ask_for() {
    let config = json!({"keys": [{
        "key": "a-key", "rpm": 9, "allow_models": ["gpt-4o*"], "max_output_tokens": 100,
    }]});
    let config = file(&config);
    let explain = |arguments: &[&str], body: &str| {
        let explained =
            run_with(&[&["explain", path(&config), "--key", "a-key"], arguments].concat(), &[], body);
        assert_eq!(explained.err, "");
        explained.out
    };
    let refused = "refused: answered 403: The model \"o3\" is not available to this key.\n";
    assert_eq!(explain(&["--model", "o3"], ""), refused);
    assert_eq!(explain(&["--body", "-"], r#"{"model":"o3","messages":[]}"#), refused);
    let json: Value = serde_json::from_str(&explain(&["--model", "o3", "--json"], "")).unwrap();
    assert_eq!(json, json!({"access": "refused", "status": 403, "reason": "model"}));
    let any = explain(&[], "");
    assert!(any.contains("not every model is available to this key"), "{any}");
    assert!(any.contains("an answer may have at most 100 output tokens"), "{any}");
    let large = explain(&["--body", "-"], r#"{"model":"gpt-4o","messages":[],"max_tokens":101}"#);
    assert!(
        large.starts_with("refused: answered 400: The maximum of output tokens is too large: 101."),
        "{large}"
    );
    let clamped =
        file(&json!({"keys": [{"key": "a-key", "rpm": 9, "max_output_tokens": 100, "clamp": true}]}));
    let clamps = |header: &str, body: &str| {
        let arguments = ["explain", path(&clamped), "--key", "a-key", "--header", header, "--body", "-"];
        run_with(&arguments, &[], body).out
    };
    let asks = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":101}"#;
    assert!(clamps("x-any: 1", asks).contains("OWNER"), "{}", clamps("x-any: 1", asks));
    let sealed = clamps("content-digest: sha-256=:AAAA:", asks);
    assert!(sealed.starts_with("refused: answered 400"), "its body cannot be changed: {sealed}");
    let dry = file(&json!({"keys": [{"key": "a-key", "rpm": 9, "max_output_tokens": 100, "dry_run": true}]}));
    let dry = run_with(&["explain", path(&dry), "--key", "a-key", "--body", "-"], &[], asks).out;
    assert!(dry.starts_with("in a dry run, and forwarded: refused: answered 400"), "{dry}");
    let unread = explain(&["--body", "-", "--path", "/v1/chat/completions"], "[[[");
    assert!(unread.contains("refused: answered 403"), "its model is unknown: {unread}");
}

#[test]
fn explain_as_json_names_the_counters() {
    let config = hierarchy();
    let arguments = ["explain", path(&config), "--key", "-", "--json", "--model", "gpt-4o"];
    let explained: Value = serde_json::from_str(&run_with(&arguments, &[], "in-a-group\n").out).unwrap();
    let id = Identity::of_key("in-a-group").id().to_string();
    assert_eq!(explained["access"], "limited");
    assert_eq!((&explained["name"], &explained["group"]), (&json!("demo"), &json!("team-a")));
    assert_eq!((&explained["identity"], &explained["scope"]), (&json!(id), &json!("group-team-a")));
    let windows = explained["windows"].as_array().unwrap();
    assert_eq!(
        windows[2],
        json!({
            "owner": "this key", "name": "requests", "metric": "requests", "limit": 600, "capacity": 20,
            "window": "1h-bucket", "window_ms": 3_600_000, "algorithm": "token_bucket", "max_wait_ms": 1500,
            "warn_at": null,
            "dry_run": true, "counter": format!("llmrl:3::{{group-team-a}}:{id}:requests:1h-bucket"),
        })
    );
    assert_eq!(windows[5]["counter"], "llmrl:3::{model-gpt-4*}:model-gpt-4*:requests:1d");
    assert_eq!(windows.len(), 7);
}

#[test]
fn explain_says_where_new_identities_may_share() {
    let config = file(&json!({
        "store": {"type": "redis", "cluster": "sidecar"},
        "keys": [{"key": "named", "rpm": 5}],
        "default": {"rpm": 5, "max_new_identities_per_second": 20},
    }));
    let explain = |key: &str| run(&["explain", path(&config), "--key", key]).out;
    let line = "if it is new, and 20 others have come in the same second, \"this key\" is \"new-identities\"";
    assert_eq!(explain("a stranger").lines().nth(1), Some(line));
    assert!(!explain("named").contains("new-identities"));
    let json = run(&["explain", path(&config), "--key", "a stranger", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["max_new_identities_per_second"], 20);
}

#[test]
fn explain_says_what_prompts_are_estimated_by() {
    for (estimates, limit, expected) in
        [("learned", "tpm", "learned"), ("learned", "rpm", "rules"), ("rules", "tpm", "rules")]
    {
        let config = file(&json!({"prompt_estimates": estimates, "default": {limit: 5}}));
        let json = run(&["explain", path(&config), "--key", "a", "--json"]).out;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["prompt_estimates"], expected, "{estimates} {limit}");
        let text = run(&["explain", path(&config), "--key", "a"]).out;
        assert_eq!(text.contains("corrected by what earlier answers reported"), expected == "learned");
    }
}

#[test]
fn explain_shows_what_happens_at_a_path() {
    let config = file(&json!({
        "endpoints": {"/v1/files*": "pass", "/admin/*": "reject", "/llm": "responses"},
        "default": {"rpm": 5, "tpm": 6, "models": {"gpt-4o": {"rpd": 7}}},
    }));
    let explain = |path_asked: &str| run(&["explain", path(&config), "--path", path_asked]).out;
    for (asked, first, metrics) in [
        ("/v1/Chat/Completions", "chat_completions", &["requests", "total tokens"][..]),
        ("/llm/", "responses", &["requests", "total tokens"]),
        ("/v1/audio/speech", "count: a request", &["requests", "total tokens"]),
        ("/v1/messages/count_tokens", "a request without tokens", &["requests"]),
        ("/v1/responses/r_1/cancel", "the request costs nothing", &[]),
        ("/v1/files", "pass", &[]),
        ("/admin/x", "reject: answered 403", &[]),
    ] {
        let out = explain(asked);
        assert!(out.starts_with(first), "{asked}: {out}");
        let has = |metric: &&&str| out.contains(&format!(" {metric} "));
        assert_eq!(["requests", "total tokens"].iter().filter(has).count(), metrics.len(), "{asked}: {out}");
    }
    assert!(explain("/openai/deployments/gpt-4o/chat/completions").contains("gpt-4o/requests"));
    let arguments = ["explain", path(&config), "--json", "--path", "/tokenize"];
    let explained: Value = serde_json::from_str(&run(&arguments).out).unwrap();
    assert_eq!(
        (&explained["endpoint"], explained["windows"].as_array().unwrap().len()),
        (&json!("without_tokens"), 1)
    );
}

/// `explain` sorts a request by what the filter sorts it by: method, upgrade, path and body.
#[test]
fn explain_says_what_the_filter_would_do() {
    let config = |more: Value| {
        let mut config = json!({
            "inspect": {"path": "/inspect", "token_sha256": "0".repeat(64)},
            "keys": [
                {"key": "a", "rpm": 5, "tpm": 600, "models": {"gpt-4o": {"rpd": 7}}},
                {"key": "b", "rpm": 5, "dry_run": true},
                {"key": "c", "unlimited": true},
            ],
            "endpoints": {"/closed": "reject"},
            "default": "reject",
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        file(&config)
    };
    let plain = config(json!({}));
    let refuses = config(json!({"on_unreadable": "refuse"}));
    let counts = config(json!({"websocket": "count"}));
    let dry = config(json!({"dry_run": true}));
    let keyed = |key: &str| format!("authorization: {key}");
    let of_key = run(&[
        "explain",
        path(&plain),
        "--key",
        "a",
        "--header",
        "upgrade: websocket",
        "--method",
        "GET",
        "--path",
        "/v1/responses",
    ]);
    assert!(of_key.out.starts_with("refused: answered 426: "), "{}{}", of_key.out, of_key.err);
    let (a, b, c, stranger) = (keyed("a"), keyed("b"), keyed("c"), keyed("x"));
    let upgrade = ["--method", "get", "--header", "upgrade: websocket"];
    let responses = ["--path", "/v1/responses"];
    let with = |parts: &[&[&str]]| parts.concat().iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    for (config, arguments, body, expected) in [
        (
            &plain,
            with(&[&["--header", &a, "--path", "/v1/models", "--method", "GET"]]),
            "",
            "passes: no limit is for its method",
        ),
        (
            &plain,
            with(&[&["--header", &stranger, "--path", "/v1/models", "--method", "GET"]]),
            "",
            "rejected: answered 401",
        ),
        (&plain, with(&[&["--header", &a], &responses, &upgrade]), "", "refused: answered 426: "),
        (
            &plain,
            with(&[&["--header", &b], &responses, &upgrade]),
            "",
            "in a dry run, and forwarded: refused: answered 426",
        ),
        (
            &plain,
            with(&[&["--header", &c], &responses, &upgrade]),
            "",
            "responses\nunlimited: nothing is counted",
        ),
        (
            &counts,
            with(&[&["--header", &a], &responses, &upgrade]),
            "",
            "a connection: one request and one slot",
        ),
        (
            &plain,
            with(&[&["--header", &a, "--path", "/chat"], &upgrade]),
            "",
            "a connection: one request and one slot",
        ),
        (
            &plain,
            with(&[&["--header", &a, "--path", "/inspect"]]),
            "",
            "inspect: the filter answers about itself",
        ),
        (&plain, with(&[&["--header", &a, "--path", "/closed"]]), "", "reject: answered 403"),
        (
            &plain,
            with(&[&["--header", &b, "--path", "/closed"]]),
            "",
            "reject: answered 403\nin a dry run, and forwarded",
        ),
        (&dry, with(&[&["--header", &stranger]]), "", "in a dry run, and forwarded: rejected: answered 401"),
        (
            &plain,
            with(&[&["--header", &a, "--body", "-"]]),
            "[[[",
            "nobody can read its body: it is charged the most",
        ),
        (&refuses, with(&[&["--header", &a, "--body", "-"]]), "[[[", "refused: answered 400: "),
        (&refuses, with(&[&["--header", &b, "--body", "-"]]), "[[[", "no name, any model"),
        (
            &plain,
            with(&[&["--header", &a, "--header", "content-encoding: compress", "--body", "-"]]),
            "{}",
            "refused: answered 415: ",
        ),
    ] {
        let mut all = vec!["explain".to_owned(), path(config).to_owned()];
        all.extend(arguments);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let Run { status, out, err } = run_with(&all, &[], body);
        assert_eq!((status, err.as_str()), (0, ""), "{all:?}");
        assert!(out.starts_with(expected), "{all:?}: {out}");
    }
    let refused = [
        "explain",
        path(&plain),
        "--header",
        &a,
        "--path",
        "/v1/responses",
        "--header",
        "upgrade: websocket",
        "--method",
        "GET",
        "--json",
    ];
    let json: Value = serde_json::from_str(&run(&refused).out).unwrap();
    assert_eq!(
        (&json["access"], &json["status"], &json["reason"]),
        (&json!("refused"), &json!(426), &json!("upgrade"))
    );
    let passes =
        ["explain", path(&plain), "--path", "/v1/models", "--method", "GET", "--header", &a, "--json"];
    let json: Value = serde_json::from_str(&run(&passes).out).unwrap();
    assert_eq!((&json["access"], &json["reason"]), (&json!("passes"), &json!("method")));
}

#[test]
fn explain_finds_the_configuration_in_a_deployment() {
    let explain =
        |name: &str| run(&["explain", wasm::root().join(name).to_str().unwrap(), "--key", "demo-key"]);
    for name in [
        "envoy/envoy.yaml",
        "envoy/reload/filter.yaml",
        "deploy/istio/base/envoyfilter.yaml",
        "deploy/istio/wasmplugin/wasmplugin.yaml",
    ] {
        let Run { status, out, err } = explain(name);
        assert_eq!((status, err.as_str()), (0, ""), "{name}");
        assert!(out.starts_with("\"demo\", any model, id "), "{name}: {out}");
    }
    let none = explain("envoy/compose.yaml");
    assert!(none.status == 1 && none.err.ends_with(": nothing of the filter is in it\n"), "{}", none.err);
}

#[test]
fn explain_refuses_a_bad_configuration() {
    let config = file(&json!({"default": {"rpm": -1}}));
    let Run { status, out, err } = run(&["explain", path(&config)]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("default.rpm: expected a whole number"), "{err}");
}

fn charge(scope: &str, identity: &str, name: &str, limit: u64, cost: u64) -> ScopeCharges {
    ScopeCharges { scope: scope.into(), ..hourly(identity, name, limit, cost) }
}

/// A sidecar that has counted the usage of every kind of owner.
async fn spent(redis: &Redis, settings: &[(&str, &str)]) -> Sidecar {
    let sidecar = Sidecar::start(&redis.url(), settings);
    sidecar.wait_until_ready_is(200).await;
    let alone = Identity::of_key("alone").id().to_string();
    let member = Identity::of_key("in-a-group").id().to_string();
    let charges = [
        charge(&alone, &alone, "requests", 10, 3),
        charge(&alone, &alone, "cost_usd", 12_500_000, 2_250_000),
        charge("group-team-a", &member, "requests", 1000, 4),
        charge("group-team-a", "group-team-a", "total_tokens", 500, 5),
        charge("model-gpt-4*", "model-gpt-4*", "requests", 9, 6),
        charge("global", "global", "requests", 60_000, 7),
    ];
    let token = settings.iter().find(|(name, _)| *name == "AUTH_TOKEN").map(|(_, token)| *token);
    let body = serde_json::to_vec(&[Reserve {
        id: "r".to_owned(),
        charges: charges.to_vec(),
        ..Reserve::default()
    }])
    .unwrap();
    let mut request = sidecar.request(reqwest::Method::POST, "/v1/reserve").body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    assert_eq!(request.send().await.unwrap().status(), 200);
    sidecar
}

/// The columns of a line, without the last, which changes with time.
fn columns(line: &str) -> Vec<&str> {
    let columns: Vec<_> = line.split_whitespace().collect();
    columns[..columns.len() - 1].to_vec()
}

#[tokio::test]
async fn usage_shows_the_counters_of_each_owner() {
    let redis = Redis::start();
    let sidecar = spent(&redis, &[]).await;
    let config = hierarchy();
    let url = format!("http://{}", sidecar.address());
    let used = |owner: &[&str]| {
        let shown = run(&[&["usage", "--json", "--url", &url], owner].concat());
        assert_eq!((shown.status, shown.err.as_str()), (0, ""), "{owner:?}");
        let usage: Value = serde_json::from_str(&shown.out).unwrap();
        usage["windows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|window| window["used"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(used(&["--key", "alone"]), [2_250_000, 3]);
    assert_eq!(used(&["--id", Identity::of_key("alone").id()]), [2_250_000, 3]);
    assert_eq!(used(&["--key", "in-a-group", "--config", path(&config)]), [4]);
    assert_eq!(used(&["--key", "in-a-group"]), [0; 0], "its scope is unknown without the configuration");
    let id = Identity::of_key("in-a-group").id().to_string();
    assert_eq!(used(&["--id", &id, "--scope", "group-team-a"]), [4]);
    assert_eq!(used(&["--group", "team-a"]), [5]);
    assert_eq!(used(&["--model", "gpt-4*"]), [6]);
    assert_eq!(used(&["--global"]), [7]);
    let unlimited = run(&["usage", "--url", &url, "--key", "free", "--config", path(&config)]);
    assert_eq!(unlimited.err, "error: this key is unlimited: its requests are not counted\n");
    assert_eq!(unlimited.status, 1);
}

/// A key that the configuration does not name is no unlimited one: what becomes of it is what the filter does.
#[test]
fn usage_says_what_becomes_of_a_key_that_nobody_has_named() {
    let usage = |config: Value, owner: [&str; 2]| {
        let config = file(&config);
        let arguments =
            ["usage", "--config", path(&config), owner[0], owner[1], "--sidecar", "http://127.0.0.1:1"];
        run(&arguments).err
    };
    let key = |config: Value| usage(config, ["--key", "a-typo"]);
    let named = json!([{"key": "named", "rpm": 5}, {"key": "free", "unlimited": true}]);
    for (config, expected) in [
        (json!({"keys": named}), "does not name this key, and has no \"default\": the requests of others"),
        (
            json!({"keys": named, "default": "reject"}),
            "does not name this key, and rejects those that it does not name (401)",
        ),
        (
            json!({"keys": named, "default": "unlimited"}),
            "does not name this key, and \"default\" exempts those",
        ),
    ] {
        let said = key(config.clone());
        assert!(said.contains(expected) && said.ends_with(": check its spelling\n"), "{config}: {said}");
    }
}

#[tokio::test]
async fn usage_and_reset_print_tables() {
    let redis = Redis::start();
    let sidecar = spent(&redis, &[("AUTH_TOKEN", "token")]).await;
    let url = format!("http://{}", sidecar.address());
    let environment = [("SIDECAR_URL", url.as_str()), ("AUTH_TOKEN", "token")];
    let run = |command| run_with(&[command, "--key", "-"], &environment, "alone\n").out;
    let shown = run("usage");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
        "LIMIT ON WINDOW USED LIMIT REMAINING RESET"
    );
    assert_eq!(columns(lines[1]), ["cost_usd", "1h", "$2.25", "$12.5", "$10.25"]);
    assert_eq!(columns(lines[2]), ["requests", "1h", "3", "10", "7"]);
    assert!(lines[2].ends_with('s'), "the time until it is empty: {}", lines[2]);
    let reset = run("reset");
    assert_eq!(reset.lines().next(), Some("reset; usage before the reset:"));
    assert_eq!(reset.lines().count(), 4);
    assert!(run("usage").starts_with("no usage\nhint: "), "{}", run("usage"));
    assert!(run("reset").starts_with("nothing to reset\nhint: "), "{}", run("reset"));
}

#[tokio::test]
async fn usage_reports_why_the_sidecar_gives_no_answer() {
    let redis = Redis::start();
    let sidecar = spent(&redis, &[("AUTH_TOKEN", "token")]).await;
    let url = format!("http://{}", sidecar.address());
    let err = |arguments: &[&str]| {
        let failed = run(&[&["usage", "--key", "alone"], arguments].concat());
        assert_eq!((failed.status, failed.out.as_str()), (1, ""));
        failed.err
    };
    let refused = err(&["--url", &url]);
    assert!(refused.starts_with("error: the sidecar answered 401: the authorization header"), "{refused}");
    let nobody = err(&["--url", "http://127.0.0.1:1"]);
    assert!(nobody.starts_with("error: cannot reach the sidecar at http://127.0.0.1:1/:"), "{nobody}");
    assert_eq!(err(&["--url", "ftp://a"]), "error: ftp://a: expected http://host:port or unix:/path\n");
}

#[tokio::test]
async fn usage_asks_a_sidecar_on_a_unix_socket() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let sidecar = Sidecar::start_unix(&socket, &redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let url = format!("unix:{}", socket.display());
    let shown = run(&["usage", "--global", "--sidecar", &url]);
    assert_eq!((shown.status, shown.out.lines().next()), (0, Some("no usage")), "{}", shown.err);
}

#[tokio::test]
async fn healthcheck_tells_by_its_status_whether_a_server_is_well() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let check = |arguments: &[&str]| {
        let environment = [("LISTEN", sidecar.address()), ("HTTP_PROXY", "http://127.0.0.1:1")];
        run_with(&[&["healthcheck"], arguments].concat(), &environment, "")
    };
    for arguments in [&[][..], &["--ready"], &[&format!("http://{}/readyz", sidecar.address())]] {
        let Run { status, out, err } = check(arguments);
        assert_eq!((status, out.as_str(), err.as_str()), (0, "200: ok\n", ""), "{arguments:?}");
    }
    redis.kill();
    sidecar.wait_until_ready_is(503).await;
    assert_eq!(check(&[]).status, 0, "the sidecar itself is well");
    let Run { status, out, .. } = check(&["--ready"]);
    assert!(status == 1 && out.starts_with("503: {\"error\":"), "{status} {out}");
    let nobody = run(&["healthcheck", "http://127.0.0.1:1/ready"]);
    assert_eq!((nobody.status, nobody.out.as_str()), (1, ""));
    assert!(nobody.err.starts_with("error: http://127.0.0.1:1/ready: "), "{}", nobody.err);
}

#[test]
fn healthcheck_asks_a_sidecar_on_a_unix_socket() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let _sidecar = Sidecar::start_unix(&socket, &redis.url(), &[]);
    let listen = format!("unix:{}", socket.display());
    assert_eq!(run_with(&["healthcheck"], &[("LISTEN", &listen)], "").out, "200: ok\n");
}

#[test]
fn count_prints_what_a_request_is_charged_and_settled_to() {
    let body = file(&json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello world"}]}));
    let usage = json!({"prompt_tokens": 20, "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 2}, "prompt_tokens_details": {"cached_tokens": 4}});
    let response = file(&json!({"choices": [], "usage": usage}));
    let prices = file(&json!({"prices": {"gpt-4o": {"input": 2.5, "output": 10.0}}}));
    let arguments = ["count", "--path", "/v1/chat/completions", path(&body)];
    let Run { status, out, err } = run(&arguments);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.starts_with("gpt-4o, family gpt-4o, o200k_base\n"), "{out}");
    assert!(!out.contains("price"), "{out}");
    let more = [&arguments[..], &["--response", path(&response), "--config", path(&prices)]].concat();
    let Run { status, out, .. } = run(&more);
    assert_eq!(status, 0);
    for line in ["output reserved", "512", "$0.005143", "reported", "$0.000100"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert_eq!(run(&["count", path(&body)]).status, 2, "it needs a path");
}

#[test]
fn count_learns_from_the_lines_before_if_it_is_to() {
    let line = |identity: &str| {
        let request = json!({"model": "m", "messages": [{"role": "user", "content": " a".repeat(93)}]});
        json!({"path": "/v1/chat/completions", "request": request.to_string(), "identity": identity,
            "response": r#"{"choices":[],"usage":{"prompt_tokens":130,"completion_tokens":3}}"#})
        .to_string()
    };
    let lines: Vec<String> = (0..21).map(|n| line(&(n % 3).to_string())).collect();
    let counts = |arguments: &[&str]| -> Vec<u64> {
        let Run { out, .. } = run_with(arguments, &[], &lines.join("\n"));
        let answers = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        answers.map(|answer| answer["input_tokens"].as_u64().unwrap()).collect()
    };
    assert_eq!(counts(&["count", "--jsonl", "-"]), [100; 21]);
    let learned = counts(&["count", "--jsonl", "-", "--learn"]);
    assert_eq!((&learned[..20], learned[20]), (&[100; 20][..], 130));
}

#[test]
fn count_answers_lines_in_order_and_bad_ones_in_their_places() {
    let request = |words: &str| {
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": words}], "max_tokens": 9})
            .to_string()
    };
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"hello world\"}}]}\n\ndata: [DONE]\n\n";
    let chat = "/v1/chat/completions";
    let lines = [
        json!({"path": chat, "request": request("hello"), "content_type": null, "response": null})
            .to_string(),
        "{\"path\": 7}".to_owned(),
        json!({"path": chat, "request": request("hello world"), "content_type": "text/event-stream",
            "response": stream})
        .to_string(),
    ];
    let Run { status, out, .. } = run_with(&["count", "--jsonl", "-"], &[], &lines.join("\n"));
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((status, answers.len()), (1, 3));
    assert_eq!(
        answers[0],
        json!({"model": "gpt-4o", "family": "gpt-4o", "input_tokens": 8, "output_reserved": 9, "settled": null})
    );
    assert!(answers[1]["error"].is_string(), "{}", answers[1]);
    let settled = json!({"input_tokens": 9, "output_tokens": 2, "cached_input_tokens": 0, "cache_write_tokens": 0,
        "reasoning_tokens": 0, "outcome": "counted"});
    assert_eq!(answers[2]["settled"], settled);
}
