//! Chat completions: the tokens of messages and tools.
//!
//! OpenAI publishes the rule in its cookbook: every message costs [`MessageTokens`] and the tokens of its role,
//! content and name; `tools.rs` has the rule for tools. That is exact for text and simple tools. The rest is an
//! estimate, until the response reports its usage: tool calls in the history count their names and arguments, a
//! response format counts its schema, and `content.rs` measures parts that are not text. A prediction, and audio of an
//! earlier answer that the request names by id, count nothing.

use super::Tally;
use super::content::{Content, Texts};
use super::format::Format;
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use crate::models::MessageTokens;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};

/// A chat's messages and tools. Borrows their text where it has no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    messages: u64,
    names: u64,
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
            "messages" => lenient::offer(object, &mut Messages(self)),
            // Before November 2023, `tools` was called `functions`.
            "tools" | "functions" => lenient::offer(object, &mut self.tools),
            "response_format" => lenient::offer(object, &mut Format(&mut self.content.texts)),
            _ => lenient::skip(object),
        }
    }

    /// Whether there are no messages.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Its tokens if it is sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        let MessageTokens { message, name, saved_by_name, reply } = MessageTokens::of(model);
        let messages = message * self.messages + name * self.names - saved_by_name * self.names;
        let text = self.content.text_tokens(meter) + self.tools.tokens(model, meter);
        Tally { counted: messages + text + reply, fixed: self.content.other_tokens(model) }
    }
}

struct Messages<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Messages<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Message(self.0))?;
        self.0.messages += u64::from(read.is_some());
        Ok(read)
    }
}

struct Message<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let content = &mut self.0.content;
        match name {
            "role" | "refusal" | "reasoning_content" => lenient::offer(object, &mut content.texts),
            "content" => lenient::offer(object, content),
            "tool_calls" | "function_call" => lenient::offer(object, &mut Calls(&mut content.texts)),
            "name" => {
                let texts = content.texts.len();
                let read = lenient::offer(object, &mut content.texts);
                self.0.names += u64::from(content.texts.len() > texts);
                read
            }
            _ => lenient::skip(object),
        }
    }
}

/// `tool_calls`, one of its elements, or a `function_call`: the name and arguments of a function.
struct Calls<'p, 'b>(&'p mut Texts<'b>);

impl<'b> Accept<'b> for Calls<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Call(self.0))
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        Call(self.0).member(name, object)
    }
}

struct Call<'p, 'b>(&'p mut Texts<'b>);

impl<'b> Accept<'b> for Call<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" | "arguments" | "input" => lenient::offer(object, self.0),
            "function" | "custom" => lenient::offer(object, &mut Named(self.0)),
            _ => lenient::skip(object),
        }
    }
}

struct Named<'p, 'b>(&'p mut Texts<'b>);

impl<'b> Accept<'b> for Named<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" | "arguments" | "input" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}
