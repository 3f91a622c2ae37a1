//! Completions, the older API: one or several prompts, and perhaps a suffix, the text after the answer.

use super::beside;
use super::content::{Content, Texts};
use super::input::Input;
use super::prompt::{Counted, Tally};
use crate::quantity::Units;
use serde::de::MapAccess;
use std::borrow::Cow;

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

    /// What its parts hold.
    pub(super) const fn content(&mut self) -> &mut Content<'b> {
        &mut self.prompt.content
    }

    /// Adds so many prompts, of which the content is known.
    pub(super) const fn add_prompts(&mut self, prompts: u64) {
        self.prompt.prompts = self.prompt.prompts.saturating_add(prompts);
    }

    /// Takes the next value of `object`: token ids before the prompt.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn take_ids<A: MapAccess<'b>>(&mut self, object: &mut A) -> Result<(), A::Error> {
        self.prompt.take_ids(object)
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Prompt<'static> {
        let Self { prompt, suffix, beside } = self;
        beside.into_iter().for_each(|text| take(Counted::Once, text));
        Prompt {
            prompt: prompt.without_texts(take),
            suffix: suffix.without_texts(&mut |counted, text| take(of_suffix(counted), text)),
            beside: Texts::new(),
        }
    }

    /// Shows each of its texts to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        self.beside.iter().for_each(|text| see(Counted::Once, text));
        self.prompt.content.see_texts(see);
        self.suffix.content.see_texts(&mut |counted, text| see(of_suffix(counted), text));
    }

    /// Whether it has parts whose tokens the request does not show.
    pub(super) const fn hides(&self) -> bool {
        self.prompt.content.hides() || self.suffix.content.hides()
    }

    /// Whether there is no prompt, as [`Input::is_empty`] has it.
    pub(super) fn is_empty(&self) -> bool {
        self.prompt.is_empty()
    }

    /// The number of prompts. Each has answers of its own.
    pub(super) const fn prompts(&self) -> u64 {
        self.prompt.prompts
    }

    /// What they cost beside their text if they are sent to `model`.
    pub(super) fn beside_text(&self, model: &str, unknown: Option<u64>) -> Tally {
        let mut tally = self.prompt.beside_text(model, unknown);
        let of_suffix = self.suffix.content.image_tokens(model).get();
        tally.images += Units::new(of_suffix.saturating_mul(self.prompts()));
        tally
    }
}

/// How a text of a suffix counts: every prompt is completed before it.
const fn of_suffix(counted: Counted) -> Counted {
    match counted {
        Counted::Once => Counted::ForEachPrompt,
        other => other,
    }
}
