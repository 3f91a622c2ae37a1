//! Streams of the Responses API: typed events, the last of which has the whole response with its usage.
//!
//! Each `….delta` adds text to an item of the output: its text or refusal, a tool's arguments or code, a summary of
//! its reasoning. The reasoning itself is not sent, so an answer that is cut off is counted for less than it cost.

use super::report::Report;
use super::said::Said;
use super::told::StreamUpdate;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::MapAccess;

/// What an event's data tells, if it is one of these.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut event = Event::default();
    // An event that breaks off has told what it told.
    let _ = lenient::read(data, &mut event);
    let kind = event.kind.0.as_deref()?.strip_prefix("response.")?;
    let mut told = StreamUpdate { usage: event.response.usage, ..StreamUpdate::default() };
    match kind {
        "completed" | "incomplete" | "failed" | "cancelled" => told.is_last = true,
        "output_item.added" => told.says.push((event.index, event.name)),
        // Sound, in base64.
        "audio.delta" | "output_audio.delta" => {}
        delta if delta.ends_with(".delta") => told.says.push((event.index, event.delta)),
        _ => {}
    }
    Some(told)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    /// Which item of the output it is about.
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
            "delta" => lenient::offer(object, &mut Said(&mut self.delta)),
            "item" => lenient::offer(object, &mut Named(&mut self.name)),
            "response" => lenient::offer(object, &mut self.response),
            _ => lenient::skip(object),
        }
    }
}

/// The name of the tool that an item calls. What else it has comes in deltas.
struct Named<'n>(&'n mut String);

impl<'b> Accept<'b> for Named<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => lenient::offer(object, &mut Said(self.0)),
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
