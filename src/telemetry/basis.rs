//! How the final charge of a request was found.

use strum::{EnumIter, IntoStaticStr};

/// What the final charge of a request rests on. The access log, the metrics and the command `llm-rate-limit count` have
/// the same words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Basis {
    /// The upstream has reported what the answer used.
    Reported,
    /// It has not: the text of the answer was counted, as far as it has come.
    Counted,
    /// The upstream has answered with an error, or broken off before any output: the tokens are given back.
    Failed,
    /// Nobody has measured anything, or not yet: it stays as reserved.
    Unknown,
}

impl Basis {
    /// Its word.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
