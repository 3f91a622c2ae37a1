//! An element of `choices`, in a chunk of a stream or in a body.

use super::answer_text::AnswerText;
use super::failure;
use super::report::Report;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// A choice.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice<'b> {
    pub(super) index: u64,
    /// New text.
    pub(super) delta: AnswerText,
    /// The whole message. In a stream it may stand beside new text, which it repeats.
    pub(super) message: AnswerText,
    /// The text of a completion: new in a stream, whole in a body.
    pub(super) text: AnswerText,
    /// Kimi's usage, beside the text or in it.
    pub(super) usage: Report,
    finish_reason: Text<'b>,
    has_error: bool,
}

impl Choice<'_> {
    /// Whether it has finished. Some servers send an empty reason until there is one.
    pub(super) fn has_finished(&self) -> bool {
        self.finish_reason.0.as_deref().is_some_and(|reason| !reason.is_empty())
    }

    /// Whether the upstream has failed to make it.
    pub(super) fn has_failed(&self) -> bool {
        self.has_error || self.finish_reason.0.as_deref() == Some("error")
    }

    /// Whether some of its text is reasoning.
    pub(super) const fn shows_reasoning(&self) -> bool {
        self.delta.shows_reasoning || self.message.shows_reasoning
    }
}

impl<'b> Accept<'b> for Choice<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "index" => self.index = lenient::number(object)?.unwrap_or(0),
            "delta" => lenient::offer(object, &mut Spoken(&mut self.delta, &mut self.usage))?,
            "message" => lenient::offer(object, &mut Spoken(&mut self.message, &mut self.usage))?,
            "text" => lenient::offer(object, &mut self.text)?,
            "usage" => self.usage.take(object)?,
            "finish_reason" => lenient::offer(object, &mut self.finish_reason)?,
            "error" => failure::take_error(&mut self.has_error, object)?,
            _ => lenient::skip(object)?,
        }
        Ok(())
    }
}

/// A message or a delta, which may have a usage in it.
struct Spoken<'c>(&'c mut AnswerText, &'c mut Report);

impl<'b> Accept<'b> for Spoken<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.string(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        self.0.element(array)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == "usage" { self.1.take(object) } else { self.0.member_as_written(name, object) }
    }

    fn end(&mut self) {
        self.0.end();
    }
}
