//! The commands of `llm-rate-limit`, by the real binary: their output and their exit status.

mod check;
mod claims;
mod count;
mod counters;
mod explain;
mod grants;
mod healthcheck;

use llm_rate_limit_tests::command::{Run, data, file, run, run_with};
use serde_json::json;
use tempfile::NamedTempFile;

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
        &["grant", "--key", "a", "--limit", "rpm", "--by", "b"],
        &["grant", "--key", "a", "--limit", "rpm", "--by", "b", "--add", "1", "--revoke"],
        &["refund", "--key", "a", "--limit", "rpm", "--by", "b"],
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
    for command in [
        "sidecar",
        "check",
        "explain",
        "usage",
        "reset",
        "grant",
        "refund",
        "grants",
        "top",
        "doctor",
        "count",
        "completions",
        "man",
    ] {
        assert!(err.contains(&format!("\n  {command} ")), "{command}: {err}");
    }
}

#[test]
fn commands_ignore_the_settings_of_the_server() {
    let environment = [("LISTEN", "127.0.0.1:1"), ("REDIS_URL", "redis://nowhere"), ("LOG", "debug")];
    let checked = run_with(&["check", &data("good/example.json")], &environment, "");
    assert_eq!((checked.status, checked.err.as_str()), (0, ""));
}

/// A configuration with owners of every kind.
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
