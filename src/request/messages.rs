//! Anthropic's messages: the tokens of a system prompt, messages and tools.
//!
//! Anthropic publishes no tokenizer and no rule, so every count is an estimate. Text is counted in `o200k_base` with
//! the factor of [`Claude`](crate::models::Claude). A message costs as much as a chat's message, which matches the
//! examples in Anthropic's documentation, "Token counting", within a few tokens. Tools cost their names, descriptions
//! and schemas as text, and [`CLAUDE_TOOLS_PROMPT`]. Thinking in the history counts its text, although the API leaves
//! some of it out. Parts that a request does not show count nothing until the response reports its usage: files, tools
//! of MCP servers and of the provider, redacted thinking.

use super::beside;
use super::content::{Content, Part, Texts, keep_json};
use super::format::Format;
use super::prompt::{Counted, Tally};
use crate::codec::lenient::{self, Accept};
use crate::models::{CLAUDE_TOOLS_PROMPT, MessageTokens};
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Messages with their system prompt and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    messages: u64,
    content: Content<'b>,
    tools: u64,
}

impl<'b> Prompt<'b> {
    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "messages" => lenient::offer(object, &mut Messages(self)),
            "system" => lenient::offer(object, &mut Part::new(&mut self.content)),
            "tools" => lenient::offer(object, &mut Tools(self)),
            "output_config" | "output_format" => lenient::offer(object, &mut Format(&mut self.content.texts)),
            _ => beside::keep(&mut self.content.texts, name, object),
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Texts<'b>)) -> Prompt<'static> {
        let Self { messages, content, tools } = self;
        Prompt { messages, content: content.without_texts(&mut |texts| take(Counted::Once, texts)), tools }
    }

    /// Whether there are no messages.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The tokens of its text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        self.content.text_tokens(meter)
    }

    /// Its tokens beside the text if it is sent to `model`.
    pub(super) fn beside_text(&self, model: &str) -> Tally {
        let MessageTokens { message, reply, .. } = MessageTokens::USUAL;
        let tools = if self.tools > 0 { CLAUDE_TOOLS_PROMPT } else { Units::ZERO };
        Tally::new(message * self.messages + reply, self.content.other_tokens(model) + tools)
    }
}

struct Messages<'p, 'b>(&'p mut Prompt<'b>);

/// The value of `messages`. Some servers also take one message, or its text, in the place of an array.
impl<'b> Accept<'b> for Messages<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.messages += 1;
        self.0.content.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        Message(&mut self.0.content).member(name, object)
    }

    fn end(&mut self) {
        self.0.messages += 1;
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Message(&mut self.0.content))?;
        self.0.messages += u64::from(read.is_some());
        Ok(read)
    }
}

struct Message<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "role" => lenient::offer(object, &mut self.0.texts),
            "content" => lenient::offer(object, &mut Part::new(self.0)),
            _ => beside::keep_of_message(&mut self.0.texts, name, object),
        }
    }
}

struct Tools<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Tools<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Tool(&mut self.0.content.texts))?;
        self.0.tools += u64::from(read.is_some());
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
