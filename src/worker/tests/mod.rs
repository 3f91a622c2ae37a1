//! Requests driven through a worker as Envoy would drive them, with the local store's arithmetic in place of a sidecar.

mod admission;
mod response;
mod sidecar;
mod storm;
mod streams;
mod waiting;

use super::*;
use crate::identity::RequestView;
use crate::quantity::{Millis, Units};
use crate::session::{HeaderEdits, ResponseHead};
use crate::store::local::tests::Memory;
use crate::store::wire::{self, Reserve, Reserved, ScopeCharges, Settled};
use crate::window::WindowState;
use serde_json::{Value, json};

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

/// Answers the reserve callout under way: all admitted or all refused.
fn answer(worker: &mut Worker<&Memory>, callout: &Callout, admitted: bool) -> Turn {
    worker.callout_answered(callout.kind, Ok(&decided(callout, admitted)), NOW)
}

/// The sidecar's answer to a reserve callout.
fn decided(callout: &Callout, admitted: bool) -> Vec<u8> {
    let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
    let fit = wire::fit(if admitted { 0 } else { 1_000 });
    let state = WindowState { used: Units::new(1), reset: Millis::MINUTE, fit };
    let answers: Vec<_> = calls
        .iter()
        .map(|call| Reserved::Decided {
            admitted,
            windows: vec![state; ScopeCharges::flat(&call.charges).count()],
        })
        .collect();
    serde_json::to_vec(&answers).unwrap()
}
