//! A part whose members are named after what they hold: `{"inlineData": {…}}` instead of a `type` beside the data.
//!
//! - `{"text": …}`;
//! - `{"inlineData": {"mimeType": …, "data": …}}`, `{"fileData": {"mimeType": …, "fileUri": …}}`;
//! - `{"functionCall": {"name": …, "args": …}}`, `{"functionResponse": {"name": …, "response": …}}`;
//! - `{"executableCode": {"code": …}}`, `{"codeExecutionResult": {"output": …}}` (all of these are Gemini's).

use super::{Amount, Content, Document, Image, Texts, UNKNOWN_BYTES_PER_TOKEN, keep_json};
use crate::codec::lenient::{self, Accept, Text};
use crate::quantity::Units;
use crate::request::audio;
use crate::request::image::{self, Details};
use crate::request::payload::Payload;
use crate::request::prompt::Counted;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// A part, a string, or an array of them.
pub(in crate::request) struct Named<'p, 'b> {
    content: &'p mut Content<'b>,
    /// Bytes of the values of members that are not known.
    unknown: u64,
    before: Amount,
}

impl<'p, 'b> Named<'p, 'b> {
    pub(in crate::request) fn new(content: &'p mut Content<'b>) -> Self {
        let before = content.amount();
        Self { content, unknown: 0, before }
    }
}

impl<'b> Accept<'b> for Named<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.content.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Named::new(self.content))
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "text" => {
                self.content.texts.extend(lenient::text(object)?);
                Ok(())
            }
            "inlinedata" | "inline_data" | "filedata" | "file_data" => {
                let mut blob = Blob::default();
                lenient::offer(object, &mut blob)?;
                self.content.add_blob(blob);
                Ok(())
            }
            "functioncall" | "function_call" => {
                self.content.calls = self.content.calls.saturating_add(1);
                lenient::offer(object, &mut Call { content: self.content, is_call: true })
            }
            "functionresponse" | "function_response" => {
                lenient::offer(object, &mut Call { content: self.content, is_call: false })
            }
            "executablecode" | "executable_code" | "codeexecutionresult" | "code_execution_result" => {
                lenient::offer(object, &mut Code(&mut self.content.texts))
            }
            // A client cannot hide a text by calling it a thought: it counts as any other.
            "thought" | "mediaresolution" | "media_resolution" | "partmetadata" | "part_metadata"
            | "thoughtsignature" | "thought_signature" | "videometadata" | "video_metadata" => {
                lenient::skip(object)
            }
            _ => {
                let size = lenient::raw(object)?.len() as u64;
                self.unknown = self.unknown.saturating_add(size);
                Ok(())
            }
        }
    }

    fn end(&mut self) {
        if self.content.amount() == self.before && self.unknown > 0 {
            self.content.hides = true;
            self.content.measured += Units::new(self.unknown.div_ceil(UNKNOWN_BYTES_PER_TOKEN));
        }
    }
}

/// Data of a type, or the name of a file that has it.
#[derive(Default)]
pub(super) struct Blob<'b> {
    media_type: Text<'b>,
    data: Vec<&'b str>,
    is_named: bool,
}

impl<'b> Accept<'b> for Blob<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "mimetype" | "mime_type" => lenient::offer(object, &mut self.media_type),
            "data" => {
                self.data.extend(Some(lenient::raw(object)?).filter(|raw| raw.starts_with('"')));
                Ok(())
            }
            "fileuri" | "file_uri" => {
                self.is_named |= lenient::raw(object)?.starts_with('"');
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

impl<'b> Content<'b> {
    /// Adds data by its type.
    fn add_blob(&mut self, blob: Blob<'b>) {
        let media_type = blob.media_type.0.unwrap_or_default().to_ascii_lowercase();
        let is_image = media_type.starts_with("image/");
        if blob.is_named {
            self.hides = true;
            if is_image {
                self.images.push(Image { size: None, details: Details::default() });
            } else {
                self.documents.push(Document::Unknown);
            }
        }
        for data in blob.data {
            let (_, payload) = Payload::read(data);
            if is_image {
                let size = image::size_in(payload);
                self.hides |= size.is_none();
                self.images.push(Image { size, details: Details::default() });
            } else if media_type.starts_with("audio/") {
                self.measured += audio::tokens(payload);
            } else {
                let (document, text) = Document::read(&media_type, payload, &mut self.inflatable);
                self.documents.push(document);
                self.texts.extend(text);
            }
        }
    }
}

/// A call of a function, or its result.
struct Call<'p, 'b> {
    content: &'p mut Content<'b>,
    is_call: bool,
}

impl<'b> Accept<'b> for Call<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => {
                let mut name = Text::default();
                lenient::offer(object, &mut name)?;
                let counted = if self.is_call { Counted::CallName } else { Counted::Once };
                self.content.kinds.extend(name.0.map(|name| (counted, name)));
                Ok(())
            }
            "args" | "response" => keep_json(&mut self.content.texts, object),
            "parts" => lenient::offer(object, &mut Named::new(self.content)),
            _ => lenient::skip(object),
        }
    }
}

/// Code, or what it has written.
struct Code<'t, 'b>(&'t mut Texts<'b>);

impl<'b> Accept<'b> for Code<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "code" | "output" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}
