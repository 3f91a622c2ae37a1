//! Counts the texts of one prompt, until it has counted enough.
//!
//! A prompt that is larger than a limit is refused, however much larger it is. Yet a body may have thirty megabytes of
//! text, and counting all of them would keep a worker from its other requests.

use super::{Tokenizer, slices};
use std::cell::Cell;
use std::fmt;

/// Counts one prompt.
pub struct Meter<'a> {
    tokenizer: Tokenizer,
    is_enough: &'a dyn Fn(u64) -> bool,
    /// Tokens of all texts so far, before the model's factor is applied.
    counted: Cell<u64>,
    has_stopped: Cell<bool>,
}

impl<'a> Meter<'a> {
    /// Counts with `tokenizer` until `is_enough` is true of the tokens so far, with the model's factor applied. Calls
    /// it after every text, and after every [`SLICE_BYTES`](super::SLICE_BYTES) of a long one.
    pub const fn new(tokenizer: Tokenizer, is_enough: &'a dyn Fn(u64) -> bool) -> Self {
        Self { tokenizer, is_enough, counted: Cell::new(0), has_stopped: Cell::new(false) }
    }

    /// Counts every text to its end.
    pub const fn unlimited(tokenizer: Tokenizer) -> Self {
        Self::new(tokenizer, &|_| false)
    }

    /// Tokens of the counted part of `text`, before the model's factor is applied.
    pub fn count(&self, text: &str) -> u64 {
        let mut tokens = 0;
        for slice in slices::slices(text) {
            if self.has_stopped.get() {
                break;
            }
            let counted = self.tokenizer.count(slice);
            tokens += counted;
            self.counted.set(self.counted.get() + counted);
            self.has_stopped.set((self.is_enough)(self.weigh(self.counted.get())));
        }
        tokens
    }

    /// `tokens` corrected by the model's factor: applied once, to a whole prompt.
    pub fn weigh(&self, tokens: u64) -> u64 {
        self.tokenizer.weigh(tokens)
    }

    /// Whether counting has stopped, so that some text may not have been counted.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.get()
    }
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokenizer, is_enough: _, counted, has_stopped } = self;
        f.debug_struct("Meter")
            .field("tokenizer", tokenizer)
            .field("counted", counted)
            .field("has_stopped", has_stopped)
            .finish_non_exhaustive()
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
        assert_eq!(Meter::unlimited(tokenizer(1.0)).count(&text), tokenizer(1.0).count(&text));
    }
}
