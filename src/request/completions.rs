//! Completions, the older API: one or several prompts, and perhaps a suffix, the text after the answer.

use super::beside;
use super::content::{Texts, count_each};
use super::input::Input;
use super::prompt::{Counted, Tally};
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::MapAccess;

/// Prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    prompt: Input<'b>,
    suffix: Input<'b>,
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
            "prompt" => self.prompt.take(object),
            "suffix" => self.suffix.take(object),
            _ => beside::keep(&mut self.beside, name, object),
        }
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Texts<'b>)) -> Prompt<'static> {
        let Self { prompt, suffix, beside } = self;
        take(Counted::Once, beside);
        Prompt {
            prompt: prompt.without_texts(&mut |texts| take(Counted::Once, texts)),
            suffix: suffix.without_texts(&mut |texts| take(Counted::ForEachPrompt, texts)),
            beside: Texts::new(),
        }
    }

    /// Whether there is no prompt, as [`Input::is_empty`] has it.
    pub(super) fn is_empty(&self) -> bool {
        self.prompt.is_empty()
    }

    /// The number of prompts. Each has answers of its own.
    pub(super) const fn prompts(&self) -> u64 {
        self.prompt.prompts
    }

    /// The tokens of their text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        // Every prompt is completed before the suffix.
        let suffix = self.suffix.content.text_tokens(meter) * self.prompts();
        self.prompt.content.text_tokens(meter) + suffix + count_each(&self.beside, meter)
    }

    /// What they cost beside their text if they are sent to `model`.
    pub(super) fn beside_text(&self, model: &str) -> Tally {
        self.prompt.beside_text(model)
    }
}
