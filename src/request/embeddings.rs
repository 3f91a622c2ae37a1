//! Embeddings: one or several inputs, and no output.

use super::beside;
use super::content::{Content, Texts};
use super::input::Input;
use super::prompt::{Counted, Tally};
use serde::de::MapAccess;
use std::borrow::Cow;

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

    /// What its parts hold.
    pub(super) const fn content(&mut self) -> &mut Content<'b> {
        &mut self.input.content
    }

    /// Adds so many inputs, of which the content is known.
    pub(super) const fn add_prompts(&mut self, prompts: u64) {
        self.input.prompts = self.input.prompts.saturating_add(prompts);
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Prompt<'static> {
        let Self { input, beside } = self;
        beside.into_iter().for_each(|text| take(Counted::Once, text));
        Prompt { input: input.without_texts(take), beside: Texts::new() }
    }

    /// Shows each of its texts to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        self.input.content.see_texts(see);
        self.beside.iter().for_each(|text| see(Counted::Once, text));
    }

    /// Whether it has parts whose tokens the request does not show.
    pub(super) const fn hides(&self) -> bool {
        self.input.content.hides()
    }

    /// Whether there is no input, as [`Input::is_empty`] has it.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Their tokens beside the text if they are sent to `model`.
    pub(super) fn beside_text(&self, model: &str, unknown: Option<u64>) -> Tally {
        self.input.beside_text(model, unknown)
    }
}
