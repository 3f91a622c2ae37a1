//! How the tables are laid out: shared by the build script, which writes them, and the library, which reads them.
//!
//! All encodings have one trie, because most of their tokens are the same. What each encoding says of its tokens, their
//! ranks and how they are made, is a list in the order of their places in the trie. All numbers are little-endian.

/// A set of encodings: one bit each.
pub(crate) type Encodings = u32;

pub(crate) const O200K: Encodings = 1;
pub(crate) const CL100K: Encodings = 1 << 1;
pub(crate) const P50K: Encodings = 1 << 2;
pub(crate) const R50K: Encodings = 1 << 3;

/// The tokens of `r50k_base`, which are the first of `p50k_base`.
pub(crate) const R50K_TOKENS: u32 = 50_256;

const LABEL_BITS: u32 = 8;
const ENCODINGS_BITS: u32 = 4;
const BASE_BITS: u32 = 19;

/// One more than the largest place in the trie, and base of a node's children.
pub(crate) const MAX_PLACES: usize = 1 << BASE_BITS;

/// A node of the trie: a text that tokens begin with. The first 256 are the bytes. The child for another byte is at
/// `base ^ byte`, if its label is that byte: no two nodes have one base.
///
/// A leaf has no children. It stands for a text and a tail: the bytes that no other token has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node(u32);

impl Node {
    /// A place without a node: it is no token of any encoding.
    pub(crate) const NONE: Self = Self::leaf(0, 0, 0);

    pub(crate) const fn inner(label: u8, encodings: Encodings, base: u32) -> Self {
        Self(label as u32 | encodings << LABEL_BITS | base << (u32::BITS - BASE_BITS))
    }

    /// `tail` is where the tail's length and then the tail are, in the table of tails.
    pub(crate) const fn leaf(label: u8, encodings: Encodings, tail: u32) -> Self {
        Self(Self::inner(label, encodings, tail).0 | 1 << (LABEL_BITS + ENCODINGS_BITS))
    }

    pub(crate) const fn pack(self) -> u32 {
        self.0
    }

    pub(crate) const fn unpack(packed: u32) -> Self {
        Self(packed)
    }

    /// The last byte of the text.
    pub(crate) const fn label(self) -> u8 {
        self.0 as u8
    }

    /// Whether it is a token of one of `encodings`; with its tail if it is a leaf.
    pub(crate) const fn is_in(self, encodings: Encodings) -> bool {
        self.0 & encodings << LABEL_BITS != 0
    }

    pub(crate) const fn is_leaf(self) -> bool {
        self.0 & 1 << (LABEL_BITS + ENCODINGS_BITS) != 0
    }

    /// Where the children are; the tail of a leaf.
    pub(crate) const fn base(self) -> u32 {
        self.0 >> (u32::BITS - BASE_BITS)
    }
}

/// Which of so many places in the trie hold tokens of an encoding, and how many tokens are at places before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// A bit for each place, the lowest for the first.
    pub(crate) tokens: u32,
    pub(crate) before: u32,
}

impl Group {
    pub(crate) const PLACES: u32 = u32::BITS;

    pub(crate) const fn pack(self) -> u64 {
        self.tokens as u64 | (self.before as u64) << u32::BITS
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self { tokens: packed as u32, before: (packed >> u32::BITS) as u32 }
    }

    /// The number of the token at `place`, which is one of this group's, in the order of places.
    pub(crate) const fn number(self, place: u32) -> u32 {
        let earlier = self.tokens & ((1 << (place % Self::PLACES)) - 1);
        self.before + earlier.count_ones()
    }
}

/// A token of an encoding, in 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its number in the vocabulary: of two merges, that with the lower one comes first.
    pub(crate) rank: u32,
    /// The bytes of the left of the two tokens that it is made of, as a place in the table of lengths, which has 64.
    /// Nothing for a byte.
    pub(crate) left: u32,
}

impl Token {
    pub(crate) const LENGTHS: usize = 1 << Self::LEFT_BITS;
    pub(crate) const RANKS: u32 = 1 << (24 - Self::LEFT_BITS);
    const LEFT_BITS: u32 = 6;

    pub(crate) const fn pack(self) -> [u8; 3] {
        let [low, middle, high, _] = (self.left | self.rank << Self::LEFT_BITS).to_le_bytes();
        [low, middle, high]
    }

    pub(crate) const fn unpack([low, middle, high]: [u8; 3]) -> Self {
        let packed = u32::from_le_bytes([low, middle, high, 0]);
        Self { rank: packed >> Self::LEFT_BITS, left: packed & (Self::LENGTHS as u32 - 1) }
    }
}
