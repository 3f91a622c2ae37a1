//! Pieces of `cl100k_base`:
//!
//! ```text
//! '(?i:[sdmt]|ll|ve|re)
//! [^\r\n\p{L}\p{N}]?+\p{L}++
//! \p{N}{1,3}+
//!  ?[^\s\p{L}\p{N}]++[\r\n]*+
//! \s++$
//! \s*[\r\n]
//! \s+(?!\S)
//! \s
//! ```

use super::o200k::number;
use super::{LETTER, PREFIX, SIGN, SPACE, contraction, last_line_end, space};
use crate::class::{LINE_END, NUMBER};
use crate::text::Text;

/// The end of the piece that begins at `at`; `at` at the end of the text.
pub(super) fn end(text: Text<'_>, at: usize) -> usize {
    let Some((class, next)) = text.next(at) else { return at };
    if class & LETTER != 0 {
        return text.skip(LETTER, next);
    }
    if class == NUMBER {
        return number(text, next);
    }
    let end = contraction(text, at);
    if end > at {
        return end;
    }
    if class & PREFIX != 0 {
        let end = text.skip(LETTER, next);
        if end > next {
            return end;
        }
    }
    if class & SIGN != 0
        || text.byte(at) == b' ' && text.next(next).is_some_and(|(class, _)| class & SIGN != 0)
    {
        return text.skip(LINE_END, text.skip(SIGN, next));
    }
    let all = text.skip(SPACE, at);
    match last_line_end(text, at) {
        end if end > at && text.next(all).is_some() => end,
        _ => space(text, at),
    }
}
