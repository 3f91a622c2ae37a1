//! Anthropic's messages: what a system prompt, messages and tools cost.
//!
//! Anthropic publishes no tokenizer and no rule, so all of it is an estimate: text is counted in `o200k_base` with
//! the factor of [`Claude`](crate::tokens::Claude), a message costs what a chat's does, which is what its
//! documentation's examples come to within a few tokens ("Token counting"), and tools cost their names, descriptions
//! and schemas as text and [`TOOLS`]. Thinking in the history counts its text, although the API leaves some of it out.
//! Not seen here, and settled by the response's usage: files, MCP servers' and the provider's own tools, redacted
//! thinking.

use super::Tally;
use super::chat::{MESSAGE, REPLY};
use super::content::{Content, Part, Texts, keep_json};
use super::format::Format;
use crate::codec::lenient::{self, Accept};
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};

/// Tokens of the system prompt that the API adds if there are tools: Anthropic's documentation "Tool use", section
/// "Pricing", has 290 to 804 by model and `tool_choice`, most of them about 500.
const TOOLS: u64 = 500;

/// Messages with their system prompt and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    messages: u64,
    content: Content<'b>,
    tools: u64,
}

impl<'b> Prompt<'b> {
    /// Takes a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "messages" => lenient::offer(object, &mut Messages(self)),
            "system" => lenient::offer(object, &mut Part::new(&mut self.content)),
            "tools" => lenient::offer(object, &mut Tools(self)),
            "output_config" | "output_format" => lenient::offer(object, &mut Format(&mut self.content.texts)),
            _ => lenient::skip(object),
        }
    }

    /// Whether there are no messages.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// What it costs, sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        let messages = self.messages.saturating_mul(MESSAGE);
        let tools = if self.tools > 0 { TOOLS } else { 0 };
        let text = [messages, self.content.text_tokens(meter), REPLY];
        Tally::new(text, self.content.other_tokens(model).saturating_add(tools))
    }
}

struct Messages<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Messages<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Message(&mut self.0.content))?;
        self.0.messages = self.0.messages.saturating_add(u64::from(read.is_some()));
        Ok(read)
    }
}

struct Message<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "role" => lenient::offer(object, &mut self.0.texts),
            "content" => lenient::offer(object, &mut Part::new(self.0)),
            _ => lenient::skip(object),
        }
    }
}

struct Tools<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Tools<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Tool(&mut self.0.content.texts))?;
        self.0.tools = self.0.tools.saturating_add(u64::from(read.is_some()));
        Ok(read)
    }
}

/// `{"name": …, "description": …, "input_schema": {…}}`.
struct Tool<'t, 'b>(&'t mut Texts<'b>);

impl<'b> Accept<'b> for Tool<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" | "description" => lenient::offer(object, self.0),
            "input_schema" => keep_json(self.0, object),
            _ => lenient::skip(object),
        }
    }
}
