//! Counts tokens in text: the one interface to the tokenizers, which are a crate of their own, `token-count`.
//!
//! A [`Tokenizer`] counts one model's text, a [`Meter`] counts a prompt until it has counted enough, and a [`Running`]
//! count follows a text that arrives piece by piece. Special tokens (`<|endoftext|>`) in a text are ordinary text: no
//! client can write one. [`crate::models`] has the tokenizer of each model, and [`crate::request`] counts what a prompt
//! costs beside its text.

mod encoding;
mod meter;
mod running;
mod slices;

pub use encoding::{Counting, Encoding, Factor};
pub use meter::{Count, MAX_COUNTED, Meter};
pub use running::Running;
pub use slices::SLICE_BYTES;

/// Counts one model's text. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer {
    vocabulary: &'static token_count::Encoding,
    factor: Factor,
}

impl Tokenizer {
    /// A tokenizer that counts text as `counting` describes.
    pub const fn new(counting: Counting) -> Self {
        Self { vocabulary: counting.encoding.vocabulary(), factor: counting.factor }
    }

    /// Tokens of `text`, before the model's factor is applied. The time is proportional to the length of the text, and
    /// the memory to [`SLICE_BYTES`], for any text.
    pub fn count(&self, text: &str) -> u64 {
        slices::slices(text).map(|slice| self.vocabulary.count(slice)).sum()
    }

    /// Whether both count the same tokens before their factors are applied.
    pub fn has_vocabulary_of(&self, other: &Self) -> bool {
        std::ptr::eq(self.vocabulary, other.vocabulary)
    }

    /// `tokens` corrected by the model's factor: applied once, to a whole prompt or answer.
    pub fn weigh(&self, tokens: u64) -> u64 {
        self.factor.of(tokens)
    }
}

#[cfg(test)]
mod tests;
