//! Pieces of `r50k_base` and `p50k_base`:
//!
//! ```text
//! '(?:[sdmt]|ll|ve|re)
//!  ?\p{L}++
//!  ?\p{N}++
//!  ?[^\s\p{L}\p{N}]++
//! \s++$
//! \s+(?!\S)
//! \s
//! ```

use super::{LETTER, SIGN, SPACE, space};
use crate::class::NUMBER;
use crate::text::Text;

/// The end of the piece that begins at `at`; `at` at the end of the text.
pub(super) fn end(text: Text<'_>, at: usize) -> usize {
    let Some((mut class, mut next)) = text.next(at) else { return at };
    let end = contraction(text, at);
    if end > at {
        return end;
    }
    if text.byte(at) == b' '
        && let Some((second, after)) = text.next(next)
        && second & SPACE == 0
    {
        (class, next) = (second, after);
    }
    match class {
        class if class & LETTER != 0 => text.skip(LETTER, next),
        NUMBER => text.skip(NUMBER, next),
        class if class & SIGN != 0 => text.skip(SIGN, next),
        _ => space(text, at),
    }
}

/// The end of `'(?:[sdmt]|ll|ve|re)` at `at`, or `at` if there is none.
fn contraction(text: Text<'_>, at: usize) -> usize {
    match (text.byte(at), text.byte(at + 1), text.byte(at + 2)) {
        (b'\'', b's' | b'd' | b'm' | b't', _) => at + 2,
        (b'\'', b'l', b'l') | (b'\'', b'v' | b'r', b'e') => at + 3,
        _ => at,
    }
}
