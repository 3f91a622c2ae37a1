//! Reads a streamed answer, events or objects of any format.
//!
//! The first event with a known format determines the format of the stream. The endpoint's format is tried first; some
//! gateways answer in another. The text is collected meanwhile, and counted only if it must be.

use super::arguments::Arguments;
use super::framing::{Framing, Kind};
use super::part::Part;
use super::places::PLACES;
use super::reported::Reported;
use super::stream_update::StreamUpdate;
use super::{Outcome, Reasoning, any, chat, cohere, failure, gemini, messages, ollama, responses};
use crate::codec::broken_off;
use crate::codec::lenient;
use crate::codec::sse::Event;
use crate::quantity::Units;
use crate::request::Endpoint;
use crate::tokens::{Made, Tokenizer};
use serde_json::error::Category;
use std::collections::BTreeMap;
use std::iter;

/// The index of the last part of an answer that is counted apart: OpenAI's largest `n` is 128. All later parts form one
/// text with it.
const LAST_PART: u64 = 127;

/// Reads a stream.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    framing: Framing,
    answer: Answer,
    outcome: Option<Outcome>,
}

impl Reader {
    /// A reader of an answer from `endpoint`, with so many `choices`.
    pub(super) fn new(kind: Kind, endpoint: Endpoint, choices: u64, tokenizer: Tokenizer) -> Self {
        let answer = Answer::new(Format::of(endpoint), choices, tokenizer);
        Self { framing: kind.parser(PLACES), answer, outcome: None }
    }

    /// What it consists of.
    pub(super) const fn kind(&self) -> Kind {
        self.framing.kind()
    }

    /// Takes a chunk. Returns the outcome, once, as soon as it is certain.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let mut framing = std::mem::take(&mut self.framing);
        framing.push(chunk, |event| {
            self.read_event(event);
        });
        self.framing = framing;
        self.outcome
    }

    /// Takes an event. Returns the outcome, once, as soon as it is certain, and skips later events.
    pub(super) fn read_event(&mut self, event: Event<'_>) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        self.outcome = self.answer.read(event, false);
        self.outcome
    }

    /// About how many tokens the answer has so far.
    pub(super) fn so_far(&self) -> u64 {
        match self.outcome {
            Some(Outcome::Reported(usage) | Outcome::Counted { usage, .. }) => usage.output_tokens,
            Some(Outcome::Failed | Outcome::Unknown) => 0,
            None => self.answer.estimate(),
        }
    }

    /// The upstream's bytes are no longer read: what comes from here on is not known.
    pub(super) fn skip_rest(&mut self) {
        self.answer.has_gap = true;
    }

    /// Takes the event that the end of the stream cut off.
    pub(super) fn read_part(&mut self, event: Event<'_>) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let event = Event { data: &broken_off::closed(event.data), ..event };
        self.outcome = self.answer.read(event, true);
        self.outcome
    }

    /// The outcome of a stream that has ended.
    pub(super) fn finish(mut self) -> Outcome {
        std::mem::take(&mut self.framing).finish(|event| {
            self.read_part(event);
        });
        // Without a format, nothing but its end shows that a stream is whole.
        let is_whole = self.answer.finished != 0 || self.answer.format == Format::Any;
        self.outcome.unwrap_or_else(|| self.answer.outcome(is_whole))
    }
}

/// A format of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Chat,
    Responses,
    Messages,
    Gemini,
    Ollama,
    Cohere,
    /// None of these.
    Any,
}

impl Format {
    const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => Self::Chat,
            Endpoint::Responses => Self::Responses,
            Endpoint::Messages => Self::Messages,
            Endpoint::Gemini | Endpoint::GeminiEmbeddings => Self::Gemini,
            Endpoint::OllamaChat | Endpoint::OllamaGenerate => Self::Ollama,
            Endpoint::CohereChat | Endpoint::CohereEmbed | Endpoint::Rerank => Self::Cohere,
            Endpoint::Other(_) => Self::Any,
        }
    }

    fn read(self, data: &str) -> Option<StreamUpdate> {
        match self {
            Self::Chat => chat::read(data),
            Self::Responses => responses::read(data),
            Self::Messages => messages::read(data),
            Self::Gemini => gemini::read(data),
            Self::Ollama => ollama::read(data),
            Self::Cohere => cohere::read(data),
            Self::Any => any::read(data),
        }
    }
}

/// The answer so far.
#[derive(Clone, Debug)]
struct Answer {
    tokenizer: Tokenizer,
    format: Format,
    /// Whether an event has shown that `format` is the format of the stream.
    is_known: bool,
    choices: u64,
    /// One bit for each choice that has finished.
    finished: u128,
    parts: BTreeMap<u64, Part>,
    /// Calls of functions.
    calls: u64,
    arguments: Arguments,
    /// Whether output has begun, even if it has no text.
    has_output: bool,
    shows_reasoning: bool,
    /// Whether it has items, of a response, and whether some of them are the work of a tool of the provider.
    has_items: bool,
    has_other_items: bool,
    reported: Reported,
    /// Whether text has arrived since the output was reported.
    report_is_old: bool,
    /// Whether some of the stream could not be read since the output was reported.
    has_gap: bool,
    has_failed: bool,
    /// Whether an event had a format of its own, which may have held output.
    has_unread: bool,
}

