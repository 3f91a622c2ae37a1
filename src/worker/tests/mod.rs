//! Requests driven through a worker as Envoy would drive them, with the local store's arithmetic in place of a sidecar.

mod admission;
mod asked_usage;
mod background;
mod bodies;
mod caps;
mod decisions;
mod health;
mod law;
mod learning;
mod mirror;
mod models;
mod on_limit;
mod output_caps;
mod parts;
mod protocol;
mod response;
mod routes;
mod sidecar;
mod spelling;
mod steps;
mod storm;
mod streams;
mod upstream;
mod waiting;

use super::*;
use crate::identity::RequestView;
use crate::quantity::{Millis, Units};
use crate::request::BodyEdit;
use crate::session::{Directive, HeaderEdits, ResponseFlags, ResponseView};
use crate::store::local::tests::Memory;
use crate::store::wire::{self, Reserve, Reserved, ScopeCharges, Settle, Settled};
use crate::telemetry::access_log::{Field, LogFields};
use crate::window::WindowState;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::HashMap;

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

/// A response's headers.
#[derive(Clone, Copy)]
struct ResponseHead<'a> {
    status: u16,
    content_type: Option<&'a str>,
    content_encoding: Option<&'a str>,
}

impl ResponseView for ResponseHead<'_> {
    fn header(&self, name: &str) -> Option<String> {
        match name {
            ":status" => Some(self.status.to_string()),
            "content-type" => self.content_type.map(ToOwned::to_owned),
            "content-encoding" => self.content_encoding.map(ToOwned::to_owned),
            _ => None,
        }
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

/// Drives a worker callback by callback, and keeps the effects that each callback would hand to Envoy.
struct Driver<'a> {
    worker: Worker<&'a Memory>,
    log: HashMap<u32, Vec<LogFields>>,
    wake: bool,
    /// Callouts of the ticks in which a body was read.
    callouts: Vec<Callout>,
}

/// The outcome of a callback of a request.
struct Verdict {
    directive: Directive,
    body: Option<BodyEdit>,
    edits: HeaderEdits,
}

/// The outcome of a turn, without the requests that stay paused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resumed {
    callouts: Vec<Callout>,
    directives: Vec<(u32, Directive)>,
}

impl Driver<'_> {
    fn on(&mut self, stream: u32, event: Event<'_>, now: u64) -> Effects {
        let mut effects = self.worker.on(stream, event, &|| Millis::new(now));
        self.log.entry(stream).or_default().push(std::mem::take(&mut effects.log));
        self.wake |= effects.wake;
        effects
    }

    fn request(&mut self, stream: u32, event: Event<'_>, now: u64) -> Verdict {
        let Effects { directive, body, headers, .. } = self.on(stream, event, now);
        Verdict { directive: directive.unwrap_or(Directive::Continue), body, edits: headers }
    }

    fn request_headers(&mut self, stream: u32, request: &Request, end_of_stream: bool, now: u64) -> Verdict {
        self.request(stream, Event::RequestHeaders { request, end_of_stream }, now)
    }

    fn request_body(
        &mut self,
        stream: u32,
        end_of_stream: bool,
        body: impl Fn() -> Vec<u8>,
        now: u64,
    ) -> Verdict {
        let body = body();
        let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
        self.body(stream, &buffer, Some(body.len()), end_of_stream, now)
    }

    fn body(
        &mut self,
        stream: u32,
        buffer: &Buffer<'_>,
        size: Option<usize>,
        end_of_stream: bool,
        now: u64,
    ) -> Verdict {
        let mut effects = self.worker.body(stream, buffer, size, end_of_stream, &clock(now));
        self.log.entry(stream).or_default().push(std::mem::take(&mut effects.log));
        self.wake |= effects.wake;
        let Effects { directive, body, headers, .. } = effects;
        Verdict { directive: directive.unwrap_or(Directive::Continue), body, edits: headers }
    }

    /// A part of the body of which nothing is to be read.
    fn unread_body(&mut self, stream: u32, end_of_stream: bool, now: u64) -> Verdict {
        let buffer = |_: Range<usize>| -> Vec<u8> { panic!("it is not read") };
        self.body(stream, &buffer, Some(100), end_of_stream, now)
    }

    /// A whole body, which is read in as many ticks as it takes.
    fn whole_body(&mut self, stream: u32, body: &[u8], now: u64) -> Directive {
        let mut directive = self.request_body(stream, true, || body.to_vec(), now).directive;
        let read = |_: u32, range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
        while self.worker.sessions.get(&stream).is_some_and(Session::has_work) {
            let turn = self.worker.tick(&read, &clock(now));
            for (of, effects) in turn.effects {
                self.log.entry(of).or_default().push(effects.log);
                directive = effects.directive.filter(|_| of == stream).unwrap_or(directive);
            }
            self.callouts.extend(turn.callouts.into_iter().filter(|callout| callout.kind != Kind::Probe));
        }
        directive
    }

    fn response_headers(
        &mut self,
        stream: u32,
        head: ResponseHead<'_>,
        end_of_stream: bool,
        now: u64,
    ) -> HeaderEdits {
        self.on(stream, Event::ResponseHeaders { response: &head, end_of_stream }, now).headers
    }

    /// The bytes that the client gets in place of `chunk`.
    fn response_body(&mut self, stream: u32, chunk: &[u8], end_of_stream: bool, now: u64) -> Vec<u8> {
        let buffer = || chunk.to_vec();
        let edit = self.on(stream, Event::ResponseBody { buffer: &buffer, end_of_stream }, now).body;
        edit.map_or_else(|| chunk.to_vec(), |edit| [&edit.with, &chunk[edit.replaced..]].concat())
    }

    fn response_trailers(&mut self, stream: u32, now: u64) {
        self.on(stream, Event::ResponseTrailers, now);
    }

    fn stream_done(&mut self, stream: u32, now: u64) {
        self.stream_done_with(stream, ResponseFlags::default(), now);
    }

    fn stream_done_with(&mut self, stream: u32, flags: ResponseFlags, now: u64) {
        self.on(stream, Event::StreamDone { flags: &|| flags }, now);
    }

    fn resumed(&mut self, turn: Turn) -> Resumed {
        let mut directives = Vec::new();
        for (stream, effects) in turn.effects {
            self.log.entry(stream).or_default().push(effects.log);
            let resumes = |directive: &Directive| *directive != Directive::Pause;
            directives.extend(effects.directive.filter(resumes).map(|directive| (stream, directive)));
        }
        let mut callouts = turn.callouts;
        callouts.retain(|callout| callout.kind != Kind::Probe);
        Resumed { callouts, directives }
    }

    fn turn(&mut self, now: u64) -> Resumed {
        let turn = self.worker.turn(Millis::new(now));
        self.resumed(turn)
    }

    /// Two ticks, because the second serves the deadlines of answers that had come by the first.
    fn ticks(&mut self, now: u64) -> Resumed {
        let mut ticks = [now, now + 1].map(|now| self.worker.tick(&|_, _| Vec::new(), &clock(now)));
        let [first, second] = &mut ticks;
        first.effects.append(&mut second.effects);
        first.callouts.append(&mut second.callouts);
        let [both, _] = ticks;
        self.resumed(both)
    }

    fn callout_ended(&mut self, kind: Kind, answer: Result<&[u8], Failure>, now: u64) -> Resumed {
        let turn = self.worker.callout_ended(kind, answer, Millis::new(now));
        self.resumed(turn)
    }

    /// The fields of the line of `stream` since the last call, whether they are written or gather.
    fn take_log(&mut self, stream: u32) -> Vec<(Field, String)> {
        let written = self.take_written(stream).into_iter();
        written.chain(self.worker.lines.take(stream)).collect()
    }

    /// The fields that were written for `stream` since the last call.
    fn take_written(&mut self, stream: u32) -> Vec<(Field, String)> {
        self.log.remove(&stream).unwrap_or_default().into_iter().flatten().collect()
    }

    /// The counts since the last call, by name.
    fn take_metrics(&mut self) -> Vec<(String, u64)> {
        self.take_report().counts.into_iter().map(|(count, n)| (count.name(), n)).collect()
    }

    fn take_report(&mut self) -> Report {
        self.worker.tick(&|_, _| Vec::new(), &clock(NOW)).metrics
    }

    fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Whether the worker has a session for `stream`.
    fn knows(&self, stream: u32) -> bool {
        self.worker.sessions.contains_key(&stream)
    }

    /// Whether the next part of the response of `stream` is read.
    fn reads_response(&mut self, stream: u32) -> bool {
        let is_read = Cell::new(false);
        let buffer = || {
            is_read.set(true);
            Vec::new()
        };
        self.on(stream, Event::ResponseBody { buffer: &buffer, end_of_stream: false }, NOW);
        is_read.get()
    }
}

