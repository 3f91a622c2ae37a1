//! The parts of a prompt, in every format: texts, images, audio and documents.
//!
//! The formats have different names for the same parts, and gateways translate between them. So every endpoint accepts
//! the names of all formats. Text is kept and counted later; images, audio and documents are measured at once and not
//! kept. Parts of unknown types count by their size. Files and images that the request only names, by an address or an
//! id, count a guess.

mod images;
mod named;

pub(super) use images::Images;
pub(super) use named::Named;

use super::audio;
use super::document::{Document, Inflatable};
use super::image::{self, Detail, Details, Image, Size};
use super::payload::Payload;
use super::prompt::Counted;
use crate::codec::lenient::{self, Accept, Text};
use crate::models::{DocumentRule, ImageRule};
use crate::quantity::Units;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// The contents of a prompt's parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content<'b> {
    /// Texts, each counted by itself.
    pub(super) texts: Texts<'b>,
    /// Texts that do not count for every model as they are.
    pub(super) kinds: Kinds<'b>,
    /// Calls of functions in parts.
    pub(super) calls: u64,
    images: Vec<Image>,
    documents: Vec<Document>,
    /// What the request's documents may still have inflated.
    inflatable: Inflatable,
    /// Whether documents are to be cited.
    cites: bool,
    /// Whether a part does not show what it puts into the prompt: it only names it, or its type is not known.
    hides: bool,
    /// Tokens of audio, and of parts of unknown types.
    measured: Units,
    /// Whether there was text that was taken out.
    had_text: bool,
}

impl<'b> Content<'b> {
    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Content<'static> {
        let Self { texts, kinds, calls, images, documents, inflatable, cites, hides, measured, had_text } =
            self;
        let had_text = had_text || texts.iter().any(|text| !text.is_empty());
        texts.into_iter().for_each(|text| take(Counted::Once, text));
        kinds.into_iter().for_each(|(counted, text)| take(counted, text));
        Content {
            texts: Texts::new(),
            kinds: Kinds::new(),
            calls,
            images,
            documents,
            inflatable,
            cites,
            hides,
            measured,
            had_text,
        }
    }
}

/// How many texts, images, documents and tokens of other kinds there are.
type Amount = (usize, usize, usize, usize, Units);

/// Bytes of a part of an unknown type that count as a token.
const UNKNOWN_BYTES_PER_TOKEN: u64 = 4;

impl<'b> Content<'b> {
    /// How many texts, images and tokens of other kinds there are.
    const fn amount(&self) -> Amount {
        (self.texts.len(), self.kinds.len(), self.images.len(), self.documents.len(), self.measured)
    }

    /// Whether there is nothing in the parts.
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
            && self.documents.is_empty()
            && self.measured == Units::ZERO
            && !self.had_text
            && self.texts.iter().all(|text| text.is_empty())
    }

    /// Lets the texts from number `first` on count as `counted`.
    pub(super) fn count_from(&mut self, first: usize, counted: Counted) {
        let texts = self.texts.split_off(first.min(self.texts.len()));
        self.kinds.extend(texts.into_iter().map(|text| (counted, text)));
    }

    /// Whether a part does not show what it puts into the prompt.
    pub(super) const fn hides(&self) -> bool {
        self.hides
    }

    /// Reads the value of the next member of `object` into `other`, which this is to [absorb](Self::absorb): its
    /// documents are the same request's.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn read_apart<A: MapAccess<'b>>(
        &mut self,
        other: &mut Self,
        object: &mut A,
    ) -> Result<(), A::Error> {
        std::mem::swap(&mut self.inflatable, &mut other.inflatable);
        let read = lenient::offer(object, &mut Part::new(other));
        std::mem::swap(&mut self.inflatable, &mut other.inflatable);
        read
    }

    /// Takes all that is in `other`, of which texts count as `counted`.
    pub(super) fn absorb(&mut self, other: Self, counted: Counted) {
        self.kinds.extend(other.texts.into_iter().map(|text| (counted, text)));
        self.kinds.extend(other.kinds);
        self.images.extend(other.images);
        self.documents.extend(other.documents);
        self.cites |= other.cites;
        self.hides |= other.hides;
        self.measured += other.measured;
        self.calls = self.calls.saturating_add(other.calls);
        self.had_text |= other.had_text;
    }

    /// Shows each text to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        self.texts.iter().for_each(|text| see(Counted::Once, text));
        self.kinds.iter().for_each(|(counted, text)| see(*counted, text));
    }

    /// Tokens of images, as `model` counts them.
    pub(super) fn image_tokens(&self, model: &str) -> Units {
        if self.images.is_empty() {
            return Units::ZERO;
        }
        let rule = ImageRule::of(model);
        self.images.iter().map(|image| image.tokens(rule)).sum()
    }

    /// Tokens of documents beside their texts, as `model` counts them, and of audio. `unknown` is what one costs that
    /// the request only names, if that is configured.
    pub(super) fn document_tokens(&self, model: &str, is_chat: bool, unknown: Option<u64>) -> Units {
        if self.documents.is_empty() {
            return self.measured;
        }
        let rule = DocumentRule::of(model, is_chat);
        let citations = if self.cites { Units::new(rule.citations) } else { Units::ZERO };
        self.measured
            + citations
            + self.documents.iter().map(|document| document.tokens(&rule, unknown)).sum()
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

/// Texts, each with how it counts.
pub(super) type Kinds<'b> = Vec<(Counted, Cow<'b, str>)>;

