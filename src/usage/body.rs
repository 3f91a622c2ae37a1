//! Reads a JSON body of any format: its `usage`, or else the text of its answers, or that there is none.

use super::answer_text::AnswerText;
use super::arguments::Arguments;
use super::bill::Numbers;
use super::choice::Choice;
use super::failure::Signs;
use super::gemini::Candidate;
use super::item::Item;
use super::places::PLACES;
use super::report::Report;
use super::reported::Reported;
use super::{EndedBy, Outcome, Reasoning};
use crate::codec::broken_off;
use crate::codec::lenient::{self, Accept, Text};
use crate::codec::outline::Outline;
use crate::quantity::Units;
use crate::tokens::{Made, Tokenizer};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// The largest body without usage that is counted, in bytes: 1 MiB. Of a larger one only the outline is read.
const MAX_COUNTED_BYTES: usize = 1024 * 1024;

/// The longest text, in bytes, of a member of no known meaning that is a fact about the answer and no part of it.
const MAX_FACT_BYTES: usize = 256;

/// Members of known formats that are neither output nor scalars.
const BESIDE_OUTPUT: [&str; 12] = [
    "conversation",
    "container",
    "context_management",
    "incomplete_details",
    "instructions",
    "metadata",
    "modelStatus",
    "prompt",
    "promptFeedback",
    "prompt_filter_results",
    "tool_choice",
    "tools",
];

/// Reads a body.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    tokenizer: Tokenizer,
    /// Whether the answer is text. Embeddings are not, and cost no output.
    has_output: bool,
    outline: Outline,
    /// The body so far, while it has no usage and is not too large.
    kept: Option<Vec<u8>>,
    /// Whether some of the body could not be read.
    has_gap: bool,
    outcome: Option<Outcome>,
}

impl Reader {
    /// A reader of a body. `tokenizer` counts its text if it has no usage. `has_output`: whether it may have text.
    pub(super) fn new(tokenizer: Tokenizer, has_output: bool) -> Self {
        let outline = Outline::new(PLACES);
        Self { tokenizer, has_output, outline, kept: Some(Vec::new()), has_gap: false, outcome: None }
    }

    /// Takes a chunk. Returns the outcome, once, as soon as it is certain.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let (mut outcome, has_output) = (None, self.has_output);
        self.outline.push_and_watch(chunk, |path, value| {
            if path == "usage" {
                outcome = certain(value, has_output);
            }
            outcome.is_some()
        });
        self.outcome = outcome;
        self.kept = self.kept.take().filter(|kept| {
            self.outcome.is_none() && kept.len().saturating_add(chunk.len()) <= MAX_COUNTED_BYTES
        });
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(chunk);
        }
        self.outcome
    }

    /// The upstream's bytes are no longer read: what comes from here on is not known.
    pub(super) fn skip_rest(&mut self) {
        self.has_gap = true;
    }

    /// The outcome of a body that has ended.
    pub(super) fn finish(self, ended_by: EndedBy) -> Outcome {
        if let Some(outcome) = self.outcome {
            return outcome;
        }
        let is_all_kept = self.kept.is_some() && !self.has_gap;
        let bytes = self.kept.unwrap_or_else(|| self.outline.finish());
        // Of a body that breaks off, everything before the fault counts.
        let bytes = broken_off::closed(&bytes);
        let text = lenient::mend(&bytes);
        let mut content = Content::default();
        let read = lenient::read(&text, &mut content);
        let is_broken_off = read.as_ref().is_err_and(serde_json::Error::is_eof);
        let is_known = is_all_kept && (read.is_ok() || (is_broken_off && ended_by == EndedBy::Upstream));
        content.outcome(&self.tokenizer, self.has_output, is_known, is_broken_off)
    }
}

/// The outcome that a `usage` makes certain, wherever in the body it stands. An output of zero may mean that the
/// upstream did not count it.
fn certain(usage: &[u8], has_output: bool) -> Option<Outcome> {
    let mut report = Report::default();
    lenient::read(&lenient::mend(usage), &mut report).ok()?;
    let mut reported = Reported::default();
    let reports_output = reported.update(None, report.bill());
    let is_certain = reports_output || (!has_output && reported.has_any());
    is_certain.then(|| Outcome::Reported(reported.usage()))
}

