//! `explain`: what becomes of a request, and the windows that it is charged to.

use crate::hierarchy;
use llm_rate_limit::identity::Identity;
use llm_rate_limit_tests::command::{Run, file, path, run, run_with};
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};

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
    assert!(
        other_model
            .contains("\nthis model has no price, so it costs as much as the dearest model in prices\n"),
        "{other_model}"
    );
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
        let sender = "authorization: Bearer a-key";
        let arguments = ["explain", path(&clamped), "--header", sender, "--header", header, "--body", "-"];
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
            "on_limit": "wait", "warn_at": null, "claim": null,
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
