//! Which encoding a model's text is counted in, and by what factor the count is corrected.
//!
//! The reference is tiktoken-rs's table of OpenAI's models. The configuration overrides it by patterns, for models
//! that the table does not know or whose tokenizer is not one of OpenAI's.

use super::{Claude, Tokenizer};
use crate::policy::pattern::Pattern;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use tiktoken_rs::tokenizer::{Tokenizer as Vocabulary, get_tokenizer};

/// A tokenizer's vocabulary and the expression that splits text into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// GPT-4o and all later models of OpenAI's; `o200k_harmony` is the same for ordinary text.
    #[serde(rename = "o200k_base")]
    O200kBase,
    /// GPT-4, GPT-3.5, embeddings.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
    /// Codex and `text-davinci-003`; `p50k_edit` is the same for ordinary text.
    #[serde(rename = "p50k_base")]
    P50kBase,
    /// GPT-3 and GPT-2.
    #[serde(rename = "r50k_base")]
    R50kBase,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::O200kBase, Self::Cl100kBase, Self::P50kBase, Self::R50kBase];

    /// Its name in configuration: OpenAI's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::Cl100kBase => "cl100k_base",
            Self::P50kBase => "p50k_base",
            Self::R50kBase => "r50k_base",
        }
    }

    /// The tokenizer.
    pub(super) const fn vocabulary(self) -> &'static token_count::Encoding {
        match self {
            Self::O200kBase => &token_count::O200K_BASE,
            Self::Cl100kBase => &token_count::CL100K_BASE,
            Self::P50kBase => &token_count::P50K_BASE,
            Self::R50kBase => &token_count::R50K_BASE,
        }
    }

    /// The encoding called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// The encoding of `model`. A name that the table does not know is looked up without what its provider or
    /// gateway put before it (`openai/gpt-4o`); still unknown, it is `o200k_base`.
    pub fn for_model(model: &str) -> Self {
        let tokenizer = get_tokenizer(model).or_else(|| get_tokenizer(without_provider(model)));
        match tokenizer {
            Some(Vocabulary::Cl100kBase) => Self::Cl100kBase,
            Some(Vocabulary::P50kBase | Vocabulary::P50kEdit) => Self::P50kBase,
            Some(Vocabulary::R50kBase | Vocabulary::Gpt2) => Self::R50kBase,
            Some(Vocabulary::O200kBase | Vocabulary::O200kHarmony) | None => Self::O200kBase,
        }
    }
}

/// The model's own name: what follows the last `/`.
pub fn without_provider(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, name)| name)
}

/// What a count is multiplied by, to a millionth, for models whose tokenizer is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    millionths: u64,
}

impl Factor {
    /// A factor of one.
    pub const ONE: Self = Self { millionths: 1_000_000 };

    /// `factor`, if it is at least a millionth and at most 1,000.
    pub fn new(factor: f64) -> Option<Self> {
        // Whole millionths keep 1.1 x 10 at 11, where floating point and rounding up would make it 12.
        let millionths = (factor * 1_000_000.0).round();
        (1.0..=1e9).contains(&millionths).then_some(Self { millionths: millionths as u64 })
    }

    /// The factor that corrects [`Encoding::for_model`] where nothing is configured: one but for Claude.
    pub fn for_model(model: &str) -> Self {
        Claude::from_model(model).map_or(Self::ONE, Claude::factor)
    }

    /// A factor of so many tenths.
    pub(super) const fn from_tenths(tenths: u32) -> Self {
        Self { millionths: tenths as u64 * 100_000 }
    }

