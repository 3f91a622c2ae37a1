//! The worth of tokens: weights, for limits on tokens, and prices, for budgets in dollars.
//!
//! All arithmetic is on integers (millionths of a factor, micro-dollars) and rounds up once, at the end, so that
//! rounding never lets a request pass a limit or a budget. [`crate::usage`] finds out how many tokens a request used.
//! The configuration sets weights and prices, by patterns of model names
//! ([`ByPattern`](crate::policy::pattern::ByPattern)).

mod dearest;
mod price;
mod prices;
mod weights;
mod without_price;

pub use price::Price;
pub use prices::{Prices, Unpriced};
pub use weights::{Weighed, Weights};
pub use without_price::WithoutPrice;

/// The tokens of one request, in groups that may differ in worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens of the prompt, including those read from or written to a cache.
    pub input: u64,
    /// The part of `input` that was read from a cache.
    pub cached_input: u64,
    /// The part of `input` that was written to a cache.
    pub cache_write: u64,
    /// Tokens of the answer, including reasoning.
    pub output: u64,
    /// The part of `output` that is reasoning, as far as it is known.
    pub reasoning: u64,
    /// Whether nobody has said how much of `output` is reasoning, so that all of it may be.
    pub may_reason: bool,
}

impl Tokens {
    /// No tokens.
    pub const NONE: Self =
        Self { input: 0, cached_input: 0, cache_write: 0, output: 0, reasoning: 0, may_reason: false };

    /// The tokens as numbers, for a store to keep.
    pub fn numbers(&self) -> Vec<u64> {
        let Self { input, cached_input, cache_write, output, reasoning, may_reason } = *self;
        let known = [input, cached_input, cache_write, output, reasoning];
        known.into_iter().chain(may_reason.then_some(1)).collect()
    }

    /// The tokens that were written as these `numbers`. Those of an earlier version may be fewer, and of a later more.
    pub fn from_numbers(numbers: &[u64]) -> Self {
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        Self {
            input: number(0),
            cached_input: number(1),
            cache_write: number(2),
            output: number(3),
            reasoning: number(4),
            may_reason: number(5) > 0,
        }
    }

    /// The most of `output` that is reasoning.
    fn most_reasoning(&self) -> u64 {
        if self.may_reason { self.output } else { self.reasoning.min(self.output) }
    }

    /// The parts of `input`: outside any cache, read from a cache, and written to a cache. Some upstreams report parts
    /// that exceed the whole; they are cut to it.
    fn input_parts(&self) -> [u64; 3] {
        let cached = self.cached_input.min(self.input);
        let uncached = self.input - cached;
        let written = self.cache_write.min(uncached);
        [uncached - written, cached, written]
    }
}

/// The sum of all kinds of tokens, each times its worth.
fn total<const KINDS: usize>(kinds: [(u64, u64); KINDS]) -> u128 {
    let products = kinds.map(|(tokens, worth)| u128::from(tokens) * u128::from(worth));
    products.into_iter().fold(0, u128::saturating_add)
}

/// `parts` divided by `whole`, rounded up.
fn rounded_up(parts: u128, whole: u128) -> u64 {
    u64::try_from(parts.div_ceil(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_of_the_input_add_up_to_it(input: u64, cached_input: u64, cache_write: u64) {
            let tokens = Tokens { input, cached_input, cache_write, ..Tokens::default() };
            let sum = tokens.input_parts().iter().map(|part| u128::from(*part)).sum::<u128>();
            prop_assert_eq!(sum, u128::from(input));
        }

        #[test]
        fn what_a_store_keeps_is_what_was_written(output: u64, reasoning: u64, may_reason: bool) {
            let tokens = Tokens { output, reasoning, may_reason, ..Tokens::default() };
            prop_assert_eq!(Tokens::from_numbers(&tokens.numbers()), tokens);
        }
    }
}
