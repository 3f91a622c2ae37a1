//! The text of an answer, in any form: all of it costs tokens.

use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Collects the text of a message or of a delta: of its parts, its reasoning, and the names and arguments of the tools
/// that it calls. Sound has a transcript; images have no text.
pub(super) struct AnswerText<'t>(pub(super) &'t mut String);

impl<'b> Accept<'b> for AnswerText<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.push_str(&text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut AnswerText(self.0))
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "content" | "refusal" | "text" | "transcript" | "audio" | "reasoning_content" | "reasoning"
            | "thinking" | "summary" | "tool_calls" | "function_call" | "function" | "custom" | "name"
            | "arguments" | "partial_json" | "code" => lenient::offer(object, &mut AnswerText(self.0)),
            "input" => {
                // Anthropic's input is an object: its text is the JSON itself.
                let json = lenient::raw(object)?;
                let text = serde_json::from_str(json).map_or(Cow::Borrowed(json), Cow::<str>::Owned);
                self.0.push_str(&text);
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}
