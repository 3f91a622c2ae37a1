//! The content of one event of a stream, whatever its format.

use super::report::Report;

/// The content of an event.
#[derive(Debug, Default)]
pub(super) struct StreamUpdate {
    /// New text, each with its part of the answer: a choice, an item or a block. Each part is a text of its own.
    pub(super) texts: Vec<(u64, String)>,
    /// The choices that finish.
    pub(super) finished: Vec<u64>,
    /// The usage that the event reports.
    pub(super) usage: Report,
    /// Whether the answer is over: no later event can cost anything.
    pub(super) is_last: bool,
}
