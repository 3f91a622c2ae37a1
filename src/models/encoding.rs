//! The encoding in which a model's text is counted, and the factor that corrects the count.
//!
//! The reference for OpenAI's models is the table of the crate `tiktoken-rs`, so a new model of OpenAI's comes with a
//! new version of that crate. The configuration overrides the table by patterns, for models that it does not know
//! and for models with a tokenizer of their own.

use super::{Family, Rules, without_provider};
use crate::policy::pattern::{ByPattern, Pattern};
use crate::tokens::{Counting, Encoding, Tokenizer};
use tiktoken_rs::tokenizer::{Tokenizer as Vocabulary, get_tokenizer};

/// The encoding of `model`. A name that is not in the table is looked up again without the name of a provider or a
/// gateway (`openai/gpt-4o`); if it is still unknown, the encoding is `o200k_base`.
pub(super) fn encoding(model: &str) -> Encoding {
    match get_tokenizer(model).or_else(|| get_tokenizer(without_provider(model))) {
        Some(Vocabulary::Cl100kBase) => Encoding::Cl100kBase,
        Some(Vocabulary::P50kBase | Vocabulary::P50kEdit) => Encoding::P50kBase,
        Some(Vocabulary::R50kBase | Vocabulary::Gpt2) => Encoding::R50kBase,
        Some(Vocabulary::O200kBase | Vocabulary::O200kHarmony) => Encoding::O200kBase,
        None => match Family::of(model) {
            Family::Gpt3_5 | Family::Gpt4 => Encoding::Cl100kBase,
            _ => Encoding::O200kBase,
        },
    }
}

/// The method to count the text of every model: the tables here, and the configuration's overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    overrides: ByPattern<Counting>,
    /// The tokens of a document that a request only names, if the configuration has them.
    unknown_document: Option<u64>,
}

impl Encodings {
    /// The tables with `overrides`, in any order.
    pub fn new(overrides: impl IntoIterator<Item = (Pattern, Counting)>) -> Self {
        Self { overrides: ByPattern::new(overrides), unknown_document: None }
    }

    /// The same, with so many tokens for a document that a request only names; by default, those of ten pages.
    #[must_use]
    pub fn with_unknown_documents(self, tokens: Option<u64>) -> Self {
        Self { unknown_document: tokens, ..self }
    }

    /// The method to count the text of `model`. A request that names no model counts like one for an unknown model.
    pub fn of(&self, model: Option<&str>) -> Counting {
        let name = model.unwrap_or_default();
        let counting = self.overrides.of(model).copied();
        counting.unwrap_or_else(|| Counting { encoding: encoding(name), factor: Rules::of(name).factor() })
    }

    /// The tokenizer of `model`, or of a request that names no model.
    pub fn tokenizer(&self, model: Option<&str>) -> Tokenizer {
        let name = model.unwrap_or_default();
        let rules = Rules::of(name);
        let tokenizer = match self.overrides.of(model) {
            Some(counting) => Tokenizer::new(*counting),
            None => Tokenizer::new(Counting { encoding: encoding(name), factor: rules.factor() })
                .sparing(rules.spared()),
        };
        tokenizer
            .with_weights(rules.weights())
            .with_answers(rules.answers())
            .with_unknown_documents(self.unknown_document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Factor;

    fn counting(encoding: Encoding) -> Counting {
        Counting { encoding, factor: Factor::ONE }
    }

    #[test]
    fn models_have_the_reference_tables_encodings() {
        for (model, expected) in [
            ("gpt-4o", Encoding::O200kBase),
            ("gpt-5.2-codex", Encoding::O200kBase),
            ("gpt-oss-120b", Encoding::O200kBase),
            ("gpt-4-0613", Encoding::Cl100kBase),
            ("ft:gpt-3.5-turbo:acme::id", Encoding::Cl100kBase),
            ("text-davinci-edit-001", Encoding::P50kBase),
            ("gpt2", Encoding::R50kBase),
            ("openai/gpt-4", Encoding::Cl100kBase),
            ("gateway/azure/gpt-35-turbo", Encoding::Cl100kBase),
            ("openai-gpt-4-turbo", Encoding::Cl100kBase),
            ("meta-llama/llama-3", Encoding::O200kBase),
            ("", Encoding::O200kBase),
        ] {
            assert_eq!(encoding(model), expected, "{model}");
        }
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
    fn claude_has_a_factor_unless_one_is_configured() {
        let factor = |encodings: &Encodings, model| encodings.of(Some(model)).factor;
        assert_eq!(factor(&Encodings::default(), "claude-opus-4-7"), Factor::new(1.4).unwrap());
        assert_eq!(factor(&Encodings::default(), "claude-3-haiku"), Factor::new(1.15).unwrap());
        assert_eq!(factor(&Encodings::default(), "gpt-4o"), Factor::ONE);
        let configured = Encodings::new([(Pattern::new("claude*"), counting(Encoding::O200kBase))]);
        assert_eq!(factor(&configured, "claude-opus-4-7"), Factor::ONE);
    }
}
