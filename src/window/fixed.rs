//! Fixed windows: a count that begins anew with each period.
//!
//! At most the limit is admitted in each period, and so at most twice the limit around the moment where one ends; who
//! needs the promise for any trailing time takes a sliding window. `lua/window/fixed.lua` does the same arithmetic.

use super::Fit;
use super::period::Period;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// A fixed window's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The period that is counted.
    index: u64,
    used: u64,
}

impl Counter {
    /// Units in the period, as of the last [`Counter::advance`].
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Whether nothing is remembered, as of the last [`Counter::advance`].
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Begins the period of `now_ms`, unless what was counted is in a later one and the clock has stepped back.
    pub const fn advance(&mut self, period: Period, now_ms: u64) {
        let index = period.index(now_ms);
        if index > self.index || self.used == 0 {
            *self = Self { index, used: 0 };
        }
    }

    /// Whether `cost` fits under `limit`. Call [`Counter::advance`] first.
    pub fn fit(&self, period: Period, limit: u64, cost: u64, now_ms: u64) -> Fit {
        if cost > limit {
            Fit::Never
        } else if self.used <= limit.saturating_sub(cost) {
            Fit::Now
        } else {
            let wait = period.ends_at(self.index).saturating_sub(now_ms);
            Fit::After(NonZeroU64::new(wait).unwrap_or(NonZeroU64::MIN))
        }
    }

    /// Charges `cost`, whether or not it fits, and returns the period's number. Call [`Counter::advance`] first.
    pub const fn charge(&mut self, cost: u64) -> u64 {
        self.used = self.used.saturating_add(cost);
        self.index
    }

    /// Gives `amount` back if the period that was charged is the one that is counted. Call [`Counter::advance`] first.
    pub const fn refund(&mut self, index: u64, amount: u64) {
        if index == self.index {
            self.used = self.used.saturating_sub(amount);
        }
    }

    /// Milliseconds until the period ends; 0 if nothing is counted.
    pub const fn reset_ms(&self, period: Period, now_ms: u64) -> u64 {
        if self.used == 0 { 0 } else { period.ends_at(self.index).saturating_sub(now_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LENGTH_MS: u64 = 1_000;
    const PERIOD: Period = Period::Length(NonZeroU64::new(LENGTH_MS).unwrap());

    #[test]
    fn exactly_the_limit_fits_and_more_than_it_never_does() {
        let mut counter = Counter::default();
        counter.advance(PERIOD, 1_300);
        assert_eq!(counter.fit(PERIOD, 5, 6, 1_300), Fit::Never);
        assert_eq!(counter.fit(PERIOD, 5, 5, 1_300), Fit::Now);
        counter.charge(3);
        assert_eq!(counter.fit(PERIOD, 5, 2, 1_300), Fit::Now);
        assert_eq!(counter.fit(PERIOD, 5, 3, 1_300), Fit::After(NonZeroU64::new(700).unwrap()));
        assert_eq!(counter.reset_ms(PERIOD, 1_300), 700);
    }

    #[test]
    fn a_refund_counts_only_in_its_own_period() {
        let mut counter = Counter::default();
        counter.advance(PERIOD, 900);
        let first = counter.charge(4);
        counter.refund(first, 1);
        assert_eq!(counter.used(), 3);
        counter.advance(PERIOD, 1_000);
        counter.charge(2);
        counter.refund(first, 3);
        assert_eq!(counter.used(), 2);
    }

    #[test]
    fn a_clock_that_steps_back_stays_in_the_period() {
        let mut counter = Counter::default();
        counter.advance(PERIOD, 1_000);
        counter.charge(2);
        counter.advance(PERIOD, 990);
        assert_eq!(counter.used(), 2);
        assert_eq!(counter.fit(PERIOD, 2, 1, 990), Fit::After(NonZeroU64::new(1_010).unwrap()));
    }

    proptest! {
        /// The promise: what is admitted in a period, less refunds, never exceeds the limit, and a refusal is true.
        #[test]
        fn no_period_exceeds_the_limit(
            limit in 1u64..20, steps in prop::collection::vec((0u64..400, 0u64..8, 0u64..8), 1..120),
        ) {
            let (mut counter, mut now) = (Counter::default(), 0);
            let mut admitted: BTreeMap<u64, u64> = BTreeMap::new();
            let mut open: Vec<(u64, u64)> = Vec::new();
            for (step, cost, real) in steps {
                now += step;
                counter.advance(PERIOD, now);
                let used = admitted.get(&(now / LENGTH_MS)).copied().unwrap_or(0);
                match counter.fit(PERIOD, limit, cost, now) {
                    Fit::Now => {
                        open.push((counter.charge(cost), cost));
                        *admitted.entry(now / LENGTH_MS).or_default() += cost;
                    }
                    Fit::After(wait) => {
                        prop_assert!(used + cost > limit);
                        let mut later = counter.clone();
                        later.advance(PERIOD, now + wait.get());
                        prop_assert_eq!(later.fit(PERIOD, limit, cost, now + wait.get()), Fit::Now);
                        counter.advance(PERIOD, now + wait.get() - 1);
                        prop_assert_ne!(counter.fit(PERIOD, limit, cost, now + wait.get() - 1), Fit::Now);
                    }
                    Fit::Never => prop_assert!(cost > limit),
                }
                if real < cost && open.len() > 1 {
                    let (index, charged) = open.swap_remove(0);
                    counter.refund(index, charged.min(real));
                    *admitted.get_mut(&index).unwrap() -= charged.min(real);
                }
                prop_assert!(admitted.values().all(|sum| *sum <= limit), "{admitted:?} at {now}");
                prop_assert_eq!(counter.used(), admitted.get(&(now / LENGTH_MS)).copied().unwrap_or(0));
            }
        }
    }
}
