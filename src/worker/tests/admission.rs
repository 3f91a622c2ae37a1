//! From headers and body to a decision: the filter reads, counts and reserves.

use super::*;

#[test]
fn requests_alone_are_decided_on_their_headers() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 2})));
    let statuses: Vec<_> =
        (0..3).map(|n| status(&worker.request_headers(n, &chat(), false, NOW).directive)).collect();
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn unknown_identities_can_be_rejected() {
    let memory = Memory::default();
    let config = json!({"keys": [{"key": "known", "rpm": 5}], "default": "reject"});
    let mut worker = worker(&memory, &config);
    assert_eq!(
        status(&worker.request_headers(1, &post("/v1/chat/completions", "other"), false, NOW).directive),
        401
    );
    assert_eq!(
        status(&worker.request_headers(2, &post("/v1/chat/completions", "known"), false, NOW).directive),
        200
    );
}

#[test]
fn a_body_in_parts_is_read_once_at_its_end() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"tpm": 1_000})));
    assert_eq!(worker.request_headers(1, &chat(), false, NOW).directive, Directive::Pause);
    for _ in 0..3 {
        assert_eq!(worker.unread_body(1, false, NOW).directive, Directive::Pause);
    }
    assert_eq!(worker.request_body(1, true, || body(10), NOW).directive, Directive::Continue);
    let edits = worker.response_headers(1, OK, false, NOW);
    let remaining = &edits.set.iter().find(|(name, _)| *name == "x-ratelimit-remaining-tokens").unwrap().1;
    assert_eq!(*remaining, (1_000 - PROMPT - 10).to_string());
}

#[test]
fn accept_encoding_is_narrowed_where_tokens_are_limited() {
    let edits = |config: Value| {
        let memory = Memory::default();
        let mut request = chat();
        request.0.push(("accept-encoding", "gzip, br".into()));
        worker(&memory, &config).request_headers(1, &request, false, NOW).edits.set
    };
    assert_eq!(edits(local(json!({"tpm": 5}))), [("accept-encoding", "gzip".to_owned())]);
    assert_eq!(edits(local(json!({"rpm": 5}))), []);
    assert_eq!(edits(json!({"default": {"tpm": 5}, "accept_encoding": "keep"})), []);
}

/// The estimate of a prompt of a million words under `limits`, and the refusal's message if it is refused.
fn million_words(limits: Value) -> (u64, Option<String>) {
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits);
    worker.request_headers(1, &chat(), false, NOW);
    let message = json!({"role": "user", "content": "word ".repeat(1_000_000)});
    let body = json!({"model": "gpt-4o", "messages": [message], "max_tokens": 1}).to_string();
    let directive = worker.whole_body(1, body.as_bytes(), NOW);
    let notes = worker.take_log(1);
    let (_, estimate) = notes.iter().find(|(field, _)| *field == Field::EstimatedInputTokens).unwrap();
    let refusal = match directive {
        Directive::Reply(reply) => {
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            Some(body["error"]["message"].as_str().unwrap().to_owned())
        }
        _ => None,
    };
    (estimate.parse().unwrap(), refusal)
}

#[test]
fn a_prompt_is_counted_until_it_can_never_be_admitted() {
    let (estimate, refusal) = million_words(local(json!({"rpm": 5, "input_tpm": 1_000, "tpm": 50_000})));
    assert!(estimate > 1_000 && estimate < 60_000, "{estimate}");
    let refusal = refusal.unwrap();
    assert!(
        refusal.contains(&format!("limit 1000, requested at least {estimate}. This request can never be")),
        "{refusal}"
    );
    assert!(refusal.ends_with("the maximum is 1000."), "{refusal}");

    // Where nothing bounds the prompt, all of it is counted.
    for limits in [
        local(json!({"output_tpm": 1_000})),
        local(json!({"input_tpm": 2_000_000})),
        json!({"default": {"input_tpm": 1_000}, "dry_run": true}),
    ] {
        let (estimate, refusal) = million_words(limits.clone());
        assert!(estimate > 1_000_000, "{limits}: {estimate}");
        assert_eq!(refusal, None, "{limits}");
    }
    let (estimate, refusal) = million_words(local(json!({"input_tpm": 1_000_001})));
    assert!(estimate > 1_000_001 && refusal.is_some(), "{estimate}");
    // Limits compare weighted tokens.
    let weights = json!({"default": {"input_tpm": 1_000_000}, "weights": {"models": {"gpt-4o": 0.5}}});
    assert_eq!(million_words(weights).1, None);
}

