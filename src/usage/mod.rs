//! The real usage of a response, read while the response passes, in any chunks, in bounded memory.
//!
//! The upstream's own `usage` counts, in any place and under any of its names; `reported` makes one of several. If an
//! answer has none, the tokenizer counts its text. If the upstream reports an error and nothing has come before it, the
//! request has failed. In all other cases the outcome is unknown, and the request is charged as reserved. The known
//! formats are JSON bodies, in the names of OpenAI, Anthropic and others, and streams of chat completions and
//! completions, of responses, of messages, of Gemini's chunks and of Ollama's lines, each in a module of its own;
//! `framing` takes the events or objects out of them. The endpoint and the content type suggest the format; the first
//! bytes decide.
//!
//! [`learned_output`] learns how long the answers of each model are, for requests that set no maximum,
//! [`learned_parts`] how much of them is reasoning and of prompts comes from caches, and [`learned_prompt`] how far the
//! counts of prompts are off.
//!
//! [`crate::codec`] decodes a compressed response before it comes here, and [`crate::session`] handles error statuses.

mod answer_text;
mod answered_by;
mod any;
mod arguments;
mod bill;
mod body;
mod chat;
mod choice;
mod cohere;
mod end_reason;
mod failure;
mod framing;
mod gemini;
mod item;
pub mod learned_output;
pub mod learned_parts;
pub mod learned_prompt;
mod messages;
mod ollama;
mod part;
mod places;
mod recent;
mod report;
mod reported;
mod response_state;
mod responses;
mod stream;
mod stream_update;

pub use end_reason::EndReasons;
pub use places::PLACES;

use crate::codec::sse::Event;
use crate::pricing::Tokens;
use crate::request::Endpoint;
use crate::tokens::Tokenizer;
use answered_by::AnsweredBy;
use framing::Kind;
pub use response_state::ResponseState;
use response_state::StateFinder;

/// The usage of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included; none if the upstream did not report them.
    pub input_tokens: Option<u64>,
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
    /// The tokens that prices and weights apply to. A prompt that was not reported has those of `estimate`, and all of
    /// the output may be reasoning if that says so and nothing was reported of it.
    pub fn tokens(&self, estimate: &Tokens) -> Tokens {
        let output = self.output_tokens;
        let reasoning = self.reasoning_tokens.unwrap_or(0);
        let may_reason = estimate.may_reason && self.reasoning_tokens.is_none();
        match self.input_tokens {
            None => Tokens { output, reasoning, may_reason, ..*estimate },
            Some(input) => Tokens {
                input,
                cached_input: self.cached_tokens.unwrap_or(0),
                cache_write: self.cache_creation_tokens.unwrap_or(0),
                output,
                reasoning,
                may_reason,
            },
        }
    }
}

/// The result of reading a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream reported what the whole answer used.
    Reported(Usage),
    /// The upstream did not: the answer's text was counted, as far as it has come.
    Counted {
        /// The prompt as it was reported, if it was; tokens of the text, corrected by the model's factor, or what was
        /// reported of the output if that is more.
        usage: Usage,
        /// What the answer shows of reasoning, of which there may be more than its text.
        reasoning: Reasoning,
    },
    /// The upstream reported an error, or broke off, before any output.
    Failed,
    /// The format is unknown, the response ended before it showed anything, or some of it could not be read.
    Unknown,
}

/// What an answer shows of reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reasoning {
    /// Nothing: there may be some that it does not show.
    #[default]
    Unknown,
    /// Some of its text is reasoning, or has the place of it: there may be more that it does not show.
    Shown,
    /// That there is none, in a format that would show it.
    None,
}

impl Reasoning {
    /// What an answer shows that has some (`is_shown`), or is whole and in a format that would show it (`would_show`).
    const fn new(is_shown: bool, would_show: bool) -> Self {
        match (is_shown, would_show) {
            (true, _) => Self::Shown,
            (false, true) => Self::None,
            (false, false) => Self::Unknown,
        }
    }
}

/// Who ended a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The upstream: more will never come.
    Upstream,
    /// The client, or the proxy in its place: the upstream may have made more.
    Other,
}

/// Reads one response.
#[derive(Clone, Debug)]
pub struct ResponseReader {
    endpoint: Endpoint,
    choices: u64,
    tokenizer: Tokenizer,
    format: Format,
    /// Looks for the model's name, if somebody wants to know it.
    answered_by: Option<AnsweredBy>,
    /// Looks for the state of a response that may go on in the background, if somebody wants to know it.
    state: Option<StateFinder>,
}

