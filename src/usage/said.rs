//! What an answer says, in whatever form: all of it costs tokens.

use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Gathers the text of a message or of a change to it, of its parts, its reasoning and the names and arguments of the
/// tools that it calls. Sound and images have no text; what is heard has a transcript.
pub(super) struct Said<'t>(pub(super) &'t mut String);

impl<'b> Accept<'b> for Said<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.push_str(&text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Said(self.0))
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "content" | "refusal" | "text" | "transcript" | "audio" | "reasoning_content" | "reasoning"
            | "thinking" | "summary" | "tool_calls" | "function_call" | "function" | "custom" | "name"
            | "arguments" | "partial_json" | "code" => lenient::offer(object, &mut Said(self.0)),
            "input" => {
                // Anthropic's is an object, and costs what it is written with.
                let json = lenient::raw(object)?;
                let text = serde_json::from_str(json).map_or(Cow::Borrowed(json), Cow::<str>::Owned);
                self.0.push_str(&text);
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}
