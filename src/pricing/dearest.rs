//! The worth of the tokens of a request that may be for one of several models: that of the dearest.

use super::{Tokens, Weighed, Weights};
use crate::policy::Candidates;

impl Weights {
    /// What `tokens` count for, of whichever of `models` they count for most.
    pub fn dearest(&self, models: &Candidates, tokens: &Tokens) -> Weighed {
        let none = Weighed::default();
        match models {
            Candidates::One(name) => self.weigh(Some(name), tokens),
            Candidates::Several(names) => {
                names.iter().fold(none, |most, name| most.max(self.weigh(Some(name), tokens)))
            }
            Candidates::Any(_) => {
                let usual = (!self.models.is_total()).then_some(&crate::quantity::MILLION);
                let factors = self.models.values().chain(usual);
                factors.fold(none, |most, factor| most.max(self.weigh_by(*factor, tokens)))
            }
        }
    }
}

impl Weighed {
    fn max(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(other.input_tokens),
            uncached_input_tokens: self.uncached_input_tokens.max(other.uncached_input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.max(other.reasoning_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pattern::{ByPattern, Pattern};

    const TOKENS: Tokens = Tokens { input: 100, output: 10, ..Tokens::NONE };

    fn models(names: &[&str]) -> Candidates {
        Candidates::of(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_dearest_of_the_models_counts() {
        let patterns = |values: &[(&str, u64)]| {
            ByPattern::new(values.iter().map(|(pattern, value)| (Pattern::new(*pattern), *value)))
        };
        let weights = |values: &[(&str, u64)]| Weights { models: patterns(values), ..Weights::default() };
        let weigh = |values: &[(&str, u64)], names: &[&str]| {
            weights(values).dearest(&models(names), &TOKENS).input_tokens
        };
        let some = &[("a*", 500_000), ("b", 2_000_000)][..];
        assert_eq!(weigh(some, &["a1"]), 50);
        assert_eq!(weigh(some, &["a1", "b", "c"]), 200);
        assert_eq!((weigh(some, &["a1", "c"]), weigh(some, &[])), (100, 200));
        assert_eq!(weigh(&[("a*", 500_000)], &[]), 100, "a model that no pattern matches");
        assert_eq!(weigh(&[("a*", 500_000), ("*", 100_000)], &[]), 50);
    }
}
