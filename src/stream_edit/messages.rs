//! Ends streams of Anthropic's messages: stops the open block, and then the message with `stop_reason: "max_tokens"`.

use super::event::write_event;
use serde_json::{Value, json};

/// The block that has started and not stopped. There is one at a time.
#[derive(Debug, Default)]
pub(super) struct Ending {
    open_block: Option<u64>,
}

impl Ending {
    /// Takes the next event.
    pub(super) fn update(&mut self, event: &Value) {
        match event.get("type").and_then(Value::as_str) {
            Some("content_block_start") => self.open_block = event.get("index").and_then(Value::as_u64),
            Some("content_block_stop") => self.open_block = None,
            _ => {}
        }
    }

    /// The events that end the stream.
    pub(super) fn write(&self, output_tokens: u64) -> String {
        let mut end = String::new();
        if let Some(index) = self.open_block {
            write_event(&mut end, &json!({"type": "content_block_stop", "index": index}));
        }
        let delta = json!({"stop_reason": "max_tokens", "stop_sequence": null});
        let usage = json!({"output_tokens": output_tokens});
        write_event(&mut end, &json!({"type": "message_delta", "delta": delta, "usage": usage}));
        write_event(&mut end, &json!({"type": "message_stop"}));
        end
    }
}
