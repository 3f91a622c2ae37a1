//! The table of merges: which token two others make. A hash table with open addressing that holds nothing but the
//! tokens that are made; what they are made of, the table of tokens says.

use crate::layout::{Merge, Token};

/// The table for `tokens`, at most half full: a search that finds nothing looks at two and a half places then.
pub fn table(tokens: &[Token]) -> Vec<Merge> {
    let log2_len = (2 * tokens.len()).next_power_of_two().ilog2();
    let mut table = vec![Merge::NONE; 1 << log2_len];
    for (number, token) in tokens.iter().enumerate().filter(|(_, token)| token.len > 1) {
        let (mut place, tag) = Merge::search(token.left, token.right, log2_len);
        while table[place] != Merge::NONE {
            place = (place + 1) % table.len();
        }
        table[place] = Merge { token: number as u32, tag };
    }
    table
}