/// The content of a body.
#[derive(Default)]
struct Content<'b> {
    reported: Reported,
    signs: Signs<'b>,
    has_error: bool,
    /// Usage in members of no known meaning.
    elsewhere: Report,
    /// Usage beside the answer: Ollama's numbers.
    beside: Numbers,
    /// Whether other members hold what may be output.
    has_unread: bool,
    /// The texts of its answers.
    texts: Vec<String>,
    /// Calls of functions in them, and the arguments of these.
    calls: u64,
    arguments: u64,
    /// Whether the texts are items or blocks of one answer.
    is_one: bool,
    /// Whether it is a response of OpenAI's Responses API.
    is_response: bool,
    shows_reasoning: bool,
    /// Whether there are items of work of the provider.
    has_other_items: bool,
}

impl Content<'_> {
    /// The outcome of a body that has ended. `is_known`: whether all of it is known that there will ever be;
    /// `breaks_off`: whether it is the beginning of JSON.
    fn outcome(
        mut self,
        tokenizer: &Tokenizer,
        has_output: bool,
        is_known: bool,
        breaks_off: bool,
    ) -> Outcome {
        if self.beside != Numbers::default() {
            self.reported.update(None, self.beside.bill());
        }
        if !self.reported.has_any() {
            self.reported.update(None, self.elsewhere.bill());
        }
        let is_reported = self.reported.output_tokens() > 0 && self.reported.covers(self.texts.len());
        if !breaks_off && (is_reported || (!has_output && self.reported.has_any())) {
            return Outcome::Reported(self.reported.usage());
        }
        if !is_known {
            return Outcome::Unknown;
        }
        let has_made = self.shows_reasoning || self.texts.iter().any(|text| !text.is_empty());
        let has_failed = self.has_error || self.signs.show() || (breaks_off && !self.has_unread);
        if has_failed && !has_made && !self.reported.has_any() {
            return Outcome::Failed;
        }
        if self.texts.is_empty() && (!self.reported.has_any() || self.has_unread) {
            return Outcome::Unknown;
        }
        let tokens: Units = self.texts.iter().map(|text| tokenizer.count(text).into()).sum();
        let answers = if !has_made {
            0
        } else if self.is_one {
            1
        } else {
            self.texts.len() as u64
        };
        let made = Made {
            answers,
            calls: self.calls,
            arguments: self.arguments,
            has_reasoning: self.shows_reasoning,
            is_response: self.is_response,
        };
        let usage = self.reported.usage_with(Units::new(tokenizer.of_answer(tokens.get(), &made)));
        // A whole response has an item for its reasoning, even if that is hidden, but not for that of other work.
        let would_show = self.is_response && !breaks_off && !has_failed && !self.has_other_items;
        Outcome::Counted { usage, reasoning: Reasoning::new(self.shows_reasoning, would_show) }
    }

    /// Takes a text that has a member of its own.
    fn take_told(&mut self, text: AnswerText) {
        self.has_unread |= !text.has_begun;
        self.shows_reasoning |= text.shows_reasoning;
        self.calls = self.calls.saturating_add(text.called);
        self.arguments = self.arguments.saturating_add(Arguments::of(&text.arguments));
        if text.has_begun {
            self.is_one = true;
            self.texts.push(text.into_text());
        }
    }

    fn report(&mut self, choice: Option<u64>, report: &Report) {
        self.reported.update(choice, report.bill());
    }
}

impl<'b> Accept<'b> for Content<'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        // Gemini's streams are arrays, if nobody asks for events.
        lenient::offer_element(array, self)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "choices" => lenient::offer(object, &mut Choices(self)),
            "candidates" => lenient::offer(object, &mut Candidates(self)),
            // The items of a response, and the blocks of a message.
            "output" | "content" => {
                (self.is_one, self.is_response) = (true, name == "output");
                lenient::offer(object, &mut Items(self))
            }
            "prompt_eval_count" | "eval_count" => self.beside.member_as_written(name, object),
            "message" | "response" | "thinking" => {
                let mut told = Told { text: AnswerText::default(), name, elsewhere: &mut self.elsewhere };
                let read = lenient::offer(object, &mut told);
                let text = told.text;
                self.take_told(text);
                read
            }
            "usage" | "usageMetadata" | "meta" => {
                let mut report = Report::default();
                let read = report.take(object);
                self.report(None, &report);
                read
            }
            _ if self.signs.take(name, object)? => Ok(()),
            _ if BESIDE_OUTPUT.contains(&name) => lenient::skip(object),
            _ => lenient::offer(
                object,
                &mut Elsewhere { usage: &mut self.elsewhere, has_unread: &mut self.has_unread },
            ),
        }
    }
}

