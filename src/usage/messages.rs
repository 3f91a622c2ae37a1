//! Streams of Anthropic's messages: the prompt's usage at the start, blocks of text, and the answer's usage at the end.
//!
//! `message_start` has the tokens of the prompt and of the answer's beginning. Each `message_delta` has the tokens of
//! the answer so far, and in later versions of the API the prompt's again; the `message_delta` with a `stop_reason` is
//! the last.

use super::answer_text::AnswerText;
use super::report::{Report, Within};
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::MapAccess;

/// The content of an event's data; none if it is of another format.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut event = Event::default();
    // An event that breaks off has everything before the fault.
    let fault = lenient::read(data, &mut event).err().map(|fault| fault.classify());
    let mut update = StreamUpdate { fault, ..StreamUpdate::default() };
    match event.kind.0.as_deref()? {
        "message_delta" => update.is_last = event.delta.stops,
        "message_stop" => update.is_last = true,
        "content_block_start" => {
            update.has_output = true;
            update.calls = u64::from(event.block.has_name);
            update.arguments.clone_from(&event.block.whole.arguments);
            update.shows_reasoning = event.block.is_reasoning || event.block.whole.shows_reasoning;
            update.texts.push((event.index, event.block.begin.into_text()));
            update.wholes.push((event.index, event.block.whole.into_text()));
        }
        "content_block_delta" => {
            update.has_output = true;
            update.shows_reasoning = event.delta.text.shows_reasoning;
            update.arguments.clone_from(&event.delta.text.arguments);
            update.texts.push((event.index, event.delta.text.into_text()));
        }
        "message_start" | "content_block_stop" | "ping" => {}
        _ => return None,
    }
    for usage in [event.of_message, event.delta.usage, event.usage] {
        if usage.has_any() {
            update.reports.push((None, usage.bill()));
        }
    }
    Some(update)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    /// The block that the event belongs to.
    index: u64,
    of_message: Report,
    usage: Report,
    delta: Delta,
    block: Block,
}

impl<'b> Accept<'b> for Event<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "index" => {
                self.index = lenient::number(object)?.unwrap_or(0);
                Ok(())
            }
            "usage" => self.usage.take(object),
            "message" => lenient::offer(object, &mut Within(&mut self.of_message)),
            "delta" => lenient::offer(object, &mut self.delta),
            "content_block" => lenient::offer(object, &mut self.block),
            _ => lenient::skip(object),
        }
    }
}

/// The beginning of a block: a tool's name, or text. A tool's input comes in deltas, or all at once with the name. The
/// results of the provider's own tools are no text of the answer.
#[derive(Default)]
struct Block {
    begin: AnswerText,
    /// The same with the input.
    whole: AnswerText,
    is_reasoning: bool,
    has_name: bool,
}

impl<'b> Accept<'b> for Block {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => {
                let mut kind = Text::default();
                lenient::offer(object, &mut kind)?;
                self.is_reasoning = kind.0.as_deref() == Some("redacted_thinking");
                Ok(())
            }
            "name" | "text" | "thinking" => {
                let mut text = Text::default();
                lenient::offer(object, &mut text)?;
                let text = text.0.unwrap_or_default();
                self.is_reasoning |= name == "thinking";
                self.has_name |= name == "name";
                self.begin.string(text.clone());
                self.whole.string(text);
                Ok(())
            }
            "input" => self.whole.member_as_written(name, object),
            _ => lenient::skip(object),
        }
    }
}

#[derive(Default)]
struct Delta {
    text: AnswerText,
    usage: Report,
    /// Whether the message stops with this delta.
    stops: bool,
}

impl<'b> Accept<'b> for Delta {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "stop_reason" => {
                self.stops = lenient::raw(object)? != "null";
                Ok(())
            }
            "usage" => self.usage.take(object),
            _ => self.text.member_as_written(name, object),
        }
    }
}
