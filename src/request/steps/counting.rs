//! Counts the texts of a request in steps.

use super::Texts;
use crate::codec::indexed::{Found, Indexed};
use crate::codec::lenient::Compacting;
use crate::request::shown::{self, Shown};
use crate::request::{Counted, TextTokens};
use crate::tokens::{Count, SLICE_BYTES, Tokenizer};
use std::borrow::Cow;

/// The work of a text beside its bytes.
const TEXT_WORK: u64 = 8;

/// A text to be counted.
#[derive(Debug)]
pub(super) struct Queued {
    counted: Counted,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In the body.
    Found(Found),
    /// In the body, as JSON that is to be made short.
    Json(Found),
    /// A copy.
    Own(Box<str>),
}

impl Queued {
    /// A text of the request in `body`; none if there is nothing in it.
    pub(super) fn new(counted: Counted, text: Cow<'_, str>, body: &Indexed) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let place = match text {
            Cow::Owned(text) => Place::Own(text.into_boxed_str()),
            Cow::Borrowed(text) => match body.find(text) {
                Some(found) if body.is_json(&found) => Place::Json(found),
                Some(found) => Place::Found(found),
                None => Place::Own(text.into()),
            },
        };
        Some(Self { counted, place })
    }
}

impl Texts {
    /// About how many bytes of memory they take.
    pub fn held(&self) -> u64 {
        self.body.held().saturating_add((self.texts.capacity() * size_of::<Queued>()) as u64)
    }
}

/// A count that is under way.
#[derive(Debug)]
pub struct Counting {
    count: Count,
    tokens: TextTokens,
    /// The number of the text that is counted.
    text: usize,
    /// How much of it was counted, in bytes.
    read: usize,
    /// The part of JSON that was made short and is not counted yet.
    compacting: Compacting,
    short: String,
    /// What the text is shown as, if it is not counted as it is, the next last.
    shown: Option<Vec<(Counted, String)>>,
    is_done: bool,
}

impl Counting {
    /// Counts with `tokenizer`.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self {
            count: Count::new(tokenizer),
            tokens: TextTokens::default(),
            text: 0,
            read: 0,
            compacting: Compacting::default(),
            short: String::new(),
            shown: None,
            is_done: false,
        }
    }

    /// The tokenizer that counts.
    pub const fn tokenizer(&self) -> Tokenizer {
        self.count.tokenizer()
    }

    /// The tokens so far, before the model's factor is applied.
    pub const fn tokens(&self) -> TextTokens {
        self.tokens
    }

    /// Whether nothing is left to be counted.
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether counting has stopped, so that some text may not have been counted.
    pub const fn has_stopped(&self) -> bool {
        self.count.has_stopped()
    }

    /// Counts some of `texts`, about `most` bytes, until `is_enough` is true of the tokens with the model's factor
    /// applied. Returns the work that this was.
    pub fn step(&mut self, texts: &Texts, most: u64, is_enough: impl Fn(u64) -> bool) -> u64 {
        let mut work = 0_u64;
        while work < most {
            let Some(queued) = texts.texts.get(self.text).filter(|_| !self.count.has_stopped()) else {
                self.is_done = true;
                return work.saturating_add(1);
            };
            let text = match &queued.place {
                Place::Own(text) => text,
                Place::Found(found) | Place::Json(found) => texts.body.get(found),
            };
            let is_json = matches!(queued.place, Place::Json(_));
            if queued.counted.weight(self.count.tokenizer().weights()) == 0 {
                self.next_text();
                work = work.saturating_add(TEXT_WORK);
                continue;
            }
            let read = match (queued.counted, shown::of_large(queued.counted, text)) {
                (Counted::Arguments, Some(large)) => self.plain(text, large, &is_enough),
                (_, Some(large)) => {
                    let is_first = self.compacting.read() == 0;
                    self.tokens.functions += u64::from(is_first && large == Counted::LargeTool);
                    self.json(text, large, &is_enough)
                }
                (counted @ (Counted::Tool | Counted::Schema | Counted::Arguments), None) => {
                    self.otherwise(text, counted, &is_enough)
                }
                (counted, None) if is_json => self.json(text, counted, &is_enough),
                (counted, None) => self.plain(text, counted, &is_enough),
            };
            work = work.saturating_add(TEXT_WORK).saturating_add(read.min(SLICE_BYTES) as u64);
        }
        work
    }

    /// Counts a slice of what models are shown of `text`, or finds out what that is. Returns about how much work it is.
    fn otherwise(&mut self, text: &str, counted: Counted, is_enough: impl Fn(u64) -> bool) -> usize {
        let Some(mut texts) = self.shown.take() else {
            let tokenizer = self.count.tokenizer();
            let texts = match shown::shown(counted, text, tokenizer.weights()) {
                Shown::AsIs => vec![(counted, text.to_owned())],
                Shown::Otherwise { texts, tool } => {
                    self.tokens.add_tool(tool);
                    texts.into_iter().rev().map(|(counted, text)| (counted, text.into_owned())).collect()
                }
            };
            self.shown = Some(texts);
            return text.len();
        };
        let Some((counted, text)) = texts.pop() else {
            self.next_text();
            return 0;
        };
        let weight = counted.weight(self.count.tokenizer().least());
        let (read, tokens) = self.count.slice(text.get(self.read..).unwrap_or_default(), weight, is_enough);
        self.tokens.add(counted, tokens);
        self.read = self.read.saturating_add(read);
        if self.read < text.len() {
            texts.push((counted, text));
        } else {
            self.read = 0;
        }
        self.shown = Some(texts);
        read
    }

    /// Counts a slice of `text`. Returns its length.
    fn plain(&mut self, text: &str, counted: Counted, is_enough: impl Fn(u64) -> bool) -> usize {
        let rest = text.get(self.read..).unwrap_or_default();
        let weight = counted.weight(self.count.tokenizer().least());
        let (read, tokens) = self.count.slice(rest, weight, is_enough);
        self.tokens.add(counted, tokens);
        self.read = self.read.saturating_add(read);
        if self.read >= text.len() {
            self.next_text();
        }
        read
    }

    /// Counts a slice of `json` in its shortest form. Returns about how much of it was read or counted.
    fn json(&mut self, json: &str, counted: Counted, is_enough: impl Fn(u64) -> bool) -> usize {
        let before = self.compacting.read();
        // A slice is cut where that changes nothing, which takes more than a slice to see.
        if self.short.len() <= SLICE_BYTES && before < json.len() {
            self.compacting.next(json, SLICE_BYTES, &mut self.short);
            return SLICE_BYTES / 4;
        }
        let weight = counted.weight(self.count.tokenizer().least());
        let (read, tokens) = self.count.slice(&self.short, weight, is_enough);
        self.tokens.add(counted, tokens);
        self.short.drain(..read);
        if self.short.is_empty() && before >= json.len() {
            self.next_text();
        }
        read
    }

    fn next_text(&mut self) {
        self.text = self.text.saturating_add(1);
        self.read = 0;
        self.compacting = Compacting::default();
        self.short.clear();
        self.shown = None;
    }
}
