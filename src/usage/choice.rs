//! An element of `choices`, in a chunk of a stream or in a body.

use super::answer_text::AnswerText;
use super::failure;
use super::report::Report;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::MapAccess;

/// A choice.
#[derive(Debug, Default)]
pub(super) struct Choice<'b> {
    pub(super) index: u64,
    /// New text.
    pub(super) delta: AnswerText,
    /// The whole message. In a stream it may stand beside new text, which it repeats.
    pub(super) message: AnswerText,
    /// The text of a completion: new in a stream, whole in a body.
    pub(super) text: AnswerText,
    /// Kimi's usage.
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
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "index" => self.index = lenient::number(object)?.unwrap_or(0),
            "delta" => lenient::offer(object, &mut self.delta)?,
            "message" => lenient::offer(object, &mut self.message)?,
            "text" => lenient::offer(object, &mut self.text)?,
            "usage" => lenient::offer(object, &mut self.usage)?,
            "finish_reason" => lenient::offer(object, &mut self.finish_reason)?,
            "error" => failure::take_error(&mut self.has_error, object)?,
            _ => lenient::skip(object)?,
        }
        Ok(())
    }
}
