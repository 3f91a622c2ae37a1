//! Ends streams of chat completions and of completions: finishes every open choice with `finish_reason: "length"`, and
//! then the stream with `[DONE]`.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The most choices that can be ended: OpenAI's largest `n`.
const MAX_CHOICES: u64 = 128;

/// The choices that have finished, and the first chunk that has a choice: the last chunk copies its other members.
#[derive(Debug)]
pub(super) struct Ending {
    chunk: Map<String, Value>,
    is_chat: bool,
    finished: BTreeSet<u64>,
}

impl Ending {
    /// The ending of a stream that begins with `event`. None if that is no chunk, or has no choice: Azure begins with
    /// such a chunk, which has no id.
    pub(super) fn from_first_event(event: Value) -> Option<Self> {
        let is_chat = choices(&event).next()?.get("text").is_none();
        let mut finished = BTreeSet::new();
        finished.extend(finished_by(&event));
        let Value::Object(mut chunk) = event else { return None };
        chunk.remove("usage");
        Some(Self { chunk, is_chat, finished })
    }

    /// Takes the next event.
    pub(super) fn update(&mut self, event: &Value) {
        self.finished.extend(finished_by(event));
    }

    /// The events that end the stream. None if all `choices` have finished, because nothing more would come.
    pub(super) fn write(&self, choices: u64) -> Option<String> {
        let choice = |index| {
            if self.is_chat {
                json!({"index": index, "delta": {}, "finish_reason": "length"})
            } else {
                json!({"index": index, "text": "", "finish_reason": "length"})
            }
        };
        let open = (0..choices.min(MAX_CHOICES)).filter(|index| !self.finished.contains(index));
        let open: Vec<Value> = open.map(choice).collect();
        if open.is_empty() {
            return None;
        }
        let mut chunk = self.chunk.clone();
        chunk.insert("choices".into(), open.into());
        Some(format!("data: {}\n\ndata: [DONE]\n\n", Value::Object(chunk)))
    }
}

fn choices(event: &Value) -> impl Iterator<Item = &Value> {
    event.get("choices").and_then(Value::as_array).into_iter().flatten()
}

/// The tracked choices that finish with `event`. Some servers send an empty reason until there is one.
fn finished_by(event: &Value) -> impl Iterator<Item = u64> {
    let has_reason = |choice: &&Value| {
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        reason.is_some_and(|reason| !reason.is_empty())
    };
    let index = |choice: &Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0);
    choices(event).filter(has_reason).map(index).filter(|index| *index < MAX_CHOICES)
}
