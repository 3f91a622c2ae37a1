//! Pieces of `o200k_base`:
//!
//! ```text
//! [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! \p{N}{1,3}
//!  ?[^\s\p{L}\p{N}]+[\r\n/]*
//! \s*[\r\n]+
//! \s+(?!\S)
//! \s+
//! ```

use super::{LETTER, PREFIX, SIGN, contraction, last_line_end, space};
use crate::class::{CASELESS, LOWER, MARK, NUMBER, OTHER, UPPER};
use crate::text::Text;

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
const BEGINS: u8 = UPPER | CASELESS | MARK;

/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
const ENDS: u8 = LOWER | CASELESS | MARK;

/// The end of the piece that begins at `at`; `at` at the end of the text.
pub(super) fn end(text: Text<'_>, at: usize) -> usize {
    let Some((class, next)) = text.next(at) else { return at };
    if class & LETTER != 0 {
        return word(text, at).unwrap_or(next);
    }
    if class == NUMBER {
        return number(text, next);
    }
    if class & PREFIX != 0 {
        // A mark may precede a word or be a part of it.
        let end = word(text, next).or_else(|| if class == MARK { word(text, at) } else { None });
        if let Some(end) = end {
            return end;
        }
    }
    if class == OTHER || text.byte(at) == b' ' && text.next(next).is_some_and(|(class, _)| class & SIGN != 0)
    {
        return line_ends(text, text.skip(SIGN, next));
    }
    match last_line_end(text, at) {
        end if end > at => end,
        _ => space(text, at),
    }
}

/// The end of a word at `at`, without the character that may precede it, by the first alternative or the second.
fn word(text: Text<'_>, at: usize) -> Option<usize> {
    // All that may begin a word is taken at first, and given back as far as something must be left that may end it.
    let (mut begun, mut may_end) = (at, None);
    let end = loop {
        match text.next(begun) {
            Some((class, next)) if class & BEGINS != 0 => {
                begun = next;
                if class & ENDS != 0 {
                    may_end = Some(next);
                }
            }
            Some((class, next)) if class & ENDS != 0 => break text.skip(ENDS, next),
            _ => break may_end.unwrap_or(begun),
        }
    };
    (end > at).then(|| contraction(text, end))
}

/// The end of a number of at most three digits, of which the first ends at `at`.
pub(super) fn number(text: Text<'_>, mut at: usize) -> usize {
    for _ in 0..2 {
        match text.next(at) {
            Some((NUMBER, next)) => at = next,
            _ => break,
        }
    }
    at
}

/// The end of `[\r\n/]*` at `at`.
fn line_ends(text: Text<'_>, mut at: usize) -> usize {
    while matches!(text.byte(at), b'\r' | b'\n' | b'/') {
        at += 1;
    }
    at
}
