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
    pub(super) fn is_plain(&self, is_read: bool) -> bool {
        let is_object = self.bytes.trim_ascii_start().first() == Some(&b'{');
        is_object
            && self.text.is_some_and(|text| if is_read && is_simple(text) { true } else { is_strict(text) })
    }
}

/// Whether JSON has nothing that some readers do not read: halves of surrogate pairs, deep values and long numbers.
fn is_simple(text: &str) -> bool {
    let brackets =
        memchr::memchr2_iter(b'}', b']', text.as_bytes()).take(MAX_DEPTH.saturating_add(1)).count();
    text.len() <= MAX_NUMBER
        && brackets <= MAX_DEPTH
        && ["\\ud", "\\uD"].iter().all(|half| memmem::find(text.as_bytes(), half.as_bytes()).is_none())
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
            (r#"[{"model":"m"}]"#.to_owned(), false),
            ("{} {}".to_owned(), false),
        ] {
            let body = Body::new(text.as_bytes());
            let is_read = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            assert_eq!(body.is_plain(is_read), expected, "{}", text.get(..40).unwrap_or(&text));
        }
    }
}
