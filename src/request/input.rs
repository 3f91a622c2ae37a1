//! The input of completions and embeddings: a string, an array of strings, an array of token ids, or an array of such
//! arrays.
//!
//! A text costs its tokens and nothing else, and an id costs one. Both are exact.

use super::content::Content;
use super::prompt::{Counted, Tally};
use crate::codec::lenient::{self, Accept};
use crate::quantity::Units;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Input<'b> {
    pub(super) content: Content<'b>,
    /// Token ids.
    ids: u64,
    /// Texts and arrays of ids: each has answers of its own.
    pub(super) prompts: u64,
    /// Whether one of several values has no prompt.
    may_be_none: bool,
}

impl<'b> Input<'b> {
    /// Takes the next value of `object`.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn take<A: MapAccess<'b>>(&mut self, object: &mut A) -> Result<(), A::Error> {
        let before = (self.prompts, self.ids);
        lenient::offer(object, self)?;
        self.may_be_none |= (self.prompts, self.ids) == before;
        Ok(())
    }

    /// Takes the next value of `object`: token ids that are no prompt of their own.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn take_ids<A: MapAccess<'b>>(&mut self, object: &mut A) -> Result<(), A::Error> {
        lenient::offer(object, &mut ArrayOfIds(&mut self.ids))
    }

    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Input<'static> {
        let Self { content, ids, prompts, may_be_none } = self;
        Input { content: content.without_texts(take), ids, prompts, may_be_none }
    }

    /// Whether it has no prompt, or some reader finds none and the others find nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.prompts == 0 || self.may_be_none && self.ids == 0 && self.content.is_empty()
    }

    /// Its tokens beside the text if it is sent to `model`.
    pub(super) fn beside_text(&self, model: &str, unknown: Option<u64>) -> Tally {
        Tally {
            structure: Units::ZERO,
            images: self.content.image_tokens(model),
            others: self.content.document_tokens(model, false, unknown) + Units::new(self.ids),
        }
    }
}

impl<'b> Accept<'b> for Input<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.prompts += 1;
        self.content.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let (ids, prompts) = (self.ids, self.prompts);
        let read = lenient::offer_element(array, &mut Element(self))?;
        // Ids directly in the array are one prompt together.
        if read.is_some() && self.ids > ids && self.prompts == prompts && prompts == 0 {
            self.prompts = 1;
        }
        Ok(read)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        Element(self).member(name, object)
    }
}

/// An element of an input that is an array.
struct Element<'i, 'b>(&'i mut Input<'b>);

impl<'b> Accept<'b> for Element<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.string(text);
    }

    fn number(&mut self) {
        self.0.ids += 1;
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let before = self.0.ids;
        let mut ids = Ids(&mut self.0.ids);
        while lenient::offer_element(array, &mut ids)?.is_some() {}
        self.0.prompts += u64::from(self.0.ids > before);
        Ok(None)
    }

    /// Servers of models that also embed images accept parts.
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "content" => lenient::offer(object, &mut self.0.content),
            "text" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}

struct ArrayOfIds<'i>(&'i mut u64);

impl<'b> Accept<'b> for ArrayOfIds<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Ids(self.0))
    }
}

struct Ids<'i>(&'i mut u64);

impl<'b> Accept<'b> for Ids<'_> {
    fn number(&mut self) {
        *self.0 += 1;
    }
}
