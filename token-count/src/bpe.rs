//! The tokens of one piece, by byte pair encoding.
//!
//! The encoder reads from the left. It takes the longest token that an encoding can have after the token before it; if
//! there is none, it replaces the token before by a shorter one. README.md argues why that is right, and linear.

use crate::layout::{Merge, NO_TOKEN, Node, Token};

/// A vocabulary.
pub(crate) struct Bpe {
    /// [`Node`]s.
    pub(crate) trie: &'static [[u8; 8]],
    /// [`Token`]s, by number.
    pub(crate) tokens: &'static [[u8; 8]],
    /// [`Merge`]s, where [`Merge::search`] finds them.
    pub(crate) merges: &'static [[u8; 4]],
    /// The number of the first token that does not count; at most [`NO_TOKEN`]. A token is made of earlier ones, so
    /// that any number of the last may be left out.
    pub(crate) end: u32,
}

/// What encoding a piece needs, kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The tokens so far.
    tokens: Vec<u32>,
    /// One bit for each place in the piece from which no token leads on.
    dead: Vec<u64>,
}

impl Bpe {
    /// How many tokens `piece` has.
    pub(crate) fn count(&self, piece: &[u8], scratch: &mut Scratch) -> u64 {
        let (token, len) = self.longest(piece);
        // Most pieces are a token.
        if len == piece.len() { 1.min(len as u64) } else { self.encode(piece, token, scratch) }
    }

    /// Encodes `piece`, of which `longest` is the longest token that it begins with.
    fn encode(&self, piece: &[u8], longest: u32, Scratch { tokens, dead }: &mut Scratch) -> u64 {
        tokens.clear();
        dead.clear();
        dead.resize(piece.len() / 64 + 1, 0);
        let (mut at, mut candidate) = (0, longest);
        loop {
            let token = self.token(candidate);
            let end = at + token.len as usize;
            if is_dead(dead, end) || tokens.last().is_some_and(|last| !self.fit(*last, candidate)) {
                candidate = self.shorter(token);
            } else {
                tokens.push(candidate);
                let Some(rest @ [_, ..]) = piece.get(end..) else { return tokens.len() as u64 };
                (at, candidate) = (end, self.longest(rest).0);
            }
            while candidate == NO_TOKEN {
                // No token leads on from here: the one before ends elsewhere.
                kill(dead, at);
                // A text always has an encoding, so that there is one; a byte is a token at worst.
                let Some(last) = tokens.pop() else { return piece.len() as u64 };
                let last = self.token(last);
                at -= last.len as usize;
                candidate = self.shorter(last);
            }
        }
    }

    /// The longest token that `text` begins with, and its length in bytes; none and 0 for the empty text.
    fn longest(&self, text: &[u8]) -> (u32, usize) {
        let mut longest = (NO_TOKEN, 0);
        let (mut place, mut node) = (0, self.node(0));
        for (at, byte) in text.iter().enumerate() {
            let next = node.base ^ u32::from(*byte);
            let child = self.node(next);
            if child.parent != place {
                break;
            }
            (place, node) = (next, child);
            if node.token < self.end {
                longest = (node.token, at + 1);
            }
        }
        longest
    }

    /// Whether an encoding of their joint text has `left` and then `right`: whether no merge across their edge comes
    /// before the merges that make them. This undoes the merges from the last to the first, and at each step looks up
    /// the merge across the edge that would have come first.
    fn fit(&self, mut left: u32, mut right: u32) -> bool {
        // Merges up to this one come before what has been undone.
        let mut before = self.end;
        loop {
            if self.merge(left, right) < before {
                return false;
            }
            // Of equal ones the left is made first.
            if left > right {
                before = left;
                let token = self.token(left);
                if token.right == left {
                    return true;
                }
                left = token.right;
            } else {
                before = right + 1;
                let token = self.token(right);
                if token.left == right {
                    return true;
                }
                right = token.left;
            }
        }
    }

    /// The longest token that `token` begins with, or [`NO_TOKEN`].
    fn shorter(&self, token: Token) -> u32 {
        let mut shorter = token.shorter;
        while shorter >= self.end && shorter != NO_TOKEN {
            shorter = self.token(shorter).shorter;
        }
        shorter
    }

    /// What `left` and `right` merge to, or [`NO_TOKEN`].
    fn merge(&self, left: u32, right: u32) -> u32 {
        let (mut place, tag) = Merge::search(left, right, self.merges.len().ilog2());
        loop {
            let found = self
                .merges
                .get(place)
                .map_or(Merge::NONE, |packed| Merge::unpack(u32::from_le_bytes(*packed)));
            if found.token == NO_TOKEN {
                return NO_TOKEN;
            }
            if found.tag == tag {
                let token = self.token(found.token);
                if (token.left, token.right) == (left, right) {
                    return found.token;
                }
            }
            place = (place + 1) & (self.merges.len() - 1);
        }
    }

    fn node(&self, place: u32) -> Node {
        self.trie.get(place as usize).map_or(Node::NONE, |node| Node::unpack(u64::from_le_bytes(*node)))
    }

    fn token(&self, number: u32) -> Token {
        self.tokens
            .get(number as usize)
            .map_or(Token::NONE, |token| Token::unpack(u64::from_le_bytes(*token)))
    }
}

fn is_dead(dead: &[u64], at: usize) -> bool {
    dead.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

fn kill(dead: &mut [u64], at: usize) {
    if let Some(word) = dead.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}
