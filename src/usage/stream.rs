//! A streamed answer, as Server-Sent Events of any of the formats.
//!
//! An event is read in the format that the endpoint has, until one is met in another: some gateways answer in a format
//! that was not asked for. What is told later replaces what was told before. The text is gathered meanwhile, and
//! counted only if it must be.

use super::report::Report;
use super::told::StreamUpdate;
use super::{Outcome, Usage, chat, messages, responses};
use crate::codec::lenient;
use crate::codec::sse;
use crate::request::Endpoint;
use crate::tokens::{Running, Tokenizer};
use std::collections::BTreeMap;

/// Parts of an answer that are told apart: OpenAI's largest `n`. Those beyond count with the last.
const MAX_PARTS: u64 = 128;

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Reader {
    events: sse::Parser,
    answer: Answer,
    outcome: Option<Outcome>,
}

impl Reader {
    /// Of an answer with so many `choices` from `endpoint`.
    pub(super) fn new(endpoint: Endpoint, choices: u64, tokenizer: Tokenizer) -> Self {
        let answer = Answer::new(Format::of(endpoint), choices, tokenizer);
        Self { events: sse::Parser::default(), answer, outcome: None }
    }

    /// Takes a chunk of bytes; the outcome, once, when it is certain.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let (answer, outcome) = (&mut self.answer, &mut self.outcome);
        self.events.push(chunk, |event| {
            // What follows the outcome is passed over, in the same chunk as in the next.
            if outcome.is_none() {
                *outcome = answer.read(event.data);
            }
        });
        self.outcome
    }

    /// About how many tokens the answer has so far.
    pub(super) fn so_far(&self) -> u64 {
        match self.outcome {
            Some(Outcome::Reported(usage)) => usage.output_tokens,
            Some(Outcome::Counted { output_tokens }) => output_tokens,
            Some(Outcome::Unknown) => 0,
            None => self.answer.about(),
        }
    }

    /// The outcome of a stream that has ended.
    pub(super) fn finish(self) -> Outcome {
        let Self { events, mut answer, mut outcome } = self;
        if outcome.is_none() {
            events.finish(|event| outcome = answer.read(event.data));
        }
        outcome.unwrap_or_else(|| answer.outcome_so_far())
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

#[derive(Debug)]
struct Answer {
    tokenizer: Tokenizer,
    format: Format,
    /// Whether any event was of a format known here, which is `format` then.
    is_known: bool,
    choices: u64,
    /// One bit for each choice that has finished.
    finished: u128,
    texts: BTreeMap<u64, Running>,
    usage: Report,
    /// Whether text has come since the usage did.
    usage_is_old: bool,
}

impl Answer {
    fn new(format: Format, choices: u64, tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            format,
            is_known: false,
            choices: choices.clamp(1, MAX_PARTS),
            finished: 0,
            texts: BTreeMap::new(),
            usage: Report::default(),
            usage_is_old: false,
        }
    }

    /// Reads an event's data; the outcome, if it is certain now.
    fn read(&mut self, data: &[u8]) -> Option<Outcome> {
        if data.trim_ascii() == b"[DONE]" {
            return Some(self.outcome_so_far());
        }
        let told = self.told(&lenient::mend(data))?;
        for (part, text) in &told.says {
            self.say(*part, text);
        }
        for choice in told.finished {
            self.finished |= 1_u128.unbounded_shl(choice.min(MAX_PARTS.saturating_sub(1)) as u32);
        }
        let tells_usage = self.usage.update(&told.usage);
        self.usage_is_old &= !tells_usage;
        let all_finished = u64::from(self.finished.count_ones()) >= self.choices;
        (told.is_last || (tells_usage && all_finished)).then(|| self.outcome_so_far())
    }

    fn told(&mut self, data: &str) -> Option<StreamUpdate> {
        let formats = [self.format, Format::Chat, Format::Responses, Format::Messages];
        let tried = if self.is_known { 1 } else { formats.len() };
        let (format, told) =
            formats.into_iter().take(tried).find_map(|format| Some((format, format.read(data)?)))?;
        (self.format, self.is_known) = (format, true);
        Some(told)
    }

    fn say(&mut self, part: u64, text: &str) {
        if !text.is_empty() {
            self.usage_is_old = true;
            let part = part.min(MAX_PARTS.saturating_sub(1));
            self.texts.entry(part).or_default().push(text, &self.tokenizer);
        }
    }

    /// What is known if no more comes.
    fn outcome_so_far(&self) -> Outcome {
        match self.usage.usage() {
            Some(usage) if !self.usage_is_old => Outcome::Reported(usage),
            Some(usage) => {
                Outcome::Reported(Usage { output_tokens: usage.output_tokens.max(self.counted()), ..usage })
            }
            None if self.is_known => Outcome::Counted { output_tokens: self.counted() },
            None => Outcome::Unknown,
        }
    }

    /// The text's tokens.
    fn counted(&self) -> u64 {
        let tokens = self.texts.values().map(|text| text.total(&self.tokenizer));
        self.tokenizer.weigh(tokens.fold(0, u64::saturating_add))
    }

    /// About as many, or what the usage so far tells, if that is more.
    fn about(&self) -> u64 {
        let tokens = self.texts.values().map(Running::estimate);
        let reported = self.usage.usage().map_or(0, |usage| usage.output_tokens);
        self.tokenizer.weigh(tokens.fold(0, u64::saturating_add)).max(reported)
    }
}
