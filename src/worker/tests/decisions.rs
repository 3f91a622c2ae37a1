//! However a request ends, its line in the access log has a decision, and so has the metric of requests.

use super::*;

/// A large body, which is read in steps.
fn large() -> Vec<u8> {
    let text = "word ".repeat(40_000);
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}).to_string().into_bytes()
}

/// The decision and the reason in the line of `stream`, which has been written.
fn decided(worker: &mut Driver<'_>, stream: u32) -> (String, String) {
    let line = worker.take_written(stream);
    let value = |of: Field| {
        line.iter().find(|(field, _)| *field == of).map_or_else(String::new, |(_, value)| value.clone())
    };
    (value(Field::Decision), value(Field::Reason))
}

/// Fails unless the one request of `worker` was decided so, in its line and in the metrics.
fn assert_decided(worker: &mut Driver<'_>, stream: u32, decision: &str, reason: &str) {
    let found = decided(worker, stream);
    assert_eq!((found.0.as_str(), found.1.as_str()), (decision, reason));
    let metrics = worker.take_metrics();
    let requests: Vec<_> = metrics.iter().filter(|(name, _)| name.ends_with(";.;requests")).collect();
    let expected = format!("decision=.={decision};.;requests");
    assert!(requests.len() == 1 && requests[0].0.ends_with(&expected), "{decision}: {metrics:?}");
    let of_reason = format!("llm_rate_limit.reason=.={reason};.;not_limited");
    assert_eq!(metrics.contains(&(of_reason, 1)), decision == "not_limited", "{metrics:?}");
}

#[test]
fn a_client_that_leaves_before_a_decision_has_one() {
    let tokens = json!({"tpm": 1_000_000});
    let [memory_a, memory_b, memory_c] = [Memory::default(), Memory::default(), Memory::default()];
    // Before its body has come.
    let mut local = worker(&memory_a, &local(tokens.clone()));
    local.request_headers(1, &chat(), false, NOW);
    local.stream_done(1, NOW);
    assert_decided(&mut local, 1, "not_limited", "client_left");
    // While its body is read.
    local.request_headers(2, &chat(), false, NOW);
    let body = large();
    // There is no time for a step: the clock goes on.
    let late = Cell::new(NOW);
    let clock = || Millis::new(late.replace(late.get() + 10));
    let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
    let effects = local.worker.body(2, &buffer, Some(body.len()), true, &clock);
    assert_eq!(effects.directive, Some(Directive::Pause));
    local.stream_done(2, NOW);
    assert_decided(&mut local, 2, "not_limited", "client_left");
    // Before the store has answered.
    let mut redis = worker(&memory_b, &redis("deny", tokens));
    assert_eq!(send(&mut redis, 1, 5), Directive::Pause);
    redis.stream_done(1, NOW);
    assert_decided(&mut redis, 1, "not_limited", "client_left");
    // Before it fits: its limit has held it back.
    let window = json!({"metric": "requests", "limit": 1, "window": "10s"});
    let waits = json!({"default": {"windows": [window], "max_wait_ms": 30_000}});
    let mut waiting = worker(&memory_c, &waits);
    assert_eq!(send(&mut waiting, 1, 5), Directive::Continue);
    waiting.take_metrics();
    assert_eq!(send(&mut waiting, 2, 5), Directive::Pause);
    waiting.stream_done(2, NOW + 700);
    assert_decided(&mut waiting, 2, "over_limit", "client_left");
}

#[test]
fn a_request_that_is_answered_before_its_body_has_come_has_a_decision() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"tpm": 1_000})));
    worker.request_headers(1, &chat(), false, NOW);
    worker.response_headers(1, ResponseHead { status: 413, ..OK }, false, NOW);
    assert_decided(&mut worker, 1, "not_limited", "answered_early");
    assert!(!worker.knows(1));
}

#[test]
fn a_request_that_a_dry_run_lets_pass_has_the_decision_that_it_passes() {
    let sender = post("/v1/files", "unknown");
    for (config, would_be) in [
        (json!({"default": "reject", "dry_run": true}), "unknown_identity"),
        (
            json!({"keys": [{"key": "a", "rpm": 1}], "dry_run": true, "endpoints": {"/v1/files": "reject"}}),
            "endpoint",
        ),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        assert_eq!(worker.request_headers(1, &sender, true, NOW).directive, Directive::Continue);
        let line = worker.take_written(1);
        assert!(line.contains(&(Field::DryRun, would_be.to_owned())), "{line:?}");
        assert!(line.contains(&(Field::Decision, "not_limited".to_owned())), "{line:?}");
        assert!(line.contains(&(Field::Reason, "no_limit_applies".to_owned())), "{line:?}");
        let passed = ("llm_rate_limit.decision=.=not_limited;.;requests".to_owned(), 1);
        assert!(worker.take_metrics().contains(&passed));
    }
}

/// Where only requests are limited, bodies are read to be metered: nothing refuses them, in a dry run or not.
#[test]
fn a_body_that_decides_on_nothing_is_in_no_dry_run() {
    let Request(mut headers) = chat();
    headers.push(("content-encoding", "compress".to_owned()));
    let coded = Request(headers);
    for (limits, dry_run) in
        [(json!({"rpm": 5}), None), (json!({"rpm": 5, "tpm": 5, "dry_run": true}), Some("encoding"))]
    {
        let memory = Memory::default();
        let mut worker = worker(&memory, &json!({"default": limits, "meter": true}));
        worker.request_headers(1, &coded, false, NOW);
        let directive = worker.request_body(1, true, || b"abc".to_vec(), NOW).directive;
        assert_eq!(directive, Directive::Continue);
        worker.response_headers(1, OK, true, NOW);
        worker.stream_done(1, NOW);
        let line = worker.take_written(1);
        let of = |of: Field| line.iter().find(|(field, _)| *field == of).map(|(_, value)| value.as_str());
        assert_eq!(of(Field::DryRun), dry_run, "{line:?}");
        assert_eq!(of(Field::Reason), dry_run, "nothing was charged for what nobody can read: {line:?}");
        let metrics = worker.take_metrics();
        let is_dry = metrics.iter().any(|(name, _)| name.ends_with("dry_run_requests"));
        assert_eq!(is_dry, dry_run.is_some(), "{metrics:?}");
    }
}
