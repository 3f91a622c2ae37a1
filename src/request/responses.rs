//! Responses: the tokens of an input of text or items, of instructions and of tools.
//!
//! OpenAI publishes no rule for this API, so a request counts like a chat: an item as a message, a text alone as a
//! user's message, instructions as a system message. State that the provider keeps is not in the request and counts
//! nothing until the response reports its usage: the earlier conversation (`previous_response_id`, `conversation`), a
//! stored prompt's text (`prompt.id`; its variables are counted), references to items, encrypted reasoning.

use super::Tally;
use super::content::{Content, Part, keep_json};
use super::format::Format;
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use crate::models::MessageTokens;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An input with its instructions and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    /// Items, and texts that count as one.
    items: u64,
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
            "input" => lenient::offer(object, &mut Items { prompt: self, role: "user" }),
            "instructions" => lenient::offer(object, &mut Items { prompt: self, role: "system" }),
            "tools" => lenient::offer(object, &mut self.tools),
            "text" => lenient::offer(object, &mut Format(&mut self.content.texts)),
            "prompt" => lenient::offer(object, &mut Template(self)),
            _ => lenient::skip(object),
        }
    }

    /// Whether there is no input.
    pub(super) const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Its tokens if it is sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        // The one model with other numbers is older than this API.
        let MessageTokens { message, reply, .. } = MessageTokens::USUAL;
        let text = self.content.text_tokens(meter) + self.tools.tokens(model, meter);
        Tally { counted: message * self.items + text + reply, fixed: self.content.other_tokens(model) }
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
        self.prompt.content.texts.extend([Cow::Borrowed(self.role), text]);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Item(&mut self.prompt.content))?;
        self.prompt.items += u64::from(read.is_some());
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
