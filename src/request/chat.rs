//! Chat completions: the tokens of messages and tools.
//!
//! OpenAI publishes the rule in its cookbook: every message costs [`MessageTokens`] and the tokens of its role,
//! content and name; `tools.rs` has the rule for tools. That is exact for text and simple tools. The rest is an
//! estimate, until the response reports its usage: tool calls in the history count their names and arguments, a
//! response format counts its schema, and `content.rs` measures parts that are not text. A prediction, and audio of an
//! earlier answer that the request names by id, count nothing.

use super::beside::{self, Reasoning};
use super::content::{Content, Part, Texts};
use super::format::Format;
use super::prompt::{Counted, Tally};
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use crate::models::MessageTokens;
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

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
            _ => beside::keep(&mut self.content.texts, name, object),
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Texts<'b>)) -> Prompt<'static> {
        let Self { messages, names, content, tools } = self;
        Prompt {
            messages,
            names,
            content: content.without_texts(&mut |texts| take(Counted::Once, texts)),
            tools: tools.without_texts(&mut |texts| take(Counted::WithTools, texts)),
        }
    }

    /// The tools.
    pub(super) const fn tools(&self) -> &Tools<'b> {
        &self.tools
    }

    /// Whether there are no messages.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The tokens of its text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        self.content.text_tokens(meter) + self.tools.text_tokens(meter)
    }

    /// Its tokens beside the text if it is sent to `model`.
    pub(super) fn beside_text(&self, model: &str) -> Tally {
        let MessageTokens { message, name, saved_by_name, reply } = MessageTokens::of(model);
        let messages = message * self.messages + name * self.names - saved_by_name * self.names;
        let tools = self.tools.beside_text(model);
        Tally::new(messages + reply, self.content.other_tokens(model)).with_tools(tools)
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
        let mut message = Message::new(self.0);
        message.member(name, object)?;
        message.end();
        Ok(())
    }

    fn end(&mut self) {
        self.0.messages += 1;
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Message::new(self.0))?;
        self.0.messages += u64::from(read.is_some());
        Ok(read)
    }
}

struct Message<'p, 'b> {
    prompt: &'p mut Prompt<'b>,
    reasoning: Reasoning<'b>,
}

impl<'p, 'b> Message<'p, 'b> {
    fn new(prompt: &'p mut Prompt<'b>) -> Self {
        Self { prompt, reasoning: Reasoning::default() }
    }
}

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let content = &mut self.prompt.content;
        match name {
            "role" | "refusal" => lenient::offer(object, &mut content.texts),
            "reasoning_content" | "reasoning" | "thinking" => lenient::offer(object, &mut self.reasoning),
            "content" | "images" => lenient::offer(object, &mut Part::new(content)),
            "tool_calls" | "function_call" => lenient::offer(object, &mut Calls(&mut content.texts)),
            "name" => {
                let texts = content.texts.len();
                let read = lenient::offer(object, &mut content.texts);
                self.prompt.names += u64::from(content.texts.len() > texts);
                read
            }
            _ => beside::keep_of_message(&mut content.texts, name, object),
        }
    }

    fn end(&mut self) {
        self.prompt.content.texts.append(&mut self.reasoning.0);
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