/// A member of no known meaning. It may have a usage in it: Groq's, or that of a whole response or message.
struct Elsewhere<'c> {
    usage: &'c mut Report,
    has_unread: &'c mut bool,
}

impl<'b> Accept<'b> for Elsewhere<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        *self.has_unread |= text.len() > MAX_FACT_BYTES;
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut Text::default());
        *self.has_unread |= !matches!(read, Ok(None));
        read
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == "usage" {
            return self.usage.take(object);
        }
        *self.has_unread = true;
        lenient::skip(object)
    }
}

/// The text of an answer that is a member: the message of Ollama's chats and of Cohere's, or the response of Ollama's
/// generations. An object there may be another's, which has a usage in it; the text of an error is none of these.
struct Told<'c> {
    text: AnswerText,
    name: &'c str,
    elsewhere: &'c mut Report,
}

impl<'b> Accept<'b> for Told<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        if self.name != "message" {
            self.text.shows_reasoning |= self.name == "thinking" && !text.is_empty();
            self.text.string(text);
        }
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match (name, self.name) {
            ("usage", _) => self.elsewhere.take(object),
            ("content" | "thinking" | "tool_calls" | "tool_plan", "message") => {
                self.text.has_begun = true;
                self.text.member_as_written(name, object)
            }
            _ => lenient::skip(object),
        }
    }
}

struct Choices<'c, 'b>(&'c mut Content<'b>);

impl<'b> Accept<'b> for Choices<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut choice = Choice::default();
        let read = lenient::offer_element(array, &mut choice);
        if matches!(read, Ok(Some(())) | Err(_)) {
            self.0.has_error |= choice.has_failed();
            self.0.shows_reasoning |= choice.shows_reasoning();
            // In a body, its place is its index, which some servers leave out.
            self.0.report(Some(self.0.texts.len() as u64), &choice.usage);
            let called = choice.message.called.max(choice.delta.called);
            self.0.calls = self.0.calls.saturating_add(called);
            let arguments = [&choice.message, &choice.delta].map(|text| Arguments::of(&text.arguments));
            self.0.arguments = self.0.arguments.saturating_add(arguments.into_iter().max().unwrap_or(0));
            let texts = [choice.message, choice.text, choice.delta].map(AnswerText::into_text);
            // These are names for the same text.
            self.0.texts.extend(texts.into_iter().max_by_key(String::len));
        }
        read
    }
}

/// Gemini's answers.
struct Candidates<'c, 'b>(&'c mut Content<'b>);

impl<'b> Accept<'b> for Candidates<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut candidate = Candidate::default();
        let read = lenient::offer_element(array, &mut candidate);
        if matches!(read, Ok(Some(())) | Err(_)) {
            let text = candidate.text;
            self.0.shows_reasoning |= text.shows_reasoning;
            self.0.calls = self.0.calls.saturating_add(text.called);
            self.0.arguments = self.0.arguments.saturating_add(Arguments::of(&text.arguments));
            self.0.texts.push(text.into_text());
        }
        read
    }
}

struct Items<'c, 'b>(&'c mut Content<'b>);

impl<'b> Accept<'b> for Items<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.texts.push(text.into_owned());
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut item = Item::default();
        let read = lenient::offer_element(array, &mut item);
        if matches!(read, Ok(Some(())) | Err(_)) {
            self.0.shows_reasoning |= item.is_reasoning || item.text.shows_reasoning;
            self.0.has_other_items |= item.is_others;
            self.0.calls = self.0.calls.saturating_add(u64::from(!item.name.is_empty()));
            self.0.arguments = self.0.arguments.saturating_add(Arguments::of(&item.text.arguments));
            self.0.texts.push(item.text.into_text());
        }
        read
    }
}
