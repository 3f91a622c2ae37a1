//! Images without a type beside their data: `"images": ["iVBORw0KG…"]`, as Ollama and Cohere have them.

use super::{Content, Image, Part};
use crate::codec::lenient::{self, Accept};
use crate::request::image::{self, Details};
use crate::request::payload::Payload;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// An image's data in Base64, a `data:` URL, or an array of them. Servers that have parts here find parts.
pub(in crate::request) struct Images<'p, 'b>(pub(in crate::request) &'p mut Content<'b>);

impl<'b> Accept<'b> for Images<'_, 'b> {
    fn string(&mut self, data: Cow<'b, str>) {
        let size = image::size_in(Payload::read(&data).1);
        self.0.hides |= size.is_none();
        self.0.images.push(Image { size, details: Details::default() });
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let mut part = Part::new(self.0);
        part.member(name, object)?;
        part.end();
        Ok(())
    }
}
