//! `check`: problems and hints, with their places.

use llm_rate_limit_tests::command::{Run, data, file, path, run, run_with};
use serde_json::json;
use std::fs;
use std::path::Path;

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
