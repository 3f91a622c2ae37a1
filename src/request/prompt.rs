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

/// A prompt, by its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt<'b> {
    Chat(Conversation<'b>),
    Completions(completions::Prompt<'b>),
    Embeddings(embeddings::Prompt<'b>),
    Responses(responses::Prompt<'b>),
    Messages(Conversation<'b>),
    Gemini(Conversation<'b>),
    GeminiEmbeddings(Conversation<'b>),
    OllamaChat(Conversation<'b>),
    OllamaGenerate(completions::Prompt<'b>),
    CohereEmbed(embeddings::Prompt<'b>),
    Rerank(completions::Prompt<'b>),
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
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::CohereChat => Self::Chat(Conversation::default()),
            Endpoint::Completions => Self::Completions(completions::Prompt::default()),
            Endpoint::Embeddings => Self::Embeddings(embeddings::Prompt::default()),
            Endpoint::Responses => Self::Responses(responses::Prompt::default()),
            Endpoint::Messages => Self::Messages(Conversation::default()),
            Endpoint::Gemini => Self::Gemini(Conversation::default()),
            Endpoint::GeminiEmbeddings => Self::GeminiEmbeddings(Conversation::default()),
            Endpoint::OllamaChat => Self::OllamaChat(Conversation::default()),
            Endpoint::OllamaGenerate => Self::OllamaGenerate(completions::Prompt::default()),
            Endpoint::CohereEmbed => Self::CohereEmbed(embeddings::Prompt::default()),
            Endpoint::Rerank => Self::Rerank(completions::Prompt::default()),
            Endpoint::Other(_) => Self::Sized,
        }
    }

    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match self {
            Self::Chat(prompt) => chat::member(prompt, name, object),
            Self::Completions(prompt) => prompt.member(name, object),
            Self::Embeddings(prompt) => prompt.member(name, object),
            Self::Responses(prompt) => prompt.member(name, object),
            Self::Messages(prompt) => messages::member(prompt, name, object),
            Self::Gemini(prompt) | Self::GeminiEmbeddings(prompt) => gemini::member(prompt, name, object),
            Self::OllamaChat(prompt) => ollama::chat_member(prompt, name, object),
            Self::OllamaGenerate(prompt) => ollama::generate_member(prompt, name, object),
            Self::CohereEmbed(prompt) => cohere::embed_member(prompt, name, object),
            Self::Rerank(prompt) => cohere::rerank_member(prompt, name, object),
            Self::Sized => lenient::skip(object),
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
        match self {
            Self::Gemini(prompt) => gemini::option(prompt, name, object),
            _ => lenient::skip(object).map(|()| None),
        }
    }

    /// Whether the request has no prompt, or some reader finds none and the others find nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Chat(prompt)
            | Self::Gemini(prompt)
            | Self::GeminiEmbeddings(prompt)
            | Self::OllamaChat(prompt) => prompt.is_empty(),
            Self::Completions(prompt) | Self::OllamaGenerate(prompt) | Self::Rerank(prompt) => {
                prompt.is_empty()
            }
            Self::Embeddings(prompt) | Self::CohereEmbed(prompt) => prompt.is_empty(),
            Self::Responses(prompt) => prompt.is_empty(),
            Self::Messages(prompt) => prompt.is_empty(),
            Self::Sized => true,
        }
    }

    /// How many prompts the request has: one, except for completions.
    pub(super) fn prompts(&self) -> u64 {
        match self {
            Self::Completions(prompt) | Self::OllamaGenerate(prompt) | Self::Rerank(prompt) => {
                prompt.prompts().max(1)
            }
            _ => 1,
        }
    }

    /// Shows each of its texts to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        match self {
            Self::Chat(prompt)
            | Self::Gemini(prompt)
            | Self::GeminiEmbeddings(prompt)
            | Self::OllamaChat(prompt) => prompt.see_texts(see),
            Self::Completions(prompt) | Self::OllamaGenerate(prompt) | Self::Rerank(prompt) => {
                prompt.see_texts(see)
            }
            Self::Embeddings(prompt) | Self::CohereEmbed(prompt) => prompt.see_texts(see),
            Self::Responses(prompt) => prompt.see_texts(see),
            Self::Messages(prompt) => prompt.see_texts(see),
            Self::Sized => {}
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Prompt<'static> {
        match self {
            Self::Chat(prompt) => Prompt::Chat(prompt.without_texts(take)),
            Self::Completions(prompt) => Prompt::Completions(prompt.without_texts(take)),
            Self::Embeddings(prompt) => Prompt::Embeddings(prompt.without_texts(take)),
            Self::Responses(prompt) => Prompt::Responses(prompt.without_texts(take)),
            Self::Messages(prompt) => Prompt::Messages(prompt.without_texts(take)),
            Self::Gemini(prompt) => Prompt::Gemini(prompt.without_texts(take)),
            Self::GeminiEmbeddings(prompt) => Prompt::GeminiEmbeddings(prompt.without_texts(take)),
            Self::OllamaChat(prompt) => Prompt::OllamaChat(prompt.without_texts(take)),
            Self::OllamaGenerate(prompt) => Prompt::OllamaGenerate(prompt.without_texts(take)),
            Self::CohereEmbed(prompt) => Prompt::CohereEmbed(prompt.without_texts(take)),
            Self::Rerank(prompt) => Prompt::Rerank(prompt.without_texts(take)),
            Self::Sized => Prompt::Sized,
        }
    }

    /// Whether the member `name`, an array, may be read in several parts: nothing but its elements counts.
    pub(super) fn is_read_in_parts(&self, name: &str) -> bool {
        match self {
            Self::Chat(_) => matches!(name, "messages" | "tools" | "functions"),
            Self::Completions(_) => matches!(name, "prompt" | "suffix"),
            Self::Embeddings(_) => name == "input",
            Self::Responses(_) => matches!(name, "input" | "instructions" | "tools"),
            Self::Messages(_) => matches!(name, "messages" | "system" | "tools"),
            Self::Gemini(_) => matches!(name, "contents" | "tools"),
            Self::GeminiEmbeddings(_) => name == "requests",
            Self::OllamaChat(_) => matches!(name, "messages" | "tools"),
            Self::OllamaGenerate(_) => matches!(name, "prompt" | "suffix" | "context"),
            Self::CohereEmbed(_) => matches!(name, "texts" | "inputs"),
            Self::Rerank(_) => matches!(name, "documents" | "texts" | "input"),
            Self::Sized => false,
        }
    }

    /// What it has beside its text, if it has messages.
    pub(super) const fn shape(&self) -> Option<&Shape> {
        match self {
            Self::Chat(prompt) | Self::Messages(prompt) | Self::Gemini(prompt) | Self::OllamaChat(prompt) => {
                Some(prompt.shape())
            }
            Self::Responses(prompt) => Some(prompt.shape()),
            Self::Completions(_)
            | Self::Embeddings(_)
            | Self::GeminiEmbeddings(_)
            | Self::OllamaGenerate(_)
            | Self::CohereEmbed(_)
            | Self::Rerank(_)
            | Self::Sized => None,
        }
    }

    /// Whether the provider may add to it, or take from it, what the request does not show.
    pub(super) fn hides(&self) -> bool {
        let content = match self {
            Self::Chat(prompt) | Self::Messages(prompt) | Self::Gemini(prompt) | Self::OllamaChat(prompt) => {
                prompt.content()
            }
            Self::GeminiEmbeddings(prompt) => prompt.content(),
            Self::Responses(prompt) => prompt.content(),
            Self::OllamaGenerate(prompt) | Self::Rerank(prompt) => return prompt.hides(),
            Self::CohereEmbed(prompt) => return prompt.hides(),
            Self::Completions(_) | Self::Embeddings(_) | Self::Sized => return false,
        };
        content.hides() || self.shape().is_some_and(|shape| shape.hides)
    }

    /// How many prompts a suffix is added to.
    pub(super) fn suffixes(&self) -> u64 {
        match self {
            Self::Completions(prompt) | Self::OllamaGenerate(prompt) | Self::Rerank(prompt) => {
                prompt.prompts()
            }
            _ => 1,
        }
    }

    /// What it costs beside its text if it is sent to `model` with so many functions; `unknown` is what a document
    /// costs that it only names, if that is configured.
    pub(super) fn beside_text(&self, model: &str, functions: u64, unknown: Option<u64>) -> Tally {
        let content = match self {
            Self::Chat(prompt) | Self::OllamaChat(prompt) => prompt.content(),
            Self::Completions(prompt) | Self::OllamaGenerate(prompt) | Self::Rerank(prompt) => {
                return prompt.beside_text(model, unknown);
            }
            Self::Embeddings(prompt) | Self::CohereEmbed(prompt) => {
                return prompt.beside_text(model, unknown);
            }
            Self::Responses(prompt) => prompt.content(),
            Self::Messages(prompt) | Self::Gemini(prompt) | Self::GeminiEmbeddings(prompt) => {
                prompt.content()
            }
            Self::Sized => return Tally::default(),
        };
        let others = content.document_tokens(model, matches!(self, Self::Chat(_)), unknown);
        let images = content.image_tokens(model);
        let rules = Rules::of(model);
        let structure = match self {
            Self::Responses(prompt) => prompt.shape().tokens(&rules.responses, functions),
            Self::Chat(prompt) | Self::Messages(prompt) | Self::Gemini(prompt) | Self::OllamaChat(prompt) => {
                prompt.shape().tokens(&rules.chat, functions)
            }
            Self::Completions(_)
            | Self::Embeddings(_)
            | Self::GeminiEmbeddings(_)
            | Self::OllamaGenerate(_)
            | Self::CohereEmbed(_)
            | Self::Rerank(_)
            | Self::Sized => Units::ZERO,
        };
        Tally { structure, images, others }
    }
}
