//! Cuts long texts where a cut changes no count. So counting needs bounded memory and can stop early, and text that
//! arrives piece by piece can be counted up to the last place after which the rest changes nothing.
//!
//! An encoding first splits a text by a regular expression into pieces and then encodes each piece by itself
//! (`token-count/src/pieces` has the expressions). A cut changes nothing if a piece ends there, and if the pieces
//! before it stay the same when the text ends there. In all four encodings, both hold between a letter or digit and a
//! space, line end or punctuation mark other than an apostrophe:
//!
//! - In every expression, a letter or digit is followed within its piece only by a letter, a digit, a combining mark,
//!   or the apostrophe of a contraction (`'s`, with U+017F for its `s`: still after an apostrophe). So a piece ends
//!   at the cut.
//! - Only `$` and `(?!\S)`, after white space, look past a piece's end, and white space before the cut is followed
//!   by the letter or digit at the latest. Greedy runs stop at the cut, before the text's end as before the mark.
//! - No expression looks behind, so the text after the cut is split like a text of its own.
//!
//! If a text has no such place within [`SLICE_BYTES`], it is cut between two characters. That changes the count by
//! about one token for each cut. Texts without a word end in 48 KiB are mostly runs of one character.

/// The longest slice, in bytes: 48 KiB.
///
/// A piece of that length takes half a megabyte to encode, and a VM never returns memory. The length is also a multiple
/// of 3 and of 128. So a run of digits, which form pieces of three, and a run of spaces, which form tokens of at most
/// 128, are cut where they are split anyway.
pub const SLICE_BYTES: usize = 48 * 1024;

/// `text` in slices of at most [`SLICE_BYTES`], in order.
pub fn slices(text: &str) -> impl Iterator<Item = &str> {
    slices_of(text, SLICE_BYTES)
}

/// The first of the [`slices`] of `text`; all of it if it is short.
pub fn first(text: &str) -> &str {
    first_of(text, SLICE_BYTES)
}

fn slices_of(mut text: &str, limit: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let slice = first_of(text, limit);
        text = text.get(slice.len()..)?;
        Some(slice)
    })
}

fn first_of(text: &str, limit: usize) -> &str {
    let cut = if text.len() <= limit { text.len() } else { cut(text, limit) };
    text.get(..cut).unwrap_or(text)
}

/// The place to cut a text that is longer than `limit` bytes: the last place within them that changes nothing, or else
/// the last one between two characters. The slice has at least one character.
fn cut(text: &str, limit: usize) -> usize {
    let hard = (1..=limit).rev().find(|at| text.is_char_boundary(*at));
    let hard = hard.unwrap_or_else(|| text.chars().next().map_or(0, char::len_utf8));
    text.get(..hard).and_then(last_piece_end).unwrap_or(hard)
}

/// The last place in `text` where a cut changes nothing, if it has one.
pub fn last_piece_end(text: &str) -> Option<usize> {
    let mut following = None;
    for (at, c) in text.char_indices().rev() {
        if let Some(cut) = following
            && is_word(c)
        {
            return Some(cut);
        }
        following = is_mark(c).then_some(at);
    }
    None
}

/// Letters and digits, of `\p{L}` and `\p{N}` in every version of Unicode: ASCII, kana, Han, Hangul, Cyrillic.
const fn is_word(c: char) -> bool {
    matches!(c,
        'a'..='z' | 'A'..='Z' | '0'..='9'
        | '\u{410}'..='\u{44F}'
        | '\u{3041}'..='\u{3094}' | '\u{30A1}'..='\u{30FA}'
        | '\u{4E00}'..='\u{9FA5}' | '\u{AC00}'..='\u{D7A3}')
}

/// White space and punctuation of ASCII, except the apostrophe, and of CJK: no piece has them after a letter or digit.
const fn is_mark(c: char) -> bool {
    c.is_ascii_whitespace()
        || (c.is_ascii_punctuation() && c != '\'')
        || matches!(c, '\u{3000}'..='\u{3002}' | '，' | '：' | '；' | '！' | '？')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::texts;
    use proptest::prelude::*;

    #[test]
    fn cuts_after_the_last_word_that_fits() {
        let cut = |text| slices_of(text, 12).collect::<Vec<_>>();
        assert_eq!(cut("one two three four"), ["one two", " three four"]);
        assert_eq!(cut("您好，世界。再见"), ["您好", "，世界", "。再见"]);
        assert_eq!(cut("it's it's it's"), ["it's it's", " it's"]);
        assert_eq!(cut("aaaaaaaaaaaaaaaa!"), ["aaaaaaaaaaaa", "aaaa!"]);
        assert_eq!(cut("éééééééé"), ["éééééé", "éé"]);
    }

    proptest! {
        #[test]
        fn slices_are_short_and_make_up_the_text(
            text in r"(\PC|[a-c '\n\u{17F}\u{301}\u{3000}，字]){0,80}",
            limit in 4_usize..40,
        ) {
            let slices: Vec<_> = slices_of(&text, limit).collect();
            prop_assert!(slices.iter().all(|s| !s.is_empty() && s.len() <= limit));
            prop_assert_eq!(slices.concat(), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]
        #[test]
        fn a_piece_end_changes_no_count(
            (before, after) in (texts::text(), texts::text()),
            word in "[a-cA-C0-9字かカ한д\u{301}é²]",
            mark in "[ \n\r\t!-/:-@\\[-`{-~\u{3000}，。！é]",
        ) {
            let left = format!("{before}{word}{mark}");
            let text = format!("{left}{after}");
            if let Some((first, second)) = last_piece_end(&left).and_then(|cut| text.split_at_checked(cut)) {
                for (encoding, plain) in texts::plain() {
                    let halves = plain.count_ordinary(first) + plain.count_ordinary(second);
                    let whole = plain.count_ordinary(&text);
                    prop_assert_eq!(halves, whole, "{:?} at {} in {:?}", encoding, first.len(), text);
                }
            }
        }
    }
}
