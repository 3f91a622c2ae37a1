//! The parts of a prompt, in every format: texts, images, audio and documents.
//!
//! The formats have different names for the same parts, and gateways translate between them. So every endpoint accepts
//! the names of all formats. Text is kept and counted later; images, audio and documents are measured at once and not
//! kept. Parts of unknown types count nothing. Files and images that the request only names, by an address or an id,
//! count a guess.

use super::audio;
use super::document;
use super::image::{self, Detail, Image, Size};
use super::payload::Payload;
use crate::codec::lenient::{self, Accept, Text};
use crate::models::ImageRule;
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// The contents of a prompt's parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content<'b> {
    /// Texts, each counted by itself.
    pub(super) texts: Texts<'b>,
    images: Vec<Image>,
    /// Tokens of audio and documents.
    measured: Units,
}

impl Content<'_> {
    /// Tokens of the texts.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        count_each(&self.texts, meter)
    }

    /// Tokens of everything else; images count as `model` counts them.
    pub(super) fn other_tokens(&self, model: &str) -> Units {
        if self.images.is_empty() {
            return self.measured;
        }
        let rule = ImageRule::of(model);
        self.measured + self.images.iter().map(|image| image.tokens(rule)).sum()
    }
}

/// Accepts a string, or parts.
impl<'b> Accept<'b> for Content<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Part::new(self))
    }
}

/// Texts, each counted by itself. Accepts strings.
pub(super) type Texts<'b> = Vec<Cow<'b, str>>;

/// Tokens of `texts`.
pub(super) fn count_each(texts: &Texts<'_>, meter: &Meter<'_>) -> Units {
    texts.iter().map(|text| Units::new(meter.count(text))).sum()
}

impl<'b> Accept<'b> for Texts<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.push(text);
    }
}

/// Keeps the text of the next value of `object`: models see JSON in a prompt as text.
///
/// # Errors
/// The value is not JSON.
pub(super) fn keep_json<'b, A: MapAccess<'b>>(texts: &mut Texts<'b>, object: &mut A) -> Result<(), A::Error> {
    texts.push(Cow::Borrowed(lenient::raw(object)?));
    Ok(())
}

/// A part of a message, or the result of a tool: a string, an object, or an array of them.
///
/// - `{"type": "text", "text": …}`, and the same with `refusal`, `thinking`, `title`, `context`;
/// - `{"type": "image_url", "image_url": {"url": …, "detail": …}}` (chat),
///   `{"type": "input_image", "image_url": …, "detail": …}` (responses);
/// - `{"type": "input_audio", "input_audio": {"data": …}}`;
/// - `{"type": "file", "file": {"file_data": …}}` (chat), `{"type": "input_file", "file_data": …}` (responses);
/// - `{"type": "image", "source": {"type": "base64", "media_type": …, "data": …}}`, `document` too (Anthropic);
/// - `{"type": "tool_use", "name": …, "input": …}`, `{"type": "tool_result", "content": …}` (Anthropic).
pub(super) struct Part<'p, 'b> {
    content: &'p mut Content<'b>,
    kind: Text<'b>,
    source: Source<'b>,
    detail: Detail,
    image: Option<Size>,
}

impl<'p, 'b> Part<'p, 'b> {
    pub(super) fn new(content: &'p mut Content<'b>) -> Self {
        let (kind, source) = (Text::default(), Source::default());
        Self { content, kind, source, detail: Detail::Auto, image: None }
    }
}

impl<'b> Accept<'b> for Part<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.content.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Part::new(self.content))
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "text" | "refusal" | "thinking" | "title" | "context" | "name" | "arguments" => {
                lenient::offer(object, &mut self.content.texts)
            }
            "input" => keep_json(&mut self.content.texts, object),
            "content" | "summary" | "output" => lenient::offer(object, &mut Part::new(self.content)),
            "detail" => lenient::offer(object, &mut self.detail),
            "image_url" => {
                let mut url = ImageUrl { detail: &mut self.detail, size: image::ASSUMED_SIZE };
                lenient::offer(object, &mut url)?;
                self.image = Some(url.size);
                Ok(())
            }
            "input_audio" => {
                let mut audio = Source::default();
                lenient::offer(object, &mut audio)?;
                let tokens = audio.data.map(|data| audio::tokens(Payload::read(data).1));
                self.content.measured += tokens.unwrap_or_default();
                Ok(())
            }
            "file" | "source" => {
                lenient::offer(object, &mut SourceOf { content: self.content, source: &mut self.source })
            }
            "file_data" | "file_id" | "file_url" | "filename" => self.source.member(name, object),
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        let kind = self.kind.0.as_deref().unwrap_or_default();
        let source = std::mem::take(&mut self.source);
        if let Some(size) = self.image {
            self.content.images.push(Image { size, detail: self.detail });
        } else if kind.contains("image") && source.is_any() {
            let size = source.data.map_or(image::ASSUMED_SIZE, |data| image::size_in(Payload::read(data).1));
            self.content.images.push(Image { size, detail: self.detail });
        } else if source.is_text() {
            self.content
                .texts
                .extend(source.data.and_then(|data| serde_json::from_str(data).ok()).map(Cow::Owned));
        } else if source.is_any() {
            self.content.measured += source.data.map_or(document::ASSUMED_TOKENS, |data| {
                let (media_type, payload) = Payload::read(data);
                let declared = source.media_type.0.as_deref().unwrap_or_default();
                document::tokens(media_type.as_deref().unwrap_or(declared), payload)
            });
        }
    }
}

/// The data of an image, audio or a document, or its address or id.
#[derive(Default)]
struct Source<'b> {
    kind: Text<'b>,
    media_type: Text<'b>,
    /// The data: the text of a JSON string.
    data: Option<&'b str>,
    /// Whether the request has an address or an id instead of the data.
    is_named: bool,
}

impl Source<'_> {
    fn is_any(&self) -> bool {
        self.is_named || self.data.is_some()
    }

    /// Whether the data is plain text instead of base64, as a document for Anthropic may be.
    fn is_text(&self) -> bool {
        self.kind.0.as_deref() == Some("text")
    }
}

impl<'b> Accept<'b> for Source<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "media_type" => lenient::offer(object, &mut self.media_type),
            "data" | "file_data" => {
                self.data = Some(lenient::raw(object)?).filter(|raw| raw.starts_with('"'));
                Ok(())
            }
            "url" | "file_url" | "file_id" => {
                self.is_named |= lenient::raw(object)?.starts_with('"');
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

/// The value of `source` or `file`: an object, which may have parts as `content`, or a string that names the source of
/// a text.
struct SourceOf<'p, 'b> {
    content: &'p mut Content<'b>,
    source: &'p mut Source<'b>,
}

impl<'b> Accept<'b> for SourceOf<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.content.texts.push(text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "content" => lenient::offer(object, &mut Part::new(self.content)),
            _ => self.source.member(name, object),
        }
    }
}

/// The value of `image_url`: an address, or an object with one.
struct ImageUrl<'p> {
    detail: &'p mut Detail,
    size: Size,
}

impl<'b> Accept<'b> for ImageUrl<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.size = image::size_at(&text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "url" => {
                self.size = image::size_at(lenient::raw(object)?);
                Ok(())
            }
            "detail" => lenient::offer(object, self.detail),
            _ => lenient::skip(object),
        }
    }
}

impl<'b> Accept<'b> for Detail {
    fn string(&mut self, text: Cow<'b, str>) {
        *self = Self::from_name(&text);
    }
}
