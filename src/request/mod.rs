//! Requests: from a path and a body to what the limiter needs to know. Which model, how many prompt tokens, how many
//! output tokens at most.
//!
//! Nothing here rejects a request: the upstream is the judge of its own API. A body that is not JSON is charged for
//! its size, with the model and the caps that stand before the fault. One module per wire format ([`Endpoint`]) says
//! what a prompt costs, in the same terms (a `Tally`); the members that all formats share are read here. What is exact
//! and what is an estimate is a table in `docs/counting.md`.

mod audio;
mod chat;
mod completions;
mod content;
mod document;
mod embeddings;
mod endpoint;
mod format;
mod image;
mod inject;
mod input;
mod messages;
mod payload;
mod responses;
mod tools;

pub use endpoint::{Endpoint, deployment};
pub use inject::{BodyEdit, ask_for_usage};

use crate::codec::lenient::{self, Accept, Text};
use crate::quantity::MAX_EXACT;
use crate::tokens::Meter;
use serde::de::MapAccess;
use std::borrow::Cow;

/// A request's body as text, mended where strict JSON would refuse it.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    text: Cow<'a, str>,
    /// Length as it was received, in bytes.
    bytes: u64,
}

impl<'a> Body<'a> {
    /// The body in `bytes`, which are copied only if they need mending.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { text: lenient::mend(bytes), bytes: bytes.len() as u64 }
    }
}

/// What a request asks for. Borrows from its [`Body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// The model's name, if there is one.
    pub model: Option<Cow<'b, str>>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether it has `stream_options`, of whatever type.
    pub has_stream_options: bool,
    /// Whether the client asked for usage at the end of the stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Whether the body was JSON.
    pub is_json: bool,
    /// `n`: how many answers are to be sent, for each prompt.
    n: u64,
    /// `best_of`: how many are to be made, of which the best are sent.
    best_of: u64,
    /// Of the body, in bytes.
    size: u64,
    cap: Option<u64>,
    prompt: Prompt<'b>,
}

