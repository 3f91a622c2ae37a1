//! The inside of a string: what its characters and escapes stand for.

use super::writer::Writer;

/// A string that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    /// The quote that ends it.
    quote: char,
    escape: Escape,
    /// The first half of a surrogate pair that an escape wrote.
    high: Option<u16>,
}

/// Where in an escape the next character is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    /// Behind the backslash.
    Begun,
    /// Digits are to come, so many, after a number.
    Digits(u8, u16),
}

/// What a piece of text has done to a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Within,
    Ended,
    /// No reader reads this escape.
    Malformed,
}

impl Reading {
    pub(super) const fn new(quote: char) -> Self {
        Self { quote, escape: Escape::None, high: None }
    }

    /// Reads the next part of the string from `text`. Returns the number of bytes that were read.
    pub(super) fn read(&mut self, text: &str, writer: &mut Writer) -> (usize, Progress) {
        if self.escape == Escape::None {
            let ends = |byte: u8| byte == b'\\' || char::from(byte) == self.quote;
            let run = text.bytes().position(ends).unwrap_or(text.len());
            if run > 0 {
                self.end_pair(writer);
                writer.text(text.get(..run).unwrap_or_default());
                return (run, Progress::Within);
            }
        }
        let Some(c) = text.chars().next() else { return (0, Progress::Within) };
        (c.len_utf8(), self.read_one(c, writer))
    }

    fn read_one(&mut self, c: char, writer: &mut Writer) -> Progress {
        match self.escape {
            Escape::None if c == '\\' => self.escape = Escape::Begun,
            // Only a quote is left.
            Escape::None => {
                self.end_pair(writer);
                return Progress::Ended;
            }
            Escape::Begun => self.begin_escape(c, writer),
            Escape::Digits(left, number) => {
                let Some(digit) = c.to_digit(16) else { return Progress::Malformed };
                let number = number << 4 | digit as u16;
                match left {
                    1 => self.end_escape(number, writer),
                    _ => self.escape = Escape::Digits(left.saturating_sub(1), number),
                }
            }
        }
        Progress::Within
    }

    fn begin_escape(&mut self, c: char, writer: &mut Writer) {
        self.escape = match c {
            'u' => Escape::Digits(4, 0),
            // JSON5 reads `\x6d` as m. Jackson, told to take any escape, reads x6d.
            'x' => Escape::Digits(2, 0),
            _ => Escape::None,
        };
        let mut buffer = [0; 4];
        let text = match c {
            'u' | 'x' => return,
            'b' => "\u{8}",
            'f' => "\u{C}",
            'n' => "\n",
            'r' => "\r",
            't' => "\t",
            'v' => "\u{B}",
            '0' => "\0",
            // A line that goes on.
            '\n' => "",
            other => other.encode_utf8(&mut buffer),
        };
        self.end_pair(writer);
        writer.text(text);
    }

    fn end_escape(&mut self, unit: u16, writer: &mut Writer) {
        self.escape = Escape::None;
        let is_low = (0xDC00..0xE000).contains(&unit);
        if !is_low {
            self.end_pair(writer);
        }
        if (0xD800..0xDC00).contains(&unit) {
            self.high = Some(unit);
            return;
        }
        let units = self.high.take().into_iter().chain([unit]);
        for c in char::decode_utf16(units) {
            writer.text(c.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut [0; 4]));
        }
    }

    /// No second half follows a first one.
    fn end_pair(&mut self, writer: &mut Writer) {
        if self.high.take().is_some() {
            writer.text("\u{FFFD}");
        }
    }
}
