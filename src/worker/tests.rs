//! Requests driven through a worker as Envoy would drive them, with the local store's arithmetic in place of a sidecar.

use super::*;
use crate::identity::RequestView;
use crate::session::{HeaderEdits, ResponseHead};
use crate::store::local::tests::Memory;
use crate::wire::{Reserve, Reserved, Settled, WindowState};
use serde_json::{Value, json};
use std::collections::HashSet;

const NOW: u64 = 1_700_000_000_000;

struct Request(Vec<(&'static str, String)>);

impl RequestView for Request {
    fn header(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

fn chat() -> Request {
    post("/v1/chat/completions", "key")
}

fn post(path: &str, key: &str) -> Request {
    let header = |name, value: &str| (name, value.to_owned());
    Request(vec![
        header(":method", "POST"),
        header(":path", path),
        header("authorization", &format!("Bearer {key}")),
    ])
}

fn worker<'a>(memory: &'a Memory, config: &Value) -> Worker<&'a Memory> {
    let config = Config::from_bytes(config.to_string().as_bytes()).unwrap();
    Worker::new(Arc::new(config), memory, 7)
}

fn local(limits: Value) -> Value {
    json!({"default": limits})
}

fn redis(on_error: &str, limits: Value) -> Value {
    json!({"store": {"type": "redis", "cluster": "s", "on_error": on_error}, "default": limits})
}

fn body(max_tokens: u64) -> Vec<u8> {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": max_tokens})
        .to_string()
        .into_bytes()
}

/// Prompt tokens of [`body`]: 3 for the message, 1 each for its role and content, 3 for the reply.
const PROMPT: u64 = 8;

const OK: ResponseHead<'_> =
    ResponseHead { status: 200, content_type: Some("application/json"), content_encoding: None };

fn usage(input: u64, output: u64) -> Vec<u8> {
    json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}})
        .to_string()
        .into_bytes()
}

/// Sends a whole request; what happens to it.
fn send(worker: &mut Worker<&Memory>, stream: u32, max_tokens: u64) -> Directive {
    match worker.request_headers(stream, &chat(), false, NOW).directive {
        Directive::Pause => worker.request_body(stream, true, || body(max_tokens), NOW).directive,
        other => other,
    }
}

fn status(directive: &Directive) -> u32 {
    match directive {
        Directive::Reply(reply) => reply.status,
        Directive::Continue => 200,
        Directive::Pause => 0,
    }
}

/// Units used of the first limit, read off the headers of a request that costs nothing of it.
fn used(worker: &mut Worker<&Memory>, stream: u32) -> u64 {
    send(worker, stream, 0);
    let edits = worker.response_headers(stream, ResponseHead { status: 500, ..OK }, true, NOW);
    worker.stream_done(stream, NOW);
    let value = |name| edits.set.iter().find(|(n, _)| *n == name).unwrap().1.parse::<u64>().unwrap();
    value("x-ratelimit-limit") - value("x-ratelimit-remaining")
}

#[test]
fn what_is_not_an_llm_call_passes() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 0})));
    let get = Request(vec![(":method", "GET".into()), (":path", "/v1/chat/completions".into())]);
    assert_eq!(worker.request_headers(1, &get, true, NOW).directive, Directive::Continue);
    assert_eq!(
        worker.request_headers(2, &post("/v1/models", "key"), true, NOW).directive,
        Directive::Continue
    );
    assert!(!worker.knows(1) && !worker.knows(2));
    assert_eq!(status(&worker.request_headers(3, &chat(), false, NOW).directive), 429);
}

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
        let unread = || -> Vec<u8> { panic!("the body is not complete") };
        assert_eq!(worker.request_body(1, false, unread, NOW).directive, Directive::Pause);
    }
    assert_eq!(worker.request_body(1, true, || body(10), NOW).directive, Directive::Continue);
    let edits = worker.response_headers(1, OK, false, NOW);
    let remaining = &edits.set.iter().find(|(name, _)| *name == "x-ratelimit-remaining-tokens").unwrap().1;
    assert_eq!(*remaining, (1_000 - PROMPT - 10).to_string());
}

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
fn the_access_log_learns_the_decision_the_estimate_and_the_charge() {
    let memory = Memory::default();
    let config = json!({"keys": [{"key": "key", "name": "Ann", "output_tpm": 100}]});
    let mut worker = worker(&memory, &config);
    let noted = |worker: &mut Worker<&Memory>, stream| {
        let notes = worker.take_notes(stream);
        notes
            .iter()
            .map(|(field, value)| format!("{}={value}", field.name().replace("llm_rate_limit.", "")))
            .collect::<Vec<_>>()
    };
    send(&mut worker, 1, 70);
    let estimate = ["name=Ann", "model=gpt-4o", "estimated_input_tokens=8", "reserved_output_tokens=70"];
    assert_eq!(noted(&mut worker, 1), [&estimate[..], &["decision=admitted"]].concat());
    worker.response_headers(1, OK, false, NOW);
    worker.response_body(1, &usage(9, 30), true, NOW);
    assert_eq!(noted(&mut worker, 1), ["input_tokens=9", "output_tokens=30"]);
    send(&mut worker, 2, 71);
    assert_eq!(noted(&mut worker, 2)[4..], ["decision=over_limit", "limit=output_tokens"]);
    let stats = worker.take_stats();
    assert!(stats.contains(&("llm_rate_limit.reserved_tokens.gpt-4o".into(), 78)), "{stats:?}");
    assert!(stats.contains(&("llm_rate_limit.settled_tokens.gpt-4o".into(), 39)), "{stats:?}");
}

