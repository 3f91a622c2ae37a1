//! Streams of Google's Gemini API: chunks of candidates, each with the usage so far.
//!
//! Chunks are events where the client asks for them (`alt=sse`), and the elements of an array otherwise. The last has a
//! `finishReason` for each candidate. Thoughts are beside the candidates' tokens, and only the total has both.

use super::answer_text::AnswerText;
use super::failure;
use super::report::Report;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::{MapAccess, SeqAccess};

/// The content of an event's data; none if it is no chunk.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut chunk = Chunk::default();
    // A chunk that breaks off has everything before the fault.
    let fault = lenient::read(data, &mut chunk).err().map(|fault| fault.classify());
    let Chunk { mut update, usage, is_one } = chunk;
    update.fault = fault;
    if usage.has_any() {
        update.reports.push((None, usage.bill()));
    }
    is_one.then_some(update)
}

#[derive(Default)]
struct Chunk {
    update: StreamUpdate,
    usage: Report,
    /// Whether it has a member that only these chunks have.
    is_one: bool,
}

impl<'b> Accept<'b> for Chunk {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        self.is_one |= matches!(name, "candidates" | "usageMetadata" | "promptFeedback");
        match name {
            "candidates" => lenient::offer(object, &mut Candidates(&mut self.update)),
            "usageMetadata" => self.usage.take(object),
            "promptFeedback" => lenient::offer(object, &mut Feedback(&mut self.update)),
            "error" => failure::take_error(&mut self.update.has_failed, object),
            _ => lenient::skip(object),
        }
    }
}

/// What the API has found in the prompt: of one that it blocks there is no answer.
struct Feedback<'u>(&'u mut StreamUpdate);

impl<'b> Accept<'b> for Feedback<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == "blockReason" {
            self.0.is_last = true;
        }
        lenient::skip(object)
    }
}

struct Candidates<'u>(&'u mut StreamUpdate);

impl<'b> Accept<'b> for Candidates<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut candidate = Candidate::default();
        let read = lenient::offer_element(array, &mut candidate);
        if !matches!(read, Ok(None)) {
            let update = &mut *self.0;
            if candidate.has_finished() {
                update.finished.push(candidate.index);
            }
            update.shows_reasoning |= candidate.text.shows_reasoning;
            update.calls = update.calls.saturating_add(candidate.text.called);
            update.arguments.push_str(&candidate.text.arguments);
            let text = candidate.text.into_text();
            update.has_output |= !text.is_empty();
            update.texts.push((candidate.index, text));
        }
        read
    }
}

/// An element of `candidates`, in a chunk or in a body.
#[derive(Default)]
pub(super) struct Candidate<'b> {
    index: u64,
    pub(super) text: AnswerText,
    finish_reason: Text<'b>,
}

impl Candidate<'_> {
    fn has_finished(&self) -> bool {
        self.finish_reason.0.as_deref().is_some_and(|reason| !reason.is_empty())
    }
}

impl<'b> Accept<'b> for Candidate<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "index" => {
                self.index = lenient::number(object)?.unwrap_or(0);
                Ok(())
            }
            "content" => lenient::offer(object, &mut Content(&mut self.text)),
            "finishReason" => lenient::offer(object, &mut self.finish_reason),
            _ => lenient::skip(object),
        }
    }
}

struct Content<'t>(&'t mut AnswerText);

impl<'b> Accept<'b> for Content<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "parts" => lenient::offer(object, &mut Parts(self.0)),
            _ => lenient::skip(object),
        }
    }
}

struct Parts<'t>(&'t mut AnswerText);

impl<'b> Accept<'b> for Parts<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut part = Part::default();
        let read = lenient::offer_element(array, &mut part);
        let Part { mut text, is_thought } = part;
        text.shows_reasoning |= is_thought;
        self.0.add(text);
        read
    }
}

/// A part of an answer: a text, a call of a function, or code that Google has run.
#[derive(Default)]
struct Part {
    text: AnswerText,
    is_thought: bool,
}

impl<'b> Accept<'b> for Part {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "thought" => {
                self.is_thought |= lenient::flag(object)?;
                Ok(())
            }
            "functionCall" => lenient::offer(object, &mut Call(&mut self.text)),
            "executableCode" => lenient::offer(object, &mut self.text),
            "text" => self.text.member_as_written(name, object),
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        self.text.end();
    }
}

/// A call: its arguments have a name of their own.
struct Call<'t>(&'t mut AnswerText);

impl<'b> Accept<'b> for Call<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "args" => self.0.member_as_written("input", object),
            "name" => self.0.member_as_written(name, object),
            _ => lenient::skip(object),
        }
    }
}
