//! Embeddings: one or several inputs, and no output.

use super::Tally;
use super::input::Input;
use crate::codec::lenient;
use crate::tokens::Meter;
use serde::de::MapAccess;

/// Inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b>(Input<'b>);

impl<'b> Prompt<'b> {
    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "input" => lenient::offer(object, &mut self.0),
            _ => lenient::skip(object),
        }
    }

    /// Whether there is no input.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.prompts == 0
    }

    /// Their tokens if they are sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        self.0.tally(model, meter)
    }
}