#[test]
fn usage_is_asked_for_in_the_clients_place_and_hidden_from_it() {
    let memory = Memory::default();
    let config = json!({"default": {"tpm": 1_000}, "stream_usage": "inject"});
    let mut worker = worker(&memory, &config);
    worker.request_headers(1, &chat(), false, NOW);
    let body = br#"{"model":"gpt-4o","messages":[],"stream":true,"max_tokens":9}"#;
    let verdict = worker.request_body(1, true, || body.to_vec(), NOW);
    let edit = verdict.body.unwrap();
    let sent: Value = serde_json::from_slice(&[&edit.with, &body[edit.replaced..]].concat()).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    assert_eq!(sent["model"], "gpt-4o");
    assert_eq!(verdict.edits.set, [("accept-encoding", "identity".to_owned())], "to be able to hide it");
    worker.response_headers(1, ResponseHead { content_type: Some("text/event-stream"), ..OK }, false, NOW);
    let hello =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    let extra = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
    let done = "data: [DONE]\n\n";
    let (begin, end) = extra.split_at(20);
    let chunks = [format!("{hello}{begin}"), format!("{end}{done}")];
    let seen: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| worker.response_body(1, chunk.as_bytes(), false, NOW).unwrap())
        .collect();
    assert_eq!(String::from_utf8(seen).unwrap(), format!("{hello}{done}"));
    assert_eq!(used(&mut worker, 2), 7 + PROMPT);

    worker.request_headers(3, &chat(), false, NOW);
    let asked = br#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    let verdict = worker.request_body(3, true, || asked.to_vec(), NOW);
    assert_eq!((verdict.body, verdict.edits), (None, HeaderEdits::default()), "the client asked itself");
    let malformed = br#"{"model":"gpt-4o","stream":true,"messages":[}"#;
    worker.request_headers(4, &chat(), false, NOW);
    assert_eq!(worker.request_body(4, true, || malformed.to_vec(), NOW).body, None);
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

/// A stream's event with `text`.
fn event(text: &str) -> Vec<u8> {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]})).into_bytes()
}

const SSE: ResponseHead<'_> = ResponseHead { content_type: Some("text/event-stream"), ..OK };

#[test]
fn others_see_what_a_stream_spends_beyond_its_reservation_while_it_spends() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"output_tpm": 1_000})));
    send(&mut worker, 1, 1);
    worker.response_headers(1, SSE, false, NOW);
    for _ in 0..100 {
        worker.response_body(1, &event(" word and word"), false, NOW);
    }
    let seen = used(&mut worker, 2);
    assert!((300..400).contains(&seen), "{seen}");
    worker.stream_done(1, NOW);
    assert_eq!(used(&mut worker, 3), 300, "in the end it is what was counted");
}

