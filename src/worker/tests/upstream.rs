//! What an upstream may say in a response, and what the request is charged for it.

use super::*;
use crate::quantity::MAX_EXACT;

const SSE: ResponseHead<'_> = ResponseHead { content_type: Some("text/event-stream"), ..OK };

/// An event that Envoy would report when the upstream breaks off: UC.
const UPSTREAM_CLOSED: ResponseFlags = ResponseFlags(0x40);

/// The same when the client leaves: DC.
const CLIENT_LEFT: ResponseFlags = ResponseFlags(0x4000);

fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn text(text: &str) -> Vec<u8> {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn asks(worker: &mut Driver<'_>, stream: u32, model: &str, max_tokens: Option<u64>) {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": true});
    if let Some(max_tokens) = max_tokens {
        body["max_tokens"] = json!(max_tokens);
    }
    worker.request_headers(stream, &chat(), false, NOW);
    let verdict = worker.request_body(stream, true, || body.to_string().into_bytes(), NOW);
    assert_eq!(status(&verdict.directive), 200);
}

/// The output that is charged after a request for `model` whose answer is `chunks`, and what it is with `flags` at the
/// end.
fn charged(model: &str, head: ResponseHead<'_>, chunks: &[Vec<u8>], flags: Option<ResponseFlags>) -> u64 {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"output_tpm": 10_000})));
    asks(&mut worker, 1, model, Some(500));
    worker.response_headers(1, head, false, NOW);
    for chunk in chunks {
        worker.response_body(1, chunk, false, NOW);
    }
    match flags {
        Some(flags) => worker.stream_done_with(1, flags, NOW),
        None => drop(worker.response_body(1, b"", true, NOW)),
    }
    used(&mut worker, 2)
}

#[test]
fn an_error_behind_a_200_gives_the_tokens_back_and_keeps_the_request() {
    let error = json!({"error": {"message": "overloaded"}});
    for (head, chunk) in [(OK, error.to_string().into_bytes()), (SSE, event(&error))] {
        for (refunds, used_requests) in [(false, 1), (true, 0)] {
            let memory = Memory::default();
            let limits = json!({"rpm": 5, "output_tpm": 500});
            let mut worker =
                worker(&memory, &json!({"default": limits, "refund_requests_on_error": refunds}));
            send(&mut worker, 1, 500);
            worker.response_headers(1, head, false, NOW);
            worker.response_body(1, &chunk, true, NOW);
            assert_eq!(used(&mut worker, 2), used_requests + 1, "requests");
            assert_eq!(status(&send(&mut worker, 3, 500)), 200, "all of the output is free again");
        }
    }
    let said = [text(" hello"), event(&error)];
    assert_eq!(charged("gpt-4o", SSE, &said, None), 1, "output came before it");
}

#[test]
fn a_body_that_breaks_off_is_charged_by_who_broke_it() {
    let begun = vec![br#"{"choices":[{"message":{"content":"Hello wor"#.to_vec()];
    let empty = vec![br#"{"id":"c","choi"#.to_vec()];
    for (body, upstream, client) in [(begun, 2, 500), (empty, 0, 500)] {
        assert_eq!(charged("gpt-4o", OK, &body, None), upstream, "its end came");
        assert_eq!(charged("gpt-4o", OK, &body, Some(UPSTREAM_CLOSED)), upstream);
        assert_eq!(charged("gpt-4o", OK, &body, Some(CLIENT_LEFT)), client);
        assert_eq!(charged("gpt-4o", OK, &body, Some(ResponseFlags::default())), client);
    }
}

#[test]
fn a_cut_stream_of_a_reasoning_model_costs_what_its_answers_mostly_do() {
    let memory = Memory::default();
    let limits = json!({"output_tpm": 100_000});
    let config =
        json!({"default": limits, "output_reservation": {"mode": "declared", "default_tokens": 300}});
    let mut worker = worker(&memory, &config);
    let mut spent = 0;
    let mut cut =
        |worker: &mut Driver<'_>, stream: u32, model: &str, max_tokens: Option<u64>, words: usize| {
            asks(worker, stream, model, max_tokens);
            worker.response_headers(stream, SSE, false, NOW);
            worker.response_body(stream, &text(&" word".repeat(words)), false, NOW);
            worker.stream_done_with(stream, CLIENT_LEFT, NOW);
            let before = spent;
            spent = used(worker, stream + 1);
            spent - before
        };
    assert_eq!(cut(&mut worker, 1, "gpt-4o", None, 7), 7, "its text");
    assert_eq!(cut(&mut worker, 3, "o3", None, 7), 300, "nothing is known of its answers: the default");
    assert_eq!(cut(&mut worker, 5, "o3", Some(50), 7), 50, "never more than was reserved");
    assert_eq!(cut(&mut worker, 7, "o3", Some(50), 80), 80 + 3, "its text, if that is more");
    for stream in 100..300 {
        asks(&mut worker, stream, "o3", None);
        worker.response_headers(stream, OK, false, NOW);
        worker.response_body(stream, &super::usage(9, 100), true, NOW);
    }
    spent = used(&mut worker, 400);
    let mut cut = |stream: u32, model: &str| {
        asks(&mut worker, stream, model, None);
        worker.response_headers(stream, SSE, false, NOW);
        worker.response_body(stream, &text(" word"), false, NOW);
        worker.stream_done_with(stream, CLIENT_LEFT, NOW);
        let before = spent;
        spent = used(&mut worker, stream + 1);
        spent - before
    };
    let median = cut(401, "o3");
    assert!((100..=112).contains(&median), "{median}");
    assert_eq!(cut(403, "my-deployment"), 1);
}

#[test]
fn a_model_reasons_by_its_name_by_what_it_shows_or_by_what_it_reported() {
    let thought = event(&json!({"choices": [{"index": 0, "delta": {"reasoning_content": " word"}}]}));
    assert_eq!(charged("mine", SSE, &[text(" word")], Some(CLIENT_LEFT)), 1);
    assert_eq!(charged("mine", SSE, &[thought], Some(CLIENT_LEFT)), 500);
    assert_eq!(charged("openai/gpt-5-mini", SSE, &[text(" word")], Some(CLIENT_LEFT)), 500);

    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"output_tpm": 10_000})));
    asks(&mut worker, 1, "mine", Some(500));
    worker.response_headers(1, OK, false, NOW);
    let reported = json!({"usage": {"prompt_tokens": 9, "completion_tokens": 40,
        "completion_tokens_details": {"reasoning_tokens": 30}}});
    worker.response_body(1, reported.to_string().as_bytes(), true, NOW);
    asks(&mut worker, 2, "mine", Some(500));
    worker.response_headers(2, SSE, false, NOW);
    worker.response_body(2, &text(" word"), false, NOW);
    worker.stream_done_with(2, CLIENT_LEFT, NOW);
    assert_eq!(used(&mut worker, 3), 40 + 500);
}

