//! Streams of the Responses API: typed events. The last event has the whole response with its usage.
//!
//! Each `….delta` adds text to an item of the output: its text or refusal, a tool's arguments or code, a summary of
//! its reasoning. The API does not send the reasoning itself, so an answer that breaks off counts for less than it
//! cost.

use super::answer_text::AnswerText;
use super::report::Report;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::MapAccess;

/// The content of an event's data; none if it is of another format.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut event = Event::default();
    // An event that breaks off has everything before the fault.
    let _ = lenient::read(data, &mut event);
    let kind = event.kind.0.as_deref()?.strip_prefix("response.")?;
    let mut update = StreamUpdate { usage: event.response.usage, ..StreamUpdate::default() };
    match kind {
        "completed" | "incomplete" | "failed" | "cancelled" => update.is_last = true,
        "output_item.added" => update.texts.push((event.index, event.name)),
        // Sound, in base64.
        "audio.delta" | "output_audio.delta" => {}
        delta if delta.ends_with(".delta") => update.texts.push((event.index, event.delta)),
        _ => {}
    }
    Some(update)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    /// The item of the output that the event belongs to.
    index: u64,
    delta: String,
    name: String,
    response: Response,
}

impl<'b> Accept<'b> for Event<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "output_index" => {
                self.index = lenient::number(object)?.unwrap_or(0);
                Ok(())
            }
            "delta" => lenient::offer(object, &mut AnswerText(&mut self.delta)),
            "item" => lenient::offer(object, &mut Named(&mut self.name)),
            "response" => lenient::offer(object, &mut self.response),
            _ => lenient::skip(object),
        }
    }
}

/// The name of the tool that an item calls. Everything else in the item comes in deltas.
struct Named<'n>(&'n mut String);

impl<'b> Accept<'b> for Named<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => lenient::offer(object, &mut AnswerText(self.0)),
            _ => lenient::skip(object),
        }
    }
}

#[derive(Default)]
struct Response {
    usage: Report,
}

impl<'b> Accept<'b> for Response {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "usage" => lenient::offer(object, &mut self.usage),
            _ => lenient::skip(object),
        }
    }
}