#[test]
fn a_stream_that_passes_its_limit_can_be_finished() {
    for (mode, is_cut) in [("finish", true), ("continue", false)] {
        let memory = Memory::default();
        let config = json!({"default": {"output_tpm": 200}, "on_stream_over": mode});
        let mut worker = worker(&memory, &config);
        send(&mut worker, 1, 1);
        worker.response_headers(1, SSE, false, NOW);
        let mut seen = Vec::new();
        for _ in 0..200 {
            let event = event(" word and word");
            seen.extend(worker.response_body(1, &event, false, NOW).unwrap_or(event));
        }
        let seen = String::from_utf8(seen).unwrap();
        let words = seen.matches(" word and word").count() * 3;
        assert_eq!(seen.contains("\"finish_reason\":\"length\""), is_cut, "{mode}");
        assert_eq!(seen.ends_with("data: [DONE]\n\n"), is_cut, "{mode}");
        assert!(if is_cut { (200..300).contains(&words) } else { words == 600 }, "{mode}: {words}");
    }
}

#[test]
fn a_stream_that_may_have_to_be_finished_is_asked_for_uncompressed() {
    let edits = |config: Value, stream: bool| {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        worker.request_headers(1, &chat(), false, NOW);
        let body = json!({"model": "gpt-4o", "messages": [], "stream": stream}).to_string();
        worker.request_body(1, true, || body.into_bytes(), NOW).edits.set
    };
    let finish = json!({"default": {"output_tpm": 200}, "on_stream_over": "finish"});
    assert_eq!(edits(finish.clone(), true), [("accept-encoding", "identity".to_owned())]);
    assert_eq!(edits(finish, false), []);
    assert_eq!(edits(local(json!({"output_tpm": 200})), true), []);
}

#[test]
fn slots_are_held_to_the_end_of_the_response_and_renewed() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"max_concurrency": 1, "lease_ttl": "30s"})));
    let arrive = |worker: &mut Worker<&Memory>, stream, now_ms| {
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
fn only_readable_encodings_are_asked_for_where_tokens_are_limited() {
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
    let directive = worker.request_body(1, true, || body.into_bytes(), NOW).directive;
    let notes = worker.take_notes(1);
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
        refusal.contains(&format!("limit 1000, requested at least {estimate}. It cannot be")),
        "{refusal}"
    );
    assert!(refusal.ends_with("the largest that fits is 1000."), "{refusal}");

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
    // What a token counts for is what limits are about.
    let weights = json!({"default": {"input_tpm": 1_000_000}, "weights": {"models": {"gpt-4o": 0.5}}});
    assert_eq!(million_words(weights).1, None);
}

#[test]
fn the_output_to_reserve_is_learnt_unless_it_is_declared() {
    for (mode, expected) in [("learned", true), ("declared", false)] {
        let memory = Memory::default();
        let config = json!({"default": {"output_tpm": 1_000_000}, "output_reservation": {"mode": mode}});
        let mut worker = worker(&memory, &config);
        let guess = |worker: &mut Worker<&Memory>, stream| {
            worker.request_headers(stream, &chat(), false, NOW);
            worker.request_body(stream, true, || br#"{"model":"gpt-4o","messages":[]}"#.to_vec(), NOW);
            let (_, value) = worker
                .take_notes(stream)
                .into_iter()
                .find(|(f, _)| *f == Field::ReservedOutputTokens)
                .unwrap();
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
fn a_request_that_failed_can_be_given_back() {
    let memory = Memory::default();
    let config = json!({"default": {"rpm": 1}, "refund_requests_on_error": true});
    let mut worker = worker(&memory, &config);
    send(&mut worker, 1, 1);
    worker.response_headers(1, ResponseHead { status: 500, ..OK }, true, NOW);
    assert_eq!(status(&send(&mut worker, 2, 1)), 200);
}

#[test]
fn an_upstream_error_gives_the_tokens_back_and_keeps_the_request() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 2, "output_tpm": 100})));
    send(&mut worker, 1, 100);
    assert_eq!(status(&send(&mut worker, 2, 100)), 429);
    worker.response_headers(1, ResponseHead { status: 503, ..OK }, true, NOW);
    assert_eq!(status(&send(&mut worker, 3, 100)), 200);
    assert_eq!(status(&send(&mut worker, 4, 0)), 429, "the request that failed counts");
}

#[test]
fn a_client_that_leaves_mid_stream_pays_for_what_it_saw() {
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

#[test]
fn headers_that_no_body_follows_are_let_go_and_the_limit_still_holds() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"output_tpm": 10})));
    let grace = crate::headers_mode::GRACE_MS;
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
        "it has learnt"
    );
    assert_eq!(worker.request_body(9, false, Vec::new, NOW).directive, Directive::Pause);
    assert_eq!(status(&worker.request_body(9, true, || body(10), NOW).directive), 429);
}

