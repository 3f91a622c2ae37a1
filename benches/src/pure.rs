//! The filter's own work without Envoy, for counts of instructions.

use llm_rate_limit::config::Config;
use llm_rate_limit::quantity::{Millis, Units};
use llm_rate_limit::request::{Body, Endpoint, Request};
use llm_rate_limit::session::{Event, ResponseFlags};
use llm_rate_limit::store::local::LocalStore;
use llm_rate_limit::store::wire::{Charge, ScopeCharges};
use llm_rate_limit::tokens::{Counting, Encoding, Factor, Tokenizer};
use llm_rate_limit::usage::{EndedBy, ResponseReader};
use llm_rate_limit::window::Window;
use llm_rate_limit::worker::Worker;
use llm_rate_limit_tests::native::{Headers, Shared};
use serde_json::json;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

const NOW: u64 = 1_700_000_000_000;

/// Text that is counted and sent, about eight kilobytes of it.
const PROSE: &str = include_str!("../../docs/counting.md");
const TEXT_BYTES: usize = 8_000;

/// A piece of work by its name. It prepares what it needs, and returns what it does each time.
pub type Case = (&'static str, fn() -> Box<dyn FnMut()>);

/// All pieces of work.
pub const CASES: [Case; 8] = [
    ("count 8 KB of English", count),
    ("read a chat's body of 8 KB", read),
    ("read a stream of 16 events", stream),
    ("reserve and settle in one window", || windows(1)),
    ("reserve and settle in four windows", || windows(4)),
    ("a whole small chat, all token limits, local", || exchange(chat("Hello! How are you today?"))),
    ("a whole chat with 200 tools", || exchange(with_tools())),
    ("a whole chat with a plain prompt as large", || exchange(chat(&prose(with_tools().len())))),
];

/// The tools of the largest requests.
const TOOLS: usize = 200;

fn text() -> &'static str {
    let end = (TEXT_BYTES..).find(|at| PROSE.is_char_boundary(*at)).unwrap();
    &PROSE[..end]
}

fn tokenizer() -> Tokenizer {
    Tokenizer::new(Counting { encoding: Encoding::O200kBase, factor: Factor::ONE })
}

fn count() -> Box<dyn FnMut()> {
    let tokenizer = tokenizer();
    Box::new(move || {
        black_box(tokenizer.count(black_box(text())));
    })
}

fn chat(content: &str) -> Vec<u8> {
    json!({"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": content}]})
        .to_string()
        .into_bytes()
}

/// As much prose.
fn prose(bytes: usize) -> String {
    let text: String = PROSE.chars().filter(char::is_ascii).cycle().take(bytes).collect();
    text
}

/// A chat with tools as frameworks write them from typed functions: with formats, defaults, bounds and nested objects.
fn with_tools() -> Vec<u8> {
    let names =
        ["customer", "invoice", "shipment", "ticket", "repository", "calendar", "document", "payment"];
    let tool = |number: usize| {
        let thing = names.iter().cycle().nth(number).unwrap();
        json!({"type": "function", "function": {
            "name": format!("search_{thing}_{number}"),
            "description": format!("Searches for a {thing} by its name, and returns the newest matches first."),
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "The text to find", "minLength": 1, "maxLength": 200},
                    "limit": {
                        "type": "integer", "description": "How many matches to return",
                        "minimum": 1, "maximum": 100, "multipleOf": 1, "default": 10,
                    },
                    "status": {"type": "string", "enum": ["open", "closed", "archived"], "default": "open"},
                    "since": {
                        "type": "string", "format": "date-time", "description": "Only what has changed since then",
                    },
                    "owner": {"type": "object", "properties": {
                        "name": {"type": "string"},
                        "email": {"type": "string", "format": "email", "pattern": "^[^@]+@[^@]+$"},
                    }, "required": ["email"], "additionalProperties": false},
                },
                "required": ["query"],
                "additionalProperties": false,
            },
        }})
    };
    json!({
        "model": "gpt-4o", "max_tokens": 16,
        "messages": [{"role": "user", "content": "Hello! How are you today?"}],
        "tools": (0..TOOLS).map(tool).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

fn read() -> Box<dyn FnMut()> {
    let bytes = chat(text());
    Box::new(move || {
        let body = Body::new(black_box(&bytes));
        black_box(Request::read(Endpoint::ChatCompletions, &body).size());
    })
}

fn stream() -> Box<dyn FnMut()> {
    let events = crate::upstream::event_texts();
    Box::new(move || {
        let kind = Some("text/event-stream");
        let mut reader = ResponseReader::new(Endpoint::ChatCompletions, kind, 1, tokenizer());
        for event in &events {
            black_box(reader.push(black_box(event.as_bytes())));
        }
        black_box(reader.finish(EndedBy::Upstream));
    })
}

fn windows(number: usize) -> Box<dyn FnMut()> {
    let shared: &'static Shared = Box::leak(Box::default());
    let configured = Arc::new(BTreeSet::from([Arc::<str>::from("key")]));
    let mut store = LocalStore::new(shared, "".into(), NonZeroU32::MIN, configured);
    store.prepare();
    let names = ["requests", "input_tokens", "output_tokens", "total_tokens"];
    let of = |name: &&str, cost| Charge {
        identity: "key".into(),
        name: (*name).into(),
        window: Window::sliding(Millis::MINUTE.at_least_one()),
        limit: Units::new(1 << 40),
        cost: Units::new(cost),
        enforced: true,
        warn_at: None,
    };
    let charges = |cost| {
        let charges = names.iter().take(number).map(|name| of(name, cost)).collect();
        vec![ScopeCharges { scope: "key".into(), charges }]
    };
    let (reserved, spent) = (charges(100), charges(60));
    let mut now = NOW;
    Box::new(move || {
        now += 7;
        let decision = store.reserve(&reserved, Millis::new(now)).unwrap();
        store.settle(&spent, decision.held.unwrap(), Millis::new(now + 3)).unwrap();
    })
}

fn exchange(body: Vec<u8>) -> Box<dyn FnMut()> {
    let shared: &'static Shared = Box::leak(Box::default());
    let limits = json!({"default": {
        "rpm": 1_000_000_000, "tpm": 1_000_000_000_000_u64,
        "input_tpm": 1_000_000_000_000_u64, "output_tpm": 1_000_000_000_000_u64,
    }});
    let config = Config::from_bytes(limits.to_string().as_bytes()).unwrap();
    let mut worker = Worker::new(Arc::new(config), shared, 7);
    let request = Headers::from([
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":authority", "api.example.com"),
        ("content-type", "application/json"),
        ("authorization", "Bearer a-key"),
    ]);
    let response = Headers::from([(":status", "200"), ("content-type", "application/json")]);
    let answer = crate::upstream::json_body(25).into_bytes();
    let mut number = 0_u32;
    Box::new(move || {
        number += 1;
        let now = Millis::new(NOW + u64::from(number));
        let clock = || now;
        let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
        worker.on(number, Event::RequestHeaders { request: &request, end_of_stream: false }, &clock);
        black_box(worker.body(number, &buffer, Some(body.len()), true, &clock));
        let headers = Event::ResponseHeaders { response: &response, end_of_stream: false };
        black_box(worker.on(number, headers, &clock));
        let part = Event::ResponseBody { buffer: &|| answer.clone(), end_of_stream: true };
        worker.on(number, part, &clock);
        worker.on(number, Event::StreamDone { flags: &ResponseFlags::default }, &clock);
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_work_can_be_done_again_and_again() {
        for (_, prepare) in super::CASES {
            let mut work = prepare();
            work();
            work();
        }
    }
}