#[test]
fn an_event_that_could_not_be_read_leaves_the_reservation() {
    let image = "iVBORw0KGgo".repeat(150_000);
    let item = json!({"type": "image_generation_call", "result": image});
    let last = |usage: Value| {
        event(&json!({"type": "response.completed", "response": {"output": [item], "usage": usage}}))
    };
    let usage = json!({"input_tokens": 9, "output_tokens": 41});
    assert_eq!(charged("gpt-4o", SSE, &[last(usage)], None), 41);
    assert_eq!(charged("gpt-4o", SSE, &[last(Value::Null)], None), 500);
}

#[test]
fn numbers_that_cannot_be_become_a_settlement_that_can_be_done() {
    let memory = Memory::default();
    let config = json!({
        "store": {"type": "redis", "cluster": "s"},
        "default": {"windows": [
            {"metric": "total_tokens", "limit": 1_000_000_000_000_u64, "window": "1m"},
            {"metric": "cost_usd", "limit": 1_000_000_000, "window": "1d"},
        ]},
        "weights": {"reasoning_factor": 10, "models": {"*": 1000}},
        "prices": {"*": {"input": 1_000_000, "output": 1_000_000}},
    });
    let mut worker = worker(&memory, &config);
    send(&mut worker, 1, 0);
    let callout = worker.turn(NOW).callouts.pop().unwrap();
    answer(&mut worker, &callout, true);
    worker.response_headers(1, OK, false, NOW);
    let absurd = json!({"usage": {"prompt_tokens": MAX_EXACT, "completion_tokens": u64::MAX,
        "completion_tokens_details": {"reasoning_tokens": u64::MAX}}});
    worker.response_body(1, absurd.to_string().as_bytes(), true, NOW);
    let settled = worker.turn(NOW).callouts.pop().unwrap();
    let settled: Vec<Settle> = serde_json::from_slice(&settled.body).unwrap();
    let costs: Vec<u64> = ScopeCharges::flat(&settled[0].charges).map(|charge| charge.cost.get()).collect();
    assert!(costs.iter().all(|cost| (1 << 40..=MAX_EXACT).contains(cost)), "{costs:?}");
}

#[test]
fn a_stream_that_repeats_itself_is_not_finished_early() {
    let memory = Memory::default();
    let config = json!({"default": {"output_tpm": 400}, "on_stream_over": "finish"});
    let mut worker = worker(&memory, &config);
    asks(&mut worker, 1, "sonar", Some(300));
    worker.response_headers(1, SSE, false, NOW);
    let mut seen = String::new();
    for at in 1..=300 {
        let message = json!({"role": "assistant", "content": " word".repeat(at)});
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": " word"}, "message": message}]});
        seen += &String::from_utf8(worker.response_body(1, &event(&chunk), false, NOW)).unwrap();
    }
    assert_eq!((seen.matches("\"delta\"").count(), seen.contains("length")), (300, false));
    worker.stream_done(1, NOW);
    assert_eq!(used(&mut worker, 2), 300);
}
