//! The kinds of prompts, by what is hardest to count in them.

use strum::EnumIter;

/// A kind of prompt. One that is of several is of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter)]
pub enum PromptKind {
    /// Text alone.
    Plain,
    /// With definitions of tools, or with calls of tools.
    Tools,
    /// With images.
    Images,
    /// With documents, audio or parts of unknown types.
    Documents,
}

impl PromptKind {
    /// Its letter, where it is written.
    pub const fn letter(self) -> char {
        match self {
            Self::Plain => 'p',
            Self::Tools => 't',
            Self::Images => 'i',
            Self::Documents => 'd',
        }
    }
}
