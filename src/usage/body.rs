//! A JSON body of any of the formats: its top-level `usage`, or else the text of what it answers.

use super::Outcome;
use super::chat::Choice;
use super::member::Finder;
use super::report::Report;
use super::said::Said;
use crate::codec::lenient::{self, Accept};
use crate::tokens::Tokenizer;
use serde::de::{MapAccess, SeqAccess};

/// The largest body whose text is counted, in bytes: 1 MiB. A larger one without usage tells nothing.
const MAX_COUNTED_BYTES: usize = 1024 * 1024;

/// Reads a body.
#[derive(Debug)]
pub(super) struct Reader {
    tokenizer: Tokenizer,
    usage: Finder,
    /// The body so far, while there is no usage and it is not too large.
    kept: Option<Vec<u8>>,
    outcome: Option<Outcome>,
}

impl Reader {
    /// Of a body whose text `tokenizer` counts.
    pub(super) const fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, usage: Finder::new(b"usage\""), kept: Some(Vec::new()), outcome: None }
    }

    /// Takes a chunk of bytes; the outcome, once, when it is certain.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        if self.outcome.is_some() {
            return None;
        }
        let mut found = None;
        self.usage.push(chunk, |value| {
            let mut report = Report::default();
            // What is not JSON is no usage.
            let read = lenient::read(&lenient::mend(value), &mut report);
            found = report.usage().filter(|_| read.is_ok());
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
        self.outcome.or_else(|| self.counted()).unwrap_or(Outcome::Unknown)
    }

    /// The text's tokens, if the body is whole and has any answer.
    fn counted(&self) -> Option<Outcome> {
        let mut answer = Answer { tokenizer: self.tokenizer, tokens: None };
        lenient::read(&lenient::mend(self.kept.as_deref()?), &mut answer).ok()?;
        answer.tokens.map(|tokens| Outcome::Counted { output_tokens: self.tokenizer.weigh(tokens) })
    }
}

struct Answer {
    tokenizer: Tokenizer,
    tokens: Option<u64>,
}

impl Answer {
    fn says(&mut self, text: &str) {
        let tokens = self.tokenizer.count(text);
        self.tokens = Some(self.tokens.unwrap_or(0).saturating_add(tokens));
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
            self.0.says(&choice.text);
        }
        Ok(read)
    }
}

struct Items<'a>(&'a mut Answer);

impl<'b> Accept<'b> for Items<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut text = String::new();
        let read = lenient::offer_element(array, &mut Said(&mut text))?;
        if read.is_some() {
            self.0.says(&text);
        }
        Ok(read)
    }
}
