//! The content of one event of a stream, whatever its format.

use super::bill::Bill;
use serde_json::error::Category;

/// The content of an event.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamUpdate {
    /// New texts, each with the index of its part of the answer: a choice, an item or a block.
    pub(super) texts: Vec<(u64, String)>,
    /// Texts of parts that arrive whole: as they are so far, or in the end.
    pub(super) wholes: Vec<(u64, String)>,
    /// Calls of functions that begin.
    pub(super) calls: u64,
    /// The JSON of arguments of calls, those that begin and those that go on.
    pub(super) arguments: String,
    /// Whether output has begun, even if it has no text.
    pub(super) has_output: bool,
    /// Whether some of the output is reasoning.
    pub(super) shows_reasoning: bool,
    /// Whether some of it is the work of a tool of the provider.
    pub(super) has_other_items: bool,
    /// The choices that finish with the event.
    pub(super) finished: Vec<u64>,
    /// The usage that the event reports, for all choices or for one.
    pub(super) reports: Vec<(Option<u64>, Bill)>,
    /// The fault from which on the event was not read, if its JSON has one: output may have come behind it.
    pub(super) fault: Option<Category>,
    /// Whether the upstream has failed.
    pub(super) has_failed: bool,
    /// Whether the answer is over: no later event can cost anything.
    pub(super) is_last: bool,
}
