//! Streams of Anthropic's messages: the prompt's usage at the start, blocks of text, and the answer's usage at the end.
//!
//! `message_start` has the prompt's tokens and those of the answer's first. `message_delta`, of which there may be
//! several, has the tokens of the answer so far, and in later versions the prompt's once more; the one with a
//! `stop_reason` is the last.

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
    let mut told = StreamUpdate { usage: event.usage, ..StreamUpdate::default() };
    match event.kind.0.as_deref()? {
        "message_delta" => told.is_last = event.delta.stops,
        "message_stop" => told.is_last = true,
        "content_block_start" => told.says.push((event.index, event.block)),
        "content_block_delta" => told.says.push((event.index, event.delta.text)),
        "message_start" | "content_block_stop" | "ping" => {}
        _ => return None,
    }
    Some(told)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    /// Which block it is about.
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

/// What a block begins with: a tool's name, or text. Its input comes in deltas; what a tool of the provider's found
/// is not the answer's.
struct Block<'t>(&'t mut String);

impl<'b> Accept<'b> for Block<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" | "text" | "thinking" => lenient::offer(object, &mut Said(self.0)),
            _ => lenient::skip(object),
        }
    }
}

#[derive(Default)]
struct Delta {
    text: String,
    /// Whether the message stops with it.
    stops: bool,
}

impl<'b> Accept<'b> for Delta {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "stop_reason" => {
                self.stops = lenient::raw(object)? != "null";
                Ok(())
            }
            _ => Said(&mut self.text).member(name, object),
        }
    }
}
