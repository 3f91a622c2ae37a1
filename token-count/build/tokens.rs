//! What an encoding says of its tokens, in the order of their places in the trie.

use crate::layout::{Group, Token};

/// The groups of `places` places and the tokens of an encoding, each with its place.
pub fn tables(mut tokens: Vec<(u32, Token)>, places: usize) -> (Vec<Group>, Vec<Token>) {
    tokens.sort_unstable_by_key(|(place, _)| *place);
    let mut groups = vec![Group { tokens: 0, before: 0 }; places.div_ceil(Group::PLACES as usize)];
    for (place, _) in &tokens {
        groups[(place / Group::PLACES) as usize].tokens |= 1 << (place % Group::PLACES);
    }
    let mut before = 0;
    for group in &mut groups {
        group.before = before;
        before += group.tokens.count_ones();
    }
    (groups, tokens.into_iter().map(|(_, token)| token).collect())
}
