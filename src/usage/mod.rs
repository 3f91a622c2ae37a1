//! What a response really cost: read out of it while it passes, in any chunks, in bounded memory.
//!
//! The upstream's own `usage` is the truth. An answer that has none is counted by its text, with the tokenizer; one in
//! a format that is not known here says nothing, and its reservation stands. Formats known: bodies of JSON with a
//! top-level `usage`, in OpenAI's names or Anthropic's, and streams of chat completions and completions, of responses
//! and of messages, each in a module of its own. Which it is, the endpoint and the content type say, and the body
//! itself knows better.
//! Nothing is decompressed here, and whether the response is an error is the session's business.

mod body;
mod chat;
pub mod learned_output;
mod member;
mod messages;
mod report;
mod responses;
mod said;
mod stream;
mod told;

use crate::pricing::Tokens;
use crate::request::Endpoint;
use crate::tokens::Tokenizer;

/// What a response used, as the upstream reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Of the prompt's tokens, those read from a cache.
    pub cached_tokens: Option<u64>,
    /// Of the prompt's tokens, those written to a cache.
    pub cache_creation_tokens: Option<u64>,
    /// Of the answer's tokens, those of reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// The same, as prices and weights see it.
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

/// What is known when a response has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream told.
    Reported(Usage),
    /// It did not, and the answer's text was counted: corrected by the model's factor.
    Counted {
        /// Tokens of the answer.
        output_tokens: u64,
    },
    /// Nothing: not a format that is known here, or cut off before it said anything.
    Unknown,
}

/// Reads one response.
#[derive(Debug)]
pub struct ResponseReader {
    endpoint: Endpoint,
    choices: u64,
    tokenizer: Tokenizer,
    format: Format,
}

#[derive(Debug)]
enum Format {
    /// Nothing has come but white space. Until more does, the format is the one that the content type names.
    Unbegun(Named),
    Stream(Box<stream::Reader>),
    Body(Box<body::Reader>),
    Other,
}

/// What a content type names.
#[derive(Clone, Copy, Debug)]
enum Named {
    Stream,
    Body,
    Other,
}

impl ResponseReader {
    /// Of a response of type `content_type` to a request to `endpoint` for so many `choices`, whose text `tokenizer`
    /// counts. A response that names no type is taken for JSON, unless it looks like a stream.
    pub fn new(endpoint: Endpoint, content_type: Option<&str>, choices: u64, tokenizer: Tokenizer) -> Self {
        let kind = content_type.unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let named = match kind.as_str() {
            "text/event-stream" => Named::Stream,
            json if json.ends_with("/json") || json.ends_with("+json") => Named::Body,
            _ => Named::Other,
        };
        Self { endpoint, choices, tokenizer, format: Format::Unbegun(named) }
    }

    /// Takes a chunk, which may end anywhere. Gives the outcome as soon as it is certain, which may be before the
    /// response ends, and only once.
    ///
    /// - A body's outcome is certain when its `usage` ends.
    /// - A stream's of chat completions or completions with the first usage that comes when every choice has finished,
    ///   or with `[DONE]`: usage before that may be of the text so far.
    /// - A stream's of responses with `response.completed`, `response.incomplete`, `response.failed` or
    ///   `response.cancelled`.
    /// - A stream's of messages with the `message_delta` that has a `stop_reason`, or with `message_stop`.
    pub fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        let mut chunk = chunk;
        if let Format::Unbegun(named) = self.format {
            let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF);
            let begins = chunk.iter().position(|byte| !blank(byte))?;
            chunk = chunk.get(begins..).unwrap_or_default();
            self.begin(named, chunk.first().copied().unwrap_or_default());
        }
        match &mut self.format {
            Format::Stream(stream) => stream.push(chunk),
            Format::Body(body) => body.push(chunk),
            Format::Unbegun(_) | Format::Other => None,
        }
    }

    /// About how many tokens of output have come so far: in a stream, by its text and the usage that it tells
    /// meanwhile; in a body none, since it comes at once. Costs next to nothing, so it may be asked after every chunk;
    /// off by what 16 KiB of text differ from a token in four bytes, at most.
    pub fn so_far(&self) -> u64 {
        match &self.format {
            Format::Stream(stream) => stream.so_far(),
            Format::Body(_) | Format::Unbegun(_) | Format::Other => 0,
        }
    }

    /// The outcome of a response that has ended, in whatever way: what [`ResponseReader::push`] gave, if it did.
    pub fn finish(self) -> Outcome {
        match self.format {
            Format::Stream(stream) => stream.finish(),
            Format::Body(body) => body.finish(),
            Format::Unbegun(_) | Format::Other => Outcome::Unknown,
        }
    }

    /// Begins with the `first` byte, which tells the formats apart whatever the content type says: a body of JSON
    /// begins with a brace, and a stream with the name of a field or a comment.
    fn begin(&mut self, named: Named, first: u8) {
        self.format = match (first, named) {
            (b'{', _) | (b'[', Named::Body) => Format::Body(Box::new(body::Reader::new(self.tokenizer))),
            (b'd' | b'e' | b':', _) | (_, Named::Stream) => {
                Format::Stream(Box::new(stream::Reader::new(self.endpoint, self.choices, self.tokenizer)))
            }
            _ => Format::Other,
        };
    }
}

#[cfg(test)]
mod tests;