#[derive(Clone, Debug)]
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
    /// Events.
    Stream,
    /// Objects, one in each line.
    Lines,
    /// JSON.
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
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/stream+json" => Named::Lines,
            json if json.ends_with("/json") || json.ends_with("+json") => Named::Body,
            _ => Named::Other,
        };
        Self { endpoint, choices, tokenizer, format: Format::Unbegun(named), answered_by: None, state: None }
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

    /// The same reader, which also looks for the id of the response and whether it has ended, if `wanted`.
    #[must_use]
    pub fn looking_for_state(self, wanted: bool) -> Self {
        Self { state: wanted.then(StateFinder::default), ..self }
    }

    /// The state of the response, if it was looked for.
    pub fn state(&self) -> Option<&ResponseState> {
        self.state.as_ref().map(StateFinder::state)
    }

    /// Whether something that is looked for may still come, so that an outcome is not all. The last event of a stream
    /// says that the response has ended.
    pub fn misses_something(&self) -> bool {
        let is_body = matches!(self.format, Format::Body(_));
        self.misses_model() || (is_body && self.state.as_ref().is_some_and(StateFinder::is_incomplete))
    }

    /// Takes a chunk, which may end anywhere. Returns the outcome as soon as it is certain, which may be before the
    /// response ends, and only once.
    ///
    /// - A body's outcome is certain when the `usage` at its top ends, if that has tokens of output or there are none.
    /// - For a stream of chat completions or completions, with the first usage after every choice has finished, or
    ///   with `[DONE]`: usage before that may be of the text so far.
    /// - For a stream of responses, with `response.completed`, `response.incomplete`, `response.failed` or
    ///   `response.cancelled`.
    /// - For a stream of messages, with the `message_delta` that has a `stop_reason`, or with `message_stop`.
    /// - For a stream of Cohere's, with `message-end`.
    /// - For a stream of Ollama's, with the line that has `done`.
    /// - For a stream of Gemini's, with the usage beside the last `finishReason`.
    pub fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        let chunk = self.begin(chunk);
        if let Some(answered_by) = &mut self.answered_by
            && !matches!(self.format, Format::Unbegun(_))
        {
            let stream = if let Format::Stream(stream) = &self.format { Some(stream.kind()) } else { None };
            answered_by.push(chunk, stream);
        }
        if let Some(state) = &mut self.state
            && !matches!(self.format, Format::Unbegun(_))
        {
            state.push(chunk, matches!(self.format, Format::Stream(_)));
        }
        match &mut self.format {
            Format::Stream(stream) => stream.push(chunk),
            Format::Body(body) => body.push(chunk),
            Format::Unbegun(_) | Format::Other => None,
        }
    }

    /// Whether the response is a stream of events, once `chunk` has arrived. If so, a caller with a parser of its own
    /// may pass all events to [`ResponseReader::read_event`], instead of all chunks to [`ResponseReader::push`].
    pub fn reads_events(&mut self, chunk: &[u8]) -> bool {
        self.begin(chunk);
        matches!(&self.format, Format::Stream(stream) if stream.kind() == Kind::Events)
    }

    /// Takes the next event of a stream. Returns the outcome like [`ResponseReader::push`].
    pub fn read_event(&mut self, event: Event<'_>) -> Option<Outcome> {
        if let Some(answered_by) = &mut self.answered_by {
            answered_by.read_event(event.data);
        }
        if let Some(state) = &mut self.state {
            state.read_event(event.data);
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

    /// Takes the event that the end of the stream cut off. Returns the outcome like [`ResponseReader::read_event`].
    pub fn read_part(&mut self, event: Event<'_>) -> Option<Outcome> {
        match &mut self.format {
            Format::Stream(stream) => stream.read_part(event),
            Format::Body(_) | Format::Unbegun(_) | Format::Other => None,
        }
    }

    /// Notes that the rest of the response cannot be read, because its decoder has given up.
    pub fn skip_rest(&mut self) {
        match &mut self.format {
            Format::Stream(stream) => stream.skip_rest(),
            Format::Body(body) => body.skip_rest(),
            Format::Unbegun(_) | Format::Other => self.format = Format::Other,
        }
    }

    /// The outcome of a response that `ended_by` ended. If [`ResponseReader::push`] has returned an outcome, this is
    /// the same.
    ///
    /// A body that the upstream breaks off is all that there is of it. One that the client breaks off says nothing: the
    /// upstream has made all of it.
    pub fn finish(self, ended_by: EndedBy) -> Outcome {
        match self.format {
            Format::Stream(stream) => stream.finish(),
            Format::Body(body) => body.finish(ended_by),
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
        let stream = |kind: Kind| {
            let reader = stream::Reader::new(kind, self.endpoint, self.choices, self.tokenizer);
            Format::Stream(Box::new(reader))
        };
        self.format = match (first, named) {
            (b'{' | b'[', Named::Lines) => stream(Kind::Objects),
            // Gemini's streams are arrays, if nobody asks for events.
            (b'[', Named::Body) if self.endpoint == Endpoint::Gemini => stream(Kind::Objects),
            (b'{', _) | (b'[', Named::Body) => {
                let has_output = !self.endpoint.has_format() || self.endpoint.has_output();
                Format::Body(Box::new(body::Reader::new(self.tokenizer, has_output)))
            }
            (b'd' | b'e' | b':', _) | (_, Named::Stream) => stream(Kind::Events),
            _ => Format::Other,
        };
        chunk
    }
}

#[cfg(test)]
mod tests;
