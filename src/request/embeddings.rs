//! Embeddings: one or several inputs, and no output.

use super::beside;
use super::content::{Texts, count_each};
use super::input::Input;
use super::prompt::{Counted, Tally};
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::MapAccess;

/// Inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    input: Input<'b>,
    /// Texts of other members.
    beside: Texts<'b>,
}

impl<'b> Prompt<'b> {
    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "input" => self.input.take(object),
            _ => beside::keep(&mut self.beside, name, object),
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Texts<'b>)) -> Prompt<'static> {
        let Self { input, beside } = self;
        take(Counted::Once, beside);
        Prompt { input: input.without_texts(&mut |texts| take(Counted::Once, texts)), beside: Texts::new() }
    }

    /// Whether there is no input, as [`Input::is_empty`] has it.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Tokens of their text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        self.input.content.text_tokens(meter) + count_each(&self.beside, meter)
    }

    /// Their tokens beside the text if they are sent to `model`.
    pub(super) fn beside_text(&self, model: &str) -> Tally {
        self.input.beside_text(model)
    }
}
