//! A text, character by character, with the class of each.

use crate::class::{BLOCK, OTHER};

static BLOCKS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/blocks.bin"));
static CLASSES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes.bin"));

/// A text. Places in it are in bytes, between characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'t>(pub(crate) &'t str);

impl Text<'_> {
    /// The class of the character at `at` and where the next is; none at the end.
    // Calls of this and of what is marked beside it make English a quarter dearer.
    #[inline]
    pub(crate) fn next(self, at: usize) -> Option<(u8, usize)> {
        let first = *self.0.as_bytes().get(at)?;
        if first.is_ascii() {
            // The first block is the first in the table.
            return Some((CLASSES.get(usize::from(first)).copied().unwrap_or(OTHER), at + 1));
        }
        let character = self.0.get(at..)?.chars().next()?;
        Some((class(u32::from(character)), at + character.len_utf8()))
    }

    /// The byte at `at`; 0 at the end.
    #[inline]
    pub(crate) fn byte(self, at: usize) -> u8 {
        self.0.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// Where the characters of `classes` that begin at `at` end.
    #[inline]
    pub(crate) fn skip(self, classes: u8, mut at: usize) -> usize {
        while let Some((class, next)) = self.next(at)
            && class & classes != 0
        {
            at = next;
        }
        at
    }
}

/// The class of a character.
fn class(character: u32) -> u8 {
    let (block, at) = (character as usize / BLOCK, character as usize % BLOCK);
    let block = BLOCKS.get(block).copied().unwrap_or(0);
    CLASSES.get(usize::from(block) * BLOCK + at).copied().unwrap_or(OTHER)
}
