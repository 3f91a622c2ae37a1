//! The classes of characters that the encodings' expressions distinguish: one bit each, so that a set is a mask.
//!
//! Shared by the build script, which looks them up in the tables of `regex-syntax`, and the library.

/// Upper and title case: `\p{Lu}`, `\p{Lt}`.
pub(crate) const UPPER: u8 = 1;
/// Lower case: `\p{Ll}`.
pub(crate) const LOWER: u8 = 1 << 1;
/// Letters without case: `\p{Lm}`, `\p{Lo}`.
pub(crate) const CASELESS: u8 = 1 << 2;
/// Marks that combine with what is before them: `\p{M}`.
pub(crate) const MARK: u8 = 1 << 3;
/// `\p{N}`
pub(crate) const NUMBER: u8 = 1 << 4;
/// `\s` but for those that end lines.
pub(crate) const BLANK: u8 = 1 << 5;
/// `[\r\n]`
pub(crate) const LINE_END: u8 = 1 << 6;
/// All others.
pub(crate) const OTHER: u8 = 1 << 7;

/// Characters of a block of the table.
pub(crate) const BLOCK: usize = 128;
