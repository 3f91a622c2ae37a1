//! Prices: the cost of a request in micro-dollars, under limits on `cost_usd`.

use super::{Tokens, rounded_up, total};
use crate::quantity::MILLION;

/// A model's prices, in micro-dollars per million tokens: price lists write 2,500,000 as $2.50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The price of prompt tokens.
    pub input: u64,
    /// The price of prompt tokens read from a cache.
    pub cached_input: u64,
    /// The price of prompt tokens written to a cache.
    pub cache_write: u64,
    /// The price of answer tokens, including reasoning.
    pub output: u64,
}

impl Price {
    /// The cost of `tokens` in micro-dollars, rounded up.
    pub fn cost_micro_usd(&self, tokens: &Tokens) -> u64 {
        let [fresh, cached, written] = tokens.input_parts();
        let cost = total([
            (fresh, self.input),
            (cached, self.cached_input),
            (written, self.cache_write),
            (tokens.output, self.output),
        ]);
        rounded_up(cost, MILLION.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GPT_4O: Price =
        Price { input: 2_500_000, cached_input: 1_250_000, cache_write: 2_500_000, output: 10_000_000 };

    fn tokens() -> impl Strategy<Value = Tokens> {
        let total = 1..10_000_000_u64;
        (total.clone(), 0..=1_000_u64, 0..=1_000_u64, total).prop_map(|(input, cached, written, output)| {
            Tokens {
                input,
                cached_input: input * cached / 1_000,
                cache_write: input * written / 1_000,
                output,
                reasoning: 0,
                may_reason: false,
            }
        })
    }

    fn price() -> impl Strategy<Value = Price> {
        let price = 0..1_000_000_000_u64;
        (price.clone(), price.clone(), price.clone(), price).prop_map(
            |(input, cached_input, cache_write, output)| Price { input, cached_input, cache_write, output },
        )
    }

    #[test]
    fn a_request_costs_as_much_as_in_the_price_list() {
        let cost = |input, cached_input, output| {
            GPT_4O.cost_micro_usd(&Tokens { input, cached_input, output, ..Tokens::default() })
        };
        assert_eq!(cost(1_000_000, 0, 0), 2_500_000, "$2.50 for a million");
        assert_eq!(cost(1_000, 600, 100), 1_000 + 750 + 1_000);
        assert_eq!(cost(1, 0, 0), 3, "2.5 micro-dollars, rounded up");
        assert_eq!(cost(0, 0, 0), 0);
        assert_eq!(cost(10, 20, 0), 13, "cached tokens are at most all tokens");
        let written = Tokens { input: 1_000, cache_write: 1_000, ..Tokens::default() };
        assert_eq!(Price { cache_write: 3_750_000, ..GPT_4O }.cost_micro_usd(&written), 3_750);
        let max = Tokens { input: u64::MAX, output: u64::MAX, ..Tokens::default() };
        assert_eq!(GPT_4O.cost_micro_usd(&max), u64::MAX);
    }

    proptest! {
        #[test]
        fn a_cost_is_rounded_up_once(price in price(), tokens in tokens()) {
            let [fresh, cached, written] = tokens.input_parts().map(u128::from);
            let exact = fresh * u128::from(price.input) + cached * u128::from(price.cached_input)
                + written * u128::from(price.cache_write) + u128::from(tokens.output) * u128::from(price.output);
            let cost = u128::from(price.cost_micro_usd(&tokens)) * 1_000_000;
            prop_assert!(exact <= cost && cost < exact + 1_000_000);
        }

        #[test]
        fn more_tokens_never_cost_less(price in price(), tokens in tokens(), more in 0..1_000_000_u64) {
            let cost = price.cost_micro_usd(&tokens);
            let larger = [
                Tokens { input: tokens.input + more, ..tokens },
                Tokens { output: tokens.output + more, ..tokens },
            ];
            for tokens in larger {
                prop_assert!(price.cost_micro_usd(&tokens) >= cost);
            }
        }

        #[test]
        fn a_cheaper_cache_never_costs_more(price in price(), tokens in tokens()) {
            let cached_input = price.cached_input.min(price.input);
            let cost = |cached| {
                let tokens = Tokens { cached_input: cached, cache_write: 0, ..tokens };
                Price { cached_input, ..price }.cost_micro_usd(&tokens)
            };
            prop_assert!(cost(tokens.cached_input) <= cost(0));
        }
    }
}
