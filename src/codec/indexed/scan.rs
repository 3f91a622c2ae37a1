//! Checks that a text is JSON, piece by piece, and notes where its long values are.

use super::escape::unescape;
use super::number::Number;
use super::{Indexed, LONG_CONTAINER, LONG_STRING, Long, MAX_DEPTH, MAX_NUMBER};
use std::ops::Range;

/// The text is not JSON as serde_json takes it, or nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStrict;

/// A text that comes in pieces.
#[derive(Clone, Debug)]
pub struct Indexing {
    indexed: Indexed,
    at: At,
    /// The arrays and objects that are open: where each begins, and whether it is an object.
    open: Vec<(usize, bool)>,
    string: InString,
    /// Where the number begins that is being read.
    number: usize,
    /// Where the white space begins that is being read.
    space: Option<usize>,
    /// The lengths from which strings, and arrays and objects, are long.
    long: (usize, usize),
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Value,
    /// An element, or the end of the array.
    Element,
    /// A name, or the end of the object.
    FirstName,
    Name,
    Colon,
    /// A comma, or the end of the array or object.
    Comma,
    /// White space alone.
    End,
    String {
        is_name: bool,
    },
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Literal(&'static str),
}

/// The string that is being read.
#[derive(Clone, Debug, Default)]
struct InString {
    /// Where its quote is.
    begin: usize,
    has_escapes: bool,
    escape: Escape,
    /// The first half of a surrogate pair has come, and its second must follow.
    is_half: bool,
    /// Where the escape or the pair of them begins that has not ended.
    open_escape: Option<usize>,
    /// If it is long and has escapes: where its text without them begins, and how far the string is unescaped.
    unescaped: Option<(usize, usize)>,
}

/// Where in an escape the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// Behind the backslash.
    Begun,
    /// Digits are to come, so many, after a number.
    Digits(u8, u16),
}

impl Indexing {
    /// For a text of about `size` bytes.
    pub fn new(size: usize) -> Self {
        Self::with(size, LONG_STRING, LONG_CONTAINER)
    }

    /// The same, if strings, and arrays and objects, of so many bytes are long.
    pub fn with(size: usize, string: usize, container: usize) -> Self {
        Self {
            indexed: Indexed { text: String::with_capacity(size), ..Indexed::default() },
            at: At::Value,
            open: Vec::new(),
            string: InString::default(),
            number: 0,
            space: None,
            long: (string, container),
        }
    }

    /// About how many bytes of memory it takes.
    pub fn held(&self) -> u64 {
        self.indexed.held()
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// The text is not JSON, whatever follows. [`Indexing::into_text`] has it all the same.
    pub fn push(&mut self, piece: &str) -> Result<(), NotStrict> {
        let base = self.indexed.text.len();
        self.indexed.text.push_str(piece);
        let bytes = piece.as_bytes();
        let mut read = 0;
        while let Some(byte) = bytes.get(read) {
            if let At::String { .. } = self.at
                && self.string.escape == Escape::None
            {
                let rest = bytes.get(read..).unwrap_or_default();
                let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
                let run = rest.iter().position(is_special).unwrap_or(rest.len());
                if run > 0 {
                    self.string.plain()?;
                    read = read.saturating_add(run);
                    continue;
                }
            }
            self.byte(*byte, base.saturating_add(read))?;
            read = read.saturating_add(1);
        }
        if let At::String { .. } = self.at {
            self.unescape_to(self.indexed.text.len());
        }
        Ok(())
    }

    /// The text that has come.
    pub fn into_text(self) -> String {
        self.indexed.text
    }

    /// The text is over.
    ///
    /// # Errors
    /// It is not JSON; it is returned as it came.
    pub fn finish(mut self) -> Result<Indexed, String> {
        let is_number = matches!(self.at, At::Number(number) if number.is_whole()) && self.open.is_empty();
        if self.at != At::End && !is_number {
            return Err(self.indexed.text);
        }
        self.indexed.containers.sort_unstable_by_key(|container| container.start);
        Ok(self.indexed)
    }

    fn byte(&mut self, byte: u8, place: usize) -> Result<(), NotStrict> {
        match self.at {
            At::String { is_name } => return self.in_string(byte, place, is_name),
            At::Number(number) => match number.next(byte) {
                Some(_) if place.saturating_sub(self.number) >= MAX_NUMBER => return Err(NotStrict),
                Some(next) => {
                    self.at = At::Number(next);
                    return Ok(());
                }
                None if !number.is_whole() => return Err(NotStrict),
                None => self.end_value(),
            },
            At::Literal(rest) => {
                let (first, rest) = rest.split_at_checked(1).unwrap_or((rest, ""));
                if first.as_bytes() != [byte] {
                    return Err(NotStrict);
                }
                if rest.is_empty() {
                    self.end_value()
                } else {
                    self.at = At::Literal(rest)
                }
                return Ok(());
            }
            _ => {}
        }
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            self.space.get_or_insert(place);
            return Ok(());
        }
        if let Some(begin) = self.space.take() {
            self.note(begin, place, None);
        }
        match (self.at, byte) {
            (At::Element, b']') | (At::FirstName, b'}') => self.close(byte, place),
            (At::Value | At::Element, _) => self.begin_value(byte, place),
            (At::FirstName | At::Name, b'"') => {
                self.begin_string(place, true);
                Ok(())
            }
            (At::Colon, b':') => {
                self.at = At::Value;
                Ok(())
            }
            (At::Comma, b',') => {
                let is_object = self.open.last().is_some_and(|(_, is_object)| *is_object);
                self.at = if is_object { At::Name } else { At::Value };
                Ok(())
            }
            (At::Comma, b']' | b'}') => self.close(byte, place),
            _ => Err(NotStrict),
        }
    }