impl<'b> Accept<'b> for Texts<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.push(text);
    }
}

/// Keeps the text of the next value of `object`, in its shortest form: models see JSON in a prompt as text.
///
/// # Errors
/// The value is not JSON.
pub(super) fn keep_json<'b, A: MapAccess<'b>>(texts: &mut Texts<'b>, object: &mut A) -> Result<(), A::Error> {
    texts.extend(lenient::json(object)?);
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
    kinds: Texts<'b>,
    source: Source<'b>,
    details: Details,
    images: Vec<Option<Size>>,
    /// The name of a function that it calls, or of something else.
    names: Texts<'b>,
    /// Bytes of the values of members that are not known.
    unknown: u64,
    /// How many texts, images and other tokens there were before.
    before: Amount,
}

impl<'p, 'b> Part<'p, 'b> {
    pub(super) fn new(content: &'p mut Content<'b>) -> Self {
        let before = content.amount();
        let (kinds, source, details) = (Texts::new(), Source::default(), Details::default());
        Self { content, kinds, source, details, images: Vec::new(), names: Texts::new(), unknown: 0, before }
    }

    fn add_image(&mut self, size: Option<Size>) {
        self.content.hides |= size.is_none();
        self.content.images.push(Image { size, details: self.details });
    }

    /// Adds what the source has, of which the types were read. A part that has two types is charged as both.
    fn add_data(&mut self, data: &'b str, is_image: bool, is_text: bool) {
        let is_doubtful = self.kinds.len() > 1 || self.source.kinds.len() > 1;
        if is_image {
            self.add_image(image::size_in(Payload::read(data).1));
        }
        if is_text && (is_doubtful || !is_image) {
            self.content.texts.extend(serde_json::from_str(data).ok().map(Cow::Owned));
            self.content.documents.push(Document::Text);
        }
        if is_doubtful || !(is_image || is_text) {
            let (media_type, payload) = Payload::read(data);
            let declared = self.source.media_type.0.as_deref().unwrap_or_default();
            let media_type = media_type.as_deref().unwrap_or(declared);
            let (document, text) = Document::read(media_type, payload, &mut self.content.inflatable);
            self.content.documents.push(document);
            self.content.texts.extend(text);
        }
    }

