//! Counting tokens: the one interface to the tokenizer.
//!
//! A [`Tokenizer`] counts one model's text; a [`Meter`] a prompt, until it is more than matters; [`Running`] counts text that arrives bit by bit. What a chat message costs
//! beyond its text is [`crate::request`]'s business. Special tokens (`<|endoftext|>`) in a text are ordinary text: no
//! client can write one. The tokenizers themselves are a crate of their own, `token-count`.

mod claude;
mod encoding;
mod meter;
mod running;
mod slices;

pub use claude::Claude;
pub use encoding::{Counting, Encoding, Encodings, Factor, without_provider};
pub use meter::Meter;
pub use running::Running;
pub use slices::SLICE_BYTES;

/// Counts one model's text. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer {
    vocabulary: &'static token_count::Encoding,
    factor: Factor,
}

impl Tokenizer {
    /// What counts text as `counting` says.
    pub const fn new(counting: Counting) -> Self {
        Self { vocabulary: counting.encoding.vocabulary(), factor: counting.factor }
    }

    /// Tokens of `text`, the model's factor not applied. Takes time in proportion to the text and memory in
    /// proportion to [`SLICE_BYTES`], whatever the text.
    pub fn count(&self, text: &str) -> u64 {
        slices::slices(text).map(|slice| self.vocabulary.count(slice)).sum()
    }

    /// `tokens` corrected by the model's factor: once, over a whole prompt or answer.
    pub fn weigh(&self, tokens: u64) -> u64 {
        self.factor.of(tokens)
    }
}

#[cfg(test)]
mod tests;
