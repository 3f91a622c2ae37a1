//! Streams of chat completions and of completions: each choice ends with `finish_reason: "length"`, and all with
//! `[DONE]`.

use serde_json::{Map, Value, json};

/// Choices that are told; OpenAI's largest `n`.
const MAX_CHOICES: u64 = 128;

/// The first chunk, in whose likeness the last is written.
#[derive(Debug)]
pub(super) struct Ending {
    chunk: Map<String, Value>,
    is_chat: bool,
}

impl Ending {
    pub(super) fn begun_by(event: Value) -> Option<Self> {
        let Value::Object(mut chunk) = event else { return None };
        chunk.remove("usage");
        let object = chunk.get("object").and_then(Value::as_str);
        let is_chat = object.is_none_or(|object| object.starts_with("chat"));
        Some(Self { chunk, is_chat })
    }

    pub(super) fn write(&self, choices: u64) -> String {
        let choice = |index| {
            if self.is_chat {
                json!({"index": index, "delta": {}, "finish_reason": "length"})
            } else {
                json!({"index": index, "text": "", "finish_reason": "length"})
            }
        };
        let mut chunk = self.chunk.clone();
        chunk.insert("choices".into(), (0..choices.min(MAX_CHOICES)).map(choice).collect());
        format!("data: {}\n\ndata: [DONE]\n\n", Value::Object(chunk))
    }
}

/// Whether an event is the one that `stream_options.include_usage` adds.
pub(super) fn is_usage_alone(event: &Value) -> bool {
    let choices = event.get("choices").and_then(Value::as_array);
    choices.is_some_and(Vec::is_empty) && event.get("usage").is_some_and(Value::is_object)
}
