//! Responses settle reservations, and show their limits.

use super::*;
use crate::identity::Identity;

#[test]
fn the_providers_usage_replaces_the_estimate_at_once() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"tpm": 1_000})));
    send(&mut worker, 1, 500);
    worker.response_headers(1, OK, false, NOW);
    assert!(worker.reads_response(1));
    worker.response_body(1, &usage(20, 30), false, NOW);
    assert!(!worker.reads_response(1), "it is settled before the stream ends");
    worker.stream_done(1, NOW);
    assert_eq!(used(&mut worker, 2), 50 + PROMPT);
}

#[test]
fn the_access_log_shows_the_decision_the_estimate_and_the_charge() {
    let memory = Memory::default();
    let config = json!({
        "plans": {"pro": {"output_tpm": 100}},
        "groups": {"team-a": {"rpm": 50}},
        "keys": [{"key": "key", "name": "Ann", "plan": "pro", "group": "team-a"}],
    });
    let mut worker = worker(&memory, &config);
    let logged = |worker: &mut Driver<'_>, stream| {
        let fields = worker.take_log(stream);
        fields
            .iter()
            .map(|(field, value)| format!("{}={value}", field.name().replace("llm_rate_limit.", "")))
            .collect::<Vec<_>>()
    };
    send(&mut worker, 1, 70);
    let sender = [&format!("id={}", Identity::of_key("key").id()), "name=Ann", "plan=pro", "group=team-a"];
    let estimate = ["model=gpt-4o", "estimated_input_tokens=8", "reserved_output_tokens=70"];
    let decision = ["decision=admitted", "store=local"];
    assert_eq!(logged(&mut worker, 1), [&sender[..], &estimate, &decision].concat());
    worker.response_headers(1, OK, false, NOW);
    worker.response_body(1, &usage(9, 30), true, NOW);
    assert_eq!(logged(&mut worker, 1), ["input_tokens=9", "output_tokens=30"]);
    send(&mut worker, 2, 71);
    assert_eq!(
        logged(&mut worker, 2)[7..],
        [
            "store=local",
            "decision=over_limit",
            "limit=key/output_tokens/1m",
            "used=30",
            "limit_amount=100",
            "retry_after_ms=61000",
        ]
    );
    let stats = worker.take_metrics();
    assert!(stats.contains(&("llm_rate_limit.reserved_tokens.gpt-4o".into(), 78)), "{stats:?}");
    assert!(stats.contains(&("llm_rate_limit.settled_tokens.gpt-4o".into(), 39)), "{stats:?}");
}

#[test]
fn the_access_log_says_whose_limit_refuses_and_nothing_that_was_not_measured() {
    let memory = Memory::default();
    let config = json!({
        "groups": {"team-a": {"rpm": 1}},
        "keys": [
            {"key": "key", "group": "team-a"},
            {"key": "free", "unlimited": true},
            {"key": "tokens", "tpm": 100},
        ],
    });
    let mut worker = worker(&memory, &config);
    let log = |worker: &mut Driver<'_>, stream: u32, path: &str, key: &str, method: &str| -> Vec<String> {
        let Request(mut headers) = post(path, key);
        headers[0].1 = method.to_owned();
        worker.request_headers(stream, &Request(headers), true, NOW);
        worker.response_headers(stream, OK, true, NOW);
        worker.stream_done(stream, NOW);
        let fields = worker.take_log(stream).into_iter().filter(|(field, _)| *field != Field::Id);
        fields
            .map(|(field, value)| format!("{}={value}", field.name().replace("llm_rate_limit.", "")))
            .collect()
    };
    let chat = "/v1/chat/completions";
    let in_group = ["group=team-a", "decision=admitted", "store=local"];
    assert_eq!(log(&mut worker, 1, chat, "key", "POST"), in_group, "no tokens: nobody has counted any");
    let refused = log(&mut worker, 2, chat, "key", "POST");
    let limit = ["limit=group team-a/requests/1m", "used=1", "limit_amount=1", "retry_after_ms=61000"];
    assert_eq!(refused[3..], limit, "{refused:?}");
    for (stream, key, path, method, reason) in [
        (3, "free", chat, "POST", "unlimited_key"),
        (4, "key", "/v1/models", "GET", "method"),
        (5, "tokens", "/v1/moderations", "POST", "no_limit_applies"),
    ] {
        let expected = ["decision=not_limited".to_owned(), format!("reason={reason}")];
        assert_eq!(log(&mut worker, stream, path, key, method), expected, "{path}");
    }
}

#[test]
fn compressed_answers_are_read_and_others_are_charged_as_reserved() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&usage(20, 30)).unwrap();
    let gzip = gzip.finish().unwrap();
    for (encoding, expected) in [("gzip", 50), ("br", PROMPT + 500)] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &local(json!({"tpm": 1_000})));
        send(&mut worker, 1, 500);
        worker.response_headers(1, ResponseHead { content_encoding: Some(encoding), ..OK }, false, NOW);
        worker.response_body(1, &gzip, true, NOW);
        assert_eq!(used(&mut worker, 2), expected + PROMPT, "{encoding}");
    }
}

