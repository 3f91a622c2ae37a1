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
    assert_eq!(logged(&mut worker, 1), ["outcome=reported", "input_tokens=9", "output_tokens=30"]);
    send(&mut worker, 2, 71);
    assert_eq!(
        logged(&mut worker, 2)[7..],
        [
            "decision=over_limit",
            "store=local",
            "limit=key/output_tokens/1m",
            "used=30",
            "limit_amount=100",
            "reason=used_up",
            "retry_after_ms=61000",
        ]
    );
    let report = worker.take_report();
    let counts: Vec<_> = report
        .counts
        .iter()
        .map(|(count, n)| format!("{} {n}", count.name().replace("llm_rate_limit.", "").replace("=.=", " ")))
        .collect();
    assert_eq!(
        counts,
        [
            "plan pro;.;group team-a;.;decision admitted;.;requests 1",
            "plan pro;.;group team-a;.;decision over_limit;.;requests 1",
            "owner key;.;metric output_tokens;.;window 1m;.;refusals 1",
            "outcome reported;.;settled 1",
            "kind input;.;family gpt-4o;.;tokens 9",
            "kind output;.;family gpt-4o;.;tokens 30",
            "kind input;.;family gpt-4o;.;estimated_tokens 8",
            "kind output;.;family gpt-4o;.;estimated_tokens 70",
            "direction under;.;family gpt-4o;.;estimate_error_tokens 1",
        ]
    );
    let values: Vec<_> = report.values.iter().map(|(of, value)| (of.name(), *value)).collect();
    let expected = [
        ("llm_rate_limit.kind=.=output;.;request_tokens", 30),
        ("llm_rate_limit.kind=.=input;.;request_tokens", 9),
        ("llm_rate_limit.retry_after_ms", 61_000),
    ];
    assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)));
}

/// The line of a request of `key` with this answer.
fn line(config: &Value, key: &str, head: ResponseHead<'_>, answer: &[u8]) -> Vec<String> {
    let memory = Memory::default();
    let mut worker = worker(&memory, config);
    let request = post("/v1/chat/completions", key);
    let directive = worker.request_headers(1, &request, false, NOW).directive;
    if directive == Directive::Pause {
        let directive = worker.request_body(1, true, || body(70), NOW).directive;
        assert_eq!(directive, Directive::Continue);
    }
    worker.response_headers(1, head, false, NOW);
    worker.response_body(1, answer, true, NOW);
    worker.stream_done(1, NOW);
    let fields = worker.take_written(1).into_iter().filter(|(field, _)| *field != Field::Id);
    fields.map(|(field, value)| format!("{}={value}", field.name().replace("llm_rate_limit.", ""))).collect()
}

#[test]
fn the_access_log_says_how_an_answer_ended_and_what_it_has_cost() {
    let config = json!({"default": {"tpm": 1_000}, "prices": {"gpt-4o": {"input": 2.5, "output": 10.0}}});
    let details = json!({"choices": [], "usage": {
        "prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2}}});
    let counted = json!({"choices": [{"message": {"content": "hello world"}}]}).to_string();
    let tail = |head, answer: &[u8]| line(&config, "key", head, answer)[5..].to_vec();
    assert_eq!(
        tail(OK, details.to_string().as_bytes()),
        [
            "outcome=reported",
            "input_tokens=20",
            "output_tokens=3",
            "cost_usd=0.00008",
            "cached_input_tokens=0",
            "reasoning_tokens=2"
        ]
    );
    assert_eq!(
        tail(OK, counted.as_bytes()),
        ["outcome=counted", "input_tokens=8", "output_tokens=2", "cost_usd=0.00004"]
    );
    let failed = ResponseHead { status: 500, ..OK };
    assert_eq!(tail(failed, b"{}"), ["outcome=failed"]);
    assert_eq!(tail(OK, b"<html>"), ["outcome=unknown", "input_tokens=8", "output_tokens=70"]);
    // Nobody has a price, and then nobody has looked at tokens.
    let without = line(&json!({"default": {"tpm": 1_000}}), "key", OK, &usage(9, 1));
    assert_eq!(without[5..], ["outcome=reported", "input_tokens=9", "output_tokens=1"]);
    let without = line(&json!({"default": {"rpm": 5}}), "key", OK, &usage(9, 1));
    assert_eq!(without, ["decision=admitted", "store=local", "outcome=unknown"]);
}

#[test]
fn a_prompt_that_nobody_has_counted_is_not_logged_as_none() {
    let config = json!({"keys": [{"key": "rpm", "rpm": 5}, {"key": "tpm", "tpm": 5}]});
    let counted = json!({"choices": [{"message": {"content": "hello world"}}]}).to_string();
    let line = line(&config, "rpm", OK, counted.as_bytes());
    assert_eq!(line, ["decision=admitted", "store=local", "outcome=counted", "output_tokens=2"]);
}

#[test]
fn the_line_is_written_in_one_pass_at_the_end() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"tpm": 1_000})));
    send(&mut worker, 1, 500);
    worker.response_headers(1, OK, false, NOW);
    assert_eq!(worker.take_written(1), [], "more may come");
    worker.response_body(1, &usage(20, 30), false, NOW);
    assert!(worker.take_written(1).len() > 7);
    worker.stream_done(1, NOW);
    assert_eq!(worker.take_written(1), []);
    // A client that leaves before an answer of the store, or of the upstream.
    for (stream, config) in [(2, local(json!({"tpm": 1_000}))), (3, redis("deny", json!({"tpm": 1_000})))] {
        let mut worker = super::worker(&memory, &config);
        send(&mut worker, stream, 5);
        worker.stream_done(stream, NOW);
        assert!(worker.take_written(stream).iter().any(|(field, _)| *field == Field::Id));
    }
}

