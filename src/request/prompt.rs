//! A prompt, by its format, and what it costs, in terms that all formats share.

use super::conversation::Conversation;
use super::shape::Shape;
use super::shown::ToolKind;
use super::{Endpoint, chat, cohere, completions, embeddings, gemini, messages, ollama, responses};
use crate::codec::lenient;
use crate::models::Rules;
use crate::quantity::Units;
use crate::tokens::{Hundredths, WHOLE, Weights};
use serde::de::MapAccess;
use std::borrow::Cow;
use strum::EnumCount;

/// The prompt of a request to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    endpoint: Endpoint,
    parts: Parts<'b>,
}

/// What a prompt consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts<'b> {
    /// Messages, or contents.
    Conversation(Conversation<'b>),
    /// Texts to go on with, or documents and what is read with each.
    Completions(completions::Prompt<'b>),
    /// Inputs that are embedded.
    Embeddings(embeddings::Prompt<'b>),
    /// Items.
    Responses(responses::Prompt<'b>),
    /// Of no known format: it is charged for the size of the body.
    Sized,
}

/// How a text of a prompt counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount)]
#[repr(usize)]
pub enum Counted {
    /// Once.
    Once,
    /// Once, as a part of the system prompt.
    System,
    /// Once for every prompt: a suffix of completions.
    ForEachPrompt,
    /// The name of a function in a call.
    CallName,
    /// The name of a function in one of several calls of a message.
    ParallelName,
    /// The name of the function that must be called.
    ForcedName,
    /// Reasoning of an earlier turn.
    Thinking,
    /// The name or the description of the answer's schema.
    SchemaName,
    /// The definition of a tool, as JSON: it is not counted as it is.
    Tool,
    /// The schema of the answer, as JSON: it is not counted as it is.
    Schema,
    /// The arguments of a call, which are JSON in most cases: then they count in their shortest form.
    Arguments,
    /// A tool as types.
    ToolTypes,
    /// A tool as JSON.
    ToolJson,
    /// A tool that is too large to be shown in another form: as JSON, for every model.
    LargeTool,
    /// A schema without what OpenAI leaves out.
    ShortSchema,
    /// A schema as JSON.
    JsonSchema,
    /// A schema that is too large to be shown in another form: as JSON, for every model.
    LargeSchema,
}

impl Counted {
    /// How much of it counts for a model with these `weights`, if it is counted as it is.
    pub(super) const fn weight(self, weights: &Weights) -> Hundredths {
        match self {
            Self::CallName => weights.call_names,
            Self::ParallelName => weights.parallel_names,
            Self::ForcedName => weights.forced_name,
            Self::Thinking => weights.thinking,
            Self::SchemaName if weights.schema_short > 0 || weights.schema_json > 0 => WHOLE,
            Self::SchemaName => 0,
            Self::ToolTypes => weights.tool_types,
            Self::ToolJson => weights.tool_json,
            Self::ShortSchema => weights.schema_short,
            Self::JsonSchema => weights.schema_json,
            Self::LargeTool if weights.tool_json > weights.tool_types => weights.tool_json,
            Self::LargeTool => weights.tool_types,
            Self::LargeSchema if weights.schema_json > weights.schema_short => weights.schema_json,
            Self::LargeSchema => weights.schema_short,
            Self::Once | Self::System | Self::ForEachPrompt | Self::Tool | Self::Schema | Self::Arguments => {
                WHOLE
            }
        }
    }
}

/// The tokens of texts, by how they count, and the functions among the tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextTokens {
    tokens: [Units; Counted::COUNT],
    pub(super) functions: u64,
    /// Tools that the provider runs, which it describes to the model itself.
    pub(super) provided: u64,
}

impl TextTokens {
    /// So many tokens of plain text.
    pub fn plain(tokens: u64) -> Self {
        let mut plain = Self::default();
        plain.add(Counted::Once, tokens);
        plain
    }

    /// Adds the tokens of a text.
    pub fn add(&mut self, counted: Counted, tokens: u64) {
        if let Some(sum) = self.tokens.get_mut(counted as usize) {
            *sum += Units::new(tokens);
        }
    }

    /// Counts a tool, if it is one.
    pub(super) fn add_tool(&mut self, tool: Option<ToolKind>) {
        self.functions += u64::from(tool.is_some_and(|tool| tool != ToolKind::Provided));
        self.provided += u64::from(tool.is_some_and(|tool| tool != ToolKind::Function));
    }

    /// The tokens of texts that count so.
    pub(super) fn of(&self, counted: Counted) -> Units {
        self.tokens.get(counted as usize).copied().unwrap_or_default()
    }

    /// The same with nothing but texts that count so.
    pub(super) fn only(&self, kept: &[Counted]) -> Self {
        let mut only = Self { functions: self.functions, provided: self.provided, ..Self::default() };
        for counted in kept {
            only.add(*counted, self.of(*counted).get());
        }
        only
    }

    /// The tokens of all texts that are counted as they are, each with its weight, rounded up; `suffixes` is how often
    /// those count that count for every prompt.
    pub(super) fn weighed(&self, weights: &Weights, suffixes: u64) -> Units {
        let plain = self.of(Counted::Once) + self.of(Counted::System) + self.of(Counted::Arguments);
        let plain = plain + self.of(Counted::ForEachPrompt) * suffixes;
        let weighed: Units = [
            Counted::CallName,
            Counted::ParallelName,
            Counted::ForcedName,
            Counted::Thinking,
            Counted::SchemaName,
            Counted::ToolTypes,
            Counted::ToolJson,
            Counted::LargeTool,
            Counted::ShortSchema,
            Counted::JsonSchema,
            Counted::LargeSchema,
        ]
        .into_iter()
        .map(|counted| self.of(counted) * u64::from(counted.weight(weights)))
        .sum();
        plain + Units::new(weighed.get().div_ceil(WHOLE.into()))
    }
}

/// What a prompt costs beside its text, in any format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tokens of its structure, those of tools included.
    pub(super) structure: Units,
    /// Tokens of images.
    pub(super) images: Units,
    /// Tokens of documents beside their texts, of audio, of parts of unknown types, and token ids.
    pub(super) others: Units,
}

impl<'b> Prompt<'b> {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let parts = match endpoint {
            Endpoint::ChatCompletions
            | Endpoint::CohereChat
            | Endpoint::Messages
            | Endpoint::Gemini
            | Endpoint::GeminiEmbeddings
            | Endpoint::OllamaChat => Parts::Conversation(Conversation::default()),
            Endpoint::Completions | Endpoint::OllamaGenerate | Endpoint::Rerank => {
                Parts::Completions(completions::Prompt::default())
            }
            Endpoint::Embeddings | Endpoint::CohereEmbed => Parts::Embeddings(embeddings::Prompt::default()),
            Endpoint::Responses => Parts::Responses(responses::Prompt::default()),
            Endpoint::Other(_) => Parts::Sized,
        };
        Self { endpoint, parts }
    }

    /// The endpoint that the request is for.
    pub(super) const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match (&mut self.parts, self.endpoint) {
            (Parts::Conversation(prompt), Endpoint::Messages) => messages::member(prompt, name, object),
            (Parts::Conversation(prompt), Endpoint::Gemini | Endpoint::GeminiEmbeddings) => {
                gemini::member(prompt, name, object)
            }
            (Parts::Conversation(prompt), Endpoint::OllamaChat) => ollama::chat_member(prompt, name, object),
            (Parts::Conversation(prompt), _) => chat::member(prompt, name, object),
            (Parts::Completions(prompt), Endpoint::OllamaGenerate) => {
                ollama::generate_member(prompt, name, object)
            }
            (Parts::Completions(prompt), Endpoint::Rerank) => cohere::rerank_member(prompt, name, object),
            (Parts::Completions(prompt), _) => prompt.member(name, object),
            (Parts::Embeddings(prompt), Endpoint::CohereEmbed) => cohere::embed_member(prompt, name, object),
            (Parts::Embeddings(prompt), _) => prompt.member(name, object),
            (Parts::Responses(prompt), _) => prompt.member(name, object),
            (Parts::Sized, _) => lenient::skip(object),
        }
    }

    /// Reads a member of the object that has the request's maximum of output tokens. Returns the number of answers, if
    /// it is that.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn option<A: MapAccess<'b>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<Option<u64>, A::Error> {
        match (&mut self.parts, self.endpoint) {
            (Parts::Conversation(prompt), Endpoint::Gemini) => gemini::option(prompt, name, object),
            _ => lenient::skip(object).map(|()| None),
        }
    }

    /// Whether the request has no prompt, or some reader finds none and the others find nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match &self.parts {
            Parts::Conversation(prompt) => prompt.is_empty(),
            Parts::Completions(prompt) => prompt.is_empty(),
            Parts::Embeddings(prompt) => prompt.is_empty(),
            Parts::Responses(prompt) => prompt.is_empty(),
            Parts::Sized => true,
        }
    }

    /// How many prompts the request has: one, except for completions.
    pub(super) fn prompts(&self) -> u64 {
        self.suffixes().max(1)
    }

    /// Shows each of its texts to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        match &self.parts {
            Parts::Conversation(prompt) => prompt.see_texts(see),
            Parts::Completions(prompt) => prompt.see_texts(see),
            Parts::Embeddings(prompt) => prompt.see_texts(see),
            Parts::Responses(prompt) => prompt.see_texts(see),
            Parts::Sized => {}
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Prompt<'static> {
        let parts = match self.parts {
            Parts::Conversation(prompt) => Parts::Conversation(prompt.without_texts(take)),
            Parts::Completions(prompt) => Parts::Completions(prompt.without_texts(take)),
            Parts::Embeddings(prompt) => Parts::Embeddings(prompt.without_texts(take)),
            Parts::Responses(prompt) => Parts::Responses(prompt.without_texts(take)),
            Parts::Sized => Parts::Sized,
        };
        Prompt { endpoint: self.endpoint, parts }
    }

    /// Whether the member `name`, an array, may be read in several parts: nothing but its elements counts.
    pub(super) fn is_read_in_parts(&self, name: &str) -> bool {
        match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::CohereChat => {
                matches!(name, "messages" | "tools" | "functions")
            }
            Endpoint::Completions => matches!(name, "prompt" | "suffix"),
            Endpoint::Embeddings => name == "input",
            Endpoint::Responses => matches!(name, "input" | "instructions" | "tools"),
            Endpoint::Messages => matches!(name, "messages" | "system" | "tools"),
            Endpoint::Gemini => matches!(name, "contents" | "tools"),
            Endpoint::GeminiEmbeddings => name == "requests",
            Endpoint::OllamaChat => matches!(name, "messages" | "tools"),
            Endpoint::OllamaGenerate => matches!(name, "prompt" | "suffix" | "context"),
            Endpoint::CohereEmbed => matches!(name, "texts" | "inputs"),
            Endpoint::Rerank => matches!(name, "documents" | "texts" | "input"),
            Endpoint::Other(_) => false,
        }
    }

    /// What it has beside its text, if it has messages.
    pub(super) fn shape(&self) -> Option<&Shape> {
        match &self.parts {
            Parts::Conversation(prompt) => {
                Some(prompt.shape()).filter(|_| self.endpoint != Endpoint::GeminiEmbeddings)
            }
            Parts::Responses(prompt) => Some(prompt.shape()),
            Parts::Completions(_) | Parts::Embeddings(_) | Parts::Sized => None,
        }
    }

    /// Whether the provider may add to it, or take from it, what the request does not show.
    pub(super) fn hides(&self) -> bool {
        let content_hides = match &self.parts {
            Parts::Conversation(prompt) => prompt.content().hides(),
            Parts::Completions(prompt) => prompt.hides(),
            Parts::Embeddings(prompt) => prompt.hides(),
            Parts::Responses(prompt) => prompt.content().hides(),
            Parts::Sized => false,
        };
        content_hides || self.shape().is_some_and(|shape| shape.hides)
    }

    /// How many prompts a suffix is added to.
    pub(super) fn suffixes(&self) -> u64 {
        match &self.parts {
            Parts::Completions(prompt) => prompt.prompts(),
            _ => 1,
        }
    }

    /// What it costs beside its text if it is sent to `model` with so many functions; `unknown` is what a document
    /// costs that it only names, if that is configured.
    pub(super) fn beside_text(&self, model: &str, functions: u64, unknown: Option<u64>) -> Tally {
        let rules = Rules::of(model);
        let (content, rules) = match &self.parts {
            Parts::Conversation(prompt) => (prompt.content(), &rules.chat),
            Parts::Responses(prompt) => (prompt.content(), &rules.responses),
            Parts::Completions(prompt) => return prompt.beside_text(model, unknown),
            Parts::Embeddings(prompt) => return prompt.beside_text(model, unknown),
            Parts::Sized => return Tally::default(),
        };
        let is_chat = matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::CohereChat);
        let structure = self.shape().map_or(Units::ZERO, |shape| shape.tokens(rules, functions));
        let others = content.document_tokens(model, is_chat, unknown);
        Tally { structure, images: content.image_tokens(model), others }
    }
}
