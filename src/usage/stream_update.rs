//! The content of one event of a stream, whatever its format.

use super::report::Report;

/// The content of an event.
#[derive(Debug, Default)]
pub(super) struct StreamUpdate {
    /// New texts, each with the index of its part of the answer: a choice, an item or a block.
    pub(super) texts: Vec<(u64, String)>,
    /// The choices that finish with the event.
    pub(super) finished: Vec<u64>,
    /// The usage that the event reports.
    pub(super) usage: Report,
    /// Whether the answer is over: no later event can cost anything.
    pub(super) is_last: bool,
}
