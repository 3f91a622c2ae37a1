//! Responses that go on in the background: charged to their creator, once, whoever sees their usage.

use super::*;
use crate::store::wire::{Background, Met};

const MAX: u64 = 100;

/// Tokens of the prompt of [`create`], which counts like a chat.
const HELLO: u64 = 8;

const EVENTS: ResponseHead<'_> =
    ResponseHead { status: 200, content_type: Some("text/event-stream"), content_encoding: None };

fn limits() -> Value {
    json!({"tpm": 10_000, "max_concurrency": 1})
}

fn create(worker: &mut Driver<'_>, stream: u32, key: &str, members: Value) -> Directive {
    let mut body = json!({"model": "gpt-4o", "input": "hi", "max_output_tokens": MAX});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let body = body.to_string().into_bytes();
    worker.request_headers(stream, &post("/v1/responses", key), false, NOW);
    worker.request_body(stream, true, || body.clone(), NOW).directive
}

fn asking(method: &str, path: &str, key: &str) -> Request {
    let Request(mut headers) = post(path, key);
    headers[0].1 = method.to_owned();
    Request(headers)
}

/// Sends a request for an earlier response, which is answered with `answer`; returns what its client gets.
fn ask(
    worker: &mut Driver<'_>,
    stream: u32,
    request: &Request,
    head: ResponseHead<'_>,
    answer: &str,
) -> Vec<u8> {
    assert_eq!(worker.request_headers(stream, request, true, NOW).directive, Directive::Continue);
    let edits = worker.response_headers(stream, head, false, NOW);
    assert_eq!(edits, HeaderEdits { remove: vec!["x-ratelimit-source"], ..HeaderEdits::default() });
    let mut passed = Vec::new();
    for chunk in answer.as_bytes().chunks(7) {
        passed.extend(worker.response_body(stream, chunk, false, NOW));
    }
    passed.extend(worker.response_body(stream, b"", true, NOW));
    worker.stream_done(stream, NOW);
    assert!(!worker.knows(stream));
    passed
}

fn answer_of(id: &str, status: &str, usage: Option<(u64, u64)>) -> String {
    let usage = usage.map(|(input, output)| {
        json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output})
    });
    json!({"id": id, "object": "response", "background": true, "status": status, "usage": usage}).to_string()
}

fn event(kind: &str, response: &str) -> String {
    format!("event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",\"response\":{response}}}\n\n")
}

/// Leaves the stream of `stream` after its first event.
fn leave_after_created(worker: &mut Driver<'_>, stream: u32, id: &str) {
    worker.response_headers(stream, EVENTS, false, NOW);
    worker.response_body(
        stream,
        event("created", &answer_of(id, "in_progress", None)).as_bytes(),
        false,
        NOW,
    );
    worker.stream_done(stream, NOW);
}

fn left(worker: &mut Driver<'_>, stream: u32) -> u64 {
    let tokens = used(worker, stream);
    tokens - PROMPT
}

#[test]
fn usage_that_passes_by_settles_the_creators_reservation_once() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(limits()));
    assert_eq!(
        create(&mut worker, 1, "key", json!({"background": true, "stream": true})),
        Directive::Continue
    );
    leave_after_created(&mut worker, 1, "resp_1");
    // The slot is free, and the reservation stays.
    assert_eq!(left(&mut worker, 2), HELLO + MAX);
    let get = |key| asking("GET", "/v1/responses/resp_1", key);
    for (answer, expected) in [
        (answer_of("resp_1", "in_progress", None), HELLO + MAX),
        (answer_of("resp_1", "in_progress", Some((5, 5))), HELLO + MAX),
        (answer_of("resp_1", "failed", None), HELLO + MAX),
        (answer_of("resp_2", "completed", Some((5, 5))), HELLO + MAX),
        (answer_of("resp_1", "completed", Some((9, 4_000))), 4_009),
        (answer_of("resp_1", "completed", Some((9, 4_000))), 4_009),
        (answer_of("resp_1", "completed", Some((9, 1))), 4_009),
    ] {
        assert_eq!(ask(&mut worker, 3, &get("other"), OK, &answer), answer.as_bytes());
        assert_eq!(left(&mut worker, 4), expected, "{answer}");
    }
}

