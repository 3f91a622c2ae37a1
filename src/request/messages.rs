//! Anthropic's messages: a system prompt, messages and tools.
//!
//! Anthropic publishes no tokenizer and no rule, so every count is an estimate, by what recorded usage shows
//! ([`crate::models`] has the numbers). Parts that a request does not show count nothing until the response reports its
//! usage: files, tools of MCP servers and of the provider, redacted thinking.

use super::beside;
use super::content::{Content, Part};
use super::conversation::Conversation;
use super::format::Format;
use super::prompt::Counted;
use super::shape::{Chosen, Roles};
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Reads a member of the request's body into `prompt`.
///
/// # Errors
/// The value is not JSON.
pub(super) fn member<'b, A: MapAccess<'b>>(
    prompt: &mut Conversation<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    let Conversation { shape, content } = prompt;
    match name {
        "messages" => lenient::offer(object, &mut Messages(prompt)),
        "system" => {
            let before = content.texts.len();
            let read = lenient::offer(object, &mut Part::new(content));
            content.count_from(before, Counted::System);
            read
        }
        "tools" => lenient::offer(object, &mut Tools(&mut content.kinds)),
        "tool_choice" => lenient::offer(object, &mut Chosen::new(&mut shape.choice, &mut content.kinds)),
        "output_config" | "output_format" => lenient::offer(object, &mut Format::new(shape, content)),
        _ => beside::read(shape, &mut content.texts, name, object),
    }
}

struct Messages<'p, 'b>(&'p mut Conversation<'b>);

impl<'b> Messages<'_, 'b> {
    /// Counts a message of which the roles have been read.
    fn end_message(&mut self, roles: &Roles) {
        let Conversation { shape, content } = &mut *self.0;
        shape.roles += roles.known();
        shape.calls += std::mem::take(&mut content.calls);
    }
}

/// The value of `messages`. Some servers also take one message, or its text, in the place of an array.
impl<'b> Accept<'b> for Messages<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.shape.messages += 1;
        self.0.content.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let mut roles = Roles::default();
        let read = Message { content: &mut self.0.content, roles: &mut roles }.member(name, object);
        self.end_message(&roles);
        read
    }

    fn end(&mut self) {
        self.0.shape.messages += 1;
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut roles = Roles::default();
        let mut message = Message { content: &mut self.0.content, roles: &mut roles };
        let read = lenient::offer_element(array, &mut message)?;
        self.end_message(&roles);
        self.0.shape.messages += u64::from(read.is_some());
        Ok(read)
    }
}

struct Message<'p, 'b> {
    content: &'p mut Content<'b>,
    roles: &'p mut Roles,
}

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "role" => {
                let mut role = lenient::Text::default();
                lenient::offer(object, &mut role)?;
                self.content.texts.extend(role.0.and_then(|role| self.roles.take(role)));
                Ok(())
            }
            "content" => lenient::offer(object, &mut Part::new(self.content)),
            _ => beside::keep_of_message(&mut self.content.texts, name, object),
        }
    }
}
