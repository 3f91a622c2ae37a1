//! Streams of Anthropic's messages: the prompt's usage at the start, blocks of text, and the answer's usage at the end.
//!
//! `message_start` has the tokens of the prompt and of the answer's beginning. Each `message_delta` has the tokens of
//! the answer so far, and in later versions of the API the prompt's again; the `message_delta` with a `stop_reason` is
//! the last.

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
    let mut update = StreamUpdate { usage: event.usage, ..StreamUpdate::default() };
    match event.kind.0.as_deref()? {
        "message_delta" => update.is_last = event.delta.stops,
        "message_stop" => update.is_last = true,
        "content_block_start" => update.texts.push((event.index, event.block)),
        "content_block_delta" => update.texts.push((event.index, event.delta.text)),
        "message_start" | "content_block_stop" | "ping" => {}
        _ => return None,
    }
    Some(update)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    /// The block that the event belongs to.
    index: u64,
    usage: Report,
    delta: Delta,
    block: String,
}

impl<'b> Accept<'b> for Event<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "index" => {
                self.index = lenient::number(object)?.unwrap_or(0);
                Ok(())
            }
            "usage" => lenient::offer(object, &mut self.usage),
            "message" => lenient::offer(object, &mut Message(&mut self.usage)),
            "delta" => lenient::offer(object, &mut self.delta),
            "content_block" => lenient::offer(object, &mut Block(&mut self.block)),
            _ => lenient::skip(object),
        }
    }
}

struct Message<'r>(&'r mut Report);

impl<'b> Accept<'b> for Message<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "usage" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}

/// The beginning of a block: a tool's name, or text. A tool's input comes in deltas. The results of the provider's
/// own tools are no text of the answer.
struct Block<'t>(&'t mut String);

impl<'b> Accept<'b> for Block<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" | "text" | "thinking" => lenient::offer(object, &mut AnswerText(self.0)),
            _ => lenient::skip(object),
        }
    }
}

#[derive(Default)]
struct Delta {
    text: String,
    /// Whether the message stops with this delta.
    stops: bool,
}

impl<'b> Accept<'b> for Delta {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "stop_reason" => {
                self.stops = lenient::raw(object)? != "null";
                Ok(())
            }
            _ => AnswerText(&mut self.text).member(name, object),
        }
    }
}
