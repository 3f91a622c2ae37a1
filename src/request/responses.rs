//! Responses: what an input of text or items, instructions and tools cost.
//!
//! OpenAI publishes no rule of its own for them. They are counted as a chat would be: an item as a message, a text
//! alone as a user's message, instructions as a system's. What the provider keeps is not seen here and counts nothing
//! until the response's usage tells: the conversation before (`previous_response_id`, `conversation`), a stored
//! prompt's text (`prompt.id`; its variables are counted), items that are only referred to, encrypted reasoning.

use super::Tally;
use super::chat::{MESSAGE, REPLY};
use super::content::{Content, Part, keep_json};
use super::format::Format;
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use crate::tokens::{Encoding, Meter};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An input with its instructions and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    /// Items, and what counts as one.
    items: u64,
    content: Content<'b>,
    tools: Tools<'b>,
}

impl<'b> Prompt<'b> {
    /// Takes a member of the request's body.
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

    /// What it costs, sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        let before_4o = Encoding::for_model(model) != Encoding::O200kBase;
        let items = self.items.saturating_mul(MESSAGE);
        let text = [items, self.content.text_tokens(meter), self.tools.tokens(before_4o, meter), REPLY];
        Tally::new(text, self.content.other_tokens(model))
    }

    fn add_item(&mut self) {
        self.items = self.items.saturating_add(1);
    }
}

/// The value of `input` or `instructions`: items, or a text that a `role` says.
struct Items<'p, 'b> {
    prompt: &'p mut Prompt<'b>,
    role: &'static str,
}

impl<'b> Accept<'b> for Items<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.prompt.add_item();
        self.prompt.content.texts.extend([Cow::Borrowed(self.role), text]);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Item(&mut self.prompt.content))?;
        if read.is_some() {
            self.prompt.add_item();
        }
        Ok(read)
    }
}

/// A message, a call of a tool or what the tool gave back, or reasoning.
struct Item<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Item<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "role" | "name" | "arguments" | "input" | "code" => lenient::offer(object, &mut self.0.texts),
            "content" | "output" | "summary" => lenient::offer(object, &mut Part::new(self.0)),
            // What a computer or a shell was told to do.
            "action" => keep_json(&mut self.0.texts, object),
            _ => lenient::skip(object),
        }
    }
}

/// The value of `prompt`: a stored prompt and what to put into it.
struct Template<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Template<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "variables" => {
                self.0.add_item();
                lenient::offer(object, &mut Variables(&mut self.0.content))
            }
            _ => lenient::skip(object),
        }
    }
}

/// By name, texts or parts.
struct Variables<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Variables<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, _name: &str, object: &mut A) -> Result<(), A::Error> {
        lenient::offer(object, &mut Part::new(self.0))
    }
}
