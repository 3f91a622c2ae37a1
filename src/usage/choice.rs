//! One of an answer's choices: what it says, and whether it has finished.

use crate::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An element of `choices`, in a chunk of a stream or in a body.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Its index.
    pub(super) index: u64,
    /// All that it says, which costs tokens: content, refusal, reasoning, the names and arguments of tools called.
    pub(super) text: String,
    /// Whether it has a reason to have finished.
    pub(super) finished: bool,
}

impl<'b> Accept<'b> for Choice {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "index" => self.index = lenient::number(object)?.unwrap_or(0),
            "delta" | "message" | "text" => lenient::offer(object, &mut Said(&mut self.text))?,
            // Some servers send an empty reason until there is one.
            "finish_reason" => self.finished |= !matches!(lenient::raw(object)?, "null" | "\"\""),
            _ => lenient::skip(object)?,
        }
        Ok(())
    }
}

/// Gathers the text of a message, of its parts and of its tool calls.
struct Said<'t>(&'t mut String);

impl<'b> Accept<'b> for Said<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.push_str(&text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Said(self.0))
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "content" | "refusal" | "reasoning_content" | "reasoning" | "text" | "tool_calls"
            | "function_call" | "function" | "custom" | "name" | "arguments" | "input" => {
                lenient::offer(object, &mut Said(self.0))
            }
            _ => lenient::skip(object),
        }
    }
}