#[test]
fn the_output_to_reserve_is_learnt_unless_it_is_declared() {
    for (mode, expected) in [("learned", true), ("declared", false)] {
        let memory = Memory::default();
        let config = json!({"default": {"output_tpm": 1_000_000}, "output_reservation": {"mode": mode}});
        let mut worker = worker(&memory, &config);
        let guess = |worker: &mut Driver<'_>, stream| {
            worker.request_headers(stream, &chat(), false, NOW);
            worker.request_body(stream, true, || br#"{"model":"gpt-4o","messages":[]}"#.to_vec(), NOW);
            let (_, value) =
                worker.take_log(stream).into_iter().find(|(f, _)| *f == Field::ReservedOutputTokens).unwrap();
            value.parse::<u64>().unwrap()
        };
        assert_eq!(guess(&mut worker, 0), 512);
        for stream in 1..600 {
            guess(&mut worker, stream);
            worker.response_headers(stream, OK, false, NOW);
            worker.response_body(stream, &usage(5, 100), true, NOW);
        }
        assert_eq!(guess(&mut worker, 999) < 120, expected, "{mode}");
    }
}

#[test]
fn headers_without_a_body_are_released_and_the_limit_still_holds() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"output_tpm": 10})));
    let grace = crate::session::headers_mode::GRACE.get();
    for stream in 0..3 {
        assert_eq!(worker.request_headers(stream, &chat(), false, NOW).directive, Directive::Pause);
        assert_eq!(worker.turn(NOW + grace - 1).directives, []);
        assert_eq!(worker.turn(NOW + grace).directives, [(stream, Directive::Continue)]);
        let expected = if stream == 0 { 200 } else { 429 };
        assert_eq!(status(&worker.request_body(stream, true, || body(10), NOW).directive), expected);
    }
    assert_eq!(
        worker.request_headers(9, &chat(), false, NOW).directive,
        Directive::Continue,
        "after three bodies that came at once behind their headers, headers are not held"
    );
    assert_eq!(worker.request_body(9, false, Vec::new, NOW).directive, Directive::Pause);
    assert_eq!(status(&worker.request_body(9, true, || body(10), NOW).directive), 429);
}

#[test]
fn keys_of_a_group_share_its_limit_and_the_refusal_names_the_group() {
    let memory = Memory::default();
    let config = json!({
        "groups": {"team": {"rpm": 2}},
        "keys": [{"key": "a", "group": "team"}, {"key": "b", "group": "team", "rpm": 5}],
        "global": {"rpm": 3},
    });
    let mut worker = worker(&memory, &config);
    let mut send = |key, stream| {
        let directive = worker.request_headers(stream, &post("/v1/chat/completions", key), false, NOW);
        let Directive::Reply(reply) = &directive.directive else { return "forwarded".to_owned() };
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        body["error"]["message"].as_str().unwrap().split(':').next().unwrap().to_owned()
    };
    let of_group = "Rate limit reached for group team on requests per 1m";
    let answers = [send("a", 1), send("b", 2), send("a", 3), send("b", 4)];
    assert_eq!(answers, ["forwarded", "forwarded", of_group, of_group]);
    let answers = [send("unknown", 5), send("other", 6)];
    assert_eq!(answers, ["forwarded", "Rate limit reached for all requests (global) on requests per 1m"]);
}

#[test]
fn a_dry_run_refuses_nothing_and_reports_what_it_would_refuse() {
    for config in [
        json!({"default": {"rpm": 1}, "dry_run": true}),
        json!({"default": {"rpm": 100, "windows": [
            {"metric": "requests", "limit": 1, "window": "1h", "dry_run": true}]}}),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        let mut reported = |stream| {
            assert_eq!(status(&worker.request_headers(stream, &chat(), true, NOW).directive), 200);
            let edits = worker.response_headers(stream, OK, true, NOW);
            edits.set.into_iter().find(|(name, _)| *name == "x-ratelimit-dry-run").map(|(_, limit)| limit)
        };
        assert_eq!([reported(1), reported(2)], [None, Some("requests".to_owned())]);
        assert!(
            worker
                .take_metrics()
                .contains(&("llm_rate_limit.decision=.=over_limit;.;dry_run_requests".to_owned(), 1))
        );
    }
    let memory = Memory::default();
    let mut worker = worker(&memory, &json!({"default": "reject", "dry_run": true}));
    assert_eq!(worker.request_headers(1, &chat(), true, NOW).directive, Directive::Continue);
}

#[test]
fn a_limit_in_a_dry_run_warns_in_the_log_and_the_counter_alone() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &json!({"default": {"rpm": 2, "warn_at": 0.5, "dry_run": true}}));
    let request = post("/v1/files", "key");
    assert_eq!(status(&worker.request_headers(1, &request, true, NOW).directive), 200);
    assert!(worker.take_log(1).contains(&(Field::Warning, "key/requests/1m".to_owned())));
    let warned = "llm_rate_limit.owner=.=key;.;metric=.=requests;.;window=.=1m;.;warnings".to_owned();
    assert!(worker.take_metrics().contains(&(warned, 1)));
    let head = ResponseHead { status: 200, content_type: None, content_encoding: None };
    let edits = worker.response_headers(1, head, true, NOW);
    assert!(edits.set.iter().all(|(name, _)| *name != "x-ratelimit-warning"), "{:?}", edits.set);
}
