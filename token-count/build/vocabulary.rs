//! A vocabulary: its tokens, and how each is made of two others.

use crate::layout::Token;
use std::collections::HashMap;
use tiktoken_rs::CoreBPE;

/// The tokens of an encoding.
pub struct Vocabulary {
    /// The bytes of each, by its number. A number that no token has is empty.
    tokens: Vec<Vec<u8>>,
    /// The number of each.
    numbers: HashMap<Vec<u8>, u32>,
}

/// A token, and how it is made.
pub struct Made<'t> {
    pub rank: u32,
    pub bytes: &'t [u8],
    /// The length of the left of the two tokens that it is made of; 0 for a byte.
    pub left: usize,
}

impl Vocabulary {
    /// All ordinary tokens of `encoding`.
    ///
    /// # Errors
    /// If they are not as [`Vocabulary::check`] expects them.
    pub fn of(encoding: &CoreBPE) -> Result<Self, String> {
        let special = encoding.special_tokens();
        let is_special = |bytes: &[u8]| str::from_utf8(bytes).is_ok_and(|text| special.contains(text));
        let (mut tokens, mut numbers) = (Vec::new(), HashMap::new());
        for number in 0..Token::RANKS {
            let bytes = encoding.decode_bytes(&[number]).unwrap_or_default();
            if !bytes.is_empty() && !is_special(&bytes) {
                tokens.resize(number as usize, Vec::new());
                numbers.insert(bytes.clone(), number);
                tokens.push(bytes);
            }
        }
        let vocabulary = Self { tokens, numbers };
        vocabulary.check()?;
        Ok(vocabulary)
    }

    /// Each token's number and bytes.
    pub fn tokens(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let tokens = self.tokens.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty());
        tokens.map(|(number, bytes)| (number as u32, bytes.as_slice()))
    }

    /// Whether it is the first `count` tokens of `other`.
    pub fn is_first_of(&self, other: &Self, count: u32) -> bool {
        self.tokens.len() == count as usize && other.tokens.starts_with(&self.tokens)
    }

    /// What the library relies on: every byte is a token, and those of one byte have the lowest numbers.
    fn check(&self) -> Result<(), String> {
        let bytes = self.tokens.iter().take_while(|token| token.len() == 1).count();
        if bytes != 256 || self.tokens.iter().skip(bytes).any(|token| token.len() == 1) {
            return Err(format!("{bytes} tokens of one byte come first, not 256"));
        }
        match self.tokens.iter().find(|token| token.len() > 255) {
            Some(token) => Err(format!("a token has {} bytes", token.len())),
            None => Ok(()),
        }
    }

    /// How each token is made.
    ///
    /// # Errors
    /// If one is not made by merging two others.
    pub fn made(&self) -> Result<Vec<Made<'_>>, String> {
        let left = |bytes: &[u8]| if bytes.len() == 1 { Ok(0) } else { self.left(bytes) };
        self.tokens().map(|(rank, bytes)| Ok(Made { rank, bytes, left: left(bytes)? })).collect()
    }

    /// The length of the left of the two tokens that `bytes` are before the last merge, by byte pair encoding as it is
    /// defined: of all neighbours that make a token those with the lowest number are merged, the leftmost first.
    fn left(&self, bytes: &[u8]) -> Result<usize, String> {
        let number = |bytes: &[u8]| self.numbers.get(bytes).copied();
        // Where each part begins, and where the last ends.
        let mut edges: Vec<usize> = (0..=bytes.len()).collect();
        while edges.len() > 3 {
            let made = |at: usize| Some((number(&bytes[edges[at - 1]..edges[at + 1]])?, at));
            let next = (1..edges.len() - 1).filter_map(made).min();
            let (_, at) = next.ok_or_else(|| format!("{bytes:?} does not merge"))?;
            edges.remove(at);
        }
        let halves = number(&bytes[..edges[1]]).zip(number(&bytes[edges[1]..]));
        halves.map(|_| edges[1]).ok_or_else(|| format!("{bytes:?} is made of what is no token"))
    }
}
