//! What one answer says about the count of its prompt.

use super::MAX_SHARE;
use crate::tokens::PromptKind;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use strum::IntoEnumIterator as _;

/// A model, by a hash of its name, and a kind of prompt. Written as sixteen hexadecimal digits and a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cell {
    model: u64,
    kind: PromptKind,
}

/// A sender, by a hash of the id of its counters. Written as sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Voter(u64);

/// What an answer has reported of its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesson {
    /// The model and the kind of the prompt.
    pub cell: Cell,
    /// Whose answer it was.
    pub voter: Voter,
    /// The tokens that were reported for a thousand that were counted: 1 to [`MAX_SHARE`].
    pub permille: u16,
}

/// Text that is no cell or voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected sixteen hexadecimal digits, and for a cell one of the letters p, t, i and d")]
pub struct NoCell;

impl Cell {
    /// The cell of prompts of this `kind` for `model`.
    pub fn new(model: &str, kind: PromptKind) -> Self {
        Self { model: hash(&model.to_ascii_lowercase()), kind }
    }
}

impl Voter {
    /// The vote of the sender whose counters have this `id`.
    pub fn new(id: &str) -> Self {
        Self(hash(id))
    }
}

impl Lesson {
    /// What `id`, a sender, gets to know when a prompt of a cell that counts `counted` tokens is reported to have
    /// `reported`. None if either has none.
    pub fn new(cell: Cell, id: &str, counted: u64, reported: u64) -> Option<Self> {
        if counted == 0 || reported == 0 {
            return None;
        }
        let share = (u128::from(reported) * 1_000 + u128::from(counted) / 2) / u128::from(counted);
        let permille = u16::try_from(share).unwrap_or(MAX_SHARE).clamp(1, MAX_SHARE);
        Some(Self { cell, voter: Voter::new(id), permille })
    }
}

/// The same for every Envoy of a fleet. Whoever finds two texts with one hash gains a bounded error of an estimate.
fn hash(text: &str) -> u64 {
    let mut hash = SipHasher13::new_with_keys(0, 0);
    hash.write(text.as_bytes());
    hash.finish()
}

/// The number that sixteen hexadecimal digits, in lower case, write.
fn digits(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_number = text.len() == 16 && text.bytes().all(is_digit);
    u64::from_str_radix(text, 16).ok().filter(|_| is_number)
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.model, self.kind.letter())
    }
}

impl FromStr for Cell {
    type Err = NoCell;

    fn from_str(text: &str) -> Result<Self, NoCell> {
        let (model, letter) = text.split_at_checked(16).ok_or(NoCell)?;
        let kind = PromptKind::iter().find(|kind| letter.chars().eq([kind.letter()])).ok_or(NoCell)?;
        Ok(Self { model: digits(model).ok_or(NoCell)?, kind })
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Cell> for String {
    fn from(cell: Cell) -> Self {
        cell.to_string()
    }
}

impl TryFrom<String> for Cell {
    type Error = NoCell;

    fn try_from(text: String) -> Result<Self, NoCell> {
        text.parse()
    }
}

impl From<Voter> for String {
    fn from(voter: Voter) -> Self {
        voter.to_string()
    }
}

impl TryFrom<String> for Voter {
    type Error = NoCell;

    fn try_from(text: String) -> Result<Self, NoCell> {
        digits(&text).map(Self).ok_or(NoCell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_model_in_any_case_and_a_kind() {
        let cell = Cell::new("Claude-Opus-4-5", PromptKind::Tools);
        assert_eq!(cell, Cell::new("claude-opus-4-5", PromptKind::Tools));
        assert_ne!(cell, Cell::new("claude-opus-4-5", PromptKind::Plain));
        assert_ne!(cell, Cell::new("claude-opus-4-6", PromptKind::Tools));
        for kind in PromptKind::iter() {
            let cell = Cell::new("m", kind);
            assert_eq!(cell.to_string().parse(), Ok(cell));
        }
        for text in ["", "0123456789abcdef", "0123456789abcdefx", "0123456789abcdeFp", "+123456789abcdefp"] {
            assert_eq!(text.parse::<Cell>(), Err(NoCell), "{text}");
        }
    }

    #[test]
    fn a_lesson_is_what_was_reported_for_a_thousand_counted() {
        let cell = Cell::new("m", PromptKind::Plain);
        let of = |counted, reported| Lesson::new(cell, "me", counted, reported).map(|lesson| lesson.permille);
        assert_eq!(of(100, 130), Some(1_300));
        assert_eq!(of(3, 2), Some(667));
        assert_eq!(of(1, u64::MAX), Some(MAX_SHARE));
        assert_eq!(of(u64::MAX, 1), Some(1));
        assert_eq!((of(0, 5), of(5, 0)), (None, None));
    }

    #[test]
    fn a_lesson_names_neither_the_model_nor_the_sender() {
        let lesson = Lesson::new(Cell::new("secret-model", PromptKind::Plain), "sender", 10, 13).unwrap();
        let json = serde_json::to_string(&lesson).unwrap();
        assert!(!json.contains("secret") && !json.contains("sender"), "{json}");
        assert_eq!(serde_json::from_str::<Lesson>(&json).unwrap(), lesson);
    }
}