    /// `tokens` times the factor, rounded up.
    pub fn of(self, tokens: u64) -> u64 {
        let product = u128::from(tokens).saturating_mul(u128::from(self.millionths));
        u64::try_from(product.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// How a model's text is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// In which encoding.
    pub encoding: Encoding,
    /// What the count is multiplied by.
    pub factor: Factor,
}

/// The configuration's overrides of the table of models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// The most specific first.
    rules: Vec<(Pattern, Counting)>,
}

impl Encodings {
    /// Overrides in any order: of those that match a model, the most specific counts, and of equally specific ones
    /// the first in the alphabet.
    pub fn new(rules: impl IntoIterator<Item = (Pattern, Counting)>) -> Self {
        let mut rules: Vec<_> = rules.into_iter().collect();
        rules.sort_by(|(a, _), (b, _)| (Reverse(a.specificity()), a).cmp(&(Reverse(b.specificity()), b)));
        Self { rules }
    }

    /// How `model`'s text is counted. A request that names no model is counted as one of an unknown model.
    pub fn of(&self, model: Option<&str>) -> Counting {
        let model = model.unwrap_or_default();
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches(model));
        rule.map_or_else(
            || Counting { encoding: Encoding::for_model(model), factor: Factor::for_model(model) },
            |(_, counting)| *counting,
        )
    }

    /// What counts the text of `model`; none is a request that names no model.
    pub fn tokenizer(&self, model: Option<&str>) -> Tokenizer {
        Tokenizer::new(self.of(model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(encoding: Encoding) -> Counting {
        Counting { encoding, factor: Factor::ONE }
    }

    #[test]
    fn models_have_the_reference_tables_encodings() {
        for (model, encoding) in [
            ("gpt-4o", Encoding::O200kBase),
            ("gpt-5.2-codex", Encoding::O200kBase),
            ("gpt-oss-120b", Encoding::O200kBase),
            ("gpt-4-0613", Encoding::Cl100kBase),
            ("ft:gpt-3.5-turbo:acme::id", Encoding::Cl100kBase),
            ("text-davinci-edit-001", Encoding::P50kBase),
            ("gpt2", Encoding::R50kBase),
            ("openai/gpt-4", Encoding::Cl100kBase),
            ("gateway/azure/gpt-35-turbo", Encoding::Cl100kBase),
            ("meta-llama/llama-3", Encoding::O200kBase),
            ("", Encoding::O200kBase),
        ] {
            assert_eq!(Encoding::for_model(model), encoding, "{model}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
            assert_eq!(serde_json::to_string(&encoding).unwrap(), format!("\"{}\"", encoding.name()));
        }
        assert_eq!(Encoding::from_name("gpt-4"), None);
    }

    #[test]
    fn the_most_specific_override_counts() {
        let half = Factor::new(0.5).unwrap();
        let llama = Counting { encoding: Encoding::Cl100kBase, factor: half };
        let encodings = Encodings::new([
            (Pattern::new("*"), counting(Encoding::R50kBase)),
            (Pattern::new("llama*"), llama),
            (Pattern::new("llama-3*"), counting(Encoding::P50kBase)),
        ]);
        assert_eq!(encodings.of(Some("llama-2")), llama);
        assert_eq!(encodings.of(Some("llama-3.1")).encoding, Encoding::P50kBase);
        assert_eq!(encodings.of(Some("gpt-4")).encoding, Encoding::R50kBase);
        assert_eq!(encodings.of(None).encoding, Encoding::R50kBase);
    }

    #[test]
    fn claude_has_a_factor_until_one_is_configured() {
        let factor = |encodings: &Encodings, model| encodings.of(Some(model)).factor;
        assert_eq!(factor(&Encodings::default(), "claude-opus-4-7"), Factor::new(1.6).unwrap());
        assert_eq!(factor(&Encodings::default(), "claude-3-haiku"), Factor::new(1.2).unwrap());
        assert_eq!(factor(&Encodings::default(), "gpt-4o"), Factor::ONE);
        let configured = Encodings::new([(Pattern::new("claude*"), counting(Encoding::O200kBase))]);
        assert_eq!(factor(&configured, "claude-opus-4-7"), Factor::ONE);
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