#[test]
fn leases_are_renewed_until_the_response_ends() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"max_concurrency": 1, "lease_ttl": "30s"})));
    let arrive = |worker: &mut Driver<'_>, stream, now_ms| {
        status(&worker.request_headers(stream, &chat(), true, now_ms).directive)
    };
    assert_eq!((arrive(&mut worker, 1, NOW), arrive(&mut worker, 2, NOW)), (200, 429));
    worker.response_headers(1, OK, false, NOW);
    assert_eq!(arrive(&mut worker, 3, NOW), 429, "its response is under way");
    worker.turn(NOW + 11_000);
    assert_eq!(arrive(&mut worker, 4, NOW + 35_000), 429, "it was renewed");
    worker.response_body(1, &[], true, NOW + 35_000);
    assert_eq!(arrive(&mut worker, 5, NOW + 35_000), 200);
    assert_eq!(arrive(&mut worker, 6, NOW + 66_000), 200, "a worker that died renews nothing");
}

#[test]
fn cached_and_reasoning_tokens_count_as_the_configuration_weighs_them() {
    let memory = Memory::default();
    let config = json!({
        "default": {"tpm": 10_000},
        "weights": {"cached_input_factor": 0.5, "reasoning_factor": 2.0, "models": {"gpt-4o": 3}},
    });
    let mut worker = worker(&memory, &config);
    send(&mut worker, 1, 500);
    worker.response_headers(1, OK, false, NOW);
    let usage = json!({"choices": [], "usage": {
        "prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 20},
    }});
    worker.response_body(1, usage.to_string().as_bytes(), true, NOW);
    assert_eq!(used(&mut worker, 2), 3 * (60 + 20 + 30 + 40) + 3 * PROMPT);
}

#[test]
fn a_request_that_failed_can_be_refunded() {
    let memory = Memory::default();
    let config = json!({"default": {"rpm": 1}, "refund_requests_on_error": true});
    let mut worker = worker(&memory, &config);
    send(&mut worker, 1, 1);
    worker.response_headers(1, ResponseHead { status: 500, ..OK }, true, NOW);
    assert_eq!(status(&send(&mut worker, 2, 1)), 200);
}

#[test]
fn an_upstream_error_refunds_the_tokens_and_counts_the_request() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 2, "output_tpm": 100})));
    send(&mut worker, 1, 100);
    assert_eq!(status(&send(&mut worker, 2, 100)), 429);
    worker.response_headers(1, ResponseHead { status: 503, ..OK }, true, NOW);
    assert_eq!(status(&send(&mut worker, 3, 100)), 200);
    assert_eq!(status(&send(&mut worker, 4, 0)), 429, "the request that failed counts");
}

#[test]
fn a_client_that_leaves_mid_stream_is_charged_for_what_it_received() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"tpm": 1_000})));
    send(&mut worker, 1, 500);
    let head = ResponseHead { content_type: Some("text/event-stream"), ..OK };
    worker.response_headers(1, head, false, NOW);
    let event = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" hello\"}}]}\n\n";
    worker.response_body(1, event, false, NOW);
    worker.response_body(1, event, false, NOW);
    worker.stream_done(1, NOW);
    assert_eq!(used(&mut worker, 2), PROMPT + 2 + PROMPT);
}

/// Most callbacks of a request bring nothing: they cost no look at the clock, and no read of what has come.
#[test]
fn what_changes_nothing_asks_envoy_for_nothing() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 9})));
    let silent = |worker: &mut Driver<'_>, event: Event<'_>| {
        let effects = worker.worker.on(1, event, &|| panic!("it looks at the clock"));
        assert!(effects.directive.is_none() && effects.body.is_none() && effects.log.is_empty());
    };
    let response = |end_of_stream| Event::ResponseBody { buffer: &|| panic!("it reads"), end_of_stream };
    let request = Event::RequestBody { buffer: &|_| panic!("it reads"), size: Some(1), end_of_stream: true };
    let done = Event::StreamDone { flags: &|| panic!("it reads") };
    // A request that is not limited.
    for event in [request.clone(), response(true), Event::ResponseTrailers, done.clone()] {
        silent(&mut worker, event);
    }
    assert_eq!(status(&send(&mut worker, 1, 5)), 200);
    silent(&mut worker, request.clone());
    worker.response_headers(1, OK, false, NOW);
    // Only its requests are limited, so it has been settled.
    for event in [request, response(false), response(true), done.clone(), done] {
        silent(&mut worker, event);
    }
    assert!(!worker.knows(1));
}
