//! A message's content: a string, or parts of which some are text and some images.

use super::{IMAGE, LOW_DETAIL_IMAGE, Texts};
use crate::lenient::{self, Accept, Text};
use crate::tokens::Counter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// What messages contain, over all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content<'b> {
    /// Every text, each counted by itself.
    pub(super) texts: Texts<'b>,
    /// Tokens of the images.
    images: u64,
}

impl Content<'_> {
    /// Its tokens.
    pub(super) fn tokens(&self, counter: &Counter) -> u64 {
        self.texts.iter().fold(self.images, |sum, text| sum.saturating_add(counter.count(text)))
    }
}

/// The value of `content`.
impl<'b> Accept<'b> for Content<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Part(self))
    }
}

/// A part: `{"type": "text", "text": …}`, `{"type": "image_url", "image_url": {"url": …, "detail": …}}`. What it
/// holds tells what it is, and a plain string is text.
struct Part<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Part<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "text" | "refusal" => lenient::offer(object, &mut self.0.texts),
            "image_url" => {
                let mut image = Image::default();
                lenient::offer(object, &mut image)?;
                let low = image.detail.0.is_some_and(|detail| detail == "low");
                self.0.images = self.0.images.saturating_add(if low { LOW_DETAIL_IMAGE } else { IMAGE });
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

/// The value of `image_url`. The address itself, which may be megabytes of data, is passed over.
#[derive(Default)]
struct Image<'b> {
    detail: Text<'b>,
}

impl<'b> Accept<'b> for Image<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "detail" => lenient::offer(object, &mut self.detail),
            _ => lenient::skip(object),
        }
    }
}
