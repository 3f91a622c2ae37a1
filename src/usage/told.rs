//! What one event of a stream tells, whatever its format.

use super::report::Report;

/// What an event tells.
#[derive(Debug, Default)]
pub(super) struct StreamUpdate {
    /// Which part of the answer says what: a choice, an item or a block, each of which is a text of its own.
    pub(super) says: Vec<(u64, String)>,
    /// Which of the choices have finished.
    pub(super) finished: Vec<u64>,
    /// What has been used, as far as it is told.
    pub(super) usage: Report,
    /// Whether the answer is over: nothing that follows can cost anything.
    pub(super) is_last: bool,
}