    fn begin_value(&mut self, byte: u8, place: usize) -> Result<(), NotStrict> {
        self.at = match byte {
            b'"' => {
                self.begin_string(place, false);
                return Ok(());
            }
            b'[' | b'{' => {
                if self.open.len() >= MAX_DEPTH {
                    return Err(NotStrict);
                }
                self.open.push((place, byte == b'{'));
                if byte == b'{' { At::FirstName } else { At::Element }
            }
            b't' => At::Literal("rue"),
            b'f' => At::Literal("alse"),
            b'n' => At::Literal("ull"),
            _ => {
                self.number = place;
                At::Number(Number::begin(byte).ok_or(NotStrict)?)
            }
        };
        Ok(())
    }

    fn begin_string(&mut self, place: usize, is_name: bool) {
        self.at = At::String { is_name };
        self.string = InString { begin: place, ..InString::default() };
    }

    fn close(&mut self, byte: u8, place: usize) -> Result<(), NotStrict> {
        let (begin, is_object) = self.open.pop().ok_or(NotStrict)?;
        if is_object != (byte == b'}') {
            return Err(NotStrict);
        }
        let end = place.saturating_add(1);
        if end.saturating_sub(begin) >= self.long.1 {
            self.indexed.containers.push(begin..end);
        }
        self.end_value();
        Ok(())
    }

    fn end_value(&mut self) {
        self.at = if self.open.is_empty() { At::End } else { At::Comma };
    }

    /// Notes a string or white space, if it is long.
    fn note(&mut self, begin: usize, end: usize, unescaped: Option<Range<usize>>) {
        if end.saturating_sub(begin) >= self.long.0 {
            self.indexed.long.push(Long { at: begin..end, unescaped });
        }
    }

    fn in_string(&mut self, byte: u8, place: usize, is_name: bool) -> Result<(), NotStrict> {
        let string = &mut self.string;
        match (string.escape, byte) {
            (Escape::None, b'\\') => {
                string.has_escapes = true;
                string.escape = Escape::Begun;
                string.open_escape.get_or_insert(place);
                Ok(())
            }
            (Escape::None, b'"') => {
                string.plain()?;
                self.end_string(place);
                if is_name {
                    self.at = At::Colon
                } else {
                    self.end_value()
                }
                Ok(())
            }
            (Escape::None, _) => Err(NotStrict),
            (Escape::Begun, b'u') => {
                string.escape = Escape::Digits(4, 0);
                Ok(())
            }
            (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                string.plain()?;
                string.end_escape();
                Ok(())
            }
            (Escape::Digits(left, number), byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(NotStrict)?;
                let number = number << 4 | digit as u16;
                match left {
                    1 => string.unit(number),
                    _ => {
                        string.escape = Escape::Digits(left.saturating_sub(1), number);
                        Ok(())
                    }
                }
            }
            (Escape::Begun, _) => Err(NotStrict),
        }
    }

    fn end_string(&mut self, place: usize) {
        let begin = self.string.begin;
        self.unescape_to(place);
        let unescaped = self.string.unescaped.take().map(|(begin, _)| begin..self.indexed.unescaped.len());
        self.note(begin, place.saturating_add(1), unescaped);
    }

    /// Unescapes the string up to `end`, if it is long so far and has escapes, so that no step unescapes all of it.
    fn unescape_to(&mut self, end: usize) {
        let string = &mut self.string;
        // With the quote that is to come.
        let length = end.saturating_sub(string.begin).saturating_add(1);
        if !string.has_escapes || length < self.long.0 {
            return;
        }
        let end = string.open_escape.unwrap_or(end);
        let Indexed { text, unescaped, .. } = &mut self.indexed;
        let begin = (unescaped.len(), string.begin.saturating_add(1));
        let (_, from) = string.unescaped.get_or_insert(begin);
        unescape(text.get(*from..end).unwrap_or_default(), unescaped);
        *from = end;
    }
}

impl InString {
    /// Something comes that is no second half of a pair.
    const fn plain(&self) -> Result<(), NotStrict> {
        if self.is_half { Err(NotStrict) } else { Ok(()) }
    }

    const fn end_escape(&mut self) {
        self.escape = Escape::None;
        self.open_escape = None;
    }

    /// An escape has written a unit of UTF-16.
    fn unit(&mut self, unit: u16) -> Result<(), NotStrict> {
        let is_low = (0xDC00..0xE000).contains(&unit);
        if is_low != self.is_half {
            return Err(NotStrict);
        }
        self.is_half = (0xD800..0xDC00).contains(&unit);
        if self.is_half {
            self.escape = Escape::None;
        } else {
            self.end_escape();
        }
        Ok(())
    }
}
