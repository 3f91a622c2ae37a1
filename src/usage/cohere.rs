//! Streams of Cohere's chats: events with a type, of which `message-end` has the usage
//! (<https://docs.cohere.com/docs/streaming>).

use super::answer_text::AnswerText;
use super::failure;
use super::report::Report;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::MapAccess;

/// The types of these events.
const TYPES: [&str; 11] = [
    "message-start",
    "content-start",
    "content-delta",
    "content-end",
    "tool-plan-delta",
    "tool-call-start",
    "tool-call-delta",
    "tool-call-end",
    "citation-start",
    "citation-end",
    "message-end",
];

/// The content of an event's data; none if it has another type.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut event = Event::default();
    // An event that breaks off has everything before the fault.
    let fault = lenient::read(data, &mut event).err().map(|fault| fault.classify());
    let Event { kind, mut delta } = event;
    let kind = kind.0?;
    let mut update = StreamUpdate { fault, is_last: kind == "message-end", ..StreamUpdate::default() };
    update.has_failed = delta.has_failed || delta.finish_reason.0.as_deref() == Some("ERROR");
    if delta.usage.has_any() {
        update.reports.push((None, delta.usage.bill()));
    }
    let text = &mut delta.text;
    update.shows_reasoning = text.shows_reasoning;
    update.calls = text.called;
    update.arguments = std::mem::take(&mut text.arguments);
    let text = delta.text.into_text();
    update.has_output = !text.is_empty();
    update.texts.push((0, text));
    TYPES.contains(&&*kind).then_some(update)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    delta: Delta<'b>,
}

impl<'b> Accept<'b> for Event<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "delta" => lenient::offer(object, &mut self.delta),
            _ => lenient::skip(object),
        }
    }
}

#[derive(Default)]
struct Delta<'b> {
    text: AnswerText,
    usage: Report,
    finish_reason: Text<'b>,
    has_failed: bool,
}

impl<'b> Accept<'b> for Delta<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "message" => self.text.member_as_written("content", object),
            "usage" => self.usage.take(object),
            "finish_reason" => lenient::offer(object, &mut self.finish_reason),
            "error" => failure::take_error(&mut self.has_failed, object),
            _ => lenient::skip(object),
        }
    }
}
