//! The body of a request, before anything in it is read.

use crate::codec::loose_json::{self, Rewritten};
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

    /// Whether it begins as an object does.
    pub(super) fn is_object(&self) -> bool {
        self.bytes.trim_ascii_start().first() == Some(&b'{')
    }
}
