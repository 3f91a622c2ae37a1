//! Counts the tokens that OpenAI's models see in a text: exactly as many as `tiktoken` makes of it, in time linear in
//! the text, without a regular expression, without allocating for each token and without anything to be done at
//! start-up.
//!
//! A text is split into pieces (`pieces`) as the encoding's regular expression would, and each piece is encoded by
//! itself (`bpe`). How that is linear, and why it is exact, is in README.md. The tables are made by the build script
//! and are part of the program.
//!
//! Special tokens (`<|endoftext|>`) in a text are ordinary text here.

mod bpe;
mod class;
#[allow(dead_code, reason = "the build script writes what is read here")]
mod layout;
mod pieces;
mod text;
mod trie;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use bpe::{Bpe, Scratch};
use pieces::Splitter;
use std::fmt;

/// An encoding: a vocabulary and what splits a text into pieces for it.
pub struct Encoding {
    splitter: Splitter,
    bpe: Bpe,
}

/// Without the vocabulary, which is megabytes.
impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding").field("splitter", &self.splitter).finish_non_exhaustive()
    }
}

macro_rules! table {
    ($file:expr) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $file)).as_chunks().0
    };
}

macro_rules! bpe {
    ($encoding:ident, $name:literal) => {
        Bpe {
            encoding: layout::$encoding,
            groups: table!(concat!($name, ".groups.bin")),
            tokens: table!(concat!($name, ".tokens.bin")),
        }
    };
}

/// GPT-4o and later.
pub static O200K_BASE: Encoding = Encoding { splitter: Splitter::O200k, bpe: bpe!(O200K, "o200k_base") };

/// GPT-4, GPT-3.5, embeddings.
pub static CL100K_BASE: Encoding = Encoding { splitter: Splitter::Cl100k, bpe: bpe!(CL100K, "cl100k_base") };

/// Codex and `text-davinci-003`.
pub static P50K_BASE: Encoding = Encoding { splitter: Splitter::R50k, bpe: bpe!(P50K, "p50k_base") };

/// GPT-3 and GPT-2: `p50k_base` without its last tokens, which are runs of spaces.
pub static R50K_BASE: Encoding = Encoding { splitter: Splitter::R50k, bpe: bpe!(R50K, "p50k_base") };

impl Encoding {
    /// The tokens of `text`. Takes memory for 12 bytes per byte of the longest piece that is no token.
    pub fn count(&self, text: &str) -> u64 {
        let mut scratch = Scratch::default();
        let pieces = self.splitter.pieces(text);
        pieces.map(|piece| self.bpe.count(piece, &mut scratch)).sum()
    }
}
