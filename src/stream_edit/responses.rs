//! Ends streams of the Responses API: finishes open parts and items, and then the response as `incomplete` because of
//! `max_output_tokens`. The last event repeats the whole answer, so the filter keeps the answer.

use super::event::write_event;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The longest answer to keep, in bytes: 4 MiB, about a million tokens. The stream of a longer answer cannot be ended.
const MAX_KEPT: usize = 4 << 20;

/// The response so far.
#[derive(Debug)]
pub(super) struct Ending {
    response: Value,
    /// The items of the output, by `output_index`.
    items: BTreeMap<u64, Item>,
    /// The number of the last event.
    sequence_number: u64,
    /// The bytes of the answer so far.
    kept: usize,
}

/// An item of the output.
#[derive(Debug)]
struct Item {
    value: Value,
    is_done: bool,
    /// The `content_index` of the part that has begun and not ended.
    open_part: Option<u64>,
}

impl Ending {
    /// The ending of a stream that begins with `event`, a `response.created`.
    pub(super) fn from_first_event(mut event: Value) -> Self {
        let response = event.get_mut("response").map(Value::take).unwrap_or_default();
        Self { response, items: BTreeMap::new(), sequence_number: number(&event, "sequence_number"), kept: 0 }
    }

    /// Takes the next event.
    pub(super) fn update(&mut self, mut event: Value) {
        self.sequence_number = number(&event, "sequence_number").max(self.sequence_number);
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = number(&event, "output_index");
        let mut take = |name: &str| event.get_mut(name).map(Value::take).unwrap_or_default();
        match kind.as_str() {
            "response.output_item.added" | "response.output_item.done" => {
                let value = take("item");
                if self.has_room_for(value.to_string().len()) {
                    let is_done = kind.ends_with(".done");
                    self.items.insert(index, Item { value, is_done, open_part: None });
                }
            }
            "response.content_part.added" => {
                let (part, at) = (take("part"), number(&event, "content_index"));
                if self.has_room_for(part.to_string().len())
                    && let Some(item) = self.items.get_mut(&index)
                {
                    item.open_part = Some(at);
                    push(&mut item.value, "content", part);
                }
            }
            "response.content_part.done" => {
                if let Some(item) = self.items.get_mut(&index) {
                    item.open_part = None;
                }
            }
            "response.reasoning_summary_part.added" => {
                let part = take("part");
                if self.has_room_for(part.to_string().len())
                    && let Some(item) = self.items.get_mut(&index)
                {
                    push(&mut item.value, "summary", part);
                }
            }
            _ => {
                if let Value::String(delta) = take("delta")
                    && self.has_room_for(delta.len())
                    && let Some(item) = self.items.get_mut(&index)
                {
                    append(&mut item.value, &kind, &delta);
                }
            }
        }
    }

    /// Adds `bytes` to the size of the answer. If the answer is too long now, drops it and returns false.
    fn has_room_for(&mut self, bytes: usize) -> bool {
        self.kept = self.kept.saturating_add(bytes);
        let fits = self.kept <= MAX_KEPT;
        if !fits {
            self.items.clear();
        }
        fits
    }

    /// The events that end the stream; none if the answer is too long.
    pub(super) fn write(&self) -> Option<String> {
        if self.kept > MAX_KEPT {
            return None;
        }
        let mut end = Writer { text: String::new(), sequence_number: self.sequence_number };
        let mut output = Vec::new();
        for (index, item) in &self.items {
            let mut value = item.value.clone();
            if !item.is_done {
                end.end_part(*index, item);
                if let Some(status) = value.get_mut("status") {
                    *status = json!("incomplete");
                }
                end.event("response.output_item.done", json!({"output_index": index, "item": value}));
            }
            output.push(value);
        }
        let mut response = self.response.clone();
        let fields = response.as_object_mut()?;
        fields.insert("status".into(), json!("incomplete"));
        fields.insert("incomplete_details".into(), json!({"reason": "max_output_tokens"}));
        fields.insert("output".into(), output.into());
        end.event("response.incomplete", json!({"response": response}));
        Some(end.text)
    }
}

/// Writes events with consecutive numbers.
struct Writer {
    text: String,
    sequence_number: u64,
}

impl Writer {
    fn event(&mut self, kind: &str, mut event: Value) {
        self.sequence_number = self.sequence_number.saturating_add(1);
        if let Some(fields) = event.as_object_mut() {
            fields.insert("type".into(), json!(kind));
            fields.insert("sequence_number".into(), json!(self.sequence_number));
        }
        write_event(&mut self.text, &event);
    }

    /// Ends the open part of `item`, which is at `index` of the output.
    fn end_part(&mut self, index: u64, item: &Item) {
        let Some(at) = item.open_part else { return };
        let part = item.value.get("content").and_then(|content| content.get(usize::try_from(at).ok()?));
        let Some(part) = part else { return };
        let place = |name: &str, value: &Value| {
            let id = item.value.get("id");
            json!({"item_id": id, "output_index": index, "content_index": at, name: value})
        };
        if let Some(text) = part.get("text") {
            self.event("response.output_text.done", place("text", text));
        } else if let Some(refusal) = part.get("refusal") {
            self.event("response.refusal.done", place("refusal", refusal));
        }
        self.event("response.content_part.done", place("part", part));
    }
}

/// Adds `delta` to the text that an event of this `kind` extends: the item's last part, or its arguments.
fn append(item: &mut Value, kind: &str, delta: &str) {
    let text = match kind {
        "response.output_text.delta" => last(item, "content").and_then(|part| text(part, "text")),
        "response.refusal.delta" => last(item, "content").and_then(|part| text(part, "refusal")),
        "response.reasoning_summary_text.delta" => last(item, "summary").and_then(|part| text(part, "text")),
        "response.function_call_arguments.delta" => text(item, "arguments"),
        "response.custom_tool_call_input.delta" => text(item, "input"),
        _ => None,
    };
    if let Some(text) = text {
        text.push_str(delta);
    }
}

/// The last element of the array `name` of an object.
fn last<'v>(object: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    object.get_mut(name)?.as_array_mut()?.last_mut()
}

/// The string member `name` of an object.
fn text<'v>(object: &'v mut Value, name: &str) -> Option<&'v mut String> {
    match object.get_mut(name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Adds an element to the array `name` of an object.
fn push(object: &mut Value, name: &str, element: Value) {
    if let Some(list) = object.get_mut(name).and_then(Value::as_array_mut) {
        list.push(element);
    }
}

/// The number member `name` of an event; zero if it has none.
fn number(event: &Value, name: &str) -> u64 {
    event.get(name).and_then(Value::as_u64).unwrap_or(0)
}
