//! Counts a text that arrives piece by piece, such as a streamed answer, in bounded memory.
//!
//! It counts as late as possible: most streams report their usage at the end, and then nothing needs counting.

use super::{Tokenizer, slices};

/// The length of waiting text, in bytes, that is counted up to its last word end: about 4,000 tokens of English.
const COUNT_FROM: usize = 16 * 1024;

/// The tokens of a growing text. They equal those of the whole text, except where it has no word end in
/// [`SLICE_BYTES`](super::SLICE_BYTES).
#[derive(Clone, Debug, Default)]
pub struct Running {
    counted: u64,
    waiting: String,
    /// The bytes of `waiting` that are known to have no word end.
    searched: usize,
}

impl Running {
    /// Adds text.
    pub fn push(&mut self, text: &str, tokenizer: &Tokenizer) {
        // A slice at a time, so that a large text is not copied whole.
        for slice in slices::slices(text) {
            self.waiting.push_str(slice);
            if self.waiting.len() >= COUNT_FROM {
                self.count_words(tokenizer);
            }
        }
    }

    /// Tokens of all text so far, before the model's factor is applied.
    pub fn total(&self, tokenizer: &Tokenizer) -> u64 {
        self.counted + tokenizer.count(&self.waiting)
    }

    /// An estimate of [`Running::total`] without counting: one token for four bytes of waiting text.
    pub const fn estimate(&self) -> u64 {
        self.counted + (self.waiting.len() as u64).div_ceil(4)
    }

    /// Whether no text has arrived.
    pub fn is_empty(&self) -> bool {
        self.counted == 0 && self.waiting.is_empty()
    }

    fn count_words(&mut self, tokenizer: &Tokenizer) {
        // The first new character may end the word of the last one that was searched.
        let from = (0..self.searched).rev().find(|at| self.waiting.is_char_boundary(*at)).unwrap_or(0);
        let found = self.waiting.get(from..).and_then(slices::last_piece_end).map(|at| at + from);
        let cut = match found {
            Some(cut) => cut,
            None if self.waiting.len() >= slices::SLICE_BYTES => self.waiting.len(),
            None => {
                self.searched = self.waiting.len();
                return;
            }
        };
        let rest = self.waiting.split_off(cut);
        self.counted += tokenizer.count(&self.waiting);
        self.waiting = rest;
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::texts;
    use crate::tokens::{Counting, Encoding, Factor};
    use proptest::prelude::*;

    fn tokenizer() -> Tokenizer {
        let counting = Counting { encoding: Encoding::O200kBase, factor: Factor::ONE };
        Tokenizer::new(counting)
    }

    #[test]
    fn memory_is_bounded_without_word_ends() {
        let mut running = Running::default();
        for _ in 0..50_000 {
            running.push("aaaaaaaa", &tokenizer());
            assert!(running.waiting.len() <= slices::SLICE_BYTES);
        }
        assert_eq!(running.total(&tokenizer()), tokenizer().count(&"a".repeat(400_000)));
    }

    #[test]
    fn a_word_end_between_two_pushes_is_found() {
        let mut running = Running::default();
        let unbroken = "é".repeat(COUNT_FROM) + "a";
        running.push(&unbroken, &tokenizer());
        assert_eq!(running.waiting, unbroken);
        running.push(" é", &tokenizer());
        assert_eq!(running.waiting, " é");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_growing_text_counts_as_the_whole(
            parts in prop::collection::vec(texts::text(), 5..60),
            times in 1_usize..30,
        ) {
            let tokenizer = tokenizer();
            let mut running = Running::default();
            let mut whole = String::new();
            for part in parts.iter().cycle().take(parts.len() * times) {
                for text in [part.as_str(), " word "] {
                    running.push(text, &tokenizer);
                    whole.push_str(text);
                }
            }
            prop_assert_eq!(running.total(&tokenizer), tokenizer.count(&whole));
            // A token has at least one byte.
            prop_assert!(running.estimate().abs_diff(running.total(&tokenizer)) <= COUNT_FROM as u64 + 100);
        }
    }
}