/// Answers the reserve callout under way: all admitted or all refused.
fn answer(worker: &mut Worker<&Memory>, callout: &Callout, admitted: bool) -> Turn {
    worker.callout_answered(callout.kind, Ok(&decided(callout, admitted)), NOW)
}

/// The sidecar's answer to a reserve callout.
fn decided(callout: &Callout, admitted: bool) -> Vec<u8> {
    let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
    let state = WindowState { used: 1, reset_ms: 60_000, retry_after_ms: if admitted { 0 } else { 1_000 } };
    let answers: Vec<_> = calls
        .iter()
        .map(|call| Reserved::Decided { admitted, windows: vec![state; call.charges.len()] })
        .collect();
    serde_json::to_vec(&answers).unwrap()
}

#[test]
fn a_request_waits_for_the_sidecar_and_goes_on_or_is_refused() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1})));
    for (stream, admitted) in [(1, true), (2, false)] {
        assert_eq!(worker.request_headers(stream, &chat(), false, NOW).directive, Directive::Pause);
        assert!(worker.take_wake());
        assert_eq!(
            worker.request_body(stream, true, || panic!("not needed"), NOW).directive,
            Directive::Pause
        );
        let callouts = worker.turn(NOW).callouts;
        let turn = answer(&mut worker, &callouts[0], admitted);
        let (resumed, directive) = &turn.directives[0];
        assert_eq!((*resumed, status(directive)), (stream, if admitted { 200 } else { 429 }));
    }
}

#[test]
fn without_an_answer_on_error_decides() {
    for (on_error, expected) in [("allow", [200, 200]), ("deny", [503, 503]), ("local", [200, 429])] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &redis(on_error, json!({"rpm": 1})));
        for (stream, expected) in [1, 2].into_iter().zip(expected) {
            worker.request_headers(stream, &chat(), true, NOW);
            worker.turn(NOW);
            let turn = worker.callout_answered(Kind::Reserve, Err("away".into()), NOW);
            assert_eq!(status(&turn.directives[0].1), expected, "{on_error}");
        }
    }
}

#[test]
fn a_client_that_leaves_while_the_sidecar_is_asked_is_refunded() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("allow", json!({"rpm": 1})));
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    worker.stream_done(1, NOW);
    let turn = answer(&mut worker, &callouts[0], true);
    assert_eq!(turn.directives, []);
    let settles: Vec<Settle> = serde_json::from_slice(&turn.callouts[0].body).unwrap();
    assert_eq!(settles[0].charges[0].cost, 0);
    assert!(!worker.knows(1));

    worker.request_headers(2, &chat(), true, NOW);
    worker.stream_done(2, NOW);
    assert_eq!(worker.turn(NOW).callouts, [], "what was not sent yet is not sent");
}

/// A sidecar that remembers which reservations are open, and that none is settled twice.
#[derive(Default)]
struct Ledger {
    open: HashSet<String>,
    admitted: u64,
    settled: u64,
}

impl Ledger {
    fn answer(&mut self, callout: &Callout, admitted: bool) -> Vec<u8> {
        let answers = match callout.kind {
            Kind::Reserve => {
                let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
                let answers = calls.into_iter().map(|call| {
                    let state = WindowState { used: 1, reset_ms: 1, retry_after_ms: i64::from(!admitted) };
                    if admitted {
                        assert!(self.open.insert(call.id), "a reservation id was used twice");
                        self.admitted += 1;
                    }
                    Reserved::Decided { admitted, windows: vec![state; call.charges.len()] }
                });
                serde_json::to_vec(&answers.collect::<Vec<_>>())
            }
            Kind::Settle => {
                let calls: Vec<Settle> = serde_json::from_slice(&callout.body).unwrap();
                let answers = calls.into_iter().map(|call| {
                    let settled = self.open.remove(&call.id);
                    assert!(settled, "settled twice, or never reserved: {}", call.id);
                    self.settled += 1;
                    Settled::Done { settled, over: false }
                });
                serde_json::to_vec(&answers.collect::<Vec<_>>())
            }
        };
        answers.unwrap()
    }
}

mod storm {
    use super::*;
    use proptest::prelude::*;

    /// What may happen next; the number picks a stream.
    #[derive(Clone, Debug)]
    enum Event {
        Arrive,
        Body(bool),
        Answer(bool),
        Respond(u16),
        Chunk(bool, bool),
        Trailers,
        Leave,
    }

