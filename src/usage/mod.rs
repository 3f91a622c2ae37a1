//! The real usage of a response, read while the response passes, in any chunks, in bounded memory.
//!
//! The upstream's own `usage` counts. If an answer has none, the tokenizer counts its text. If the format is unknown,
//! so is the outcome, and the request is charged as reserved. The known formats are JSON bodies with a top-level
//! `usage`, in OpenAI's names or Anthropic's, and streams of chat completions and completions, of responses and of
//! messages, each in a module of its own. The endpoint and the content type suggest the format; the first bytes decide.
//!
//! [`learned_output`] learns how long the answers of each model are, for requests that set no maximum.
//!
//! [`crate::codec`] decodes a compressed response before it comes here, and [`crate::session`] handles errors.

mod answer_text;
mod answered_by;
mod any;
mod body;
mod chat;
mod end_reason;
pub mod learned_output;
mod member;
mod messages;
mod recent;
mod report;
mod responses;
mod stream;
mod stream_update;

pub use end_reason::EndReasons;

use crate::codec::sse::Event;
use crate::pricing::Tokens;
use crate::request::Endpoint;
use crate::tokens::Tokenizer;
use answered_by::AnsweredBy;

/// The usage that an upstream reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Tokens of the prompt that were read from a cache.
    pub cached_tokens: Option<u64>,
    /// Tokens of the prompt that were written to a cache.
    pub cache_creation_tokens: Option<u64>,
    /// Tokens of the answer that are reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// The tokens that prices and weights apply to.
    pub fn tokens(&self) -> Tokens {
        Tokens {
            input: self.input_tokens,
            cached_input: self.cached_tokens.unwrap_or(0),
            cache_write: self.cache_creation_tokens.unwrap_or(0),
            output: self.output_tokens,
            reasoning: self.reasoning_tokens.unwrap_or(0),
        }
    }
}

/// The result of reading a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream reported its usage.
    Reported(Usage),
    /// The upstream reported none, so the answer's text was counted.
    Counted {
        /// Tokens of the answer, corrected by the model's factor.
        output_tokens: u64,
    },
    /// The format is unknown, or the response ended before it showed anything.
    Unknown,
}

/// Reads one response.
#[derive(Debug)]
pub struct ResponseReader {
    endpoint: Endpoint,
    choices: u64,
    tokenizer: Tokenizer,
    format: Format,
    /// Looks for the model's name, if somebody wants to know it.
    answered_by: Option<AnsweredBy>,
}

#[derive(Debug)]
enum Format {
    /// Only white space has arrived. The first byte after it decides, together with the content type.
    Unbegun(Named),
    Stream(Box<stream::Reader>),
    Body(Box<body::Reader>),
    Other,
}

/// The format that a content type names.
#[derive(Clone, Copy, Debug)]
enum Named {
    Stream,
    Body,
    Other,
}

impl ResponseReader {
    /// A reader of a response of type `content_type` from `endpoint`, with so many `choices`. `tokenizer` counts the
    /// text if the response reports no usage. A response without a type is JSON, unless its first byte begins a stream.
    pub fn new(endpoint: Endpoint, content_type: Option<&str>, choices: u64, tokenizer: Tokenizer) -> Self {
        let kind = content_type.unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let named = match kind.as_str() {
            "text/event-stream" => Named::Stream,
            json if json.ends_with("/json") || json.ends_with("+json") => Named::Body,
            _ => Named::Other,
        };
        Self { endpoint, choices, tokenizer, format: Format::Unbegun(named), answered_by: None }
    }

    /// The same reader, which also looks for the model that the answer names, if `wanted`.
    #[must_use]
    pub fn looking_for_model(self, wanted: bool) -> Self {
        Self { answered_by: wanted.then(AnsweredBy::default), ..self }
    }

    /// The model that the answer names, if it was looked for and has come.
    pub fn model(&self) -> Option<&str> {
        self.answered_by.as_ref().and_then(AnsweredBy::model)
    }

