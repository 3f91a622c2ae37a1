//! The required format of an answer: a JSON Schema, which becomes part of the prompt.

use super::content::Content;
use super::prompt::Counted;
use super::shape::Shape;
use crate::codec::lenient::{self, Accept};
use serde::de::{self, MapAccess};
use std::borrow::Cow;

/// The value of `response_format` (`{"type": "json_schema", "json_schema": {"name": …, "schema": …}}`), of
/// `text.format` (`{"type": "json_schema", "name": …, "schema": …}`), or of Anthropic's `output_config`, which has
/// the same in `format`. Keeps the texts that become part of the prompt.
pub(super) struct Format<'t, 'b> {
    shape: &'t mut Shape,
    content: &'t mut Content<'b>,
}

impl<'t, 'b> Format<'t, 'b> {
    pub(super) const fn new(shape: &'t mut Shape, content: &'t mut Content<'b>) -> Self {
        Self { shape, content }
    }
}

impl<'b> Format<'_, 'b> {
    fn take_schema(&mut self, schema: &'b str) {
        self.shape.has_schema = true;
        self.content.kinds.push((Counted::Schema, Cow::Borrowed(schema)));
    }
}

impl<'b> Accept<'b> for Format<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "format" => lenient::offer(object, &mut Format::new(self.shape, self.content)),
            "json_schema" => {
                let (text, before) = (lenient::raw(object)?, self.content.kinds.len());
                lenient::read(text, &mut Format::new(self.shape, self.content)).map_err(de::Error::custom)?;
                let of_schema = |(counted, _): &(Counted, _)| *counted == Counted::Schema;
                let is_schema = !self.content.kinds.iter().skip(before).any(of_schema);
                // Cohere's is the schema itself.
                if is_schema && text.starts_with('{') {
                    self.content.kinds.truncate(before);
                    self.take_schema(text);
                }
                Ok(())
            }
            "name" | "description" => {
                let mut texts = Vec::new();
                lenient::offer(object, &mut texts)?;
                self.content.kinds.extend(texts.into_iter().map(|text| (Counted::SchemaName, text)));
                Ok(())
            }
            "schema" => {
                let schema = lenient::raw(object)?;
                self.take_schema(schema);
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}
