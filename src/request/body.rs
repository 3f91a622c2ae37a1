//! The body of a request, before anything in it is read.

use crate::codec::indexed::{Indexing, MAX_DEPTH, MAX_NUMBER};
use crate::codec::loose_json::{self, Rewritten};
use memchr::memmem;
use std::cell::OnceCell;

/// A request's body.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    /// The body as text, if it is UTF-8.
    text: Option<&'a str>,
    rewritten: OnceCell<Rewritten>,
}

impl<'a> Body<'a> {
    /// The body in `bytes`, which are copied only if not every reader reads them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, text: std::str::from_utf8(bytes).ok(), rewritten: OnceCell::new() }
    }

    /// Its length, in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The body as it is, if it may be JSON.
    pub(super) const fn plain(&self) -> Option<&'a str> {
        self.text
    }

    /// The body as JSON that lax readers take for the same.
    pub(super) fn rewritten(&self) -> &Rewritten {
        self.rewritten.get_or_init(|| loose_json::rewrite(self.bytes))
    }

    /// Whether it is one JSON object that every reader reads, if it `is_read` as JSON by one of them.
    pub(super) fn plainness(&self, is_read: bool) -> Plainness<'a> {
        let is_object = self.bytes.trim_ascii_start().first() == Some(&b'{');
        match self.text.filter(|_| is_object) {
            Some(text) if is_read => Plainness::OfJson(text),
            text => Plainness::Known(text.is_some_and(is_strict)),
        }
    }
}

/// Whether a body is one JSON object that every reader reads. Only who changes a body asks, so it is found out then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plainness<'a> {
    Known(bool),
    /// That of this object, which one reader has read.
    OfJson(&'a str),
}

impl Plainness<'_> {
    /// Whether it is.
    pub(super) fn is_plain(self) -> bool {
        match self {
            Self::Known(is_plain) => is_plain,
            Self::OfJson(text) => is_simple(text) || is_strict(text),
        }
    }
}

/// Whether JSON has nothing that some readers do not read: halves of surrogate pairs, deep values and long numbers.
fn is_simple(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_half = |at: usize| matches!(bytes.get(at.saturating_add(2)), Some(b'd' | b'D'));
    // Wherever a long number begins, it goes on to the second of these places behind it.
    let may_be_number =
        |at: usize| matches!(bytes.get(at), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    !memmem::find_iter(bytes, b"\\u").any(is_half)
        && !(MAX_NUMBER / 2..bytes.len()).step_by(MAX_NUMBER / 2).any(may_be_number)
        && !is_deep(bytes)
}

/// Whether JSON has more than [`MAX_DEPTH`] arrays and objects in each other.
fn is_deep(bytes: &[u8]) -> bool {
    let opens = memchr::memchr2_iter(b'{', b'[', bytes).take(MAX_DEPTH.saturating_add(1)).count();
    if opens <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in bytes {
        match (byte, in_string) {
            _ if is_escaped => is_escaped = false,
            (b'\\', true) => is_escaped = true,
            (b'"', _) => in_string = !in_string,
            (b'{' | b'[', false) => {
                depth = depth.saturating_add(1);
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            (b'}' | b']', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn is_strict(text: &str) -> bool {
    let mut indexing = Indexing::new(text.len());
    indexing.push(text).is_ok() && indexing.finish().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_plain_if_every_reader_reads_it() {
        let deep = |levels: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        for (text, expected) in [
            (r#"{"model":"m"}"#.to_owned(), true),
            (r#" {"stop":"\ud83d\ude00 \\ud83d"}"#.to_owned(), true),
            (r#"{"stop":"\ud83d"}"#.to_owned(), false),
            (r#"{"temperature":1e999}"#.to_owned(), true),
            (format!(r#"{{"seed":{}}}"#, "1".repeat(MAX_NUMBER + 1)), false),
            (deep(MAX_DEPTH - 1), true),
            (deep(MAX_DEPTH), false),
            (format!(r#"{{"x":[{}]}}"#, vec!["{}"; 500].join(",")), true),
            (deep(MAX_DEPTH).replace("[]", r#"["]]]]]]]]]]"]"#), false),
            (r#"[{"model":"m"}]"#.to_owned(), false),
            ("{} {}".to_owned(), false),
        ] {
            let body = Body::new(text.as_bytes());
            let is_read = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            assert_eq!(body.plainness(is_read).is_plain(), expected, "{}", text.get(..40).unwrap_or(&text));
        }
    }
}