/// A clock by which every step of a turn takes a millisecond.
fn clock(now: u64) -> impl Fn() -> Millis {
    let next = Cell::new(now);
    move || Millis::new(next.replace(next.get() + 1))
}

fn worker<'a>(memory: &'a Memory, config: &Value) -> Driver<'a> {
    let config = Config::from_bytes(config.to_string().as_bytes()).unwrap();
    let worker = Worker::new(Arc::new(config), memory, 7);
    Driver { worker, log: HashMap::new(), wake: false, callouts: Vec::new() }
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

/// Sends a whole request and returns the last directive.
fn send(worker: &mut Driver<'_>, stream: u32, max_tokens: u64) -> Directive {
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

/// The units used of the first limit, from the headers of a request of [`PROMPT`] tokens of input and no output.
fn used(worker: &mut Driver<'_>, stream: u32) -> u64 {
    worker.request_headers(stream, &post("/v1/embeddings", "key"), false, NOW);
    let ids: Vec<u64> = (0..PROMPT).collect();
    let body = json!({"model": "gpt-4o", "input": ids}).to_string();
    worker.request_body(stream, true, || body.clone().into_bytes(), NOW);
    let edits = worker.response_headers(stream, ResponseHead { status: 500, ..OK }, true, NOW);
    worker.stream_done(stream, NOW);
    let value = |name| edits.set.iter().find(|(n, _)| *n == name).unwrap().1.parse::<u64>().unwrap();
    value("x-ratelimit-limit") - value("x-ratelimit-remaining")
}

/// Answers a reserve callout by admitting all its reservations, or none.
fn answer(worker: &mut Driver<'_>, callout: &Callout, admitted: bool) -> Resumed {
    worker.callout_ended(callout.kind, Ok(&decided(callout, admitted)), NOW)
}

/// The sidecar's answer to a reserve callout that admits all its reservations, or none.
fn decided(callout: &Callout, admitted: bool) -> Vec<u8> {
    let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
    let fit = wire::fit(if admitted { 0 } else { 1_000 });
    let state = WindowState { used: Units::new(1), reset: Millis::MINUTE, fit, granted: Units::ZERO };
    let answers: Vec<_> = calls
        .iter()
        .map(|call| Reserved::Decided {
            admitted,
            windows: vec![state; ScopeCharges::flat(&call.charges).count()],
        })
        .collect();
    serde_json::to_vec(&answers).unwrap()
}
