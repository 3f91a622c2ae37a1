//! What tokens are worth: weights, for limits on tokens, and prices, for budgets in dollars.
//!
//! All arithmetic is on integers (millionths of a factor, micro-dollars) and rounds up once, at the end, so that
//! neither a limit nor a budget is ever passed by rounding. Which tokens a request used is [`crate::usage`]'s business.

mod price;
mod unpriced;
mod weights;

pub use price::Price;
pub use unpriced::Unpriced;
pub use weights::{Weighed, Weights};

use crate::policy::pattern::Pattern;
use std::cmp::Reverse;

/// One, in the unit of factors and of dollars.
pub const MILLION: u64 = 1_000_000;

/// The tokens of one request, by what they are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, those read from or written to a cache included.
    pub input: u64,
    /// Of `input`, those read from a cache.
    pub cached_input: u64,
    /// Of `input`, those written to a cache.
    pub cache_write: u64,
    /// Of the answer, reasoning included.
    pub output: u64,
    /// Of `output`, those of reasoning.
    pub reasoning: u64,
}

impl Tokens {
    /// None at all.
    pub const NONE: Self = Self { input: 0, cached_input: 0, cache_write: 0, output: 0, reasoning: 0 };

    /// Of `input`: neither read from nor written to a cache; read from one; written to one. Parts that say more than
    /// the whole, which some upstreams report, are cut to it.
    fn input_parts(&self) -> [u64; 3] {
        let cached = self.cached_input.min(self.input);
        let written = self.cache_write.min(self.input.saturating_sub(cached));
        [self.input.saturating_sub(cached).saturating_sub(written), cached, written]
    }
}

/// A value per pattern of models. Of the patterns that match a model, the most specific counts, and of equally
/// specific ones the first in the alphabet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByModel<T> {
    /// The most specific first.
    values: Vec<(Pattern, T)>,
}

impl<T> ByModel<T> {
    /// Values in any order.
    pub fn new(values: impl IntoIterator<Item = (Pattern, T)>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(|(a, _), (b, _)| {
            Reverse(a.specificity()).cmp(&Reverse(b.specificity())).then_with(|| a.cmp(b))
        });
        Self { values }
    }

    /// The value for `model`. A request that names no model is matched by `*` only.
    pub fn of(&self, model: Option<&str>) -> Option<&T> {
        let matches =
            |pattern: &Pattern| model.map_or_else(|| pattern.matches_all(), |model| pattern.matches(model));
        self.values.iter().find(|(pattern, _)| matches(pattern)).map(|(_, value)| value)
    }

    /// Whether no model has a value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<T> Default for ByModel<T> {
    fn default() -> Self {
        Self { values: Vec::new() }
    }
}

/// `parts` over `whole`, rounded up.
fn rounded_up(parts: u128, whole: u128) -> u64 {
    u64::try_from(parts.div_ceil(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_most_specific_pattern_counts() {
        let values = [("*", 0), ("gpt-4*", 1), ("gpt-4o", 2), ("*-mini", 3), ("gpt-5", 4)];
        let values = ByModel::new(values.map(|(pattern, value)| (Pattern::new(pattern), value)));
        let of = |model| values.of(Some(model)).copied();
        assert_eq!([of("gpt-4o"), of("gpt-4"), of("gpt-4o-mini"), of("o3")], [2, 1, 3, 0].map(Some));
        assert_eq!(values.of(None), Some(&0));
        let without_star = ByModel::new([(Pattern::new("gpt-4*"), 1)]);
        assert_eq!((without_star.of(Some("o3")), without_star.of(None)), (None, None));
    }

    proptest! {
        #[test]
        fn parts_of_the_input_add_up_to_it(input: u64, cached_input: u64, cache_write: u64) {
            let tokens = Tokens { input, cached_input, cache_write, ..Tokens::default() };
            let sum = tokens.input_parts().iter().map(|part| u128::from(*part)).sum::<u128>();
            prop_assert_eq!(sum, u128::from(input));
        }
    }
}
