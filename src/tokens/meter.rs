//! Counts the texts of one prompt, until it has counted enough.
//!
//! A prompt that is larger than a limit is refused, however much larger it is. Yet a body may have thirty megabytes of
//! text, and counting all of them would keep a worker from its other requests. So counting stops once the prompt is
//! known to be refused, and beyond [`MAX_COUNTED`] bytes a token is a byte, which it never has less of.

use super::weights::{Hundredths, WHOLE};
use super::{Tokenizer, slices};
use std::cell::Cell;
use std::fmt;

/// The bytes of a prompt's text that are counted, at most: 8 MiB, about two million tokens of English. No model takes
/// more than that for a prompt, but for a few.
pub const MAX_COUNTED: u64 = 8 << 20;

/// The tokens of one prompt's texts so far.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    tokenizer: Tokenizer,
    /// Hundredths of tokens of all texts so far, each with its weight, before the model's factor is applied.
    counted: u64,
    /// The bytes that they have.
    bytes: u64,
    has_stopped: bool,
}

impl Count {
    /// Nothing is counted yet.
    pub const fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, counted: 0, bytes: 0, has_stopped: false }
    }

    /// Counts the beginning of `text`, at most [`SLICE_BYTES`](super::SLICE_BYTES) of it, or all of it where a token is
    /// a byte. Returns how many bytes that were, and their tokens, without their `weight`. `is_enough` of the tokens so
    /// far, with their weights and the model's factor applied, ends the count.
    pub fn slice(&mut self, text: &str, weight: Hundredths, is_enough: impl Fn(u64) -> bool) -> (usize, u64) {
        let (read, tokens) = if self.bytes < MAX_COUNTED {
            let slice = slices::first(text);
            (slice.len(), self.tokenizer.count(slice))
        } else {
            (text.len(), text.len() as u64)
        };
        self.bytes = self.bytes.saturating_add(read as u64);
        self.counted = self.counted.saturating_add(tokens.saturating_mul(weight.into()));
        self.has_stopped = is_enough(self.tokenizer.weigh(self.counted / u64::from(WHOLE)));
        (read, tokens)
    }

    /// The tokenizer that counts.
    pub const fn tokenizer(&self) -> Tokenizer {
        self.tokenizer
    }

    /// Whether counting has stopped, so that some text may not have been counted.
    pub const fn has_stopped(&self) -> bool {
        self.has_stopped
    }
}

/// Counts one prompt.
pub struct Meter<'a> {
    tokenizer: Tokenizer,
    count: Cell<Count>,
    is_enough: &'a dyn Fn(u64) -> bool,
}

impl<'a> Meter<'a> {
    /// Counts with `tokenizer` until `is_enough` is true of the tokens so far, with the model's factor applied. Calls
    /// it after every text, and after every [`SLICE_BYTES`](super::SLICE_BYTES) of a long one.
    pub const fn new(tokenizer: Tokenizer, is_enough: &'a dyn Fn(u64) -> bool) -> Self {
        Self { tokenizer, count: Cell::new(Count::new(tokenizer)), is_enough }
    }

    /// Counts every text to its end.
    pub const fn unlimited(tokenizer: Tokenizer) -> Self {
        Self::new(tokenizer, &|_| false)
    }

    /// The tokenizer that counts.
    pub const fn tokenizer(&self) -> Tokenizer {
        self.tokenizer
    }

    /// Tokens of the counted part of `text`, before the model's factor is applied.
    pub fn count(&self, text: &str) -> u64 {
        self.count_weighed(text, WHOLE)
    }

    /// The same of a text that counts with `weight` towards what is enough.
    pub fn count_weighed(&self, text: &str, weight: Hundredths) -> u64 {
        let (mut count, mut rest, mut tokens) = (self.count.get(), text, 0);
        while !rest.is_empty() && !count.has_stopped() {
            let (read, counted) = count.slice(rest, weight, self.is_enough);
            tokens += counted;
            rest = rest.get(read..).unwrap_or_default();
        }
        self.count.set(count);
        tokens
    }

    /// Whether counting has stopped, so that some text may not have been counted.
    pub fn has_stopped(&self) -> bool {
        self.count.get().has_stopped()
    }
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Counting, Encoding, Factor};

    fn tokenizer(factor: f64) -> Tokenizer {
        let factor = Factor::new(factor).unwrap();
        Tokenizer::new(Counting { encoding: Encoding::O200kBase, factor })
    }

    #[test]
    fn it_stops_when_it_has_counted_enough() {
        let seen = Cell::new(0);
        let is_enough = |tokens| {
            seen.set(tokens);
            tokens > 5
        };
        let meter = Meter::new(tokenizer(2.0), &is_enough);
        assert_eq!((meter.count("hello world"), meter.has_stopped(), seen.get()), (2, false, 4));
        assert_eq!((meter.count(" again"), meter.has_stopped(), seen.get()), (1, true, 6));
        assert_eq!((meter.count("and again"), seen.get()), (0, 6), "nothing more is counted");
    }

    #[test]
    fn a_long_text_is_not_counted_to_its_end() {
        let text = "many words ".repeat(1 << 20);
        let meter = Meter::new(tokenizer(1.0), &|tokens| tokens > 1_000);
        let counted = meter.count(&text);
        assert!(counted > 1_000 && counted <= slices::SLICE_BYTES as u64, "{counted}");
        let text = text.split_at(6 << 20).0;
        assert_eq!(Meter::unlimited(tokenizer(1.0)).count(text), tokenizer(1.0).count(text));
    }

    #[test]
    fn beyond_what_is_counted_a_token_is_a_byte() {
        let words = "many words ".repeat(MAX_COUNTED as usize / 11 + 10_000);
        let meter = Meter::unlimited(tokenizer(1.0));
        let all = meter.count(&words);
        // Slices end between two words, so that the count ends a slice late at the most.
        let bytes = |tokens: u64| tokens * 11 / 2;
        let exact = words.len() as u64 - MAX_COUNTED;
        assert!(all > tokenizer(1.0).count(&words), "{all}");
        assert!(all <= MAX_COUNTED * 2 / 11 + exact + 2 && bytes(all) > words.len() as u64);
        assert_eq!(meter.count("many words "), 11);
    }
}
