//! Chat completions: what a prompt of messages and tools costs.
//!
//! By the rule that OpenAI publishes in its cookbook, "How to count tokens with tiktoken"
//! (<https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb>): every
//! message costs 3 tokens and the tokens of its role, content and name, a name 1 more, and the reply's beginning 3;
//! tools as `tools.rs` says. That is exact for text and simple tools. These are estimates, settled by the response's
//! usage: calls of tools in the history count their names and arguments, a response format its schema, parts that are
//! not text what `content.rs` says. An answer's audio that is named by its id, and a prediction, count nothing.

use super::Tally;
use super::content::{Content, Texts};
use super::format::Format;
use super::tools::Tools;
use crate::codec::lenient::{self, Accept};
use crate::tokens::{Encoding, Meter, without_provider};
use serde::de::{MapAccess, SeqAccess};

/// Tokens of a message, beside its role and content.
pub(super) const MESSAGE: u64 = 3;

/// Tokens that begin the reply.
pub(super) const REPLY: u64 = 3;

/// A chat's messages and tools. Borrows their text where it has no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    messages: u64,
    names: u64,
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
            "messages" => lenient::offer(object, &mut Messages(self)),
            // `functions` is what `tools` was called before November 2023.
            "tools" | "functions" => lenient::offer(object, &mut self.tools),
            "response_format" => lenient::offer(object, &mut Format(&mut self.content.texts)),
            _ => lenient::skip(object),
        }
    }

    /// Whether there are no messages.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// What it costs, sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        let messages = if without_provider(model) == "gpt-3.5-turbo-0301" {
            // This model's messages cost 4, and its names replace the role: see the cookbook's early revisions.
            self.messages.saturating_mul(4).saturating_sub(self.names)
        } else {
            self.messages.saturating_mul(MESSAGE).saturating_add(self.names)
        };
        // A model that OpenAI's table does not know counts as GPT-4o does.
        let before_4o = Encoding::for_model(model) != Encoding::O200kBase;
        let text = [messages, self.content.text_tokens(meter), self.tools.tokens(before_4o, meter), REPLY];
        Tally::new(text, self.content.other_tokens(model))
    }
}

struct Messages<'p, 'b>(&'p mut Prompt<'b>);

impl<'b> Accept<'b> for Messages<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Message(self.0))?;
        self.0.messages = self.0.messages.saturating_add(u64::from(read.is_some()));
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
                self.0.names = self.0.names.saturating_add(u64::from(content.texts.len() > texts));
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