#[test]
fn usage_passes_by_in_streams_and_cancellations_too() {
    let ended = answer_of("resp_1", "cancelled", Some((9, 20)));
    for (request, head, answer) in [
        (asking("GET", "/v1/responses/resp_1", "key"), OK, ended.clone()),
        (asking("POST", "/v1/responses/resp_1/cancel", "key"), OK, ended.clone()),
        (
            asking("GET", "/v1/responses/resp_1?stream=true&starting_after=3", "key"),
            EVENTS,
            [event("in_progress", &answer_of("resp_1", "in_progress", None)), event("incomplete", &ended)]
                .concat(),
        ),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &local(limits()));
        create(&mut worker, 1, "key", json!({"background": true}));
        worker.response_headers(1, OK, false, NOW);
        worker.response_body(1, answer_of("resp_1", "queued", None).as_bytes(), true, NOW);
        worker.stream_done(1, NOW);
        assert_eq!(left(&mut worker, 2), HELLO + MAX);
        assert_eq!(ask(&mut worker, 3, &request, head, &answer), answer.as_bytes());
        assert_eq!(left(&mut worker, 4), 29);
    }
}

#[test]
fn usage_that_passes_by_before_the_client_leaves_settles_when_it_does() {
    let memory = Memory::default();
    let (mut first, mut second) = (worker(&memory, &local(limits())), worker(&memory, &local(limits())));
    create(&mut first, 1, "key", json!({"background": true, "stream": true}));
    first.response_headers(1, EVENTS, false, NOW);
    let created = event("created", &answer_of("resp_1", "in_progress", None));
    first.response_body(1, created.as_bytes(), false, NOW);
    let get = asking("GET", "/v1/responses/resp_1", "key");
    ask(&mut second, 1, &get, OK, &answer_of("resp_1", "completed", Some((9, 20))));
    first.stream_done(1, NOW);
    assert_eq!(left(&mut first, 2), 29);
}

#[test]
fn without_background_or_an_id_nothing_stays_open() {
    let usage = answer_of("resp_1", "completed", Some((9, 4_000)));
    for (members, id, charged) in [
        // Nothing had arrived.
        (json!({"stream": true}), "resp_1", HELLO),
        (json!({"stream": true, "background": false}), "resp_1", HELLO),
        (json!({"stream": true, "background": true}), "", HELLO + MAX),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &local(limits()));
        create(&mut worker, 1, "key", members.clone());
        leave_after_created(&mut worker, 1, id);
        assert_eq!(left(&mut worker, 2), charged, "{members}");
        ask(&mut worker, 3, &asking("GET", "/v1/responses/resp_1", "key"), OK, &usage);
        assert_eq!(left(&mut worker, 4), charged, "{members}");
    }
}

#[test]
fn a_response_that_ends_before_its_client_leaves_is_settled_as_any_other() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(limits()));
    create(&mut worker, 1, "key", json!({"background": true}));
    worker.response_headers(1, OK, false, NOW);
    // The status may come after the usage.
    let answer = r#"{"id":"resp_1","usage":{"input_tokens":9,"output_tokens":2},"status":"completed"}"#;
    worker.response_body(1, answer.as_bytes(), true, NOW);
    worker.stream_done(1, NOW);
    assert_eq!(left(&mut worker, 2), 11);
    let late = answer_of("resp_1", "completed", Some((9, 4_000)));
    ask(&mut worker, 3, &asking("GET", "/v1/responses/resp_1", "key"), OK, &late);
    assert_eq!(left(&mut worker, 4), 11);
}

#[test]
fn where_tokens_are_not_limited_no_answer_is_read() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 5})));
    worker.request_headers(1, &asking("GET", "/v1/responses/resp_1", "key"), true, NOW);
    worker.response_headers(1, OK, false, NOW);
    assert!(!worker.reads_response(1) && !worker.knows(1));
}