impl Answer {
    fn new(format: Format, choices: u64, tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            format,
            is_known: false,
            choices: choices.clamp(1, LAST_PART + 1),
            finished: 0,
            parts: BTreeMap::new(),
            calls: 0,
            arguments: Arguments::default(),
            has_output: false,
            shows_reasoning: false,
            has_items: false,
            has_other_items: false,
            reported: Reported::default(),
            report_is_old: false,
            has_gap: false,
            has_failed: false,
            has_unread: false,
        }
    }

    /// Reads an event. Returns the outcome if it is certain now. `is_cut`: the end of the stream may cut it off.
    fn read(&mut self, event: Event<'_>, is_cut: bool) -> Option<Outcome> {
        if event.data.trim_ascii() == b"[DONE]" {
            return Some(self.outcome(true));
        }
        let data = lenient::mend(event.data);
        self.has_gap |= !event.is_whole;
        let Some(update) = self.update_in(&data) else {
            if failure::is_in_event(event.kind, &data) {
                self.has_failed = true;
            } else {
                self.has_unread |= !failure::is_keep_alive(event.kind, &data);
                self.has_gap |= failure::has_fault(&data);
            }
            return None;
        };
        self.has_gap |= update.fault.is_some_and(|fault| !(is_cut && fault == Category::Eof));
        self.has_failed |= update.has_failed;
        self.has_output |= update.has_output;
        self.calls = self.calls.saturating_add(update.calls);
        if update.calls > 0 {
            self.arguments.begin_call();
        }
        self.arguments.push(&update.arguments);
        self.shows_reasoning |= update.shows_reasoning;
        self.has_items |=
            self.format == Format::Responses && (update.has_output || !update.wholes.is_empty());
        self.has_other_items |= update.has_other_items;
        let mut has_report = false;
        for (choice, bill) in update.reports {
            self.report_is_old |= bill.is_cut;
            has_report |= self.reported.update(choice, bill);
        }
        if !(has_report && update.is_last) {
            self.take_texts(&update.texts, &update.wholes);
        }
        if has_report {
            (self.report_is_old, self.has_gap) = (false, false);
        }
        for choice in update.finished {
            self.finished |= 1_u128.unbounded_shl(choice.min(LAST_PART) as u32);
        }
        let all_finished = u64::from(self.finished.count_ones()) >= self.choices;
        (update.is_last || (has_report && all_finished)).then(|| self.outcome(true))
    }

    /// The content of an event's data, in the first format that it fits.
    fn update_in(&mut self, data: &str) -> Option<StreamUpdate> {
        let others = [
            Format::Chat,
            Format::Responses,
            Format::Messages,
            Format::Gemini,
            Format::Ollama,
            Format::Cohere,
        ];
        let formats = iter::once(self.format).chain(others);
        let tried = if self.is_known || self.format == Format::Any { 1 } else { usize::MAX };
        let (format, update) = formats.take(tried).find_map(|format| Some((format, format.read(data)?)))?;
        (self.format, self.is_known) = (format, true);
        Some(update)
    }

    fn take_texts(&mut self, texts: &[(u64, String)], wholes: &[(u64, String)]) {
        for (part, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
            self.parts.entry((*part).min(LAST_PART)).or_default().add(text, &self.tokenizer);
            self.report_is_old = true;
        }
        for (part, whole) in wholes.iter().filter(|(_, whole)| !whole.is_empty()) {
            let part = self.parts.entry((*part).min(LAST_PART)).or_default();
            self.report_is_old |= part.set(whole, &self.tokenizer);
        }
    }

    /// The outcome if the stream ends now. `is_whole`: the answer has ended by itself.
    fn outcome(&self, is_whole: bool) -> Outcome {
        let reported = self.reported.output_tokens();
        if is_whole
            && reported > 0
            && !self.report_is_old
            && !self.has_gap
            && self.reported.covers(self.parts.len())
        {
            return Outcome::Reported(self.reported.usage());
        }
        if self.has_gap || !(self.is_known || self.has_failed) {
            return Outcome::Unknown;
        }
        if self.has_failed && !self.has_output && !self.reported.has_any() {
            return if self.has_unread { Outcome::Unknown } else { Outcome::Failed };
        }
        let usage = self.reported.usage_with(self.count().into());
        // A whole response has an item for its reasoning, even if that is hidden, but not for that of other work.
        let would_show = is_whole && self.has_items && !self.has_failed && !self.has_other_items;
        Outcome::Counted { usage, reasoning: Reasoning::new(self.shows_reasoning, would_show) }
    }

    /// The tokens of the text.
    fn count(&self) -> u64 {
        let tokens: Units = self.parts.values().map(|part| part.total(&self.tokenizer).into()).sum();
        let is_empty = self.parts.is_empty() && self.calls == 0;
        let answers = if is_empty { 0 } else { self.choices.min(self.parts.len().max(1) as u64) };
        let made = Made {
            answers,
            calls: self.calls,
            arguments: self.arguments.count(),
            has_reasoning: self.shows_reasoning,
            is_response: self.format == Format::Responses,
        };
        self.tokenizer.of_answer(tokens.get(), &made)
    }

    /// About the tokens of the text, or the tokens that were reported so far if they are more.
    fn estimate(&self) -> u64 {
        let tokens: Units = self.parts.values().map(|part| part.estimate().into()).sum();
        self.tokenizer.weigh(tokens.get()).max(self.reported.output_tokens())
    }
}
