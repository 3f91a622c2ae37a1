//! Encodings, and the factor that corrects a count for a model whose tokenizer is not published.
//!
//! [`crate::models`] has the encoding and the factor of each model.

use crate::quantity::MILLION;
use serde::{Deserialize, Serialize};

/// A tokenizer's vocabulary and the expression that splits text into pieces.
///
/// In configuration it has OpenAI's name: `o200k_base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// GPT-4o and all later models of OpenAI's; `o200k_harmony` is the same for ordinary text.
    O200kBase,
    /// GPT-4, GPT-3.5, embeddings.
    Cl100kBase,
    /// Codex and `text-davinci-003`; `p50k_edit` is the same for ordinary text.
    P50kBase,
    /// GPT-3 and GPT-2.
    R50kBase,
}

impl Encoding {
    /// The vocabulary and the expression.
    pub(super) const fn vocabulary(self) -> &'static token_count::Encoding {
        match self {
            Self::O200kBase => &token_count::O200K_BASE,
            Self::Cl100kBase => &token_count::CL100K_BASE,
            Self::P50kBase => &token_count::P50K_BASE,
            Self::R50kBase => &token_count::R50K_BASE,
        }
    }
}

/// A multiplier of counts, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    millionths: u64,
}

impl Factor {
    /// A factor of one.
    pub const ONE: Self = Self { millionths: MILLION };

    /// `factor`, if it is at least a millionth and at most 1,000.
    pub fn new(factor: f64) -> Option<Self> {
        // Whole millionths keep 1.1 x 10 at 11, where floating point and rounding up would make it 12.
        let millionths = (factor * MILLION as f64).round();
        (1.0..=1e9).contains(&millionths).then_some(Self { millionths: millionths as u64 })
    }

    /// A factor of so many hundredths.
    pub(crate) const fn from_hundredths(hundredths: u32) -> Self {
        Self { millionths: hundredths as u64 * (MILLION / 100) }
    }

    /// `tokens` times the factor, rounded up.
    pub fn of(self, tokens: u64) -> u64 {
        // The product of two numbers of 64 bits always fits 128.
        let product = u128::from(tokens) * u128::from(self.millionths);
        u64::try_from(product.div_ceil(MILLION.into())).unwrap_or(u64::MAX)
    }
}

/// A method to count a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// The encoding that splits it into tokens.
    pub encoding: Encoding,
    /// The factor that corrects the count.
    pub factor: Factor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_have_openais_names() {
        for (encoding, name) in [
            (Encoding::O200kBase, "o200k_base"),
            (Encoding::Cl100kBase, "cl100k_base"),
            (Encoding::P50kBase, "p50k_base"),
            (Encoding::R50kBase, "r50k_base"),
        ] {
            assert_eq!(serde_json::to_value(encoding).unwrap(), name);
            assert_eq!(serde_json::from_value::<Encoding>(name.into()).unwrap(), encoding);
        }
        assert!(serde_json::from_value::<Encoding>("gpt-4".into()).is_err());
    }

    #[test]
    fn factors_round_up_and_saturate() {
        assert_eq!(Factor::new(1.1).unwrap().of(10), 11);
        assert_eq!(Factor::new(1.15).unwrap().of(10), 12);
        assert_eq!(Factor::new(1000.0).unwrap().of(u64::MAX), u64::MAX);
        assert_eq!(Factor::ONE.of(7), 7);
        for bad in [0.0, -1.0, 1e-9, 1001.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Factor::new(bad), None, "{bad}");
        }
    }
}
