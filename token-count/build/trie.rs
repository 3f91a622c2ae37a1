//! The trie of all tokens, as a double array: J.-I. Aoe, An Efficient Digital Search Algorithm by Using a Double-Array
//! Structure (1989), with exclusive or in the place of addition.

use crate::layout::{NO_PLACE, NO_TOKEN, Node};
use std::cmp::Reverse;

/// A node before it has a place.
struct Bud {
    token: u32,
    /// By byte.
    children: Vec<(u8, usize)>,
}

/// The trie of `tokens`, each with its number.
///
/// # Errors
/// If it takes more places than a place's number has bits for.
pub fn trie<'t>(tokens: impl Iterator<Item = (u32, &'t [u8])>) -> Result<Vec<Node>, String> {
    let buds = grow(tokens);
    let mut places = Places::default();
    let root = places.take_first();
    let (mut bases, mut place_of) = (vec![0; buds.len()], vec![root; buds.len()]);
    // Those with most children first: for those with one there is always a place that others have left.
    let mut order: Vec<usize> = (0..buds.len()).collect();
    order.sort_by_key(|bud| Reverse(buds[*bud].children.len()));
    for bud in order {
        let children = &buds[bud].children;
        if !children.is_empty() {
            bases[bud] = places.take(children);
            for (byte, child) in children {
                place_of[*child] = bases[bud] ^ usize::from(*byte);
            }
        }
    }
    if places.len() > NO_PLACE as usize {
        return Err(format!("the trie takes {} places", places.len()));
    }
    let mut nodes = vec![Node::NONE; places.len()];
    for (bud, Bud { token, children }) in buds.iter().enumerate() {
        let node = &mut nodes[place_of[bud]];
        (node.base, node.token) = (bases[bud] as u32, *token);
        for (_, child) in children {
            nodes[place_of[*child]].parent = place_of[bud] as u32;
        }
    }
    Ok(nodes)
}

/// The root comes first.
fn grow<'t>(tokens: impl Iterator<Item = (u32, &'t [u8])>) -> Vec<Bud> {
    let bud = || Bud { token: NO_TOKEN, children: Vec::new() };
    let mut buds = vec![bud()];
    for (number, bytes) in tokens {
        let mut at = 0;
        for byte in bytes {
            at = match buds[at].children.iter().find(|(known, _)| known == byte) {
                Some((_, child)) => *child,
                None => {
                    let child = buds.len();
                    buds[at].children.push((*byte, child));
                    buds.push(bud());
                    child
                }
            };
        }
        buds[at].token = number;
    }
    buds
}

/// The places that are taken, in blocks of 256: a node's children are in one block.
#[derive(Default)]
struct Places {
    taken: Vec<[bool; 256]>,
    /// How many are free in each block.
    free: Vec<usize>,
    /// The first block with a free place.
    first_free: usize,
}

/// How many of the last blocks are searched before another is begun.
const SEARCHED: usize = 8;

impl Places {
    fn len(&self) -> usize {
        256 * self.taken.len()
    }

    fn take_first(&mut self) -> usize {
        self.taken.push([false; 256]);
        self.free.push(256);
        self.mark(0)
    }

    /// Takes places for `children`; their base.
    fn take(&mut self, children: &[(u8, usize)]) -> usize {
        let base = match children {
            [(byte, _)] => self.single() ^ usize::from(*byte),
            _ => self.several(children),
        };
        for (byte, _) in children {
            self.mark(base ^ usize::from(*byte));
        }
        base
    }

    /// The first free place.
    fn single(&mut self) -> usize {
        while self.free.get(self.first_free) == Some(&0) {
            self.first_free += 1;
        }
        let block = self.first_free;
        let at = self.taken.get(block).and_then(|taken| taken.iter().position(|taken| !taken));
        256 * block + at.unwrap_or(0)
    }

    /// A base whose places for all of `children` are free, in one of the last blocks or in a new one.
    fn several(&self, children: &[(u8, usize)]) -> usize {
        let blocks = self.taken.len();
        for block in blocks.saturating_sub(SEARCHED)..blocks {
            if self.free[block] < children.len() {
                continue;
            }
            let taken = &self.taken[block];
            let fits = |low: &usize| children.iter().all(|(byte, _)| !taken[low ^ usize::from(*byte)]);
            if let Some(low) = (0..256).find(fits) {
                return 256 * block + low;
            }
        }
        256 * blocks
    }

    fn mark(&mut self, place: usize) -> usize {
        let block = place / 256;
        if block == self.taken.len() {
            self.taken.push([false; 256]);
            self.free.push(256);
        }
        self.taken[block][place % 256] = true;
        self.free[block] -= 1;
        place
    }
}
