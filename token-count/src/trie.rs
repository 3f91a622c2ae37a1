//! The tokens of all encodings by their bytes.

use crate::layout::{Encodings, Node};

static NODES: &[[u8; 4]] = include_bytes!(concat!(env!("OUT_DIR"), "/nodes.bin")).as_chunks().0;
static TAILS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tails.bin"));

/// A token somewhere in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its place in the trie, which identifies it.
    pub(crate) place: u32,
    /// In bytes; 0 if there is no token.
    pub(crate) len: usize,
}

/// The longest token of an encoding that `text` begins with. There is one unless the text is empty, because all bytes
/// are tokens.
#[inline]
pub(crate) fn longest(text: &[u8], encoding: Encodings) -> Found {
    let Some(first) = text.first() else { return Found { place: 0, len: 0 } };
    let mut place = u32::from(*first);
    let (mut node, mut longest) = (node(place), Found { place, len: 1 });
    let mut len = 1;
    while !node.is_leaf() {
        if node.is_in(encoding) {
            longest = Found { place, len };
        }
        let Some(byte) = text.get(len) else { return longest };
        let Some(child) = child(node, *byte) else { return longest };
        (place, node) = child;
        len += 1;
    }
    if node.is_in(encoding) {
        let tail = tail(node);
        if begins_with(text.get(len..).unwrap_or_default(), tail) {
            longest = Found { place, len: len + tail.len() };
        }
    }
    longest
}

/// The place of `token`, which is known to be one of any encoding.
pub(crate) fn place(token: &[u8]) -> u32 {
    let Some((first, rest)) = token.split_first() else { return 0 };
    let mut place = u32::from(*first);
    for byte in rest {
        let node = node(place);
        if node.is_leaf() {
            break;
        }
        place = node.base() ^ u32::from(*byte);
    }
    place
}

/// Whether the token at `place` and then `more` are a token of an encoding; its place.
pub(crate) fn extended(place: u32, more: &[u8], encoding: Encodings) -> Option<u32> {
    let (mut place, mut node) = (place, node(place));
    let mut at = 0;
    while !node.is_leaf() {
        let Some(byte) = more.get(at) else { return node.is_in(encoding).then_some(place) };
        (place, node) = child(node, *byte)?;
        at += 1;
    }
    let is_whole = at > 0 && node.is_in(encoding) && more.get(at..).unwrap_or_default() == tail(node);
    is_whole.then_some(place)
}

fn child(node: Node, byte: u8) -> Option<(u32, Node)> {
    let place = node.base() ^ u32::from(byte);
    let child = self::node(place);
    (child.label() == byte).then_some((place, child))
}

fn node(place: u32) -> Node {
    NODES.get(place as usize).map_or(Node::NONE, |node| Node::unpack(u32::from_le_bytes(*node)))
}

fn tail(leaf: Node) -> &'static [u8] {
    let at = leaf.base() as usize;
    let len = TAILS.get(at).copied().unwrap_or(0);
    TAILS.get(at + 1..at + 1 + usize::from(len)).unwrap_or_default()
}

/// Tails have a few bytes: a call for a comparison would take longer.
fn begins_with(text: &[u8], tail: &[u8]) -> bool {
    tail.is_empty() || text.len() >= tail.len() && text.iter().zip(tail).all(|(ours, theirs)| ours == theirs)
}
