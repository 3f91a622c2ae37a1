//! The prices of models, and what a request costs whose model has none.
//!
//! A name without a price must not be a way around a budget: by default its requests cost as much as the dearest model
//! of the configuration.

use super::{Price, Tokens};
use crate::policy::Candidates;
use crate::policy::pattern::ByPattern;

/// The prices of models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Those that the configuration has, by patterns of names.
    pub own: ByPattern<Price>,
    /// What others cost.
    pub unpriced: Unpriced,
}

/// What the requests of a model cost that no pattern of prices matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// As much as those of the dearest model in `prices`.
    #[default]
    Dearest,
    /// Nothing.
    Free,
}

impl Prices {
    /// The price of `model`; none if no pattern matches it. A request that names no model matches only `*`.
    pub fn of(&self, model: Option<&str>) -> Option<&Price> {
        self.own.of(model)
    }

    /// What `tokens` cost, in micro-dollars, of whichever of `models` they cost most.
    pub fn dearest_micro_usd(&self, models: &Candidates, tokens: &Tokens) -> u64 {
        let of_all = || self.own.values().map(|price| price.cost_micro_usd(tokens)).max().unwrap_or(0);
        let of_one = |name: &String| match (self.of(Some(name)), self.unpriced) {
            (Some(price), _) => price.cost_micro_usd(tokens),
            (None, Unpriced::Dearest) => of_all(),
            (None, Unpriced::Free) => 0,
        };
        match models {
            Candidates::One(name) => of_one(name),
            Candidates::Several(names) => names.iter().map(of_one).max().unwrap_or(0),
            Candidates::Any(_) => of_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pattern::Pattern;

    const TOKENS: Tokens = Tokens { input: 100, output: 10, ..Tokens::NONE };

    fn prices(unpriced: Unpriced) -> Prices {
        let price = |input, output| Price { input, cached_input: input, cache_write: input, output };
        let own = ByPattern::new([
            (Pattern::new("in"), price(9_000_000, 0)),
            (Pattern::new("out"), price(1_000_000, 100_000_000)),
        ]);
        Prices { own, unpriced }
    }

    fn cost(prices: &Prices, names: &[&str]) -> u64 {
        let models = Candidates::of(names.iter().map(|name| (*name).to_owned()).collect());
        prices.dearest_micro_usd(&models, &TOKENS)
    }

    #[test]
    fn the_dearest_price_is_that_of_these_tokens() {
        let prices = prices(Unpriced::Free);
        assert_eq!(
            (cost(&prices, &["in"]), cost(&prices, &["out"]), cost(&prices, &["in", "none"])),
            (900, 1_100, 900)
        );
        assert_eq!((cost(&prices, &["in", "out"]), cost(&prices, &[])), (1_100, 1_100));
        assert_eq!(Prices::default().dearest_micro_usd(&Candidates::UNKNOWN, &TOKENS), 0);
    }

    #[test]
    fn a_model_without_a_price_costs_what_the_dearest_does_unless_it_is_free() {
        assert_eq!(cost(&prices(Unpriced::Dearest), &["none"]), 1_100);
        assert_eq!(cost(&prices(Unpriced::Dearest), &["in", "none"]), 1_100);
        assert_eq!(cost(&prices(Unpriced::Free), &["none"]), 0);
        assert_eq!(cost(&Prices::default(), &["none"]), 0, "nothing has a price");
    }
}
