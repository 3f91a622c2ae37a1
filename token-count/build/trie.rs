//! The trie of all tokens, as a double array: J.-I. Aoe, An Efficient Digital Search Algorithm by Using a Double-Array
//! Structure (1989), with exclusive or in the place of addition and labels in the place of parents. What is behind the
//! last branch of a token is its tail.

use crate::layout::{Encodings, MAX_PLACES, Node};
use std::cmp::Reverse;
use std::collections::HashMap;

/// The tables of the trie.
pub struct Trie {
    /// By place.
    pub nodes: Vec<Node>,
    /// Each tail after its length.
    pub tails: Vec<u8>,
    /// The place of each token, in the order in which they came.
    pub places: Vec<u32>,
}

/// A node before it has a place.
#[derive(Default)]
struct Bud {
    encodings: Encodings,
    /// By byte.
    children: Vec<(u8, usize)>,
}

const ROOT: usize = 0;

/// The trie of `tokens`, each with the encodings that have it.
///
/// # Errors
/// If not all bytes are among them, or if it takes more places than a place's number has bits for.
pub fn trie<'t>(tokens: impl Iterator<Item = (&'t [u8], Encodings)>) -> Result<Trie, String> {
    let (buds, ends) = grow(tokens);
    if buds[ROOT].children.len() != 256 {
        return Err("not all bytes are tokens".into());
    }
    let inner = inner(&buds);
    let mut places = Places::default();
    let mut bases = vec![0; buds.len()];
    for bud in &inner {
        bases[*bud] = places.take(&buds[*bud].children);
    }
    let mut tails = Tails::default();
    let (mut nodes, mut place_of) = (vec![Node::NONE; places.len()], vec![0; buds.len()]);
    for bud in inner {
        for (byte, child) in &buds[bud].children {
            let place = bases[bud] ^ usize::from(*byte);
            let (end, node) = match tail(&buds, *child) {
                None => (*child, Node::inner(*byte, buds[*child].encodings, bases[*child] as u32)),
                Some((end, tail)) => (end, Node::leaf(*byte, buds[end].encodings, tails.place(tail))),
            };
            (nodes[place], place_of[end]) = (node, place as u32);
        }
    }
    match places.len().max(tails.bytes.len()) {
        taken if taken > MAX_PLACES => Err(format!("the trie takes {taken} places")),
        _ => {
            let places = ends.into_iter().map(|end| place_of[end]).collect();
            Ok(Trie { nodes, tails: tails.bytes, places })
        }
    }
}

/// All nodes, the root first, and which of them each token is.
fn grow<'t>(tokens: impl Iterator<Item = (&'t [u8], Encodings)>) -> (Vec<Bud>, Vec<usize>) {
    let (mut buds, mut ends) = (vec![Bud::default()], Vec::new());
    for (bytes, encodings) in tokens {
        let mut at = ROOT;
        for byte in bytes {
            at = match buds[at].children.iter().find(|(known, _)| known == byte) {
                Some((_, child)) => *child,
                None => {
                    let child = buds.len();
                    buds[at].children.push((*byte, child));
                    buds.push(Bud::default());
                    child
                }
            };
        }
        buds[at].encodings = encodings;
        ends.push(at);
    }
    (buds, ends)
}

/// The nodes with children, in the order in which they get their places: the root, whose children have the places of
/// their bytes, and then those with most children. For those with one there is always a place that others have left.
fn inner(buds: &[Bud]) -> Vec<usize> {
    let mut inner = vec![ROOT];
    let mut seen = 0;
    while let Some(bud) = inner.get(seen) {
        let children = buds[*bud].children.iter().map(|(_, child)| *child);
        inner.extend(children.filter(|child| tail(buds, *child).is_none()));
        seen += 1;
    }
    inner[1..].sort_by_key(|bud| Reverse(buds[*bud].children.len()));
    inner
}

/// Where the token ends that `bud` leads to, and its bytes from there on, if `bud` leads to no other.
fn tail(buds: &[Bud], mut bud: usize) -> Option<(usize, Vec<u8>)> {
    let mut tail = Vec::new();
    loop {
        match (buds[bud].children.as_slice(), buds[bud].encodings) {
            ([], _) => return Some((bud, tail)),
            ([(byte, child)], 0) => {
                tail.push(*byte);
                bud = *child;
            }
            _ => return None,
        }
    }
}

/// The table of tails.
#[derive(Default)]
struct Tails {
    bytes: Vec<u8>,
    places: HashMap<Vec<u8>, u32>,
}

impl Tails {
    /// Where a tail is. That of a place without a node, which is 0, does not matter.
    fn place(&mut self, tail: Vec<u8>) -> u32 {
        let (new, bytes) = (self.bytes.len() as u32, &mut self.bytes);
        *self.places.entry(tail).or_insert_with_key(|tail| {
            bytes.push(tail.len() as u8);
            bytes.extend(tail);
            new
        })
    }
}

/// The places that are taken, in blocks of 256: a node's children are in one block.
#[derive(Default)]
struct Places {
    blocks: Vec<Block>,
    /// The first block with a free place.
    first_free: usize,
}

struct Block {
    is_taken: [bool; 256],
    /// How many are not.
    free: usize,
    /// Whether a node has this base. No other may have it, or it would take that node's children for its own.
    is_base: [bool; 256],
}

/// How many of the last blocks are searched before another is begun.
const SEARCHED: usize = 8;

impl Places {
    fn len(&self) -> usize {
        256 * self.blocks.len()
    }

    /// Takes places for `children`; their base, which is 0 at first.
    fn take(&mut self, children: &[(u8, usize)]) -> usize {
        while self.blocks.get(self.first_free).is_some_and(|block| block.free == 0) {
            self.first_free += 1;
        }
        // One child finds a place anywhere, several in the last blocks.
        let from = match children {
            [_] => self.first_free,
            _ => self.blocks.len().saturating_sub(SEARCHED),
        };
        let found =
            (from..self.blocks.len()).find_map(|block| Some((block, self.blocks[block].base(children)?)));
        let (block, low) = found.unwrap_or((self.blocks.len(), 0));
        if block == self.blocks.len() {
            self.blocks.push(Block { is_taken: [false; 256], free: 256, is_base: [false; 256] });
        }
        self.blocks[block].take(low, children);
        256 * block + low
    }
}

impl Block {
    /// A base whose places for all of `children` are free.
    fn base(&self, children: &[(u8, usize)]) -> Option<usize> {
        let is_free = |low: &usize| children.iter().all(|(byte, _)| !self.is_taken[low ^ usize::from(*byte)]);
        (self.free >= children.len()).then(|| (0..256).find(|low| !self.is_base[*low] && is_free(low)))?
    }

    fn take(&mut self, base: usize, children: &[(u8, usize)]) {
        self.is_base[base] = true;
        self.free -= children.len();
        for (byte, _) in children {
            self.is_taken[base ^ usize::from(*byte)] = true;
        }
    }
}
