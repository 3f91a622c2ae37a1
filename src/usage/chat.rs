//! Streams of chat completions and completions: chunks of choices, and usage.
//!
//! Usage may come in a chunk of its own at the end (OpenAI's `include_usage`), beside the last `finish_reason`, in
//! every chunk for the text so far (vLLM's `continuous_usage_stats`), in a choice (Kimi) or in `x_groq` (Groq).

use super::choice::Choice;
use super::failure;
use super::report::{Report, Within};
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};

/// The content of an event's data; none if it is no chunk.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut chunk = Chunk::default();
    // A chunk that breaks off has everything before the fault.
    let fault = lenient::read(data, &mut chunk).err().map(|fault| fault.classify());
    let Chunk { mut update, usage, elsewhere, has_choices, has_type } = chunk;
    update.fault = fault;
    // The last counts, if it has numbers.
    for report in [elsewhere, usage] {
        if report.has_any() {
            update.reports.push((None, report.bill()));
        }
    }
    // Some servers leave out the choices of a chunk that has but usage. Other formats have a type.
    let is_chunk = has_choices || (!has_type && !update.reports.is_empty());
    is_chunk.then_some(update)
}

#[derive(Default)]
struct Chunk {
    update: StreamUpdate,
    usage: Report,
    /// Usage in another member: Groq's.
    elsewhere: Report,
    has_choices: bool,
    has_type: bool,
}

impl<'b> Accept<'b> for Chunk {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "choices" => lenient::offer(object, &mut Choices(self)),
            "usage" => self.usage.take(object),
            "error" => failure::take_error(&mut self.update.has_failed, object),
            "type" => {
                self.has_type = true;
                lenient::skip(object)
            }
            // The client's own words, repeated.
            "metadata" => lenient::skip(object),
            _ => lenient::offer(object, &mut Within(&mut self.elsewhere)),
        }
    }
}

struct Choices<'c>(&'c mut Chunk);

impl<'b> Accept<'b> for Choices<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        self.0.has_choices = true;
        let mut choice = Choice::default();
        let read = lenient::offer_element(array, &mut choice);
        self.0.update.take(choice);
        read
    }
}

impl StreamUpdate {
    fn take(&mut self, choice: Choice<'_>) {
        let index = choice.index;
        if choice.has_finished() {
            self.finished.push(index);
        }
        self.has_failed |= choice.has_failed();
        self.shows_reasoning |= choice.shows_reasoning();
        if choice.usage.has_any() {
            self.reports.push((Some(index), choice.usage.bill()));
        }
        self.calls = self.calls.saturating_add(choice.delta.called);
        self.arguments.push_str(&choice.delta.arguments);
        let (delta, text) = (choice.delta.into_text(), choice.text.into_text());
        // Of names for the same text one counts, and a message beside new text repeats it.
        let new = if text.len() > delta.len() { text } else { delta };
        let whole = if new.is_empty() { choice.message.into_text() } else { String::new() };
        self.has_output |= !new.is_empty() || !whole.is_empty();
        for (texts, text) in [(&mut self.texts, new), (&mut self.wholes, whole)] {
            if !text.is_empty() {
                texts.push((index, text));
            }
        }
    }
}
