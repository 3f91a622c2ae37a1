//! Answers that a test has given the mock byte by byte, for upstreams that answer as no format says.

use super::Answer;
use crate::journal::Usage;
use axum::http::HeaderValue;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The answers by name. They stay for as long as the mock runs.
#[derive(Debug, Default)]
pub(crate) struct Given {
    by_name: Mutex<HashMap<String, (HeaderValue, Bytes)>>,
}

impl Given {
    /// Remembers `body` under `name`.
    pub(crate) fn give(&self, name: String, content_type: HeaderValue, body: Bytes) {
        // A panic under the lock leaves a valid map.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (content_type, body));
    }

    /// The answer called `name`. Each event of a stream is a piece, unless `chunk_bytes` says how large pieces are.
    pub(crate) fn answer(&self, name: &str, chunk_bytes: Option<usize>) -> Option<Answer> {
        let given = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let (content_type, body) = given.get(name)?.clone();
        let pieces = match chunk_bytes {
            Some(size) => body.chunks(size).map(|chunk| body.slice_ref(chunk)).collect(),
            None if content_type == "text/event-stream" => events(&body),
            None => vec![body],
        };
        let usage = Usage { prompt_tokens: 0, completion_tokens: 0 };
        Some(Answer { pieces, content_type, usage, reports_usage: false })
    }
}

/// The events of a stream, each with its blank line.
fn events(stream: &Bytes) -> Vec<Bytes> {
    let ends = stream.windows(2).enumerate().filter(|(_, pair)| pair == b"\n\n").map(|(at, _)| at + 2);
    let mut begin = 0;
    let mut events = Vec::new();
    for end in ends.chain([stream.len()]) {
        if end > begin {
            events.push(stream.slice(begin..end));
            begin = end;
        }
    }
    events
}
