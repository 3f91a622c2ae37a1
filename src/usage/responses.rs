//! Streams of the Responses API: typed events. The last event has the whole response with its usage.
//!
//! Each `….delta` adds text to an item of the output: its text or refusal, a tool's arguments or code, a summary of
//! its reasoning. An item that is done, and the last event, repeat the text as a whole. The API does not send the
//! reasoning itself, so an answer that breaks off counts for less than it cost.

use super::answer_text::AnswerText;
use super::failure;
use super::item::Item;
use super::report::Report;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::{MapAccess, SeqAccess};

/// The content of an event's data; none if it is of another format.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut event = Event::default();
    // An event that breaks off has everything before the fault.
    let fault = lenient::read(data, &mut event).err().map(|fault| fault.classify());
    let kind = event.kind.0.as_deref()?.strip_prefix("response.")?;
    let mut update = StreamUpdate {
        has_output: !matches!(
            kind,
            "created"
                | "queued"
                | "in_progress"
                | "completed"
                | "incomplete"
                | "failed"
                | "cancelled"
                | "done"
                | "error"
        ),
        shows_reasoning: kind.contains("reasoning") || event.item.is_reasoning,
        has_other_items: event.item.is_others,
        fault,
        ..StreamUpdate::default()
    };
    match kind {
        "completed" | "incomplete" | "failed" | "cancelled" | "done" => {
            update.is_last = true;
            update.has_failed = kind == "failed" || event.response.has_failed;
            update.shows_reasoning |= event.response.has_reasoning;
            update.has_other_items |= event.response.has_other_items;
            update.has_output =
                update.shows_reasoning || event.response.items.iter().any(|(_, text)| !text.is_empty());
            update.wholes = event.response.items;
        }
        "error" => update.has_failed = true,
        "output_item.added" => {
            update.calls = u64::from(!event.item.name.is_empty());
            update.texts.push((event.index, event.item.name));
            update.wholes.push((event.index, event.item.text.into_text()));
        }
        "output_item.done" => update.wholes.push((event.index, event.item.text.into_text())),
        // Sound, in base64.
        "audio.delta" | "output_audio.delta" => {}
        delta if delta.ends_with(".delta") => update.texts.push((event.index, event.delta.into_text())),
        _ => {}
    }
    for usage in [event.usage, event.response.usage] {
        if usage.has_any() {
            update.reports.push((None, usage.bill()));
        }
    }
    Some(update)
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    /// The item of the output that the event belongs to.
    index: u64,
    delta: AnswerText,
    item: Item,
    response: Response,
    /// Usage beside the response.
    usage: Report,
}

impl<'b> Accept<'b> for Event<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "output_index" => {
                self.index = lenient::number(object)?.unwrap_or(0);
                Ok(())
            }
            "delta" => lenient::offer(object, &mut self.delta),
            "item" => lenient::offer(object, &mut self.item),
            "response" => lenient::offer(object, &mut self.response),
            "usage" => self.usage.take(object),
            _ => lenient::skip(object),
        }
    }
}

#[derive(Default)]
struct Response {
    usage: Report,
    /// Whether it has an error, or says that it has failed.
    has_failed: bool,
    /// Whether an item of its output is reasoning.
    has_reasoning: bool,
    /// Whether an item is the work of a tool of the provider.
    has_other_items: bool,
    /// The texts of the items of its output.
    items: Vec<(u64, String)>,
}

impl<'b> Accept<'b> for Response {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "usage" => self.usage.take(object),
            "error" => failure::take_error(&mut self.has_failed, object),
            "status" => {
                let mut status = Text::default();
                lenient::offer(object, &mut status)?;
                self.has_failed |= status.0.as_deref() == Some("failed");
                Ok(())
            }
            "output" => lenient::offer(object, &mut Output(self)),
            _ => lenient::skip(object),
        }
    }
}

struct Output<'r>(&'r mut Response);

impl<'b> Accept<'b> for Output<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut item = Item::default();
        let read = lenient::offer_element(array, &mut item);
        self.0.has_reasoning |= item.is_reasoning;
        self.0.has_other_items |= item.is_others;
        self.0.items.push((self.0.items.len() as u64, item.text.into_text()));
        read
    }
}
