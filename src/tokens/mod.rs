//! Counting tokens: the one interface to the tokenizer.
//!
//! [`Vocabularies`] are made ready when the filter is configured, so that no request waits for them; a [`Counter`]
//! counts one model's text; [`Running`] counts text that arrives bit by bit. What a chat message costs beyond its
//! text is [`crate::request`]'s business. Special tokens (`<|endoftext|>`) in a text are ordinary text: no client
//! can write one.

mod claude;
mod encoding;
mod running;
mod slices;
#[cfg(test)]
pub(crate) mod testing;

pub use claude::Claude;
pub use encoding::{Counting, Encoding, Encodings, Factor, without_provider};
pub use running::Running;
pub use slices::SLICE_BYTES;

use std::fmt;
use tiktoken_rs::CoreBPE;

/// Vocabularies that are ready. They belong to the process, not to this value: it is a list of references.
#[derive(Clone)]
pub struct Vocabularies {
    /// At least one: see [`Vocabularies::load`].
    first: (Encoding, &'static CoreBPE),
    others: Vec<(Encoding, &'static CoreBPE)>,
}

impl Vocabularies {
    /// Makes `encodings` ready; none is `o200k_base`. Blocks for about a quarter of a second and takes some 23 MiB
    /// for `o200k_base`, half of both for `cl100k_base`, a quarter for the others; nothing if they are ready.
    pub fn load(encodings: &[Encoding]) -> Self {
        let load = |encoding: Encoding| (encoding, vocabulary(encoding));
        let (first, others) = encodings.split_first().unwrap_or((&Encoding::O200kBase, &[]));
        Self { first: load(*first), others: others.iter().copied().map(load).collect() }
    }

    /// What counts text as `counting` says. An encoding that is not ready is replaced by the first that is: counts
    /// differ by some per cent then, and no request waits for a vocabulary.
    pub fn counter(&self, counting: Counting) -> Counter {
        let found = self.others.iter().find(|(encoding, _)| *encoding == counting.encoding);
        let (_, vocabulary) = found.filter(|_| self.first.0 != counting.encoding).unwrap_or(&self.first);
        Counter { vocabulary, factor: counting.factor }
    }

    /// Tokens of `text` in `encoding`, or what [`Vocabularies::counter`] replaces it by.
    pub fn count(&self, encoding: Encoding, text: &str) -> u64 {
        self.counter(Counting { encoding, factor: Factor::ONE }).count(text)
    }
}

impl fmt::Debug for Vocabularies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&self.first.0).entries(self.others.iter().map(|(encoding, _)| encoding)).finish()
    }
}

/// The tokenizers of all models.
#[derive(Clone, Debug)]
pub struct Tokenizers {
    encodings: Encodings,
    vocabularies: Vocabularies,
}

impl Tokenizers {
    /// Makes ready what `encodings` can need. Blocks as [`Vocabularies::load`] does.
    pub fn load(encodings: Encodings) -> Self {
        Self { vocabularies: Vocabularies::load(&encodings.needed()), encodings }
    }

    /// What counts the text of `model`; none is a request that names no model.
    pub fn counter(&self, model: Option<&str>) -> Counter {
        self.vocabularies.counter(self.encodings.of(model))
    }
}

fn vocabulary(encoding: Encoding) -> &'static CoreBPE {
    match encoding {
        Encoding::O200kBase => tiktoken_rs::o200k_base_singleton(),
        Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        Encoding::P50kBase => tiktoken_rs::p50k_base_singleton(),
        Encoding::R50kBase => tiktoken_rs::r50k_base_singleton(),
    }
}

/// Counts one model's text. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Counter {
    vocabulary: &'static CoreBPE,
    factor: Factor,
}

impl Counter {
    /// Tokens of `text`, the model's factor not applied. Takes time in proportion to the text and memory in
    /// proportion to [`SLICE_BYTES`], whatever the text.
    pub fn count(&self, text: &str) -> u64 {
        slices::slices(text).map(|slice| self.vocabulary.count_ordinary(slice) as u64).sum()
    }

    /// `tokens` corrected by the model's factor: once, over a whole prompt or answer.
    pub fn weigh(&self, tokens: u64) -> u64 {
        self.factor.of(tokens)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("factor", &self.factor).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static ALL: LazyLock<Vocabularies> = LazyLock::new(|| Vocabularies::load(&Encoding::ALL));

    #[test]
    fn special_tokens_are_ordinary_text() {
        assert_eq!(ALL.count(Encoding::O200kBase, "<|endoftext|>"), 7);
    }

    #[test]
    fn an_encoding_that_is_not_ready_is_replaced() {
        let only = Vocabularies::load(&[Encoding::Cl100kBase]);
        let text = "お誕生日おめでとう";
        assert_eq!(only.count(Encoding::O200kBase, text), 9);
        assert_eq!(ALL.count(Encoding::O200kBase, text), 8);
        assert_eq!(Vocabularies::load(&[]).count(Encoding::R50kBase, text), 8);
    }

    /// Texts that made a tokenizer overflow its stack, take minutes or fill the memory. Those that plain tiktoken-rs
    /// survives are counted by it too, and by how much the hard cuts may move the count.
    #[test]
    fn hostile_texts_are_counted() {
        let spaces = " ".repeat(1_000_000);
        for (text, plain_survives) in [
            (spaces.clone(), false),
            (format!("{spaces}x"), false),
            ("\u{A0}".repeat(1_000_000) + "x", false),
            (" \u{3000}\u{A0}\u{2028}".repeat(15_000), true),
            ("\n".repeat(60_000), true),
            ("\r\n".repeat(40_000), true),
            ("a".repeat(60_000), true),
            ("A".repeat(60_000), true),
            ("!".repeat(60_000), true),
            ("7".repeat(60_000), true),
            ("字".repeat(25_000), true),
            ("e\u{301}\u{301}".repeat(30_000), true),
            ("\u{301}".repeat(40_000), true),
            ("x'\u{17F}".repeat(15_000), true),
            ("'".repeat(60_000), true),
            ("👩‍👩‍👧".repeat(8_000), true),
            ("\0".repeat(60_000), true),
        ] {
            let cuts = (text.len() / slices::SLICE_BYTES) as u64 + 1;
            for (encoding, plain) in testing::plain() {
                let count = ALL.count(encoding, &text);
                assert!(count >= text.len().div_ceil(128) as u64);
                if plain_survives {
                    let expected = plain.count_ordinary(&text) as u64;
                    let start: String = text.chars().take(6).collect();
                    assert!(
                        count.abs_diff(expected) <= 2 * cuts,
                        "{encoding:?} {start:?} {count} {expected}"
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn long_texts_count_as_plain_tiktoken_does(parts in prop::collection::vec(testing::text(), 1..40)) {
            // A text that is far longer than a slice and has word ends everywhere.
            let text = format!("{} word. ", parts.join(" ")).repeat(150_000 / (parts.len() * 20));
            for (encoding, plain) in testing::plain() {
                prop_assert_eq!(ALL.count(encoding, &text), plain.count_ordinary(&text) as u64, "{:?}", encoding);
            }
        }
    }
}
