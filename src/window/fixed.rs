//! Fixed windows: a count that begins anew with each period.
//!
//! Each period admits at most the limit, so a window across the end of a period admits at most twice the limit. Only a
//! sliding window keeps every trailing window within the limit. `lua/window/fixed.lua` does the same arithmetic.

use super::Fit;
use super::clock::slack;
use super::period::Period;
use crate::quantity::{Millis, Units};

/// A fixed window's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The number of the current period, with its lead.
    pub(super) index: u64,
    pub(super) used: Units,
    /// How many periods the counter is ahead of the clock; zero until the clock steps back.
    pub(super) lead: u64,
}

impl Counter {
    /// The counter at `now`. It begins anew in a later period. If the clock has stepped back to an earlier one, what is
    /// used counts until the end of that one, and the number stays, so that refunds find their charge. A clock that is
    /// a moment behind changes nothing.
    pub fn read(&mut self, period: Period, now: Millis) -> Reading<'_> {
        let index = period.index(now);
        if self.used.is_zero() || index.saturating_add(self.lead) > self.index {
            *self = Self { index, ..Self::default() };
        } else if period.begins_at(self.number()) - now > slack(period.length()) {
            self.lead = self.index.saturating_sub(index);
        }
        Reading { counter: self, period, now }
    }

    /// The duration from `now` until the period ends in which something is charged; zero if nothing is.
    pub(super) fn lasts(&self, period: Period, now: Millis) -> Millis {
        if self.used.is_zero() { Millis::ZERO } else { period.ends_at(self.number()) - now }
    }

    /// The number of the current period by the clock.
    const fn number(&self) -> u64 {
        self.index.saturating_sub(self.lead)
    }
}

/// A fixed window's counter at a point in time.
#[derive(Debug)]
pub struct Reading<'a> {
    counter: &'a mut Counter,
    period: Period,
    now: Millis,
}

