//! Reads requests: the endpoint from a path; the model, the prompt's tokens and the maximum of output tokens from a
//! body.
//!
//! Nothing here rejects a request: the upstream judges requests to its own API. A body that is not JSON is charged for
//! its size, with the model and the caps that come before the fault. Each wire format ([`Endpoint`]) has a module that
//! counts its prompts as a `Tally`. This file reads the members that all formats share. [`crate::models`] has the
//! numbers that differ by model. `docs/counting.md` lists which counts are exact and which are estimates.

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
pub use inject::{BodyEdit, inject_include_usage};

use crate::codec::lenient::{self, Accept, Text};
use crate::quantity::{MAX_EXACT, Units};
use crate::tokens::Meter;
use serde::de::MapAccess;
use std::borrow::Cow;

/// A request's body as text, repaired where strict JSON would refuse it.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    text: Cow<'a, str>,
    /// Its length as received, in bytes.
    bytes: u64,
}

impl<'a> Body<'a> {
    /// The body in `bytes`, which are copied only if they need repair.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { text: lenient::mend(bytes), bytes: bytes.len() as u64 }
    }
}

/// A request. Borrows from its [`Body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// The model's name, if there is one.
    pub model: Option<Cow<'b, str>>,
    /// Whether the client wants the answer as a stream.
    pub stream: bool,
    /// Whether it has `stream_options`, of any type.
    pub has_stream_options: bool,
    /// Whether the client wants usage at the end of the stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Whether the body was JSON.
    pub is_json: bool,
    /// `n`: the number of answers to send for each prompt.
    n: u64,
    /// `best_of`: the number of answers to make for each prompt, of which the upstream sends the best.
    best_of: u64,
    /// The body's size in bytes.
    size: u64,
    cap: Option<u64>,
    prompt: Prompt<'b>,
}

/// A prompt, by its format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Prompt<'b> {
    Chat(chat::Prompt<'b>),
    Completions(completions::Prompt<'b>),
    Embeddings(embeddings::Prompt<'b>),
    Responses(responses::Prompt<'b>),
    Messages(messages::Prompt<'b>),
    /// An unreadable prompt, which is charged for the size of the body.
    Sized,
}

/// The tokens of a prompt in any format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    /// Tokens that the tokenizer has counted, and those that the format adds. The model's factor corrects them.
    counted: Units,
    /// Tokens by the model's own rules, such as those of images and token ids. No factor corrects them.
    fixed: Units,
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
            // Embeddings have no output, whatever the request says.
            request.cap = Some(0);
        }
        request
    }

    /// The same request to an Azure deployment, which is the model if the body names none.
    #[must_use]
    pub fn to_deployment(mut self, deployment: Option<&'b str>) -> Self {
        self.model = self.model.or_else(|| deployment.map(Cow::Borrowed));
        self
    }

    /// The tokens of the prompt, corrected by the model's factor if its own tokenizer is not available. A body without
    /// a prompt counts one token for four bytes, rounded up, about as English and JSON do. If `meter` has stopped, the
    /// result is no smaller than the count at which it stopped, and no larger than the count of the whole prompt.
    pub fn input_tokens(&self, meter: &Meter<'_>) -> u64 {
        let tally = self.prompt.tally(self.model.as_deref().unwrap_or_default(), meter);
        tally.map_or_else(
            || self.size.div_ceil(4),
            |tally| (Units::new(meter.weigh(tally.counted.get())) + tally.fixed).get(),
        )
    }

    /// The number of answers in the response: `n` for every prompt, at least one.
    pub fn choices(&self) -> u64 {
        self.n.saturating_mul(self.prompt.prompts())
    }

    /// The number of answers that the upstream makes and charges for: the larger of `n` and `best_of` for every prompt.
    pub fn answers(&self) -> u64 {
        self.n.max(self.best_of).saturating_mul(self.prompt.prompts())
    }

    /// The most output tokens that the request allows: its largest cap, times [`Request::answers`], at most
    /// [`MAX_EXACT`]. None if it sets no cap; zero for embeddings.
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

    /// The number of prompts in the request: one, except for completions.
    fn prompts(&self) -> u64 {
        match self {
            Self::Completions(prompt) => prompt.prompts().max(1),
            _ => 1,
        }
    }

    /// The tokens of the prompt. None if the request has no prompt.
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