#[test]
fn metered_requests_are_logged_and_counted_and_nothing_is_reserved() {
    let config = json!({
        "store": {"type": "redis", "cluster": "s", "on_error": "deny"},
        "keys": [
            {"key": "free", "name": "load test", "unlimited": true},
            {"key": "other", "models": {"o3": {"rpm": 5}}},
        ],
        "metrics_by_name": true,
        "prices": {"gpt-4o": {"input": 2.5, "output": 10.0}},
        "meter": true,
    });
    let memory = Memory::default();
    let mut worker = worker(&memory, &config);
    for (stream, key, reason) in [(1, "free", "unlimited_key"), (2, "other", "no_limit_applies")] {
        worker.request_headers(stream, &post("/v1/chat/completions", key), false, NOW);
        let directive = worker.request_body(stream, true, || body(70), NOW).directive;
        assert_eq!(directive, Directive::Continue);
        let edits = worker.response_headers(stream, OK, false, NOW);
        assert_eq!(edits, HeaderEdits { remove: vec!["x-ratelimit-source"], ..HeaderEdits::default() });
        worker.response_body(stream, &usage(9, 30), false, NOW);
        let line: Vec<_> = worker
            .take_written(stream)
            .into_iter()
            .map(|(field, value)| format!("{}={value}", field.name().replace("llm_rate_limit.", "")))
            .collect();
        let id = format!("id={}", Identity::of_key(key).id());
        let rest = ["model=gpt-4o", "estimated_input_tokens=8", "outcome=reported", "input_tokens=9"];
        let rest = [&rest[..], &["output_tokens=30", "cost_usd=0.000323"]].concat();
        let expected = ["decision=not_limited", &format!("reason={reason}"), &id];
        let name = if key == "free" { &["name=load test"][..] } else { &[] };
        assert_eq!(line, [&expected[..], name, &rest].concat());
        worker.stream_done(stream, NOW);
    }
    assert_eq!(worker.turn(NOW).callouts, [], "no store hears of it");
    let metrics = worker.take_metrics();
    for (name, count) in [
        ("key_name=.=load test;.;decision=.=not_limited;.;requests", 1),
        ("decision=.=not_limited;.;requests", 1),
        ("reason=.=unlimited_key;.;not_limited", 1),
        ("kind=.=input;.;family=.=gpt-4o;.;tokens", 18),
        ("kind=.=output;.;family=.=gpt-4o;.;tokens", 60),
        ("kind=.=input;.;family=.=gpt-4o;.;estimated_tokens", 16),
        ("kind=.=output;.;family=.=gpt-4o;.;estimated_tokens", 140),
    ] {
        assert!(metrics.contains(&(format!("llm_rate_limit.{name}"), count)), "{metrics:?}");
    }
    assert!(metrics.iter().all(|(name, _)| !name.contains("settled")), "{metrics:?}");
}

/// Also where nobody reads the body, and where the log has two fields.
#[test]
fn an_unlimited_key_has_its_name_in_metrics_that_show_names() {
    for (by_name, name) in [(true, "llm_rate_limit.key_name=.=load test;.;"), (false, "llm_rate_limit.")] {
        let config = json!({
            "keys": [{"key": "free", "name": "load test", "unlimited": true}],
            "default": {"rpm": 10}, "metrics_by_name": by_name,
        });
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        worker.request_headers(1, &post("/v1/chat/completions", "free"), false, NOW);
        assert_eq!(worker.take_log(1).len(), 2);
        let series = (format!("{name}decision=.=not_limited;.;requests"), 1);
        let metrics = worker.take_metrics();
        assert!(metrics.contains(&series), "{metrics:?}");
    }
}