impl Reading<'_> {
    /// Units in the period.
    pub const fn used(&self) -> Units {
        self.counter.used
    }

    /// Whether the counter equals a new one.
    pub const fn is_empty(&self) -> bool {
        self.counter.used.is_zero()
    }

    /// The place of a charge made now: its period.
    pub const fn place(&self) -> u64 {
        self.counter.index
    }

    /// Whether `cost` fits under `limit`.
    pub fn fit(&self, limit: Units, cost: Units) -> Fit {
        if cost > limit {
            Fit::Never
        } else if self.counter.used <= limit - cost {
            Fit::Now
        } else {
            Fit::After(self.left().at_least_one())
        }
    }

    /// Charges `cost`, whether or not it fits.
    pub fn charge(&mut self, cost: Units) {
        self.counter.used += cost;
    }

    /// Refunds `amount` if `place` is the current period.
    pub fn refund(&mut self, place: u64, amount: Units) {
        if place == self.counter.index {
            self.counter.used -= amount;
        }
    }

    /// The duration until the period ends; zero if nothing is charged.
    pub fn reset(&self) -> Millis {
        if self.is_empty() { Millis::ZERO } else { self.left() }
    }

    fn left(&self) -> Millis {
        self.period.ends_at(self.counter.number()) - self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LENGTH: u64 = 1_000;
    const PERIOD: Period = Period::Length(NonZeroMillis::new(LENGTH).unwrap());

    fn units(value: u64) -> Units {
        Units::new(value)
    }

    fn after(ms: u64) -> Fit {
        Fit::After(NonZeroMillis::new(ms).unwrap())
    }

    #[test]
    fn exactly_the_limit_fits_and_more_than_it_never_does() {
        let mut counter = Counter::default();
        let mut reading = counter.read(PERIOD, Millis::new(1_300));
        assert_eq!(reading.fit(units(5), units(6)), Fit::Never);
        assert_eq!(reading.fit(units(5), units(5)), Fit::Now);
        reading.charge(units(3));
        assert_eq!(reading.fit(units(5), units(2)), Fit::Now);
        assert_eq!(reading.fit(units(5), units(3)), after(700));
        assert_eq!(reading.reset(), 700);
    }

    #[test]
    fn a_refund_counts_only_in_its_own_period() {
        let mut counter = Counter::default();
        let mut reading = counter.read(PERIOD, Millis::new(900));
        let first = reading.place();
        reading.charge(units(4));
        reading.refund(first, units(1));
        assert_eq!(reading.used(), 3);
        let mut reading = counter.read(PERIOD, Millis::new(1_000));
        reading.charge(units(2));
        reading.refund(first, units(3));
        assert_eq!(reading.used(), 2);
    }

    #[test]
    fn a_clock_that_is_a_moment_behind_stays_in_the_period() {
        let mut counter = Counter::default();
        counter.read(PERIOD, Millis::new(1_000)).charge(units(2));
        let reading = counter.read(PERIOD, Millis::new(990));
        assert_eq!(reading.used(), 2);
        assert_eq!(reading.fit(units(2), units(1)), after(1_010));
        assert_eq!(counter.read(PERIOD, Millis::new(1_990)).reset(), 10);
    }

    #[test]
    fn a_clock_that_steps_back_counts_until_the_period_ends_by_the_new_clock() {
        let mut counter = Counter::default();
        let mut reading = counter.read(PERIOD, Millis::new(3_600_300));
        let first = reading.place();
        reading.charge(units(2));
        for now in [7_400, 5_200] {
            let reading = counter.read(PERIOD, Millis::new(now));
            assert_eq!(
                (reading.used(), reading.fit(units(2), units(1))),
                (units(2), after(1_000 - now % 1_000))
            );
        }
        let mut reading = counter.read(PERIOD, Millis::new(5_900));
        reading.refund(first, units(1));
        assert_eq!(reading.used(), 1);
        assert!(counter.read(PERIOD, Millis::new(6_000)).is_empty());
    }

    #[test]
    fn a_month_that_the_clock_leaves_backwards_ends_with_the_month_before() {
        let mut counter = Counter::default();
        counter.read(Period::Month, Millis::DAY * 31 + Millis::MINUTE).charge(units(2));
        let reading = counter.read(Period::Month, Millis::DAY * 31 - Millis::HOUR);
        assert_eq!((reading.used(), reading.reset()), (units(2), Millis::HOUR));
    }

    proptest! {
        /// The promise: the units admitted in a period, less refunds, never exceed the limit, and a refusal is true.
        #[test]
        fn no_period_exceeds_the_limit(
            limit in 1u64..20, steps in prop::collection::vec((0u64..400, 0u64..8, 0u64..8), 1..120),
        ) {
            let (mut counter, mut now) = (Counter::default(), 0);
            let mut admitted: BTreeMap<u64, u64> = BTreeMap::new();
            let mut open: Vec<(u64, u64)> = Vec::new();
            for (step, cost, real) in steps {
                now += step;
                let used = admitted.get(&(now / LENGTH)).copied().unwrap_or(0);
                let fit = |counter: &mut Counter, now: u64| {
                    counter.read(PERIOD, now.into()).fit(units(limit), units(cost))
                };
                match fit(&mut counter, now) {
                    Fit::Now => {
                        let mut reading = counter.read(PERIOD, now.into());
                        open.push((reading.place(), cost));
                        reading.charge(units(cost));
                        *admitted.entry(now / LENGTH).or_default() += cost;
                    }
                    Fit::After(wait) => {
                        let wait = wait.get().get();
                        prop_assert!(used + cost > limit);
                        prop_assert_eq!(fit(&mut counter.clone(), now + wait), Fit::Now);
                        prop_assert_ne!(fit(&mut counter, now + wait - 1), Fit::Now);
                    }
                    Fit::Never => prop_assert!(cost > limit),
                }
                let mut reading = counter.read(PERIOD, now.into());
                if real < cost && open.len() > 1 {
                    let (index, charged) = open.swap_remove(0);
                    reading.refund(index, units(charged.min(real)));
                    *admitted.get_mut(&index).unwrap() -= charged.min(real);
                }
                prop_assert!(admitted.values().all(|sum| *sum <= limit), "{admitted:?} at {now}");
                prop_assert_eq!(reading.used(), admitted.get(&(now / LENGTH)).copied().unwrap_or(0));
            }
        }
    }
}
