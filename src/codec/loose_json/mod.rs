//! Rewrites whatever some widespread reader takes for JSON as JSON that every reader takes for the same.
//!
//! A client chooses its bytes, and the upstream's reader decides what they mean. Python reads `NaN`, Gson single
//! quotes, comments, words without quotes and `=` for a colon, Ruby comments, Newtonsoft and RapidJSON trailing commas
//! and hexadecimal numbers, JSON5 more escapes, and Jackson all of these if told so. Go, Jackson and simdjson read the
//! first of several documents and leave the rest. No two of them give the same bytes two meanings, so all are read at
//! once. Every text becomes one array with the documents in it.
//!
//! Nothing here recurses: a value that is nested deeper than [`MAX_DEPTH`] becomes a string, which has its text. The
//! text may come in pieces that end anywhere. What no reader reads is a [`Fault`]; what comes before it is kept.

mod lexer;
mod place;
mod string;
mod word;
mod writer;

pub use place::Fault;
pub use writer::MAX_DEPTH;

use crate::codec::transcode::Transcoder;
use lexer::{Lexer, Token};
use place::Place;
use writer::{Container, Writer};

/// A text as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// An array with a document or more; with a part of one, if there is a fault.
    pub json: String,
    /// Why and where no reader reads it.
    pub fault: Option<Fault>,
}

/// Rewrites a text that comes in pieces.
#[derive(Debug)]
pub struct Rewriter {
    lexer: Lexer,
    writer: Writer,
    expected: Expected,
    /// Whether a document is complete: what comes after it can be left unread.
    has_document: bool,
    place: Place,
    /// The place where the current token begins.
    begun: Place,
    fault: Option<Fault>,
    /// Whether the text is over, and what it breaks off is mended.
    is_over: bool,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A document, or the end.
    Document,
    /// The value of a member.
    Value,
    /// An element, or the end of the array.
    Element,
    /// The name of a member, or the end of the object.
    Name,
    Colon,
    /// A comma, or the end of the array or the object.
    Comma,
}

impl Expected {
    const fn name(self) -> &'static str {
        match self {
            Self::Document => "a JSON object",
            Self::Value => "a value",
            Self::Element => "a value or \"]\"",
            Self::Name => "a member's name or \"}\"",
            Self::Colon => "\":\"",
            Self::Comma => "\",\" or the end of an array or object",
        }
    }
}

/// Rewrites the text in `bytes`, in whatever encoding of Unicode they are.
pub fn rewrite(bytes: &[u8]) -> Rewritten {
    let (mut transcoder, mut rewriter) = (Transcoder::default(), Rewriter::default());
    transcoder.push(bytes, &mut |piece| rewriter.push(piece));
    transcoder.finish(&mut |piece| rewriter.push(piece));
    rewriter.finish()
}

impl Default for Rewriter {
    fn default() -> Self {
        let mut writer = Writer::default();
        writer.open(Container::Array);
        Self {
            lexer: Lexer::default(),
            writer,
            expected: Expected::Document,
            has_document: false,
            place: Place::default(),
            begun: Place::default(),
            fault: None,
            is_over: false,
        }
    }
}

impl Rewriter {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) {
        let mut rest = piece;
        while self.fault.is_none() && !rest.is_empty() {
            if self.lexer.is_between() {
                self.begun = self.place;
            }
            let (read, token) = self.lexer.next(rest, &mut self.writer);
            let (read, after) = rest.split_at_checked(read).unwrap_or((rest, ""));
            if let Some(token) = token {
                self.take(token);
            }
            self.place.pass(read);
            rest = after;
        }
    }

    /// The text is over.
    pub fn finish(mut self) -> Rewritten {
        self.end();
        Rewritten { json: self.writer.finish(), fault: self.fault }
    }

    /// The text is over: closes what is open, `most` arrays and objects of it. Returns whether nothing more is left to
    /// do, or there is a fault.
    pub fn close(&mut self, most: usize) -> bool {
        self.end();
        self.fault.is_some() || self.writer.close_some(most)
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(token) = self.lexer.finish() {
            self.take(token);
        }
        let is_whole = self.expected == Expected::Document && self.has_document;
        if self.fault.is_none() && !is_whole {
            let expected = self.expected.name();
            self.fault = Some(self.place.fault(format!("expected {expected}, found the end")));
        }
        // A name that is cut off from its value has null.
        if self.expected == Expected::Colon {
            self.writer.colon();
        }
        if matches!(self.expected, Expected::Colon | Expected::Value) {
            self.writer.word("null");
        }
        // Readers that read one document alone do not care for what comes after it.
        if self.has_document {
            self.fault = None;
        }
    }

    /// Whether no reader reads the text, whatever follows.
    pub const fn is_hopeless(&self) -> bool {
        self.fault.is_some() && !self.has_document
    }

    /// Why and where no reader reads the text so far.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }

    /// About how many bytes of memory it takes.
    pub const fn held(&self) -> u64 {
        self.writer.held()
    }

    fn take(&mut self, token: Token) {
        match self.next_expected(&token) {
            Some(next) => self.expected = next,
            None => {
                let (expected, found) = (self.expected.name(), token.name());
                let place = if token == Token::Other { self.place } else { self.begun };
                let fault = || place.fault(format!("expected {expected}, found {found}"));
                self.fault.get_or_insert_with(fault);
            }
        }
    }

    /// Writes `token`, and returns what must come next. None if it must not come now.
    fn next_expected(&mut self, token: &Token) -> Option<Expected> {
        use Expected::{Colon, Comma, Document, Element, Name, Value};
        let before = self.expected;
        let is_value = matches!(before, Document | Value | Element);
        match token {
            Token::Quote(quote) if is_value || before == Name => {
                self.lexer.enter(*quote);
                self.writer.quote(true);
                return Some(before);
            }
            Token::Text => self.writer.quote(false),
            Token::Word(word) if is_value => word::write_value(word, &mut self.writer),
            Token::Word(word) if before == Name => word::write_string(word, &mut self.writer),
            Token::Open(container) if is_value => {
                self.writer.open(*container);
                return Some(if *container == Container::Array { Element } else { Name });
            }
            Token::Close(container) if matches!(before, Element | Name | Comma) => {
                if self.writer.innermost() != Some(*container) {
                    return None;
                }
                self.writer.close();
                if self.writer.depth() == 1 {
                    self.has_document = true;
                    return Some(Document);
                }
                return Some(Comma);
            }
            Token::Colon if before == Colon => {
                self.writer.colon();
                return Some(Value);
            }
            // Nothing between two commas is null.
            Token::Comma if before == Element => {
                self.writer.word("null");
                return Some(Element);
            }
            Token::Comma if before == Comma => {
                let is_object = self.writer.innermost() == Some(Container::Object);
                return Some(if is_object { Name } else { Element });
            }
            _ => return None,
        }
        Some(match before {
            Name => Colon,
            Document => Document,
            _ => Comma,
        })
    }
}

#[cfg(test)]
mod tests;
