//! Reads a streamed answer, Server-Sent Events of any format.
//!
//! The first event with a known format determines the format of the stream. The endpoint's format is tried first; some
//! gateways answer in another. A later report of usage replaces an earlier one. The text is collected meanwhile, and
//! counted only if it must be.

use super::report::Report;
use super::stream_update::StreamUpdate;
use super::{Outcome, Usage, chat, messages, responses};
use crate::codec::lenient;
use crate::codec::sse::{Event, Parser};
use crate::quantity::Units;
use crate::request::Endpoint;
use crate::tokens::{Running, Tokenizer};
use std::collections::BTreeMap;

/// The index of the last part of an answer that is counted apart: OpenAI's largest `n` is 128. All later parts form one
/// text with it.
const LAST_PART: u64 = 127;

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Reader {
    parser: Parser,
    answer: Answer,
    outcome: Option<Outcome>,
}

impl Reader {
    /// A reader of an answer from `endpoint`, with so many `choices`.
    pub(super) fn new(endpoint: Endpoint, choices: u64, tokenizer: Tokenizer) -> Self {
        let answer = Answer::new(Format::of(endpoint), choices, tokenizer);
        Self { parser: Parser::default(), answer, outcome: None }
    }

    /// Takes a chunk. Returns the outcome, once, as soon as it is certain.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let mut parser = std::mem::take(&mut self.parser);
        parser.push(chunk, |event| {
            self.read_event(event);
        });
        self.parser = parser;
        self.outcome
    }

    /// Takes an event. Returns the outcome, once, as soon as it is certain, and skips later events.
    pub(super) fn read_event(&mut self, event: Event<'_>) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        self.outcome = self.answer.read(event.data);
        self.outcome
    }

    /// About how many tokens the answer has so far.
    pub(super) fn so_far(&self) -> u64 {
        match self.outcome {
            Some(Outcome::Reported(usage)) => usage.output_tokens,
            Some(Outcome::Counted { output_tokens }) => output_tokens,
            Some(Outcome::Unknown) => 0,
            None => self.answer.estimate(),
        }
    }

    /// The outcome of a stream that has ended.
    pub(super) fn finish(mut self) -> Outcome {
        std::mem::take(&mut self.parser).finish(|event| {
            self.read_event(event);
        });
        self.outcome.unwrap_or_else(|| self.answer.outcome_so_far())
    }
}

/// A format of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Chat,
    Responses,
    Messages,
}

impl Format {
    const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => Self::Chat,
            Endpoint::Responses => Self::Responses,
            Endpoint::Messages => Self::Messages,
        }
    }

    fn read(self, data: &str) -> Option<StreamUpdate> {
        match self {
            Self::Chat => chat::read(data),
            Self::Responses => responses::read(data),
            Self::Messages => messages::read(data),
        }
    }
}

/// The answer so far.
#[derive(Debug)]
struct Answer {
    tokenizer: Tokenizer,
    format: Format,
    /// Whether an event has shown that `format` is the format of the stream.
    is_known: bool,
    choices: u64,
    /// One bit for each choice that has finished.
    finished: u128,
    texts: BTreeMap<u64, Running>,
    usage: Report,
    /// Whether text has arrived since the last usage.
    usage_is_old: bool,
}

impl Answer {
    fn new(format: Format, choices: u64, tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            format,
            is_known: false,
            choices: choices.clamp(1, LAST_PART + 1),
            finished: 0,
            texts: BTreeMap::new(),
            usage: Report::default(),
            usage_is_old: false,
        }
    }

    /// Reads an event's data. Returns the outcome if it is certain now.
    fn read(&mut self, data: &[u8]) -> Option<Outcome> {
        if data.trim_ascii() == b"[DONE]" {
            return Some(self.outcome_so_far());
        }
        let update = self.update_in(&lenient::mend(data))?;
        for (part, text) in &update.texts {
            self.add_text(*part, text);
        }
        for choice in update.finished {
            self.finished |= 1_u128.unbounded_shl(choice.min(LAST_PART) as u32);
        }
        let has_usage = self.usage.update(&update.usage);
        self.usage_is_old &= !has_usage;
        let all_finished = u64::from(self.finished.count_ones()) >= self.choices;
        (update.is_last || (has_usage && all_finished)).then(|| self.outcome_so_far())
    }

    /// The content of an event's data, in the first format that it fits.
    fn update_in(&mut self, data: &str) -> Option<StreamUpdate> {
        let formats = [self.format, Format::Chat, Format::Responses, Format::Messages];
        let tried = if self.is_known { 1 } else { formats.len() };
        let (format, update) =
            formats.into_iter().take(tried).find_map(|format| Some((format, format.read(data)?)))?;
        (self.format, self.is_known) = (format, true);
        Some(update)
    }

    fn add_text(&mut self, part: u64, text: &str) {
        if !text.is_empty() {
            self.usage_is_old = true;
            self.texts.entry(part.min(LAST_PART)).or_default().push(text, &self.tokenizer);
        }
    }

    /// The outcome if the stream ends now.
    fn outcome_so_far(&self) -> Outcome {
        match self.usage.usage() {
            Some(usage) if !self.usage_is_old => Outcome::Reported(usage),
            Some(usage) => {
                Outcome::Reported(Usage { output_tokens: usage.output_tokens.max(self.count()), ..usage })
            }
            None if self.is_known => Outcome::Counted { output_tokens: self.count() },
            None => Outcome::Unknown,
        }
    }

    /// The tokens of the text.
    fn count(&self) -> u64 {
        let tokens: Units = self.texts.values().map(|text| text.total(&self.tokenizer).into()).sum();
        self.tokenizer.weigh(tokens.get())
    }

    /// About the tokens of the text, or the tokens that were reported so far if they are more.
    fn estimate(&self) -> u64 {
        let tokens: Units = self.texts.values().map(|text| text.estimate().into()).sum();
        let reported = self.usage.usage().map_or(0, |usage| usage.output_tokens);
        self.tokenizer.weigh(tokens.get()).max(reported)
    }
}