#[test]
fn through_redis_the_two_meet_at_the_sidecar() {
    let memory = Memory::default();
    let (mut first, mut second) =
        (worker(&memory, &redis("deny", limits())), worker(&memory, &redis("deny", limits())));
    assert_eq!(create(&mut first, 1, "key", json!({"background": true, "stream": true})), Directive::Pause);
    let reserve = first.turn(NOW).callouts.remove(0);
    answer(&mut first, &reserve, true);
    leave_after_created(&mut first, 1, "resp_1");
    let callout = first.turn(NOW).callouts.remove(0);
    let calls: Vec<Background> = serde_json::from_slice(&callout.body).unwrap();
    let [Background::Open(open)] = calls.as_slice() else { panic!("{calls:?}") };
    let reserved: Vec<Reserve> = serde_json::from_slice(&reserve.body).unwrap();
    assert_eq!((&open.id, &open.charges), (&reserved[0].id, &reserved[0].charges));
    assert_eq!(open.keep_ms, Millis::MINUTE);
    assert!(!format!("{calls:?}").contains("resp_1"), "the id is not sent");
    let done = serde_json::to_vec(&[Met::Done { found: None }]).unwrap();
    assert_eq!(first.callout_ended(callout.kind, Ok(&done), NOW).callouts, []);

    let get = asking("GET", "/v1/responses/resp_1", "other");
    ask(&mut second, 1, &get, OK, &answer_of("resp_1", "completed", Some((9, 4_000))));
    let callout = second.turn(NOW).callouts.remove(0);
    let calls: Vec<Background> = serde_json::from_slice(&callout.body).unwrap();
    let [Background::Usage(usage)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(usage.response, open.response);
    let found = serde_json::to_vec(&[Met::Done { found: Some(open.record.clone()) }]).unwrap();
    let settle = second.callout_ended(callout.kind, Ok(&found), NOW).callouts.remove(0);
    let settle = serde_json::from_slice::<Vec<Settle>>(&settle.body).unwrap().remove(0);
    assert_eq!((&settle.id, settle.if_absent, settle.extend), (&open.id, None, false));
    let tokens = ScopeCharges::flat(&settle.charges).find(|charge| &*charge.name == "total_tokens").unwrap();
    assert_eq!(tokens.cost, 4_009);
}

#[test]
fn a_prompt_of_unknown_size_is_shown_as_no_number() {
    for path in ["/v1/responses", "/v1/chat/completions"] {
        let memory = Memory::default();
        // Half of the tokens count, and a model that nobody can read may have any price.
        let config = json!({
            "default": {"output_tpm": 10_000},
            "prices": {"gpt-4o": {"input": 2.5, "output": 10.0}},
            "weights": {"models": {"*": 0.5}},
        });
        let mut worker = worker(&memory, &config);
        let mut request = post(path, "key");
        request.0.push(("content-encoding", "br".to_owned()));
        worker.request_headers(1, &request, false, NOW);
        let directive = worker.request_body(1, true, || vec![0xFF; 40], NOW).directive;
        assert_eq!(directive, Directive::Continue);
        leave_after_created(&mut worker, 1, "resp_1");
        let (line, report) = (worker.take_log(1), worker.take_report());
        let outcome = if path == "/v1/responses" { "unknown" } else { "counted" };
        assert!(line.contains(&(Field::Outcome, outcome.to_owned())), "{line:?}");
        let unknown = [Field::EstimatedInputTokens, Field::InputTokens, Field::CostUsd];
        assert!(line.iter().all(|(field, _)| !unknown.contains(field)), "{line:?}");
        let logged = line.iter().filter_map(|(_, value)| value.parse::<u64>().ok());
        let counted = report.counts.iter().map(|(_, count)| *count);
        let measured = report.values.iter().map(|(_, value)| *value);
        let most = logged.chain(counted).chain(measured).max();
        assert!(most <= Some(10_000), "{path}: {line:?} {report:?}");
    }
}
