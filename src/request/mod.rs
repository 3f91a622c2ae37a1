//! Requests: from a path and a body to what the limiter needs to know. Which model, how many prompt tokens, how many
//! output tokens at most.
//!
//! Nothing here rejects a request: the upstream is the judge of its own API. A body that is not JSON is charged for
//! its size, with the model and the caps that stand before the fault. One module per wire format says what a prompt
//! costs; the members that all formats share are read here.

pub mod chat;
mod endpoint;
mod inject;

pub use endpoint::Endpoint;
pub use inject::ask_for_usage;

use crate::lenient::{self, Accept, MAX_NUMBER, Text};
use crate::tokens::Counter;
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
    /// Whether the client asked for usage at the end of the stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// How many answers are to be made: `n`, at least one.
    pub choices: u64,
    /// Whether the body was JSON.
    pub is_json: bool,
    /// Of the body, in bytes.
    size: u64,
    cap: Option<u64>,
    prompt: Prompt<'b>,
}

/// What is known of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Prompt<'b> {
    Chat(chat::Prompt<'b>),
    /// Nothing but the body's size.
    Sized,
}

impl<'b> Request<'b> {
    /// Reads a request to `endpoint`.
    pub fn read(endpoint: Endpoint, body: &'b Body<'_>) -> Self {
        let prompt = match endpoint {
            Endpoint::ChatCompletions => Prompt::Chat(chat::Prompt::default()),
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses | Endpoint::Messages => {
                Prompt::Sized
            }
        };
        // An embedding has no output to reserve.
        let cap = (endpoint == Endpoint::Embeddings).then_some(0);
        let mut request = Self {
            model: None,
            stream: false,
            include_usage: false,
            choices: 1,
            is_json: true,
            size: body.bytes,
            cap,
            prompt,
        };
        if lenient::read(&body.text, &mut request).is_err() {
            request.is_json = false;
            request.prompt = Prompt::Sized;
        }
        request
    }

    /// Tokens of the prompt, corrected by the model's factor. A body in which no prompt is found counts one token for
    /// four bytes, rounded up: about what English and JSON come to.
    pub fn input_tokens(&self, counter: &Counter) -> u64 {
        match &self.prompt {
            Prompt::Chat(prompt) if !prompt.is_empty() => {
                counter.weigh(prompt.tokens(self.model.as_deref(), counter))
            }
            Prompt::Chat(_) | Prompt::Sized => self.size.div_ceil(4),
        }
    }

    /// The most output tokens that the request allows itself: the largest of the caps that it gives, times
    /// [`Request::choices`], at most [`MAX_NUMBER`]. None if it gives none.
    pub fn output_cap(&self) -> Option<u64> {
        self.cap.map(|cap| cap.saturating_mul(self.choices).min(MAX_NUMBER))
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
                self.choices = self.choices.max(lenient::number(object)?.unwrap_or(1));
                Ok(())
            }
            "stream" => {
                self.stream = lenient::flag(object)?;
                Ok(())
            }
            "stream_options" => lenient::offer(object, &mut StreamOptions(&mut self.include_usage)),
            _ => match &mut self.prompt {
                Prompt::Chat(prompt) => prompt.member(name, object),
                Prompt::Sized => lenient::skip(object),
            },
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
