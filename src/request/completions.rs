//! Completions, the older API: one or several prompts, and perhaps a suffix, the text after the answer.

use super::Tally;
use super::input::Input;
use crate::codec::lenient;
use crate::tokens::Meter;
use serde::de::MapAccess;

/// Prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt<'b> {
    prompt: Input<'b>,
    suffix: Input<'b>,
}

impl<'b> Prompt<'b> {
    /// Reads a member of the request's body.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "prompt" => lenient::offer(object, &mut self.prompt),
            "suffix" => lenient::offer(object, &mut self.suffix),
            _ => lenient::skip(object),
        }
    }

    /// The number of prompts. Each has answers of its own.
    pub(super) const fn prompts(&self) -> u64 {
        self.prompt.prompts
    }

    /// Their tokens if they are sent to `model`.
    pub(super) fn tally(&self, model: &str, meter: &Meter<'_>) -> Tally {
        // Every prompt is completed before the suffix.
        let suffix = self.suffix.content.text_tokens(meter) * self.prompts();
        let prompt = self.prompt.tally(model, meter);
        Tally { counted: prompt.counted + suffix, ..prompt }
    }
}
