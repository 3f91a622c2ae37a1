//! What prompts are made of, in every format: texts, images, audio and documents.
//!
//! The formats name the same things differently, and gateways translate between them. So a part is taken for what it
//! holds, by all of their names, whichever endpoint it is sent to: text is kept to be counted, images, audio and
//! documents are measured at once and not kept. What is not known counts nothing, nor does what cannot be seen from
//! here beyond a guess: files and images that are only named.

use super::audio;
use super::document;
use super::image::{self, Detail, Image, Rule, Size};
use super::payload::Payload;
use crate::codec::lenient::{self, Accept, Text};
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// What a prompt's parts contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content<'b> {
    /// Every text, each counted by itself.
    pub(super) texts: Texts<'b>,
    images: Vec<Image>,
    /// Tokens of audio and documents.
    measured: u64,
}

impl Content<'_> {
    /// Tokens of its texts.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> u64 {
        self.texts.iter().fold(0, |sum, text| sum.saturating_add(meter.count(text)))
    }

    /// Tokens of all else, as `model` counts images.
    pub(super) fn other_tokens(&self, model: &str) -> u64 {
        let rule = Rule::of(model);
        self.images.iter().fold(self.measured, |sum, image| sum.saturating_add(rule.tokens(*image)))
    }

    fn measure(&mut self, tokens: u64) {
        self.measured = self.measured.saturating_add(tokens);
    }
}

/// A string, or parts.
impl<'b> Accept<'b> for Content<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Part::new(self))
    }
}

/// Texts that are counted each by itself. Accepts strings.
pub(super) type Texts<'b> = Vec<Cow<'b, str>>;

impl<'b> Accept<'b> for Texts<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.push(text);
    }
}

/// Keeps the value that `object` stands before as the text that it is written as: how JSON in a prompt is read.
///
/// # Errors
/// The value is not JSON.
pub(super) fn keep_json<'b, A: MapAccess<'b>>(texts: &mut Texts<'b>, object: &mut A) -> Result<(), A::Error> {
    texts.push(Cow::Borrowed(lenient::raw(object)?));
    Ok(())
}

/// A part of a message, or what a tool gave back: a string, an object, or an array of them.
///
/// - `{"type": "text", "text": …}`, and the like of `refusal`, `thinking`, `title`, `context`;
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
                let mut url = ImageUrl { detail: &mut self.detail, size: image::UNSEEN };
                lenient::offer(object, &mut url)?;
                self.image = Some(url.size);
                Ok(())
            }
            "input_audio" => {
                let mut audio = Source::default();
                lenient::offer(object, &mut audio)?;
                self.content.measure(audio.data.map_or(0, |data| audio::tokens(Payload::read(data).1)));
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
            let size = source.data.map_or(image::UNSEEN, |data| image::size_in(Payload::read(data).1));
            self.content.images.push(Image { size, detail: self.detail });
        } else if source.is_text() {
            self.content
                .texts
                .extend(source.data.and_then(|data| serde_json::from_str(data).ok()).map(Cow::Owned));
        } else if source.is_any() {
            self.content.measure(source.data.map_or(document::UNSEEN, |data| {
                let (media_type, payload) = Payload::read(data);
                let told = source.media_type.0.as_deref().unwrap_or_default();
                document::tokens(media_type.as_deref().unwrap_or(told), payload)
            }));
        }
    }
}

/// Where an image, audio or a document is.
#[derive(Default)]
struct Source<'b> {
    kind: Text<'b>,
    media_type: Text<'b>,
    /// A JSON string as it is written: the thing itself.
    data: Option<&'b str>,
    /// Whether it is named instead, by an address or an id.
    is_named: bool,
}

impl Source<'_> {
    fn is_any(&self) -> bool {
        self.is_named || self.data.is_some()
    }

    /// Anthropic's documents of plain text are not in base64.
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

/// The value of `source` or `file`, which may hold parts itself, or be the name of where text is from.
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
