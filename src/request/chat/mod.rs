//! Chat completions: what a prompt of messages and tools costs.
//!
//! By the rule that OpenAI publishes in its cookbook, "How to count tokens with tiktoken"
//! (<https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb>): every
//! message costs 3 tokens and the tokens of its role, content and name, a name 1 more, and the reply's beginning 3;
//! tools as `tools.rs` says. That is exact for text and simple tools. These are estimates, settled by the response's
//! usage: calls of tools in the history count their names and arguments; an image counts [`LOW_DETAIL_IMAGE`] or
//! [`IMAGE`], whatever its size; audio, files and other parts count nothing, nor does a response format.

mod content;
mod tools;

use crate::lenient::{self, Accept};
use crate::tokens::{Counter, Encoding, without_provider};
use content::Content;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;
use tools::Tools;

/// Tokens of an image at low detail, which is one tile of any size: OpenAI's guide "Images and vision".
pub const LOW_DETAIL_IMAGE: u64 = 85;

/// Tokens of an image at high detail whose size is not known: a square of 1024 pixels, which is scaled to 768 and
/// makes four tiles of 170 after the first 85 (the same guide's example).
pub const IMAGE: u64 = 765;

/// Tokens that begin the reply.
const REPLY: u64 = 3;

/// A chat's messages and tools. Borrows their text where it has no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt<'b> {
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
    pub fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "messages" => lenient::offer(object, &mut Messages(self)),
            // `functions` is what `tools` was called before November 2023.
            "tools" | "functions" => lenient::offer(object, &mut self.tools),
            _ => lenient::skip(object),
        }
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Tokens of the prompt, the model's factor not applied.
    pub fn tokens(&self, model: Option<&str>, counter: &Counter) -> u64 {
        let model = model.unwrap_or_default();
        let messages = if without_provider(model) == "gpt-3.5-turbo-0301" {
            // This model's messages cost 4, and its names replace the role: see the cookbook's early revisions.
            self.messages.saturating_mul(4).saturating_sub(self.names)
        } else {
            self.messages.saturating_mul(3).saturating_add(self.names)
        };
        // A model that OpenAI's table does not know counts as GPT-4o does.
        let before_4o = Encoding::for_model(model) != Encoding::O200kBase;
        [messages, self.content.tokens(counter), self.tools.tokens(before_4o, counter), REPLY]
            .into_iter()
            .fold(0, u64::saturating_add)
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

/// Texts that are counted each by itself. Accepts strings.
type Texts<'b> = Vec<Cow<'b, str>>;

impl<'b> Accept<'b> for Texts<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.push(text);
    }
}
