//! Changes to a stream of events on its way to the client, event by event.
//!
//! The configuration may ask for two. If the filter asked the upstream for usage that the client did not ask for, the
//! event that holds it is hidden. If a stream passes its limit, it is ended as its API ends an answer that reached
//! its maximum. All other events pass byte for byte; an event waits until it is whole, and no longer.
//!
//! [`StreamEditor`] makes the changes. [`EditedStream`] also reads the stream's usage, with one parser for both. The
//! decision when a stream is over its limit is made elsewhere.

mod chat;
mod edited_stream;
mod editor;
mod ending;
mod event;
mod messages;
mod responses;

pub use edited_stream::EditedStream;
pub use editor::StreamEditor;

/// The changes to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Hide the event that holds nothing but usage.
    pub hides_usage: bool,
    /// Watch the stream, so that it can be ended.
    pub finishes: bool,
}

impl Edits {
    /// Whether there is anything to do.
    pub const fn any(self) -> bool {
        self.hides_usage || self.finishes
    }
}

#[cfg(test)]
mod tests;
