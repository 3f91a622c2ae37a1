//! A prompt, by its format, and what it costs, in terms that all formats share.

use super::content::Texts;
use super::{Endpoint, chat, completions, embeddings, messages, responses};
use crate::codec::lenient;
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::MapAccess;

/// A prompt, by its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt<'b> {
    Chat(chat::Prompt<'b>),
    Completions(completions::Prompt<'b>),
    Embeddings(embeddings::Prompt<'b>),
    Responses(responses::Prompt<'b>),
    Messages(messages::Prompt<'b>),
    /// Of no known format: it is charged for the size of the body.
    Sized,
}

/// How often the tokens of a text count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Once.
    Once,
    /// Once for every prompt: a suffix of completions.
    ForEachPrompt,
    /// Once, if there are functions among the tools.
    WithTools,
}

/// The tokens of texts, by how often they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextTokens {
    once: Units,
    for_each_prompt: Units,
    with_tools: Units,
}

impl TextTokens {
    /// Adds the tokens of a text.
    pub fn add(&mut self, counted: Counted, tokens: u64) {
        let sum = match counted {
            Counted::Once => &mut self.once,
            Counted::ForEachPrompt => &mut self.for_each_prompt,
            Counted::WithTools => &mut self.with_tools,
        };
        *sum += Units::new(tokens);
    }
}

/// What a prompt costs beside its text, in any format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tokens that the format adds to those of the text: the model's factor corrects them.
    pub(super) counted: Units,
    /// Tokens that it saves of them.
    pub(super) saved: Units,
    /// Tokens by the model's own rules, among them images and token ids: no factor corrects them.
    pub(super) fixed: Units,
}

impl Tally {
    pub(super) const fn new(counted: Units, fixed: Units) -> Self {
        Self { counted, saved: Units::ZERO, fixed }
    }

    /// The same with what tools cost, and what they save.
    pub(super) fn with_tools(self, (cost, saved): (Units, Units)) -> Self {
        Self { counted: self.counted + cost, saved: self.saved + saved, ..self }
    }
}

impl<'b> Prompt<'b> {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::ChatCompletions => Self::Chat(chat::Prompt::default()),
            Endpoint::Completions => Self::Completions(completions::Prompt::default()),
            Endpoint::Embeddings => Self::Embeddings(embeddings::Prompt::default()),
            Endpoint::Responses => Self::Responses(responses::Prompt::default()),
            Endpoint::Messages => Self::Messages(messages::Prompt::default()),
            Endpoint::Other(_) => Self::Sized,
        }
    }

    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match self {
            Self::Chat(prompt) => prompt.member(name, object),
            Self::Completions(prompt) => prompt.member(name, object),
            Self::Embeddings(prompt) => prompt.member(name, object),
            Self::Responses(prompt) => prompt.member(name, object),
            Self::Messages(prompt) => prompt.member(name, object),
            Self::Sized => lenient::skip(object),
        }
    }

    /// Whether the request has no prompt, or some reader finds none and the others find nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Chat(prompt) => prompt.is_empty(),
            Self::Completions(prompt) => prompt.is_empty(),
            Self::Embeddings(prompt) => prompt.is_empty(),
            Self::Responses(prompt) => prompt.is_empty(),
            Self::Messages(prompt) => prompt.is_empty(),
            Self::Sized => true,
        }
    }

    /// How many prompts the request has: one, except for completions.
    pub(super) fn prompts(&self) -> u64 {
        match self {
            Self::Completions(prompt) => prompt.prompts().max(1),
            _ => 1,
        }
    }

    /// Tokens of its text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        match self {
            Self::Chat(prompt) => prompt.text_tokens(meter),
            Self::Completions(prompt) => prompt.text_tokens(meter),
            Self::Embeddings(prompt) => prompt.text_tokens(meter),
            Self::Responses(prompt) => prompt.text_tokens(meter),
            Self::Messages(prompt) => prompt.text_tokens(meter),
            Self::Sized => Units::ZERO,
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Texts<'b>)) -> Prompt<'static> {
        match self {
            Self::Chat(prompt) => Prompt::Chat(prompt.without_texts(take)),
            Self::Completions(prompt) => Prompt::Completions(prompt.without_texts(take)),
            Self::Embeddings(prompt) => Prompt::Embeddings(prompt.without_texts(take)),
            Self::Responses(prompt) => Prompt::Responses(prompt.without_texts(take)),
            Self::Messages(prompt) => Prompt::Messages(prompt.without_texts(take)),
            Self::Sized => Prompt::Sized,
        }
    }

    /// Tokens of the texts that were taken out, if they have so many.
    pub(super) fn of_texts(&self, tokens: TextTokens) -> Units {
        let TextTokens { once, for_each_prompt, with_tools } = tokens;
        let with_tools = match self {
            Self::Chat(prompt) => prompt.tools().counted(|| with_tools),
            Self::Responses(prompt) => prompt.tools().counted(|| with_tools),
            _ => with_tools,
        };
        once + for_each_prompt * self.suffixes() + with_tools
    }

    /// Whether the member `name`, an array, may be read in several parts: nothing but its elements counts.
    pub(super) fn is_read_in_parts(&self, name: &str) -> bool {
        match self {
            Self::Chat(_) => matches!(name, "messages" | "tools" | "functions"),
            Self::Completions(_) => matches!(name, "prompt" | "suffix"),
            Self::Embeddings(_) => name == "input",
            Self::Responses(_) => matches!(name, "input" | "instructions" | "tools"),
            Self::Messages(_) => matches!(name, "messages" | "system" | "tools"),
            Self::Sized => false,
        }
    }

    /// How many prompts a suffix is added to.
    fn suffixes(&self) -> u64 {
        match self {
            Self::Completions(prompt) => prompt.prompts(),
            _ => 1,
        }
    }

    /// What it costs beside its text if it is sent to `model`.
    pub(super) fn beside_text(&self, model: &str) -> Tally {
        match self {
            Self::Chat(prompt) => prompt.beside_text(model),
            Self::Completions(prompt) => prompt.beside_text(model),
            Self::Embeddings(prompt) => prompt.beside_text(model),
            Self::Responses(prompt) => prompt.beside_text(model),
            Self::Messages(prompt) => prompt.beside_text(model),
            Self::Sized => Tally::default(),
        }
    }
}
