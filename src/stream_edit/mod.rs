//! Edits a stream of events on its way to the client, event by event.
//!
//! The configuration can enable two edits. If the filter has requested usage that the client did not, the event with
//! the usage is hidden, and with it the nulls in its place that upstreams add to the events before it. If a stream
//! passes its limit, it gets the ending that its API gives an answer that has reached its maximum. All other events
//! pass byte for byte. An event waits until it is whole, and no longer.
//!
//! [`StreamEditor`] makes the edits. [`EditedStream`] also reads the stream's usage, with one parser for both.
//! [`crate::session`] decides when a stream is over its limit.

mod chat;
mod edited_stream;
mod editor;
mod ending;
mod event;
mod gemini;
mod messages;
mod responses;
mod usage_member;

pub use edited_stream::EditedStream;
pub use editor::StreamEditor;

/// The edits to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Hide the event that has only usage, and `usage` in others if it is null.
    pub hides_usage: bool,
    /// Follow the stream, so that it can be ended at any event.
    pub finishes: bool,
}

impl Edits {
    /// Whether there is any edit to make.
    pub const fn any(self) -> bool {
        self.hides_usage || self.finishes
    }
}

#[cfg(test)]
mod tests;
