//! Reads a JSON body of any format: its top-level `usage`, or else the text of its answers.

use super::Outcome;
use super::answer_text::AnswerText;
use super::chat::Choice;
use super::member::Finder;
use super::report::Report;
use crate::codec::lenient::{self, Accept};
use crate::quantity::Units;
use crate::tokens::Tokenizer;
use serde::de::{MapAccess, SeqAccess};

/// The largest body without usage that is counted, in bytes: 1 MiB. The outcome of a larger one is unknown.
const MAX_COUNTED_BYTES: usize = 1024 * 1024;

/// Reads a body.
#[derive(Debug)]
pub(super) struct Reader {
    tokenizer: Tokenizer,
    usage: Finder,
    /// The body so far, while it has no usage and is not too large.
    kept: Option<Vec<u8>>,
    outcome: Option<Outcome>,
}

impl Reader {
    /// A reader of a body. `tokenizer` counts its text if it has no usage.
    pub(super) const fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, usage: Finder::new(b"usage\""), kept: Some(Vec::new()), outcome: None }
    }

    /// Takes a chunk. Returns the outcome, once, as soon as it is certain.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let mut found = None;
        self.usage.push(chunk, |value| {
            let mut report = Report::default();
            let is_json = lenient::read(&lenient::mend(value), &mut report).is_ok();
            found = report.usage().filter(|_| is_json);
            found.is_some()
        });
        self.outcome = found.map(Outcome::Reported);
        self.kept = self.kept.take().filter(|kept| {
            self.outcome.is_none() && kept.len().saturating_add(chunk.len()) <= MAX_COUNTED_BYTES
        });
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(chunk);
        }
        self.outcome
    }

    /// The outcome of a body that has ended.
    pub(super) fn finish(self) -> Outcome {
        self.outcome.or_else(|| self.count()).unwrap_or(Outcome::Unknown)
    }

    /// The tokens of the text, if the body is whole and has an answer.
    fn count(&self) -> Option<Outcome> {
        let mut answer = Answer { tokenizer: self.tokenizer, tokens: None };
        lenient::read(&lenient::mend(self.kept.as_deref()?), &mut answer).ok()?;
        answer.tokens.map(|tokens| Outcome::Counted { output_tokens: self.tokenizer.weigh(tokens.get()) })
    }
}

/// Counts the answers of a body.
struct Answer {
    tokenizer: Tokenizer,
    /// None until there is an answer.
    tokens: Option<Units>,
}

impl Answer {
    fn count(&mut self, text: &str) {
        *self.tokens.get_or_insert_default() += self.tokenizer.count(text).into();
    }
}

impl<'b> Accept<'b> for Answer {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "choices" => lenient::offer(object, &mut Choices(self)),
            // The items of a response, and the blocks of a message.
            "output" | "content" => lenient::offer(object, &mut Items(self)),
            _ => lenient::skip(object),
        }
    }
}

struct Choices<'a>(&'a mut Answer);

impl<'b> Accept<'b> for Choices<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut choice = Choice::default();
        let read = lenient::offer_element(array, &mut choice)?;
        if read.is_some() {
            self.0.count(&choice.text);
        }
        Ok(read)
    }
}

struct Items<'a>(&'a mut Answer);

impl<'b> Accept<'b> for Items<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut text = String::new();
        let read = lenient::offer_element(array, &mut AnswerText(&mut text))?;
        if read.is_some() {
            self.0.count(&text);
        }
        Ok(read)
    }
}
