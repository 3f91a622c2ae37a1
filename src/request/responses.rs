//! Responses: the tokens of an input of text or items, of instructions and of tools.
//!
//! OpenAI publishes no rule for this API, so a request counts like a chat: an item as a message, a text alone as a
//! user's message, instructions as a system message. State that the provider keeps is not in the request and counts
//! nothing until the response reports its usage: the earlier conversation (`previous_response_id`, `conversation`), a
//! stored prompt's text (`prompt.id`; its variables are counted), references to items, encrypted reasoning.

use super::beside;
use super::content::{Content, Part, Texts, keep_json};
use super::format::Format;
use super::prompt::{Counted, Tally};
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use crate::models::MessageTokens;
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An input with its instructions and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    /// Items, and texts that count as one.
    items: u64,
    /// Whether one of them is no empty text.
    has_content: bool,
    /// Whether one of several values has no items.
    may_be_none: bool,
    content: Content<'b>,
    tools: Tools<'b>,
}

impl<'b> Prompt<'b> {
    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "input" => {
                let before = self.items;
                lenient::offer(object, &mut Items { prompt: self, role: "user" })?;
                self.may_be_none |= self.items == before;
                Ok(())
            }
            "instructions" => lenient::offer(object, &mut Items { prompt: self, role: "system" }),
            "tools" => lenient::offer(object, &mut self.tools),
            "text" => lenient::offer(object, &mut Format(&mut self.content.texts)),
            "prompt" => lenient::offer(object, &mut Template(self)),
            _ => beside::keep(&mut self.content.texts, name, object),
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Texts<'b>)) -> Prompt<'static> {
        let Self { items, has_content, may_be_none, content, tools } = self;
        Prompt {
            items,
            has_content,
            may_be_none,
            content: content.without_texts(&mut |texts| take(Counted::Once, texts)),
            tools: tools.without_texts(&mut |texts| take(Counted::WithTools, texts)),
        }
    }

    /// The tools.
    pub(super) const fn tools(&self) -> &Tools<'b> {
        &self.tools
    }

    /// Whether there is no input, or some reader finds none and the others find nothing in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.items == 0 || self.may_be_none && !self.has_content
    }

    /// The tokens of its text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        self.content.text_tokens(meter) + self.tools.text_tokens(meter)
    }

    /// Its tokens beside the text if it is sent to `model`.
    pub(super) fn beside_text(&self, model: &str) -> Tally {
        // The one model with other numbers is older than this API.
        let MessageTokens { message, reply, .. } = MessageTokens::USUAL;
        let tools = self.tools.beside_text(model);
        Tally::new(message * self.items + reply, self.content.other_tokens(model)).with_tools(tools)
    }
}

/// The value of `input` or `instructions`: items, or a text that is a message of `role`.
struct Items<'p, 'b> {
    prompt: &'p mut Prompt<'b>,
    role: &'static str,
}

impl<'b> Accept<'b> for Items<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.prompt.items += 1;
        self.prompt.has_content |= !text.is_empty();
        self.prompt.content.texts.extend([Cow::Borrowed(self.role), text]);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Item(&mut self.prompt.content))?;
        self.prompt.items += u64::from(read.is_some());
        self.prompt.has_content |= read.is_some();
        Ok(read)
    }
}

/// A message, a call of a tool, the result of one, or reasoning.
struct Item<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Item<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "role" | "name" | "arguments" | "input" | "code" => lenient::offer(object, &mut self.0.texts),
            "content" | "output" | "summary" => lenient::offer(object, &mut Part::new(self.0)),
            // A command for a computer or a shell.
            "action" => keep_json(&mut self.0.texts, object),
            _ => lenient::skip(object),
        }
    }
}

/// The value of `prompt`: a stored prompt and its variables.
struct Template<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Template<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "variables" => {
                self.0.items += 1;
                self.0.has_content = true;
                lenient::offer(object, &mut Variables(&mut self.0.content))
            }
            _ => lenient::skip(object),
        }
    }
}

/// The values of variables: texts or parts.
struct Variables<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Variables<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, _name: &str, object: &mut A) -> Result<(), A::Error> {
        lenient::offer(object, &mut Part::new(self.0))
    }
}
