//! Chat completions: messages and tools.
//!
//! OpenAI publishes the rule for messages in its cookbook: every message costs a constant and the tokens of its role,
//! content and name. Everything else is by what recorded usage shows ([`crate::models`] has the numbers): `shown.rs`
//! shows tools and schemas as models are shown them, calls in the history count their names and arguments, and
//! `content.rs` measures parts that are not text. A prediction, and audio of an earlier answer that the request names
//! by id, count nothing.

use super::beside::{self, Reasoning};
use super::content::{Content, Images, Part};
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
        // Before November 2023, `tools` was called `functions`.
        "tools" | "functions" => lenient::offer(object, &mut Tools(&mut content.kinds)),
        "tool_choice" | "function_call" => {
            lenient::offer(object, &mut Chosen::new(&mut shape.choice, &mut content.kinds))
        }
        "response_format" => lenient::offer(object, &mut Format::new(shape, content)),
        _ => beside::read(shape, &mut content.texts, name, object),
    }
}

struct Messages<'p, 'b>(&'p mut Conversation<'b>);

/// The value of `messages`. Some servers also take one message, or its text, in the place of an array.
impl<'b> Accept<'b> for Messages<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.shape.messages += 1;
        self.0.content.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let mut message = Message::new(self.0);
        message.member(name, object)?;
        message.end();
        Ok(())
    }

    fn end(&mut self) {
        self.0.shape.messages += 1;
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Message::new(self.0))?;
        self.0.shape.messages += u64::from(read.is_some());
        Ok(read)
    }
}

struct Message<'p, 'b> {
    prompt: &'p mut Conversation<'b>,
    roles: Roles,
    reasoning: Reasoning<'b>,
    /// Names of the author: the name of a tool is known from its call.
    names: Vec<Cow<'b, str>>,
    /// Names of the functions that it calls.
    called: Vec<Cow<'b, str>>,
    /// Texts, and calls in parts, before it.
    texts_before: usize,
    calls_before: u64,
    has_text: bool,
}

impl<'p, 'b> Message<'p, 'b> {
    fn new(prompt: &'p mut Conversation<'b>) -> Self {
        let (texts_before, calls_before) = (prompt.content.texts.len(), prompt.content.calls);
        Self {
            prompt,
            roles: Roles::default(),
            reasoning: Reasoning::default(),
            names: Vec::new(),
            called: Vec::new(),
            texts_before,
            calls_before,
            has_text: false,
        }
    }
}

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let content = &mut self.prompt.content;
        match name {
            "role" => {
                let mut role = lenient::Text::default();
                lenient::offer(object, &mut role)?;
                content.texts.extend(role.0.and_then(|role| self.roles.take(role)));
                Ok(())
            }
            "refusal" => lenient::offer(object, &mut content.texts),
            "reasoning_content" | "reasoning" | "thinking" => lenient::offer(object, &mut self.reasoning),
            "images" => lenient::offer(object, &mut Images(content)),
            "content" => {
                let before = content.texts.len();
                lenient::offer(object, &mut Part::new(content))?;
                self.has_text |= content.texts.iter().skip(before).any(|text| !text.is_empty());
                Ok(())
            }
            "tool_calls" | "function_call" => {
                lenient::offer(object, &mut Calls { content, called: &mut self.called })
            }
            "name" => lenient::offer(object, &mut self.names),
            _ => beside::keep_of_message(&mut content.texts, name, object),
        }
    }

    fn end(&mut self) {
        let Conversation { shape, content } = &mut *self.prompt;
        let thinking = std::mem::take(&mut self.reasoning.0);
        content.kinds.extend(thinking.into_iter().map(|text| (Counted::Thinking, text)));
        shape.roles += self.roles.known();
        shape.systems += u64::from(self.roles.is_system());
        if self.roles.is_system() {
            content.count_from(self.texts_before, Counted::System);
        }
        shape.answers += u64::from(self.roles.is_assistant() && self.has_text);
        if !self.roles.is_result() {
            shape.names += u64::from(!self.names.is_empty());
            content.texts.append(&mut self.names);
        }
        let in_parts = content.calls.saturating_sub(self.calls_before);
        content.calls = self.calls_before;
        let calls = (self.called.len() as u64).saturating_add(in_parts);
        shape.spoken_calls += u64::from(calls > 0 && self.has_text);
        if calls > 1 {
            shape.parallel = (shape.parallel.0 + 1, shape.parallel.1 + calls);
        } else {
            shape.calls += calls;
        }
        let counted = if calls > 1 { Counted::ParallelName } else { Counted::CallName };
        content.kinds.extend(std::mem::take(&mut self.called).into_iter().map(|name| (counted, name)));
    }
}

/// `tool_calls`, one of its elements, or a `function_call`: the name and arguments of a function.
struct Calls<'p, 'b> {
    content: &'p mut Content<'b>,
    called: &'p mut Vec<Cow<'b, str>>,
}

impl<'b> Accept<'b> for Calls<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Call { content: self.content, called: self.called })
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        Call { content: self.content, called: self.called }.member(name, object)
    }
}

struct Call<'p, 'b> {
    content: &'p mut Content<'b>,
    called: &'p mut Vec<Cow<'b, str>>,
}

impl<'b> Accept<'b> for Call<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => lenient::offer(object, self.called),
            "arguments" | "input" => {
                // Ollama's are an object.
                let text = lenient::text(object)?;
                self.content.kinds.extend(text.map(|text| (Counted::Arguments, text)));
                Ok(())
            }
            "function" | "custom" => {
                lenient::offer(object, &mut Named(Call { content: self.content, called: self.called }))
            }
            _ => lenient::skip(object),
        }
    }
}

struct Named<'p, 'b>(Call<'p, 'b>);

impl<'b> Accept<'b> for Named<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" | "arguments" | "input" => self.0.member(name, object),
            _ => lenient::skip(object),
        }
    }
}
