//! Ends streams of Google's Gemini API: finishes every open candidate with `finishReason: "MAX_TOKENS"`.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The most candidates that can be ended.
const MAX_CANDIDATES: u64 = 128;

/// The candidates that have finished, and the first chunk: the last one copies its other members.
#[derive(Debug)]
pub(super) struct Ending {
    chunk: Map<String, Value>,
    finished: BTreeSet<u64>,
}

impl Ending {
    /// The ending of a stream that begins with `event`. None if that is no object.
    pub(super) fn from_first_event(event: Value) -> Option<Self> {
        let mut finished = BTreeSet::new();
        finished.extend(finished_by(&event));
        let Value::Object(chunk) = event else { return None };
        Some(Self { chunk, finished })
    }

    /// Takes the next event.
    pub(super) fn update(&mut self, event: &Value) {
        self.finished.extend(finished_by(event));
        // Each chunk has the usage so far.
        if let Some(usage) = event.get("usageMetadata") {
            self.chunk.insert("usageMetadata".into(), usage.clone());
        }
    }

    /// The event that ends the stream. None if all `choices` have finished, because nothing more would come.
    pub(super) fn write(&self, choices: u64) -> Option<String> {
        let candidate = |index| {
            let content = json!({"parts": [{"text": ""}], "role": "model"});
            json!({"content": content, "finishReason": "MAX_TOKENS", "index": index})
        };
        let open = (0..choices.min(MAX_CANDIDATES)).filter(|index| !self.finished.contains(index));
        let open: Vec<Value> = open.map(candidate).collect();
        if open.is_empty() {
            return None;
        }
        let mut chunk = self.chunk.clone();
        chunk.insert("candidates".into(), open.into());
        Some(format!("data: {}\n\n", Value::Object(chunk)))
    }
}

/// The candidates that finish with `event`.
fn finished_by(event: &Value) -> impl Iterator<Item = u64> {
    let candidates = event.get("candidates").and_then(Value::as_array).into_iter().flatten();
    let has_reason = |candidate: &&Value| candidate.get("finishReason").is_some_and(Value::is_string);
    let index = |candidate: &Value| candidate.get("index").and_then(Value::as_u64).unwrap_or(0);
    candidates.filter(has_reason).map(index).filter(|index| *index < MAX_CANDIDATES)
}
