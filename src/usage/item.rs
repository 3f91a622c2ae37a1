//! An item of a response's output, or a block of a message's content.

use super::answer_text::AnswerText;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An item or a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    /// The name of the tool that it calls. In a stream, everything else in an item comes in deltas, too.
    pub(super) name: String,
    /// Its text, the name included.
    pub(super) text: AnswerText,
    /// Whether it is reasoning, in the open or hidden.
    pub(super) is_reasoning: bool,
    /// Whether it is the work of a tool of the provider.
    pub(super) is_others: bool,
}

impl<'b> Accept<'b> for Item {
    fn string(&mut self, text: Cow<'b, str>) {
        self.text.string(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        self.text.element(array)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => {
                let mut text = Text::default();
                lenient::offer(object, &mut text)?;
                self.name = text.0.unwrap_or_default().into_owned();
                self.text.string(self.name.as_str().to_owned().into());
                Ok(())
            }
            "type" => {
                let mut kind = Text::default();
                lenient::offer(object, &mut kind)?;
                let kind = kind.0.as_deref();
                self.is_reasoning = matches!(kind, Some("reasoning" | "thinking" | "redacted_thinking"));
                self.is_others = !self.is_reasoning && !matches!(kind, Some("message" | "function_call"));
                Ok(())
            }
            _ => self.text.member_as_written(name, object),
        }
    }
}
