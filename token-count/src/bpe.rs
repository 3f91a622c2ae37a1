//! The tokens of one piece, by byte pair encoding.
//!
//! The encoder reads from the left. It takes the longest token that an encoding can have after the token before it; if
//! there is none, it replaces the token before by a shorter one. README.md argues why that is right, and linear.

use crate::layout::{Encodings, Group, Token};
use crate::trie::{self, Found};

/// The lengths that left halves of tokens have.
static LENGTHS: &[u8; Token::LENGTHS] = include_bytes!(concat!(env!("OUT_DIR"), "/lengths.bin"));

/// A vocabulary.
pub(crate) struct Bpe {
    /// The bit of its tokens in the trie.
    pub(crate) encoding: Encodings,
    /// [`Group`]s, which lead from a place in the trie to a token.
    pub(crate) groups: &'static [[u8; 8]],
    /// [`Token`]s, in the order of their places in the trie.
    pub(crate) tokens: &'static [[u8; 3]],
}

/// What encoding a piece needs, kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Where each of the tokens so far begins.
    starts: Vec<u32>,
    /// One bit for each place in the piece from which no token leads on.
    dead: Vec<u64>,
}

/// Two neighbours in a text.
#[derive(Clone, Copy)]
struct Pair<'t> {
    /// The text of both.
    text: &'t [u8],
    /// Where the right one begins.
    edge: usize,
    /// Their places in the trie.
    left: u32,
    right: u32,
}

impl Bpe {
    /// How many tokens `piece` has.
    pub(crate) fn count(&self, piece: &[u8], scratch: &mut Scratch) -> u64 {
        let longest = trie::longest(piece, self.encoding);
        // Most pieces are a token.
        if longest.len == piece.len() {
            1.min(piece.len() as u64)
        } else {
            self.encode(piece, longest, scratch)
        }
    }

    /// Encodes `piece`, of which `longest` is the longest token that it begins with.
    fn encode(&self, piece: &[u8], longest: Found, Scratch { starts, dead }: &mut Scratch) -> u64 {
        let text = |from: usize, to: usize| piece.get(from..to).unwrap_or_default();
        starts.clear();
        dead.clear();
        dead.resize(piece.len() / 64 + 1, 0);
        let (mut at, mut candidate) = (0, longest);
        // The place of the token that ends at `at`, if one does.
        let mut left = 0;
        loop {
            let end = at + candidate.len;
            let fits = || {
                let Some(start) = starts.last().map(|start| *start as usize) else { return true };
                let text = text(start, end);
                self.fit(Pair { text, edge: at - start, left, right: candidate.place })
            };
            if is_dead(dead, end) || !fits() {
                candidate = self.shorter(text(at, end));
            } else {
                starts.push(at as u32);
                if end == piece.len() {
                    return starts.len() as u64;
                }
                (at, left) = (end, candidate.place);
                candidate = trie::longest(text(at, piece.len()), self.encoding);
            }
            while candidate.len == 0 {
                // No token leads on from here: the one before ends elsewhere.
                kill(dead, at);
                // A text always has an encoding, so that there is one; a byte is a token at worst.
                let Some(start) = starts.pop() else { return piece.len() as u64 };
                candidate = self.shorter(text(start as usize, at));
                at = start as usize;
                left = starts.last().map_or(0, |before| trie::place(text(*before as usize, at)));
            }
        }
    }

    /// Whether the encoding of their joint text has both: whether no merge across their edge comes before the merges
    /// that make them. This undoes the merges from the last to the first, and at each step looks up the merge across
    /// the edge that would have come first.
    fn fit(&self, Pair { mut text, mut edge, mut left, mut right }: Pair<'_>) -> bool {
        if trie::extended(left, text.get(edge..).unwrap_or_default(), self.encoding).is_some() {
            return false;
        }
        let (mut of_left, mut of_right) = (self.token(left), self.token(right));
        loop {
            let (left_text, right_text) = text.split_at_checked(edge).unwrap_or_default();
            // Merges of lower ranks come before what is undone.
            let before;
            // Of equal ones the left is made first.
            if of_left.rank > of_right.rank {
                let Some(half) = half(of_left) else { return true };
                before = of_left.rank;
                text = text.get(half..).unwrap_or_default();
                edge -= half;
                left = trie::place(left_text.get(half..).unwrap_or_default());
                of_left = self.token(left);
            } else {
                let Some(half) = half(of_right) else { return true };
                before = of_right.rank + 1;
                text = text.get(..edge + half).unwrap_or_default();
                right = trie::place(right_text.get(..half).unwrap_or_default());
                of_right = self.token(right);
            }
            let merged = trie::extended(left, text.get(edge..).unwrap_or_default(), self.encoding);
            if merged.is_some_and(|merged| self.token(merged).rank < before) {
                return false;
            }
        }
    }

    /// The longest token that `token` begins with and is not itself.
    fn shorter(&self, token: &[u8]) -> Found {
        trie::longest(token.split_last().map_or(&[], |(_, shorter)| shorter), self.encoding)
    }

    /// What this encoding says of the token at `place`.
    fn token(&self, place: u32) -> Token {
        let group = self.groups.get((place / Group::PLACES) as usize);
        let number = group.map_or(0, |group| Group::unpack(u64::from_le_bytes(*group)).number(place));
        self.tokens.get(number as usize).map_or(Token { rank: 0, left: 0 }, |token| Token::unpack(*token))
    }
}

/// The bytes of the left half of a token that is made of two.
fn half(token: Token) -> Option<usize> {
    LENGTHS.get(token.left as usize).filter(|half| **half > 0).map(|half| usize::from(*half))
}

fn is_dead(dead: &[u64], at: usize) -> bool {
    dead.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

fn kill(dead: &mut [u64], at: usize) {
    if let Some(word) = dead.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}
