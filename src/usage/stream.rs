//! A streamed chat completion or completion: chunks as Server-Sent Events.
//!
//! Usage may come in a chunk of its own at the end (OpenAI's `include_usage`), beside the last `finish_reason`, or in
//! every chunk for the text so far (vLLM's `continuous_usage_stats`); a later one replaces an earlier one. Which is
//! the last is known once every choice has finished, or from `[DONE]`. The text is gathered meanwhile, and counted
//! only if it must be.

use super::choice::Choice;
use super::report::Report;
use super::{Outcome, Usage};
use crate::lenient::{self, Accept};
use crate::sse;
use crate::tokens::{Counter, Running};
use serde::de::{MapAccess, SeqAccess};
use std::collections::BTreeMap;

/// Choices that are told apart: OpenAI's largest `n`. Those beyond count with the last.
const MAX_CHOICES: u64 = 128;

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Reader {
    events: sse::Parser,
    answer: Answer,
    outcome: Option<Outcome>,
}

impl Reader {
    /// Of an answer with so many `choices`.
    pub(super) fn new(choices: u64, counter: Counter) -> Self {
        Self { events: sse::Parser::default(), answer: Answer::new(choices, counter), outcome: None }
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

    /// The outcome of a stream that has ended.
    pub(super) fn finish(self) -> Outcome {
        let Self { events, mut answer, mut outcome } = self;
        if outcome.is_none() {
            events.finish(|event| outcome = answer.read(event.data));
        }
        outcome.unwrap_or_else(|| answer.outcome_so_far())
    }
}

#[derive(Debug)]
struct Answer {
    counter: Counter,
    choices: u64,
    /// One bit for each choice that has finished.
    finished: u128,
    texts: BTreeMap<u64, Running>,
    usage: Option<Usage>,
    /// Whether text has come since the usage did.
    usage_is_old: bool,
    /// Whether any event was a chunk of a format known here.
    is_known: bool,
}

impl Answer {
    fn new(choices: u64, counter: Counter) -> Self {
        let choices = choices.clamp(1, MAX_CHOICES);
        Self {
            counter,
            choices,
            finished: 0,
            texts: BTreeMap::new(),
            usage: None,
            usage_is_old: false,
            is_known: false,
        }
    }

    /// Reads an event's data; the outcome, if it is certain now.
    fn read(&mut self, data: &[u8]) -> Option<Outcome> {
        if data.trim_ascii() == b"[DONE]" {
            return Some(self.outcome_so_far());
        }
        let mut chunk = Chunk { answer: self, usage: Report::default() };
        // An event that is not JSON, or breaks off, has told what it told.
        let _ = lenient::read(&lenient::mend(data), &mut chunk);
        let usage = chunk.usage.usage()?;
        (self.usage, self.usage_is_old) = (Some(usage), false);
        let all_finished = u64::from(self.finished.count_ones()) >= self.choices;
        all_finished.then_some(Outcome::Reported(usage))
    }

    fn take(&mut self, choice: &Choice) {
        let index = choice.index.min(MAX_CHOICES.saturating_sub(1));
        if choice.finished {
            self.finished |= 1_u128.unbounded_shl(index as u32);
        }
        if !choice.text.is_empty() {
            self.usage_is_old = true;
            self.texts.entry(index).or_default().push(&choice.text, &self.counter);
        }
    }

    /// What is known if no more comes.
    fn outcome_so_far(&self) -> Outcome {
        match self.usage {
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
        let tokens = self.texts.values().map(|text| text.total(&self.counter));
        self.counter.weigh(tokens.fold(0, u64::saturating_add))
    }
}

struct Chunk<'a> {
    answer: &'a mut Answer,
    usage: Report,
}

impl<'b> Accept<'b> for Chunk<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "choices" => lenient::offer(object, &mut Choices(self.answer)),
            "usage" => lenient::offer(object, &mut self.usage),
            _ => lenient::skip(object),
        }
    }
}

struct Choices<'a>(&'a mut Answer);

impl<'b> Accept<'b> for Choices<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        self.0.is_known = true;
        let mut choice = Choice::default();
        let read = lenient::offer_element(array, &mut choice);
        self.0.take(&choice);
        read
    }
}
