//! Splitting a text into the pieces that are encoded each by itself.
//!
//! For each encoding a regular expression says what a piece is: the first of its alternatives that matches at the
//! beginning of what is left of the text. They are written out here by hand, alternative by alternative, for what they
//! say of classes of characters is simple, and a regular expression's automaton takes a quarter of a second to make and
//! a stack as deep as the text is long.

mod cl100k;
mod o200k;
mod r50k;

use crate::class::{BLANK, CASELESS, LINE_END, LOWER, MARK, OTHER, UPPER};
use crate::text::Text;

/// `\p{L}`
const LETTER: u8 = UPPER | LOWER | CASELESS;

/// `\s`
const SPACE: u8 = BLANK | LINE_END;

/// `[^\s\p{L}\p{N}]`
const SIGN: u8 = MARK | OTHER;

/// `[^\r\n\p{L}\p{N}]`, which may precede a word.
const PREFIX: u8 = MARK | OTHER | BLANK;

/// An encoding's way of splitting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Splitter {
    O200k,
    Cl100k,
    R50k,
}

impl Splitter {
    /// The pieces of `text`, in order: all of it.
    pub(crate) fn pieces(self, text: &str) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let end = match self {
                Self::O200k => o200k::end(Text(text), at),
                Self::Cl100k => cl100k::end(Text(text), at),
                Self::R50k => r50k::end(Text(text), at),
            };
            let piece = text.as_bytes().get(at..end).filter(|piece| !piece.is_empty())?;
            at = end;
            Some(piece)
        })
    }
}

/// The end of `(?i:'s|'t|'re|'ve|'m|'ll|'d)` at `at`, or `at` if there is none. The long s, U+017F, is an s to an
/// expression that ignores case.
fn contraction(text: Text<'_>, at: usize) -> usize {
    if text.byte(at) != b'\'' {
        return at;
    }
    let letter = |after: usize| text.byte(at + after).to_ascii_lowercase();
    match (letter(1), letter(2)) {
        (b's' | b't' | b'm' | b'd', _) => at + 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => at + 3,
        (0xC5, 0xBF) => at + 3,
        _ => at,
    }
}

/// The end of the white space at `at` up to its last line end; `at` if there is none.
fn last_line_end(text: Text<'_>, at: usize) -> usize {
    let (mut end, mut last) = (at, at);
    while let Some((class, next)) = text.next(end)
        && class & SPACE != 0
    {
        end = next;
        if class == LINE_END {
            last = end;
        }
    }
    last
}

/// The end of `\s+(?!\S)|\s` at `at`, where there is white space: all of it, but for the last character if more text
/// follows, which goes with that. It is a piece if it is alone.
fn space(text: Text<'_>, at: usize) -> usize {
    let (mut end, mut before_last) = (at, at);
    while let Some((class, next)) = text.next(end) {
        if class & SPACE == 0 {
            return if before_last > at { before_last } else { end };
        }
        (before_last, end) = (end, next);
    }
    end
}
