//! `count`: what a request is charged, and what it is settled to.

use llm_rate_limit_tests::command::{Run, file, path, run, run_with};
use serde_json::{Value, json};

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