    fn is_image(&self) -> bool {
        self.kinds.iter().any(|kind| kind.contains("image"))
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
            "type" => lenient::offer(object, &mut self.kinds),
            "name" => {
                self.names.extend(lenient::text(object)?);
                Ok(())
            }
            "thinking" => {
                let text = lenient::text(object)?;
                self.content.kinds.extend(text.map(|text| (Counted::Thinking, text)));
                Ok(())
            }
            "arguments" => {
                let text = lenient::text(object)?;
                self.content.kinds.extend(text.map(|text| (Counted::Arguments, text)));
                Ok(())
            }
            "text" | "refusal" | "title" | "context" | "document" => {
                // Gateways make objects of texts, too, and documents of Cohere's are objects.
                self.content.texts.extend(lenient::text(object)?);
                Ok(())
            }
            "input" => keep_json(&mut self.content.texts, object),
            "content" | "summary" | "output" => lenient::offer(object, &mut Part::new(self.content)),
            "detail" => lenient::offer(object, &mut self.details),
            "image_url" => {
                let mut url = ImageUrl { details: &mut self.details, sizes: Vec::new(), is_null: false };
                lenient::offer(object, &mut url)?;
                let ImageUrl { sizes, is_null, .. } = url;
                if sizes.is_empty() && !is_null {
                    self.images.push(None);
                }
                self.images.extend(sizes);
                Ok(())
            }
            "input_audio" => {
                let mut audio = Source::default();
                lenient::offer(object, &mut audio)?;
                self.content.measured +=
                    audio.data.into_iter().map(|data| audio::tokens(Payload::read(data).1)).sum();
                Ok(())
            }
            "file" | "source" => {
                lenient::offer(object, &mut SourceOf { content: self.content, source: &mut self.source })
            }
            "file_data" | "file_id" | "file_url" | "filename" => self.source.member(name, object),
            "citations" => lenient::offer(object, &mut Citations(&mut self.content.cites)),
            "id" | "status" | "cache_control" | "tool_use_id" | "tool_call_id" | "call_id" | "is_error"
            | "index" | "signature" | "annotations" | "logprobs" => lenient::skip(object),
            _ => {
                let size = lenient::raw(object)?.len() as u64;
                self.unknown = self.unknown.saturating_add(size);
                Ok(())
            }
        }
    }

    fn end(&mut self) {
        let is_call =
            self.kinds.iter().any(|kind| matches!(&**kind, "tool_use" | "function_call" | "tool-call"));
        self.content.calls += u64::from(is_call);
        for name in std::mem::take(&mut self.names) {
            match is_call {
                true => self.content.kinds.push((Counted::CallName, name)),
                false => self.content.texts.push(name),
            }
        }
        if !self.images.is_empty() {
            for size in std::mem::take(&mut self.images) {
                self.add_image(size);
            }
        } else if !self.source.data.is_empty() {
            // Types and data may be many.
            let (is_image, is_text) = (self.is_image(), self.source.is_text());
            for data in std::mem::take(&mut self.source.data) {
                self.add_data(data, is_image, is_text);
            }
        } else if self.source.is_named {
            if self.is_image() {
                self.add_image(None);
            } else if !self.source.is_text() {
                self.content.documents.push(Document::Unknown);
                self.content.hides = true;
            }
        }
        // Nobody but the provider can tell what reasoning that is encrypted costs.
        let is_reasoning = self.kinds.iter().any(|kind| kind.contains("thinking") || kind == "reasoning");
        if self.content.amount() == self.before && self.unknown > 0 {
            self.content.hides = true;
        }
        if self.content.amount() == self.before && !is_reasoning {
            self.content.measured += Units::new(self.unknown.div_ceil(UNKNOWN_BYTES_PER_TOKEN));
        }
    }
}

/// The value of `citations` in a document: `{"enabled": true}`.
struct Citations<'c>(&'c mut bool);

impl<'b> Accept<'b> for Citations<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "enabled" => {
                *self.0 |= lenient::flag(object)?;
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

/// The data of an image, audio or a document, or its address or id.
#[derive(Default)]
struct Source<'b> {
    kinds: Texts<'b>,
    media_type: Text<'b>,
    /// The data: the texts of JSON strings.
    data: Vec<&'b str>,
    /// Whether the request has an address or an id instead of the data.
    is_named: bool,
}

impl Source<'_> {
    /// Whether the data is plain text instead of base64, as a document for Anthropic may be.
    fn is_text(&self) -> bool {
        self.kinds.iter().any(|kind| kind == "text")
    }
}

impl<'b> Accept<'b> for Source<'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kinds),
            "media_type" => lenient::offer(object, &mut self.media_type),
            "data" | "file_data" => {
                self.data.extend(Some(lenient::raw(object)?).filter(|raw| raw.starts_with('"')));
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
    details: &'p mut Details,
    sizes: Vec<Option<Size>>,
    /// Clients write it where there is no image.
    is_null: bool,
}

impl<'b> Accept<'b> for ImageUrl<'_> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.sizes.push(image::size_at(&text));
    }

    fn null(&mut self) {
        self.is_null = true;
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "url" => {
                self.sizes.push(image::size_at(lenient::raw(object)?));
                Ok(())
            }
            "detail" => lenient::offer(object, self.details),
            _ => lenient::skip(object),
        }
    }
}

impl<'b> Accept<'b> for Details {
    fn string(&mut self, text: Cow<'b, str>) {
        self.add(Detail::from_name(&text));
    }
}