#[test]
fn a_metered_request_that_nobody_reads_passes_without_numbers() {
    let config = json!({"default": "unlimited", "on_unreadable": "refuse", "meter": true});
    let memory = Memory::default();
    let mut worker = worker(&memory, &config);
    worker.request_headers(1, &chat(), false, NOW);
    let directive = worker.request_body(1, true, || b"[[[".to_vec(), NOW).directive;
    assert_eq!(directive, Directive::Continue);
    worker.response_headers(1, OK, false, NOW);
    worker.stream_done(1, NOW);
    let fields: Vec<_> = worker.take_written(1).into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, [Field::Decision, Field::Reason, Field::Id, Field::Outcome]);
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
    let in_group = ["group=team-a", "decision=admitted", "store=local", "outcome=unknown"];
    assert_eq!(log(&mut worker, 1, chat, "key", "POST"), in_group, "no tokens: nobody has counted any");
    let refused = log(&mut worker, 2, chat, "key", "POST");
    let limit = ["limit=group team-a/requests/1m", "used=1", "limit_amount=1"];
    let limit = [&limit[..], &["reason=used_up", "retry_after_ms=61000"]].concat();
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

/// A 429 of the upstream, or of Envoy itself.
struct Refused {
    by_upstream: bool,
}

impl ResponseView for Refused {
    fn header(&self, name: &str) -> Option<String> {
        (name == ":status").then(|| "429".to_owned())
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let details = if self.by_upstream { "via_upstream" } else { "request_rate_limited" };
        (path == ["response", "code_details"]).then(|| details.into())
    }
}

#[test]
fn a_429_says_who_has_refused_and_the_upstreams_keeps_its_headers() {
    for (by_upstream, source) in [(true, "upstream"), (false, "gateway")] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &local(json!({"rpm": 10})));
        worker.request_headers(1, &chat(), true, NOW);
        let event = Event::ResponseHeaders { response: &Refused { by_upstream }, end_of_stream: true };
        let HeaderEdits { remove, set } = worker.on(1, event, NOW).headers;
        assert_eq!((remove.is_empty(), set.len() == 1), (by_upstream, by_upstream), "{set:?}");
        assert!(set.contains(&("x-ratelimit-source", source.to_owned())), "{set:?}");
    }
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 10})));
    worker.request_headers(1, &chat(), true, NOW);
    let HeaderEdits { set, remove } =
        worker.response_headers(1, ResponseHead { status: 503, ..OK }, true, NOW);
    assert!(remove.contains(&"x-ratelimit-source"), "nobody else says so");
    assert!(set.iter().all(|(name, _)| *name != "x-ratelimit-source"), "{set:?}");
}

/// Whoever sends it and wherever to: a key without limits, an endpoint without, a body that has not come.
#[test]
fn a_429_of_a_request_that_nothing_limits_says_who_has_refused() {
    let config = json!({"keys": [{"key": "key", "tpm": 1_000}, {"key": "free", "unlimited": true}]});
    let cancel = "/v1/responses/resp_1/cancel";
    for (headers, expected) in [("auto", true), ("openai", true), ("ietf", true), ("none", false)] {
        for (path, key) in [
            ("/v1/chat/completions", "free"),
            ("/v1/moderations", "key"),
            ("/healthz", "key"),
            (cancel, "key"),
            ("/v1/chat/completions", "key"),
        ] {
            let mut config = config.clone();
            config["headers"] = headers.into();
            let memory = Memory::default();
            let mut worker = worker(&memory, &config);
            worker.request_headers(1, &post(path, key), false, NOW);
            let event =
                Event::ResponseHeaders { response: &Refused { by_upstream: true }, end_of_stream: true };
            let edits = worker.on(1, event, NOW).headers;
            let set = [("x-ratelimit-source", "upstream".to_owned())];
            assert_eq!(
                edits,
                HeaderEdits { remove: Vec::new(), set: set[..usize::from(expected)].to_vec() },
                "{path}"
            );
            worker.stream_done(1, NOW);
            assert!(!worker.knows(1));
        }
    }
}

/// Reading the clock is a call to Envoy.
#[test]
fn a_request_that_nothing_limits_needs_no_clock() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &json!({"default": "unlimited"}));
    let no_clock = || panic!("it looks at the clock");
    let request = chat();
    for event in [
        Event::RequestHeaders { request: &request, end_of_stream: false },
        Event::ResponseHeaders { response: &OK, end_of_stream: false },
        Event::StreamDone { flags: &|| panic!("it reads") },
    ] {
        worker.worker.on(1, event, &no_clock);
    }
    assert!(!worker.knows(1));
    let event = Event::RequestHeaders { request: &request, end_of_stream: false };
    worker.worker.on(2, event, &no_clock);
    worker.worker.on(2, Event::StreamDone { flags: &|| panic!("it reads") }, &no_clock);
    assert!(!worker.knows(2), "its response has never come");
}
