//! `explain` and `check` on limits that requests bring.

use llm_rate_limit_tests::command::{Run, file, path, run, run_with};
use serde_json::{Value, json};

fn config() -> Value {
    json!({
        "endpoints": {"*": "pass"},
        "plans": {"free": {"rpm": 3}, "pro": {"rpm": 60}},
        "keys": [{"key": "partner", "plan": {"header": "x-plan", "default": "free"}}],
        "default": {
            "plan": {"metadata": ["jwt", "payload", "tier"], "default": "free"},
            "windows": [{
                "metric": "total_tokens", "window": "1d",
                "limit": {"metadata": ["jwt", "payload", "daily"], "default": 1000, "max": 5000},
            }],
        },
    })
}

#[test]
fn explain_says_what_a_request_brings_and_from_where() {
    let config = file(&config());
    let explain = |arguments: &[&str]| run(&[&["explain", path(&config)], arguments].concat());
    let claims = ["--metadata", "jwt.payload.tier=pro", "--metadata", "jwt.payload.daily=9000"];
    let Run { status, out, err } = explain(&claims);
    assert_eq!((status, err.as_str()), (0, ""));
    for line in [
        "plan \"pro\": by metadata jwt.payload.tier",
        "total tokens in 1d, 5000 of at most 5000: by metadata jwt.payload.daily",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
    assert!(out.lines().any(|line| line.contains("requests") && line.contains(" 60 ")), "{out}");
    let out = explain(&["--header", "x-plan: pro"]).out;
    for line in [
        "plan \"free\": by default, for metadata jwt.payload.tier has none of use",
        "total tokens in 1d, 1000 of at most 5000: by default, for metadata jwt.payload.daily has none of use",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
    let key = explain(&["--header", "authorization: Bearer partner", "--header", "x-plan: pro"]).out;
    assert!(key.contains("plan \"pro\": by header x-plan\n"), "{key}");
    let json: Value = serde_json::from_str(&explain(&[&claims[..], &["--json"]].concat()).out).unwrap();
    assert_eq!(json["plan"], "pro");
    let from = "metadata jwt.payload.tier";
    assert_eq!(json["claims"], json!([{"part": "plan", "value": "pro", "from": from, "is_default": false}]));
    let amount = json!({"from": "metadata jwt.payload.daily", "is_default": false, "max": 5000});
    assert_eq!((&json["windows"][1]["limit"], &json["windows"][1]["claim"]), (&json!(5000), &amount));
}

#[test]
fn check_hints_at_headers_that_decide_on_limits() {
    let hint = "the header \"x-plan\" decides on limits: whatever is in front of the filter must remove it from what \
                clients send";
    let checked = |config: &Value| run_with(&["check", "-"], &[], &config.to_string());
    let Run { status, out, .. } = checked(&config());
    assert!(status == 0 && out.lines().filter(|line| line.contains(hint)).count() == 1, "{out}");
    let mut config = config();
    config["keys"][0]["plan"] = json!("free");
    assert!(!checked(&config).out.contains("decides on limits"));
}
