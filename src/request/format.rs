//! The required format of an answer: a JSON Schema, which becomes part of the prompt.
//!
//! Its form in the prompt is not published. Counting the text of the schema is an estimate.

use super::content::{Texts, keep_json};
use crate::codec::lenient::{self, Accept};
use serde::de::MapAccess;

/// The value of `response_format` (`{"type": "json_schema", "json_schema": {"name": …, "schema": …}}`), of
/// `text.format` (`{"type": "json_schema", "name": …, "schema": …}`), or of Anthropic's `output_config`, which has
/// the same in `format`. Keeps the texts that become part of the prompt.
pub(super) struct Format<'t, 'b>(pub(super) &'t mut Texts<'b>);

impl<'b> Accept<'b> for Format<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "format" | "json_schema" => lenient::offer(object, &mut Format(self.0)),
            "name" | "description" => lenient::offer(object, self.0),
            "schema" => keep_json(self.0, object),
            _ => lenient::skip(object),
        }
    }
}
