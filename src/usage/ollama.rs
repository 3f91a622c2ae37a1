//! Streams of Ollama's own API: objects in lines, of which the last has `done` and the numbers.
//!
//! A chat has its text in `message`, a generation in `response`. A prompt that the server still had in its cache may
//! have no number.

use super::answer_text::AnswerText;
use super::bill::Numbers;
use super::failure;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept};
use serde::de::MapAccess;

/// The content of a line; none if it is none of these.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut line = Line::default();
    // A line that breaks off has everything before the fault.
    let fault = lenient::read(data, &mut line).err().map(|fault| fault.classify());
    let Line { mut update, text, numbers, says_done, has_content } = line;
    update.fault = fault;
    update.shows_reasoning = text.shows_reasoning;
    update.calls = text.called;
    update.arguments.clone_from(&text.arguments);
    let text = text.into_text();
    update.has_output = !text.is_empty();
    update.texts.push((0, text));
    if numbers != Numbers::default() {
        update.reports.push((None, numbers.bill()));
    }
    (says_done && (has_content || !update.reports.is_empty())).then_some(update)
}

#[derive(Default)]
struct Line {
    update: StreamUpdate,
    text: AnswerText,
    numbers: Numbers,
    /// Whether it says whether it is the last.
    says_done: bool,
    /// Whether it has a member for the text, which other streams that say so need not have.
    has_content: bool,
}

impl<'b> Accept<'b> for Line {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "done" => {
                self.says_done = true;
                self.update.is_last = lenient::flag(object)?;
                Ok(())
            }
            "message" | "response" => {
                self.has_content = true;
                self.text.member_as_written("content", object)
            }
            "thinking" => self.text.member_as_written(name, object),
            "prompt_eval_count" | "eval_count" => self.numbers.member_as_written(name, object),
            "error" => failure::take_error(&mut self.update.has_failed, object),
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        self.text.end();
    }
}