    fn event() -> impl Strategy<Value = (usize, Event)> {
        let event = prop_oneof![
            4 => Just(Event::Arrive),
            4 => any::<bool>().prop_map(Event::Body),
            4 => any::<bool>().prop_map(Event::Answer),
            3 => prop_oneof![Just(200), Just(429), Just(503)].prop_map(Event::Respond),
            3 => any::<(bool, bool)>().prop_map(|(usage, end)| Event::Chunk(usage, end)),
            1 => Just(Event::Trailers),
            2 => Just(Event::Leave),
        ];
        (any::<prop::sample::Index>(), event).prop_map(|(at, event)| (at.index(64), event))
    }

    proptest! {
        /// However requests end, each reservation that was made is settled once.
        #[test]
        fn every_ending_settles_exactly_once(events in proptest::collection::vec(event(), 1..200)) {
            let memory = Memory::default();
            let mut worker = worker(&memory, &redis("allow", json!({"tpm": 1_000})));
            let (mut ledger, mut streams, mut next) = (Ledger::default(), Vec::new(), 0u32);
            let mut under_way: Vec<Callout> = Vec::new();
            for (at, event) in events {
                let stream = streams.get(at % streams.len().max(1)).copied().unwrap_or(0);
                match event {
                    Event::Arrive => {
                        next += 1;
                        streams.push(next);
                        worker.request_headers(next, &chat(), false, NOW);
                    }
                    Event::Body(end) => drop(worker.request_body(stream, end, || body(10), NOW).directive),
                    Event::Answer(admitted) => {
                        for callout in std::mem::take(&mut under_way) {
                            let bytes = ledger.answer(&callout, admitted);
                            under_way.extend(worker.callout_answered(callout.kind, Ok(&bytes), NOW).callouts);
                        }
                    }
                    Event::Respond(status) => {
                        worker.response_headers(stream, ResponseHead { status, ..OK }, false, NOW);
                    }
                    Event::Chunk(with_usage, end) => {
                        let chunk = if with_usage { usage(8, 3) } else { b"{".to_vec() };
                        worker.response_body(stream, &chunk, end, NOW);
                    }
                    Event::Trailers => worker.response_trailers(stream, NOW),
                    Event::Leave => {
                        worker.stream_done(stream, NOW);
                        streams.retain(|open| *open != stream);
                    }
                }
                under_way.extend(worker.turn(NOW).callouts);
            }
            for stream in streams {
                worker.stream_done(stream, NOW);
            }
            under_way.extend(worker.turn(NOW).callouts);
            while let Some(callout) = under_way.pop() {
                let bytes = ledger.answer(&callout, true);
                under_way.extend(worker.callout_answered(callout.kind, Ok(&bytes), NOW).callouts);
            }
            prop_assert_eq!(ledger.admitted, ledger.settled);
            prop_assert!(ledger.open.is_empty() && worker.sessions.is_empty() && worker.is_idle());
        }
    }
}

#[test]
fn keys_of_a_group_share_its_limit_and_the_refusal_says_so() {
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
    let answers = [send("stranger", 5), send("other", 6)];
    assert_eq!(answers, ["forwarded", "Rate limit reached for all requests (global) on requests per 1m"]);
}

#[test]
fn a_dry_run_refuses_nothing_and_tells() {
    for config in [
        json!({"default": {"rpm": 1}, "dry_run": true}),
        json!({"default": {"rpm": 100, "windows": [
            {"metric": "requests", "limit": 1, "window": "1h", "dry_run": true}]}}),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        let mut told = |stream| {
            assert_eq!(status(&worker.request_headers(stream, &chat(), true, NOW).directive), 200);
            let edits = worker.response_headers(stream, OK, true, NOW);
            edits.set.into_iter().find(|(name, _)| *name == "x-ratelimit-dry-run").map(|(_, limit)| limit)
        };
        assert_eq!([told(1), told(2)], [None, Some("requests".to_owned())]);
        assert!(worker.take_stats().contains(&("llm_rate_limit.dry_run_over_limit".into(), 1)));
    }
    let memory = Memory::default();
    let mut worker = worker(&memory, &json!({"default": "reject", "dry_run": true}));
    assert_eq!(worker.request_headers(1, &chat(), true, NOW).directive, Directive::Continue);
}

