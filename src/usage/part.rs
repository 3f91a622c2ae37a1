//! The text of one part of an answer, as a stream tells it: in increments, as a whole, or both.

use crate::tokens::{Running, Tokenizer};

/// A choice, an item or a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    increments: Running,
    /// Bytes of all increments.
    bytes: usize,
    whole: Whole,
}

impl Part {
    /// Adds text that is new.
    pub(super) fn add(&mut self, text: &str, tokenizer: &Tokenizer) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.increments.push(text, tokenizer);
    }

    /// Takes the whole text so far, or what a server sends in its place. Returns whether that is more than was known.
    pub(super) fn set(&mut self, whole: &str, tokenizer: &Tokenizer) -> bool {
        // Mostly it repeats the increments, and need not be counted.
        whole.len() > self.bytes && self.whole.set(whole, tokenizer)
    }

    /// Tokens of its text, before the model's factor is applied. Where it has come in both ways, the larger counts.
    pub(super) fn total(&self, tokenizer: &Tokenizer) -> u64 {
        self.increments.total(tokenizer).max(self.whole.text.total(tokenizer))
    }

    /// An estimate of [`Part::total`] that counts nothing.
    pub(super) fn estimate(&self) -> u64 {
        self.increments.estimate().max(self.whole.text.estimate())
    }
}

/// A text that is told as a whole again and again while it grows. It is not kept: its length and a hash are enough to
/// know whether another text continues it.
#[derive(Clone, Debug, Default)]
struct Whole {
    text: Running,
    bytes: usize,
    hash: Fnv,
}

impl Whole {
    /// Adds what `whole` has more than the text so far; returns whether it has more. If it does not continue that text,
    /// it is no whole: all of it is new.
    fn set(&mut self, whole: &str, tokenizer: &Tokenizer) -> bool {
        let continued = whole.split_at_checked(self.bytes);
        let continued = continued.filter(|(begin, _)| Fnv::default().of(begin.as_bytes()) == self.hash);
        let new = continued.map_or(whole, |(_, new)| new);
        self.text.push(new, tokenizer);
        self.hash = self.hash.of(new.as_bytes());
        self.bytes = self.bytes.saturating_add(new.len());
        !new.is_empty()
    }
}

/// The hash FNV-1a of 64 bits: a text that is hashed in parts has the hash of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn of(self, bytes: &[u8]) -> Self {
        Self(
            bytes
                .iter()
                .fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Counting, Encoding, Factor};
    use proptest::prelude::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::new(Counting { encoding: Encoding::O200kBase, factor: Factor::ONE })
    }

    fn told(wholes: &[&str]) -> u64 {
        let mut part = Part::default();
        for whole in wholes {
            part.set(whole, &tokenizer());
        }
        part.total(&tokenizer())
    }

    #[test]
    fn a_text_that_is_told_again_and_again_counts_once() {
        let count = |text| tokenizer().count(text);
        assert_eq!(told(&["", "one", "one two", "one two", "one two three"]), count("one two three"));
        assert_eq!(told(&["one", " two", " three"]), count("one two three"), "increments");
        let mut both = Part::default();
        for (text, whole) in [("one", "one"), (" two", "one two")] {
            both.add(text, &tokenizer());
            both.set(whole, &tokenizer());
        }
        assert_eq!(both.total(&tokenizer()), count("one two"));
    }

    proptest! {
        #[test]
        fn a_growing_whole_counts_as_its_last(text in "[a-é ]{0,60}", cuts in prop::collection::vec(0usize..60, 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let beginnings = cuts.iter().filter_map(|cut| text.get(..*cut));
            let wholes: Vec<&str> = beginnings.chain([text.as_str()]).collect();
            prop_assert_eq!(told(&wholes), tokenizer().count(&text));
        }
    }
}
