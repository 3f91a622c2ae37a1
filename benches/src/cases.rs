//! What is measured: tables of gateways, each under one load and beside one baseline.

use crate::load::Load;
use crate::stacks::{Key, Kind};
use crate::upstream;
use std::fmt::Write as _;

/// Connections of a load.
pub const CONNECTIONS: usize = 32;

/// A word of prompts; most tokenizers count it as one token.
const TEXT: &str = "The quick brown fox jumps over the lazy dog while the band plays on. ";

/// Gateways under the same load.
#[derive(Debug)]
pub struct Table {
    /// Its heading.
    pub title: &'static str,
    /// The requests.
    pub shape: Shape,
    /// Its rows; the others are compared with the first.
    pub cases: Vec<Case>,
}

/// The form of a load's requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a prompt.
    pub prompt: usize,
    /// Whether the answer is a stream of events.
    pub streams: bool,
}

/// A gateway in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The gateway.
    pub kind: Kind,
    /// Envoy's workers.
    pub workers: usize,
    /// The key that clients send, and which limits apply with it.
    pub key: Key,
    /// How many identities they are.
    pub identities: usize,
    /// Whether Envoy writes the shipped configuration's access log.
    pub logs: bool,
}

impl Table {
    fn new(title: &'static str, shape: Shape, cases: &[Case]) -> Self {
        Self { title, shape, cases: cases.to_vec() }
    }

    /// What its clients send to the gateway of `case`.
    pub fn load(&self, case: &Case) -> Load {
        let status = if case.key == Key::Over { 429 } else { 200 };
        let requests = (0..case.identities).map(|identity| self.shape.request(&case.key.of(identity)));
        Load { connections: CONNECTIONS, requests: requests.collect::<Vec<_>>().into(), status }
    }
}

impl Case {
    const fn new(kind: Kind, key: Key) -> Self {
        Self { kind, workers: 1, key, identities: 1, logs: false }
    }

    const fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    const fn identities(self, identities: usize) -> Self {
        Self { identities, ..self }
    }

    const fn with_log(self) -> Self {
        Self { logs: true, ..self }
    }

    /// Its name in its table.
    pub fn name(&self) -> String {
        let limits = match self.key {
            Key::Unlimited => "an unlimited key",
            Key::Requests => "limited requests",
            Key::All => "all token limits, settled",
            Key::Over => "over its limit",
        };
        let mut name = self.kind.name().to_owned();
        if matches!(self.kind, Kind::Local | Kind::Redis | Kind::RedisUnix) {
            let _ = write!(name, ", {limits}");
        }
        name
    }
}

impl Shape {
    /// A prompt of some bytes that is answered in JSON.
    pub const fn json(prompt: usize) -> Self {
        Self { prompt, streams: false }
    }

    /// A request with `key`, byte by byte.
    pub fn request(&self, key: &str) -> Vec<u8> {
        let answer = if self.streams { upstream::STREAM } else { "" };
        self.request_for(key, answer)
    }

    /// A request with `key` to which the upstream gives this answer; JSON if that is empty.
    pub fn request_for(&self, key: &str, answer: &str) -> Vec<u8> {
        let prompt: String = TEXT.chars().cycle().take(self.prompt).collect();
        let stream = if self.streams { r#""stream":true,"# } else { "" };
        let body = format!(
            r#"{{"model":"gpt-4o","max_tokens":16,{stream}"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
        );
        let choice =
            if answer.is_empty() { String::new() } else { format!("{}: {answer}\r\n", upstream::ANSWER) };
        // The headers of OpenAI's client for Python, but for those that tell of the machine.
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: api.example.com\r\naccept: application/json\r\n\
             accept-encoding: gzip, deflate\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             user-agent: OpenAI/Python 2.8.1\r\nx-stainless-lang: python\r\nx-stainless-retry-count: 0\r\n\
             {choice}content-length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    }
}

/// The table that README's picture and most goals are about.
pub const MAIN: &str = "A small chat";

/// The table of refusals.
pub const OVER: &str = "Over its limit";

/// The table of large prompts.
pub const LARGE: &str = "A prompt of 1 MB";

/// All tables.
pub fn tables() -> Vec<Table> {
    const BARE: Case = Case::new(Kind::Bare, Key::All);
    const LOCAL: Case = Case::new(Kind::Local, Key::All);
    const REDIS: Case = Case::new(Kind::Redis, Key::All);
    const FLOOR: Case = Case::new(Kind::Floor, Key::All);
    const SMALL: Shape = Shape::json(100);
    vec![
        Table::new(
            MAIN,
            SMALL,
            &[
                BARE,
                Case::new(Kind::LocalRateLimit, Key::All),
                Case::new(Kind::Empty, Key::All),
                FLOOR,
                Case::new(Kind::Local, Key::Unlimited),
                Case::new(Kind::Local, Key::Requests),
                LOCAL,
                Case::new(Kind::Redis, Key::Requests),
                REDIS,
                Case::new(Kind::RedisUnix, Key::Requests),
                Case::new(Kind::RedisUnix, Key::All),
            ],
        ),
        Table::new(
            OVER,
            SMALL,
            &[
                Case::new(Kind::Refuse, Key::Over),
                Case::new(Kind::Local, Key::Over),
                Case::new(Kind::Redis, Key::Over),
            ],
        ),
        Table::new("A stream of 16 events", Shape { streams: true, ..SMALL }, &[BARE, FLOOR, LOCAL, REDIS]),
        Table::new("A prompt of 8 KB", Shape::json(8_000), &[BARE, FLOOR, LOCAL, REDIS]),
        Table::new(LARGE, Shape::json(1_000_000), &[BARE, LOCAL, REDIS]),
        Table::new(
            "64 identities",
            SMALL,
            &[BARE.identities(64), LOCAL.identities(64), REDIS.identities(64)],
        ),
        Table::new("With an access log", SMALL, &[BARE.with_log(), LOCAL.with_log(), REDIS.with_log()]),
        Table::new("Two workers", SMALL, &[BARE.workers(2), LOCAL.workers(2), REDIS.workers(2)]),
    ]
}
