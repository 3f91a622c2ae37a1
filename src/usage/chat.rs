//! Streams of chat completions and completions: chunks of choices, and usage.
//!
//! Usage may come in a chunk of its own at the end (OpenAI's `include_usage`), beside the last `finish_reason`, or in
//! every chunk for the text so far (vLLM's `continuous_usage_stats`).

use super::answer_text::AnswerText;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};

/// The content of an event's data; none if it is no chunk.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut chunk = Chunk::default();
    // A chunk that breaks off has everything before the fault.
    let _ = lenient::read(data, &mut chunk);
    chunk.is_known.then_some(chunk.update)
}

#[derive(Default)]
struct Chunk {
    update: StreamUpdate,
    /// Whether it has `choices`, as only a chunk does.
    is_known: bool,
}

impl<'b> Accept<'b> for Chunk {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "choices" => lenient::offer(object, &mut Choices(self)),
            "usage" => lenient::offer(object, &mut self.update.usage),
            _ => lenient::skip(object),
        }
    }
}

struct Choices<'c>(&'c mut Chunk);

impl<'b> Accept<'b> for Choices<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        self.0.is_known = true;
        let mut choice = Choice::default();
        let read = lenient::offer_element(array, &mut choice);
        if choice.finished {
            self.0.update.finished.push(choice.index);
        }
        self.0.update.texts.push((choice.index, choice.text));
        read
    }
}

/// An element of `choices`, in a chunk of a stream or in a body.
#[derive(Debug, Default)]
pub(super) struct Choice {
    index: u64,
    /// All text in it.
    pub(super) text: String,
    finished: bool,
}

impl<'b> Accept<'b> for Choice {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "index" => self.index = lenient::number(object)?.unwrap_or(0),
            "delta" | "message" | "text" => lenient::offer(object, &mut AnswerText(&mut self.text))?,
            // Some servers send an empty reason until there is one.
            "finish_reason" => self.finished |= !matches!(lenient::raw(object)?, "null" | "\"\""),
            _ => lenient::skip(object)?,
        }
        Ok(())
    }
}