    /// Whether the model is still looked for.
    pub fn misses_model(&self) -> bool {
        self.answered_by.as_ref().is_some_and(|answered_by| answered_by.model().is_none())
    }

    /// Takes a chunk, which may end anywhere. Returns the outcome as soon as it is certain, which may be before the
    /// response ends, and only once.
    ///
    /// - A body's outcome is certain when its `usage` ends.
    /// - For a stream of chat completions or completions, with the first usage after every choice has finished, or
    ///   with `[DONE]`: usage before that may be of the text so far.
    /// - For a stream of responses, with `response.completed`, `response.incomplete`, `response.failed` or
    ///   `response.cancelled`.
    /// - For a stream of messages, with the `message_delta` that has a `stop_reason`, or with `message_stop`.
    pub fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        let chunk = self.begin(chunk);
        if let Some(answered_by) = &mut self.answered_by
            && !matches!(self.format, Format::Unbegun(_))
        {
            answered_by.push(chunk, matches!(self.format, Format::Stream(_)));
        }
        match &mut self.format {
            Format::Stream(stream) => stream.push(chunk),
            Format::Body(body) => body.push(chunk),
            Format::Unbegun(_) | Format::Other => None,
        }
    }

    /// Whether the response is a stream, once `chunk` has arrived. If so, a caller with a parser of its own may pass
    /// all events to [`ResponseReader::read_event`], instead of all chunks to [`ResponseReader::push`].
    pub fn reads_events(&mut self, chunk: &[u8]) -> bool {
        self.begin(chunk);
        matches!(self.format, Format::Stream(_))
    }

    /// Takes the next event of a stream. Returns the outcome like [`ResponseReader::push`].
    pub fn read_event(&mut self, event: Event<'_>) -> Option<Outcome> {
        if let Some(answered_by) = &mut self.answered_by {
            answered_by.read_event(event.data);
        }
        match &mut self.format {
            Format::Stream(stream) => stream.read_event(event),
            Format::Body(_) | Format::Unbegun(_) | Format::Other => None,
        }
    }

    /// About how many output tokens have arrived: in a stream, by its text and by the usage that it reports meanwhile;
    /// zero in a body, which arrives at once. It costs so little that callers may call it after every chunk. At most
    /// 16 KiB of the text are estimated, at a token for every four bytes; the rest is counted.
    pub fn so_far(&self) -> u64 {
        match &self.format {
            Format::Stream(stream) => stream.so_far(),
            Format::Body(_) | Format::Unbegun(_) | Format::Other => 0,
        }
    }

    /// The outcome of a response that has ended, for whatever reason. If [`ResponseReader::push`] has returned an
    /// outcome, this is the same.
    pub fn finish(self) -> Outcome {
        match self.format {
            Format::Stream(stream) => stream.finish(),
            Format::Body(body) => body.finish(),
            Format::Unbegun(_) | Format::Other => Outcome::Unknown,
        }
    }

    /// Chooses the format if `chunk` has the first byte of the response. Returns the part of `chunk` that belongs to
    /// the format.
    ///
    /// The first byte is more reliable than the content type: a JSON body begins with a brace, and a stream with the
    /// name of a field or with a comment.
    fn begin<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let Format::Unbegun(named) = self.format else { return chunk };
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF);
        let begins = chunk.iter().position(|byte| !is_blank(byte)).unwrap_or(chunk.len());
        let chunk = chunk.get(begins..).unwrap_or_default();
        let Some(first) = chunk.first() else { return chunk };
        self.format = match (first, named) {
            (b'{', _) | (b'[', Named::Body) => Format::Body(Box::new(body::Reader::new(self.tokenizer))),
            (b'd' | b'e' | b':', _) | (_, Named::Stream) => {
                Format::Stream(Box::new(stream::Reader::new(self.endpoint, self.choices, self.tokenizer)))
            }
            _ => Format::Other,
        };
        chunk
    }
}

#[cfg(test)]
mod tests;
