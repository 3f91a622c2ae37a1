//! Weights: the factor by which each token counts under limits on tokens, for platforms on which some tokens count more
//! than others.

use super::{Tokens, rounded_up, total};
use crate::policy::pattern::ByPattern;
use crate::quantity::MILLION;

/// Factors in millionths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The factor of prompt tokens read from a cache, at most one.
    pub cached_input: u64,
    /// The factor of reasoning tokens, at most ten.
    pub reasoning: u64,
    /// The factor of all tokens of a model, at most a thousand.
    pub models: ByPattern<u64>,
}

impl Default for Weights {
    fn default() -> Self {
        Self { cached_input: MILLION, reasoning: MILLION, models: ByPattern::default() }
    }
}

/// Weighed tokens, as limits count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weighed {
    /// Weighed tokens of the prompt.
    pub input_tokens: u64,
    /// Those that are not read from a cache.
    pub uncached_input_tokens: u64,
    /// Weighed tokens of the answer.
    pub output_tokens: u64,
    /// Those that are, or may be, reasoning.
    pub reasoning_tokens: u64,
}

impl Weights {
    /// The weighed `tokens` of `model`: prompt and answer, each rounded up.
    pub fn weigh(&self, model: Option<&str>, tokens: &Tokens) -> Weighed {
        self.weigh_by(self.models.of(model).copied().unwrap_or(MILLION), tokens)
    }

    /// The same of a model with this factor, in millionths.
    pub(super) fn weigh_by(&self, factor: u64, tokens: &Tokens) -> Weighed {
        let factor = u128::from(factor);
        // A part that exceeds the whole, as some upstreams report, is cut to it.
        let weigh = |whole: u64, part: u64, part_factor: u64| {
            if whole == 0 {
                return 0;
            }
            let part = part.min(whole);
            let sum = total([(whole - part, MILLION), (part, part_factor)]);
            rounded_up(sum.saturating_mul(factor), u128::from(MILLION).pow(2))
        };
        let reasoning = tokens.most_reasoning();
        let input_tokens = weigh(tokens.input, tokens.cached_input, self.cached_input);
        // Division takes a while, and most prompts come from no cache.
        let is_uncached = tokens.cached_input == 0;
        Weighed {
            input_tokens,
            uncached_input_tokens: if is_uncached {
                input_tokens
            } else {
                weigh(tokens.input, tokens.cached_input, 0)
            },
            output_tokens: weigh(tokens.output, tokens.reasoning, self.reasoning),
            reasoning_tokens: weigh(reasoning, reasoning, self.reasoning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pattern::Pattern;
    use proptest::prelude::*;

    fn weigh(weights: &Weights, model: &str, tokens: Tokens) -> (u64, u64) {
        let weighed = weights.weigh(Some(model), &tokens);
        (weighed.input_tokens, weighed.output_tokens)
    }

    #[test]
    fn cached_and_reasoning_tokens_and_models_count_as_configured() {
        let models = ByPattern::new([(Pattern::new("gpt-4*"), 2_500_000)]);
        let weights = Weights { cached_input: 100_000, reasoning: 4_000_000, models };
        let tokens = Tokens { input: 100, cached_input: 60, output: 30, reasoning: 10, ..Tokens::default() };
        assert_eq!(weigh(&weights, "o3", tokens), (46, 60));
        assert_eq!(weigh(&weights, "gpt-4", tokens), (115, 150));
        let one = Tokens { input: 1, cached_input: 1, ..Tokens::default() };
        assert_eq!(weigh(&weights, "o3", one), (1, 0), "a tenth, rounded up");
        let too_much = Tokens { input: 10, cached_input: 20, output: 1, reasoning: 5, ..Tokens::default() };
        assert_eq!(weigh(&weights, "o3", too_much), (1, 4), "parts are cut to the whole");
    }

    proptest! {
        #[test]
        fn without_weights_a_token_is_a_token(input: u64, cached_input: u64, output: u64, reasoning: u64) {
            let tokens = Tokens { input, cached_input, output, reasoning, ..Tokens::NONE };
            prop_assert_eq!(weigh(&Weights::default(), "any", tokens), (input, output));
        }

        #[test]
        fn a_weight_is_rounded_up_once(
            input in 0..1_000_000_000_u64, part in 0..=1_000_u64,
            cached_input in 0..=1_000_000_u64, model in 0..1_000_000_000_u64,
        ) {
            let cached = input * part / 1_000;
            let weights = Weights {
                cached_input,
                models: ByPattern::new([(Pattern::new("*"), model)]),
                ..Weights::default()
            };
            let (weighed, _) =
                weigh(&weights, "any", Tokens { input, cached_input: cached, ..Tokens::default() });
            let exact = (u128::from(input - cached) * 1_000_000 + u128::from(cached) * u128::from(cached_input))
                * u128::from(model);
            let weighed = u128::from(weighed) * 1_000_000_000_000;
            prop_assert!(exact <= weighed && weighed < exact + 1_000_000_000_000);
        }
    }
}