/// What is known of a prompt, by its format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Prompt<'b> {
    Chat(chat::Prompt<'b>),
    Completions(completions::Prompt<'b>),
    Embeddings(embeddings::Prompt<'b>),
    Responses(responses::Prompt<'b>),
    Messages(messages::Prompt<'b>),
    /// Nothing but the body's size.
    Sized,
}

/// What a prompt costs, in any format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    /// Tokens that the tokenizer counted, and what the format adds to them: the model's factor applies.
    counted: u64,
    /// Tokens by the model's own rules, images and token ids among them: they are what they are.
    fixed: u64,
}

impl Tally {
    /// The sum of `counted`, and `fixed` beside it.
    fn new<const PARTS: usize>(counted: [u64; PARTS], fixed: u64) -> Self {
        Self { counted: counted.into_iter().fold(0, u64::saturating_add), fixed }
    }
}

impl<'b> Request<'b> {
    /// Reads a request to `endpoint`.
    pub fn read(endpoint: Endpoint, body: &'b Body<'_>) -> Self {
        let mut request = Self {
            model: None,
            stream: false,
            has_stream_options: false,
            include_usage: false,
            is_json: true,
            n: 1,
            best_of: 1,
            size: body.bytes,
            cap: None,
            prompt: Prompt::new(endpoint),
        };
        if lenient::read(&body.text, &mut request).is_err() {
            request.is_json = false;
            request.prompt = Prompt::Sized;
        }
        if endpoint == Endpoint::Embeddings {
            // Whatever it says, there is no output to reserve.
            request.cap = Some(0);
        }
        request
    }

    /// The same request to a deployment, as a path of Azure names it: its name is the model's if the body has none.
    #[must_use]
    pub fn to_deployment(mut self, deployment: Option<&'b str>) -> Self {
        self.model = self.model.or_else(|| deployment.map(Cow::Borrowed));
        self
    }

    /// Tokens of the prompt, corrected by the model's factor where they were counted in another tokenizer than its
    /// own. A body in which no prompt is found counts one token for four bytes, rounded up: about what English and
    /// JSON come to. Where `meter` has stopped it is more than what it stopped at, and at most what it would be.
    pub fn input_tokens(&self, meter: &Meter<'_>) -> u64 {
        let tally = self.prompt.tally(self.model.as_deref().unwrap_or_default(), meter);
        tally.map_or_else(
            || self.size.div_ceil(4),
            |tally| meter.weigh(tally.counted).saturating_add(tally.fixed),
        )
    }

    /// How many answers are to be sent: `n` for every prompt, at least one.
    pub fn choices(&self) -> u64 {
        self.n.saturating_mul(self.prompt.prompts())
    }

    /// How many answers are to be made and paid for: the larger of `n` and `best_of` for every prompt.
    pub fn answers(&self) -> u64 {
        self.n.max(self.best_of).saturating_mul(self.prompt.prompts())
    }

    /// The most output tokens that the request allows itself: the largest of the caps that it gives, times
    /// [`Request::answers`], at most [`MAX_EXACT`]. None if it gives none; zero for embeddings.
    pub fn output_cap(&self) -> Option<u64> {
        self.cap.map(|cap| cap.saturating_mul(self.answers()).min(MAX_EXACT))
    }
}

impl<'b> Prompt<'b> {
    fn new(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::ChatCompletions => Self::Chat(chat::Prompt::default()),
            Endpoint::Completions => Self::Completions(completions::Prompt::default()),
            Endpoint::Embeddings => Self::Embeddings(embeddings::Prompt::default()),
            Endpoint::Responses => Self::Responses(responses::Prompt::default()),
            Endpoint::Messages => Self::Messages(messages::Prompt::default()),
        }
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match self {
            Self::Chat(prompt) => prompt.member(name, object),
            Self::Completions(prompt) => prompt.member(name, object),
            Self::Embeddings(prompt) => prompt.member(name, object),
            Self::Responses(prompt) => prompt.member(name, object),
            Self::Messages(prompt) => prompt.member(name, object),
            Self::Sized => lenient::skip(object),
        }
    }

    /// How many prompts the request has: one but for completions.
    fn prompts(&self) -> u64 {
        match self {
            Self::Completions(prompt) => prompt.prompts().max(1),
            _ => 1,
        }
    }

    /// What it costs; none if nothing of it was found.
    fn tally(&self, model: &str, meter: &Meter<'_>) -> Option<Tally> {
        match self {
            Self::Chat(prompt) => (!prompt.is_empty()).then(|| prompt.tally(model, meter)),
            Self::Completions(prompt) => (prompt.prompts() > 0).then(|| prompt.tally(model, meter)),
            Self::Embeddings(prompt) => (!prompt.is_empty()).then(|| prompt.tally(model, meter)),
            Self::Responses(prompt) => (!prompt.is_empty()).then(|| prompt.tally(model, meter)),
            Self::Messages(prompt) => (!prompt.is_empty()).then(|| prompt.tally(model, meter)),
            Self::Sized => None,
        }
    }
}

impl<'b> Accept<'b> for Request<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "model" => {
                let mut model = Text(self.model.take());
                let read = lenient::offer(object, &mut model);
                self.model = model.0;
                read
            }
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                self.cap = self.cap.max(lenient::number(object)?);
                Ok(())
            }
            "n" => {
                self.n = self.n.max(lenient::number(object)?.unwrap_or(1));
                Ok(())
            }
            "best_of" => {
                self.best_of = self.best_of.max(lenient::number(object)?.unwrap_or(1));
                Ok(())
            }
            "stream" => {
                self.stream = lenient::flag(object)?;
                Ok(())
            }
            "stream_options" => {
                self.has_stream_options = true;
                lenient::offer(object, &mut StreamOptions(&mut self.include_usage))
            }
            _ => self.prompt.member(name, object),
        }
    }
}

struct StreamOptions<'r>(&'r mut bool);

impl<'b> Accept<'b> for StreamOptions<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == "include_usage" {
            *self.0 = lenient::flag(object)?;
            return Ok(());
        }
        lenient::skip(object)
    }
}

#[cfg(test)]
mod tests;
