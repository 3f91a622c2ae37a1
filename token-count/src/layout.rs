//! How the tables are laid out: shared by the build script, which writes them, and the library, which reads them.
//!
//! Every entry is a number of 64 bits (of 32 in the table of merges), little-endian.

/// Bits of a token's number, which is its rank in the vocabulary.
const TOKEN_BITS: u32 = 18;

/// Bits of a place in the trie.
const PLACE_BITS: u32 = 20;

/// Bits of a merge's tag: what is left of 32.
const TAG_BITS: u32 = 32 - TOKEN_BITS;

/// No token.
pub(crate) const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;

/// The tokens of `r50k_base`, which are the first of `p50k_base`.
pub(crate) const R50K_TOKENS: u32 = 50_256;

/// No place.
pub(crate) const NO_PLACE: u32 = (1 << PLACE_BITS) - 1;

/// A place in the trie of all tokens, the root at 0. The child for a byte is at `base ^ byte`, if that has this place
/// for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) base: u32,
    /// [`NO_PLACE`] for the root, and where there is no node.
    pub(crate) parent: u32,
    /// The token that ends here, or [`NO_TOKEN`].
    pub(crate) token: u32,
}

impl Node {
    pub(crate) const NONE: Self = Self { base: 0, parent: NO_PLACE, token: NO_TOKEN };

    pub(crate) const fn pack(self) -> u64 {
        self.base as u64 | (self.parent as u64) << PLACE_BITS | (self.token as u64) << (2 * PLACE_BITS)
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self {
            base: bits(packed, 0, PLACE_BITS),
            parent: bits(packed, PLACE_BITS, PLACE_BITS),
            token: bits(packed, 2 * PLACE_BITS, TOKEN_BITS),
        }
    }
}

/// A token. One of several bytes is made by merging two others; a byte's are itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) left: u32,
    pub(crate) right: u32,
    /// The longest token that it begins with and is not itself, or [`NO_TOKEN`].
    pub(crate) shorter: u32,
    /// In bytes, at most 255.
    pub(crate) len: u32,
}

impl Token {
    pub(crate) const NONE: Self = Self { left: NO_TOKEN, right: NO_TOKEN, shorter: NO_TOKEN, len: 0 };

    pub(crate) const fn pack(self) -> u64 {
        self.left as u64
            | (self.right as u64) << TOKEN_BITS
            | (self.shorter as u64) << (2 * TOKEN_BITS)
            | (self.len as u64) << (3 * TOKEN_BITS)
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self {
            left: bits(packed, 0, TOKEN_BITS),
            right: bits(packed, TOKEN_BITS, TOKEN_BITS),
            shorter: bits(packed, 2 * TOKEN_BITS, TOKEN_BITS),
            len: bits(packed, 3 * TOKEN_BITS, 8),
        }
    }
}

/// An entry of the table of merges: a token of several bytes, and a few bits of its parts, which distinguish it from
/// most others without a second lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// [`NO_TOKEN`] where there is no entry.
    pub(crate) token: u32,
    pub(crate) tag: u32,
}

impl Merge {
    pub(crate) const NONE: Self = Self { token: NO_TOKEN, tag: 0 };

    pub(crate) const fn pack(self) -> u32 {
        self.token | self.tag << TOKEN_BITS
    }

    pub(crate) const fn unpack(packed: u32) -> Self {
        Self { token: packed & NO_TOKEN, tag: packed >> TOKEN_BITS }
    }

    /// Where the search for what `left` and `right` merge to begins, in a table of `1 << log2_len` entries, and the tag
    /// that it looks for: from there on, until it is found or there is no entry.
    pub(crate) const fn search(left: u32, right: u32, log2_len: u32) -> (usize, u32) {
        // Fibonacci hashing: Knuth, The Art of Computer Programming, volume 3, 6.4.
        let pair = (left as u64) << TOKEN_BITS | right as u64;
        let hash = pair.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let place = hash >> (u64::BITS - log2_len);
        (place as usize, bits(hash, u64::BITS - log2_len - TAG_BITS, TAG_BITS))
    }
}

const fn bits(packed: u64, from: u32, count: u32) -> u32 {
    (packed >> from) as u32 & ((1 << count) - 1)
}