/// One request a second may wait for up to two.
fn patient() -> Value {
    let window = json!({"metric": "requests", "limit": 1, "window": "1s", "segments": 1});
    json!({"default": {"windows": [window], "max_wait_ms": 5_000}, "max_waiting": 3})
}

#[test]
fn a_request_that_fits_soon_waits_in_its_turn() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &patient());
    let mut arrive = |stream| worker.request_headers(stream, &chat(), true, NOW).directive;
    let arrivals: Vec<_> = (1..=5).map(&mut arrive).collect();
    assert_eq!(arrivals[0], Directive::Continue);
    assert_eq!(arrivals[1..4], [Directive::Pause, Directive::Pause, Directive::Pause]);
    assert_eq!(status(&arrivals[4]), 429, "the room is full");

    assert_eq!(worker.turn(NOW + 1_999).directives, []);
    let turn = worker.turn(NOW + 2_000);
    assert_eq!(turn.directives, [(2, Directive::Continue)], "who came first goes first, and alone");
    let edits = worker.response_headers(2, OK, true, NOW + 2_000);
    assert!(edits.set.contains(&("x-ratelimit-waited-ms", "2000".to_owned())), "{edits:?}");

    worker.stream_done(3, NOW + 2_500);
    assert_eq!(worker.turn(NOW + 4_000).directives, [(4, Directive::Continue)], "who leaves makes way");
    assert_eq!(worker.request_headers(6, &chat(), true, NOW + 4_000).directive, Directive::Pause);
    assert_eq!(worker.request_headers(7, &chat(), true, NOW + 4_000).directive, Directive::Pause);
    assert_eq!(worker.turn(NOW + 6_000).directives, [(6, Directive::Continue)]);
    assert_eq!(worker.turn(NOW + 8_000).directives, [(7, Directive::Continue)]);
    assert!(!worker.waiting.has("anonymous") && worker.turn(NOW + 9_000).directives.is_empty());
}

#[test]
fn patience_ends_with_a_refusal() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &patient());
    for stream in 1..=4 {
        worker.request_headers(stream, &chat(), true, NOW);
    }
    let statuses = |turn: Turn| turn.directives.iter().map(|(s, d)| (*s, status(d))).collect::<Vec<_>>();
    assert_eq!(statuses(worker.turn(NOW + 2_000)), [(2, 200)]);
    let last = statuses(worker.turn(NOW + 4_000));
    assert_eq!(
        last,
        [(3, 200), (4, 429)],
        "the last would fit at six seconds, which is past its patience of five"
    );
    assert_eq!(worker.sessions.len(), 3);
}

#[test]
fn those_who_wait_are_asked_for_at_the_sidecar_too() {
    let memory = Memory::default();
    let mut config = redis("deny", json!({"rpm": 1, "max_wait_ms": 5_000}));
    config["store"]["timeout_ms"] = json!(50);
    let mut worker = worker(&memory, &config);
    assert_eq!(worker.request_headers(1, &chat(), true, NOW).directive, Directive::Pause);
    let callouts = worker.turn(NOW).callouts;
    assert_eq!(answer(&mut worker, &callouts[0], false).directives, []);
    assert_eq!(worker.turn(NOW + 999), Turn::default());
    let callouts = worker.turn(NOW + 1_000).callouts;
    assert_eq!(callouts.len(), 1, "it is asked again when it should fit");
    assert_eq!(answer(&mut worker, &callouts[0], true).directives, [(1, Directive::Continue)]);

    worker.request_headers(2, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    worker.callout_answered(Kind::Reserve, Ok(&decided(&callouts[0], true)), NOW + 30);
    let edits = worker.response_headers(2, OK, true, NOW + 30);
    assert!(
        edits.set.iter().all(|(name, _)| *name != "x-ratelimit-waited-ms"),
        "the sidecar's time is no wait"
    );
}

#[test]
fn patience_that_ends_while_the_sidecar_is_asked_stalls_nobody() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1, "max_wait_ms": 1_500})));
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    answer(&mut worker, &callouts[0], false);
    worker.request_headers(2, &chat(), true, NOW);
    let callouts = worker.turn(NOW + 1_500).callouts;
    let turn = answer(&mut worker, &callouts[0], false);
    let refused: Vec<_> = turn.directives.iter().map(|(stream, d)| (*stream, status(d))).collect();
    assert_eq!(refused, [(1, 429), (2, 429)]);
    assert!(worker.sessions.is_empty());
}
