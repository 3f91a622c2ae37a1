//! The memory of a worker does not grow with what clients send: many requests, each with a key, a model and a response
//! id of its own, leave as much behind as a fifth of them.
//!
//! A million of them take a minute in a release build:
//! `MEMORY_REQUESTS=1000000 cargo test --release --package llm-rate-limit-tests --test memory`.

use llm_rate_limit::config::Config;
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::session::{Event, ResponseFlags};
use llm_rate_limit::worker::Worker;
use llm_rate_limit_tests::native::{Headers, Shared};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Requests of a run, unless `MEMORY_REQUESTS` sets another number. Everything that is bounded by number is full after
/// a fifth of them.
const REQUESTS: u64 = 60_000;

/// What allocators and hash tables may differ by.
const SLACK: usize = 1 << 20;

const NOW: u64 = 1_700_000_000_000;

/// Sends the request of this number and its response through the worker.
fn exchange(worker: &mut Worker<&Shared>, number: u64) {
    let stream = u32::try_from(number).unwrap();
    let now = Millis::new(NOW + number);
    let request = Headers(vec![
        (":method", "POST".to_owned()),
        (":path", "/v1/responses".to_owned()),
        (":authority", format!("host-{number}")),
        ("content-type", "application/json".to_owned()),
        ("authorization", format!("Bearer sk-{number}")),
        ("accept-language", format!("de-{number}")),
    ]);
    let body =
        json!({"model": format!("model-{number}"), "input": "hi", "background": number.is_multiple_of(2)});
    let body = body.to_string().into_bytes();
    let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
    worker.on(stream, Event::RequestHeaders { request: &request, end_of_stream: false }, &|| now);
    worker.body(stream, &buffer, Some(body.len()), true, &|| now);
    let response =
        Headers(vec![(":status", "200".to_owned()), ("content-type", "application/json".to_owned())]);
    worker.on(stream, Event::ResponseHeaders { response: &response, end_of_stream: false }, &|| now);
    // Half of them go on in the background.
    let usage = (number % 2 == 1).then(|| json!({"input_tokens": 8, "output_tokens": number % 5_000}));
    let status = if usage.is_some() { "completed" } else { "in_progress" };
    let body = json!({"id": format!("resp_{number}"), "object": "response", "model": format!("served-{number}"),
        "status": status, "usage": usage, "output": []});
    let body = body.to_string().into_bytes();
    worker.on(stream, Event::ResponseBody { buffer: &|| body.clone(), end_of_stream: true }, &|| now);
    worker.on(stream, Event::StreamDone { flags: &ResponseFlags::default }, &|| now);
    if number.is_multiple_of(100) {
        let nothing = |_: u32, _: Range<usize>| Vec::new();
        worker.tick(&nothing, &|| now);
    }
}

fn limits() -> Value {
    json!({
        "default": {"tpm": 1_000_000},
        "models": {"*": {"rpm": 1_000_000_000}},
        "prices": {"gpt-4o": {"input": 1, "output": 2}},
        "store": {"type": "local", "max_identities": 100},
    })
}

#[test]
fn many_requests_leave_no_more_than_a_fifth_of_them() {
    let requests = std::env::var("MEMORY_REQUESTS").map_or(REQUESTS, |number| number.parse().unwrap());
    let shared = Shared::default();
    let config = Config::from_bytes(limits().to_string().as_bytes()).unwrap();
    let mut worker = Worker::new(Arc::new(config), &shared, 7);
    let mut early = 0;
    for number in 0..requests {
        exchange(&mut worker, number);
        if number == requests / 5 {
            early = ALLOCATOR.current_usage();
        }
    }
    let late = ALLOCATOR.current_usage();
    assert!(late < early + early / 20 + SLACK, "{early} bytes, and {late} in the end");
}
