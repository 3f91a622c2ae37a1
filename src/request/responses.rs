//! Responses: an input of text or items, instructions and tools.
//!
//! OpenAI publishes no rule for this API. Recorded usage shows that it counts like a chat: an item as a message, a text
//! alone as a user's message, instructions as a system message, with numbers of its own for tools, schemas and calls
//! ([`crate::models`]). State that the provider keeps is not in the request and counts nothing until the response
//! reports its usage: the earlier conversation (`previous_response_id`, `conversation`), a stored prompt's text
//! (`prompt.id`; its variables are counted), references to items, encrypted reasoning.

use super::beside;
use super::content::{Content, Part, keep_json};
use super::format::Format;
use super::prompt::Counted;
use super::shape::{Chosen, Roles, Shape};
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An input with its instructions and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    shape: Shape,
    /// Items, and texts that count as one, reasoning included.
    items: u64,
    /// Whether one of them is no empty text.
    has_content: bool,
    /// Whether one of several values has no items.
    may_be_none: bool,
    content: Content<'b>,
}

impl<'b> Prompt<'b> {
    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let Self { shape, content, .. } = self;
        match name {
            "input" => {
                let before = self.items;
                lenient::offer(object, &mut Items { prompt: self, role: "user" })?;
                self.may_be_none |= self.items == before;
                Ok(())
            }
            "instructions" => lenient::offer(object, &mut Items { prompt: self, role: "system" }),
            "tools" => lenient::offer(object, &mut Tools(&mut content.kinds)),
            "tool_choice" => lenient::offer(object, &mut Chosen::new(&mut shape.choice, &mut content.kinds)),
            "text" => lenient::offer(object, &mut Format::new(shape, content)),
            "prompt" => lenient::offer(object, &mut Template(self)),
            _ => beside::read(shape, &mut content.texts, name, object),
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Prompt<'static> {
        let Self { shape, items, has_content, may_be_none, content } = self;
        Prompt { shape, items, has_content, may_be_none, content: content.without_texts(take) }
    }

    /// Shows each of its texts to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        self.content.see_texts(see);
    }

    /// Whether there is no input, or some reader finds none and the others find nothing in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.items == 0 || self.may_be_none && !self.has_content
    }

    /// What it has beside its text.
    pub(super) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What its parts hold.
    pub(super) const fn content(&self) -> &Content<'b> {
        &self.content
    }

    /// Counts an item that is a message of `role`.
    fn add_message(&mut self, role: &str) {
        self.items += 1;
        self.shape.messages += 1;
        self.shape.roles += 1;
        self.shape.systems += u64::from(role == "system");
    }
}

/// The value of `input` or `instructions`: items, or a text that is a message of `role`.
struct Items<'p, 'b> {
    prompt: &'p mut Prompt<'b>,
    role: &'static str,
}

impl<'b> Accept<'b> for Items<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.prompt.add_message(self.role);
        self.prompt.has_content |= !text.is_empty();
        let content = &mut self.prompt.content;
        match self.role {
            "system" => content.kinds.push((Counted::System, text)),
            _ => content.texts.push(text),
        }
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut item = Item::new(&mut self.prompt.content);
        let read = lenient::offer_element(array, &mut item)?;
        let (roles, is_reasoning, calls, hides) = (item.roles, item.is_reasoning, item.calls, item.hides);
        if read.is_some() {
            let Prompt { shape, items, has_content, content, .. } = &mut *self.prompt;
            *items += 1;
            *has_content = true;
            shape.hides |= hides;
            shape.messages += u64::from(!is_reasoning);
            shape.roles += roles.known();
            shape.systems += u64::from(roles.is_system());
            shape.answers += u64::from(roles.is_assistant());
            shape.calls += calls.saturating_add(std::mem::take(&mut content.calls));
        }
        Ok(read)
    }
}

/// Items that show all that they put into the prompt.
const KNOWN_ITEMS: [&str; 6] = [
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
];

/// A message, a call of a tool, the result of one, or reasoning.
struct Item<'p, 'b> {
    content: &'p mut Content<'b>,
    roles: Roles,
    kinds: Vec<Cow<'b, str>>,
    names: Vec<Cow<'b, str>>,
    /// Texts of reasoning, if it is reasoning.
    summary: Content<'b>,
    is_reasoning: bool,
    calls: u64,
    /// Whether it stands for what the provider keeps, or has done.
    hides: bool,
}

impl<'p, 'b> Item<'p, 'b> {
    fn new(content: &'p mut Content<'b>) -> Self {
        Self {
            content,
            roles: Roles::default(),
            kinds: Vec::new(),
            names: Vec::new(),
            summary: Content::default(),
            is_reasoning: false,
            calls: 0,
            hides: false,
        }
    }
}

impl<'b> Accept<'b> for Item<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.content.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kinds),
            "role" => {
                let mut role = lenient::Text::default();
                lenient::offer(object, &mut role)?;
                self.content.texts.extend(role.0.and_then(|role| self.roles.take(role)));
                Ok(())
            }
            "name" => lenient::offer(object, &mut self.names),
            "arguments" | "input" => {
                let mut texts = Vec::new();
                lenient::offer(object, &mut texts)?;
                self.content.kinds.extend(texts.into_iter().map(|text| (Counted::Arguments, text)));
                Ok(())
            }
            "code" => lenient::offer(object, &mut self.content.texts),
            "summary" => self.content.read_apart(&mut self.summary, object),
            "content" | "output" => lenient::offer(object, &mut Part::new(self.content)),
            "encrypted_content" => {
                self.hides |= lenient::raw(object)? != "null";
                Ok(())
            }
            // A command for a computer or a shell.
            "action" => keep_json(&mut self.content.texts, object),
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        let is = |name: &str| self.kinds.iter().any(|kind| kind == name);
        let is_call = is("function_call") || is("custom_tool_call");
        self.calls = u64::from(is_call);
        self.hides |= self.kinds.iter().any(|kind| !KNOWN_ITEMS.contains(&&**kind));
        self.is_reasoning = self.kinds.len() == 1 && is("reasoning");
        for name in std::mem::take(&mut self.names) {
            match is_call {
                true => self.content.kinds.push((Counted::CallName, name)),
                false => self.content.texts.push(name),
            }
        }
        let summary = std::mem::take(&mut self.summary);
        let counted = if self.is_reasoning { Counted::Thinking } else { Counted::Once };
        self.content.absorb(summary, counted);
    }
}

/// The value of `prompt`: a stored prompt and its variables.
struct Template<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Template<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "id" => {
                self.0.shape.hides |= lenient::raw(object)? != "null";
                Ok(())
            }
            "variables" => {
                self.0.items += 1;
                self.0.shape.messages += 1;
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
