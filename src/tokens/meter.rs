//! Counting the texts of one prompt, until they are more than matters.
//!
//! A prompt that is larger than a limit is refused, however much larger it is; but a body may hold thirty megabytes of
//! text, and whoever sends them must not keep a worker from its other requests for as long as it takes to count them.

use super::{Tokenizer, slices};
use std::cell::Cell;
use std::fmt;

/// Counts one prompt.
pub struct Meter<'a> {
    tokenizer: Tokenizer,
    is_enough: &'a dyn Fn(u64) -> bool,
    /// Of all texts so far, the model's factor not applied.
    counted: Cell<u64>,
    has_stopped: Cell<bool>,
}

impl<'a> Meter<'a> {
    /// Counts with `tokenizer` until `is_enough` says so of the tokens that have been counted, the model's factor applied.
    /// It is asked after every text, and every [`SLICE_BYTES`](super::SLICE_BYTES) of a long one.
    pub const fn new(tokenizer: Tokenizer, is_enough: &'a dyn Fn(u64) -> bool) -> Self {
        Self { tokenizer, is_enough, counted: Cell::new(0), has_stopped: Cell::new(false) }
    }

    /// Counts all that comes.
    pub const fn of_all(tokenizer: Tokenizer) -> Self {
        Self::new(tokenizer, &|_| false)
    }

    /// Tokens of `text`, the model's factor not applied, as far as they were counted.
    pub fn count(&self, text: &str) -> u64 {
        let mut tokens = 0u64;
        for slice in slices::slices(text) {
            if self.has_stopped.get() {
                break;
            }
            let counted = self.tokenizer.count(slice);
            tokens = tokens.saturating_add(counted);
            self.counted.set(self.counted.get().saturating_add(counted));
            self.has_stopped.set((self.is_enough)(self.weigh(self.counted.get())));
        }
        tokens
    }

    /// `tokens` corrected by the model's factor: once, over a whole prompt.
    pub fn weigh(&self, tokens: u64) -> u64 {
        self.tokenizer.weigh(tokens)
    }

    /// Whether something may not have been counted, since what was is enough.
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
    fn it_stops_when_it_is_told_to() {
        let asked = Cell::new(0);
        let is_enough = |tokens| {
            asked.set(tokens);
            tokens > 5
        };
        let meter = Meter::new(tokenizer(2.0), &is_enough);
        assert_eq!((meter.count("hello world"), meter.has_stopped(), asked.get()), (2, false, 4));
        assert_eq!((meter.count(" again"), meter.has_stopped(), asked.get()), (1, true, 6));
        assert_eq!((meter.count("and again"), asked.get()), (0, 6), "nothing is counted any more");
    }

    #[test]
    fn a_long_text_is_not_counted_to_its_end() {
        let text = "many words ".repeat(1 << 20);
        let meter = Meter::new(tokenizer(1.0), &|tokens| tokens > 1_000);
        let counted = meter.count(&text);
        assert!(counted > 1_000 && counted <= slices::SLICE_BYTES as u64, "{counted}");
        assert_eq!(Meter::of_all(tokenizer(1.0)).count(&text), tokenizer(1.0).count(&text));
    }
}
