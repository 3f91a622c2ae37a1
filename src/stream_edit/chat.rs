//! Streams of chat completions and of completions: each choice that has not finished does so with
//! `finish_reason: "length"`, and the stream with `[DONE]`.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Choices that are told; OpenAI's largest `n`.
const MAX_CHOICES: u64 = 128;

/// The first chunk of a choice, in whose likeness the last is written, and which of them have finished.
#[derive(Debug)]
pub(super) struct Ending {
    chunk: Map<String, Value>,
    is_chat: bool,
    finished: BTreeSet<u64>,
}

impl Ending {
    /// None if the event is not a chunk, or one without a choice: Azure sends such a one first, with no id.
    pub(super) fn begun_by(event: Value) -> Option<Self> {
        let is_chat = choices(&event).next()?.get("text").is_none();
        let mut finished = BTreeSet::new();
        finished.extend(finished_by(&event));
        let Value::Object(mut chunk) = event else { return None };
        chunk.remove("usage");
        Some(Self { chunk, is_chat, finished })
    }

    pub(super) fn note(&mut self, event: &Value) {
        self.finished.extend(finished_by(event));
    }

    /// None if all `choices` have finished: what is still to come is not the answer's.
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

/// Whether an event is the one that `stream_options.include_usage` adds.
pub(super) fn is_usage_alone(event: &Value) -> bool {
    let choices = event.get("choices").and_then(Value::as_array);
    choices.is_some_and(Vec::is_empty) && event.get("usage").is_some_and(Value::is_object)
}

fn choices(event: &Value) -> impl Iterator<Item = &Value> {
    event.get("choices").and_then(Value::as_array).into_iter().flatten()
}

/// The choices that finish with an event, of those that are told. Some servers send an empty reason until there is one.
fn finished_by(event: &Value) -> impl Iterator<Item = u64> {
    let has_reason = |choice: &&Value| {
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        reason.is_some_and(|reason| !reason.is_empty())
    };
    let index = |choice: &Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0);
    choices(event).filter(has_reason).map(index).filter(|index| *index < MAX_CHOICES)
}
