//! Writes events in the form of Anthropic's API and of the Responses API: the event's name repeats the type in its
//! data.

use serde_json::Value;
use std::fmt::Write as _;

/// Appends `event` to `out`.
pub(super) fn write_event(out: &mut String, event: &Value) {
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(out, "event: {kind}\ndata: {event}\n\n");
}
