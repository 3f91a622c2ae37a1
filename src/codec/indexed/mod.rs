//! JSON texts that are too large to be read at once: read in steps, each of bounded work.
//!
//! The text comes in pieces. [`Indexing`] checks each piece when it comes, and notes where the long values begin and
//! end. [`Walk`] then goes through the text as serde does, and passes over a long value in no time: a long string is
//! given as it is in the text, or as it was unescaped piece by piece. What remains between the long values is read in
//! as many steps as its reader likes, because a walk can stop between any two elements of an array.
//!
//! What is read here is JSON, as serde_json takes it. [`loose_json`](super::loose_json) makes JSON of everything else.

mod escape;
mod number;
mod scan;
mod walk;

pub use scan::{Indexing, NotStrict};
pub use walk::{Elements, One, TooMuch, Walk};

use std::ops::Range;

/// The length in bytes from which a string, or white space, is long.
pub const LONG_STRING: usize = 1024;

/// The length in bytes from which an array or object is long. They may be in each other, so that there may be many.
pub const LONG_CONTAINER: usize = 32 * 1024;

/// The most bytes of a number. No reader takes a longer one.
pub const MAX_NUMBER: usize = 64 * 1024;

/// The most arrays and objects in each other.
pub const MAX_DEPTH: usize = super::loose_json::MAX_DEPTH;

/// A long string, or long white space.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Long {
    /// Its bytes, with the quotes.
    at: Range<usize>,
    /// Where its text without escapes is, if it is a string that has some.
    unescaped: Option<Range<usize>>,
}

/// A JSON text, with the places of its long values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    text: String,
    /// Long strings and white space, in their order.
    long: Vec<Long>,
    /// Long arrays and objects, in the order in which they begin.
    containers: Vec<Range<usize>>,
    /// The texts of long strings that have escapes, one after the other.
    unescaped: String,
}

/// Where in an [`Indexed`] text, or beside it, a string is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the text.
    In(Range<usize>),
    /// Among the texts of long strings that have escapes.
    Unescaped(Range<usize>),
}

impl Indexed {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// About how many bytes of memory it takes.
    pub fn held(&self) -> u64 {
        let places = (self.long.capacity().saturating_add(self.containers.capacity())) * size_of::<Long>();
        self.text.capacity().saturating_add(self.unescaped.capacity()).saturating_add(places) as u64
    }

    /// Where `part` is, if a [`Walk`] has given it without copying it.
    pub fn find(&self, part: &str) -> Option<Found> {
        let within = |whole: &str| {
            let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
            let end = start.checked_add(part.len())?;
            (end <= whole.len()).then_some(start..end)
        };
        within(&self.text).map(Found::In).or_else(|| within(&self.unescaped).map(Found::Unescaped))
    }

    /// What [`Indexed::find`] has found.
    pub fn get(&self, found: &Found) -> &str {
        let part = match found {
            Found::In(range) => self.text.get(range.clone()),
            Found::Unescaped(range) => self.unescaped.get(range.clone()),
        };
        part.unwrap_or_default()
    }

    /// Whether that is a value as it is written, and not the inside of a string.
    pub fn is_json(&self, found: &Found) -> bool {
        let Found::In(range) = found else { return false };
        let before = range.start.checked_sub(1).and_then(|at| self.text.as_bytes().get(at));
        before != Some(&b'"')
    }
}

#[cfg(test)]
mod tests;
