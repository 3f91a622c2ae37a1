//! The token bucket: `burst` units fit at once, and what was used drains evenly, the limit in each window (GCRA, with
//! the level kept instead of the time at which it will be zero, so that it stays true when the rate changes).
//!
//! Hence what is admitted in any time `t` is at most `burst + limit * t / window`. All numbers are whole: a [`Level`] is
//! so many units less so many parts of one, of which a unit has `window_ms`.
//!
//! **Refunds.** A unit given back must not let in more than if it had never been charged. While the bucket holds
//! something, less charged is exactly as much less held; but had the bucket run dry meanwhile, the refund was drained
//! already. So what goes back is at most the lowest level since the charge. The counter remembers lows for that: for
//! each charge that matters still, the lowest level from then until the next. A low that is no lower than a later one
//! says nothing more than it, so few are kept: bursts from an empty bucket have many, and beyond [`MOST_LOWS`] the two
//! closest become the lower one, which gives back less, never more.
//!
//! `lua/window/bucket.lua` does the same arithmetic.

use super::Fit;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::num::NonZeroU64;

/// The most lows that are remembered. Charges of one millisecond share one.
pub const MOST_LOWS: usize = 64;

/// The longest time that is told, in milliseconds: 2^53 - 1, up to which a Lua number counts without gaps.
const LONGEST_MS: u64 = (1 << 53) - 1;

/// How fast a bucket drains and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    window_ms: NonZeroU64,
    limit: u64,
    burst: u64,
}

impl Rate {
    /// `limit` units in each `window_ms`, and `burst` at once. Where nothing is refilled, nothing is admitted.
    pub const fn new(window_ms: NonZeroU64, limit: u64, burst: u64) -> Self {
        Self { window_ms, limit, burst: if limit == 0 { 0 } else { burst } }
    }
}

/// How much a bucket holds: `units` less `drained` parts of one, which are fewer than a unit has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Level {
    units: u64,
    drained: u64,
}

impl Ord for Level {
    fn cmp(&self, other: &Self) -> Ordering {
        self.units.cmp(&other.units).then(other.drained.cmp(&self.drained))
    }
}

impl PartialOrd for Level {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Level {
    /// Nothing.
    const EMPTY: Self = Self { units: 0, drained: 0 };

    /// What is left without `less`; a unit has `window_ms` parts.
    fn without(self, less: Self, window_ms: NonZeroU64) -> Self {
        if less >= self {
            return Self::EMPTY;
        }
        let units = self.units.saturating_sub(less.units);
        match self.drained.checked_sub(less.drained) {
            Some(drained) => Self { units, drained },
            None => Self {
                units: units.saturating_add(1),
                drained: window_ms.get().saturating_add(self.drained).saturating_sub(less.drained),
            },
        }
    }
}

/// A bucket's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    level: Level,
    /// As of when, in milliseconds since the epoch.
    at_ms: u64,
    /// By time, oldest first.
    lows: Vec<Low>,
}

/// The lowest level from a charge until the next low begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Low {
    since_ms: u64,
    level: Level,
}

impl Counter {
    /// Units that have not drained, as of the last [`Counter::advance`]; a part of one counts as one.
    pub const fn used(&self) -> u64 {
        self.level.units
    }

    /// Whether nothing is remembered, as of the last [`Counter::advance`].
    pub const fn is_empty(&self) -> bool {
        self.level.units == 0
    }

    /// Lets drain what has drained by `now_ms`: nothing if the clock has stepped back.
    pub fn advance(&mut self, rate: Rate, now_ms: u64) {
        if now_ms > self.at_ms && !self.is_empty() {
            let elapsed = u128::from(now_ms.saturating_sub(self.at_ms));
            let window = u128::from(rate.window_ms.get());
            // 64 bits times 64 bits and 64 bits more fit 128.
            let parts = elapsed.saturating_mul(rate.limit.into()).saturating_add(self.level.drained.into());
            let units = u64::try_from(parts / window).unwrap_or(u64::MAX);
            let drained = u64::try_from(parts % window).unwrap_or(0);
            self.level = Level { units: self.level.units.saturating_sub(units), drained };
            self.at_ms = now_ms;
        }
        if self.is_empty() {
            *self = Self { at_ms: now_ms, ..Self::default() };
        }
    }

    /// Whether `cost` fits. Call [`Counter::advance`] first.
    pub fn fit(&self, rate: Rate, cost: u64, now_ms: u64) -> Fit {
        if cost > rate.burst {
            return Fit::Never;
        }
        // Less than a unit of what is used has drained, so whole units decide.
        let too_much = self.level.units.saturating_sub(rate.burst.saturating_sub(cost));
        if too_much == 0 {
            return Fit::Now;
        }
        match self.drains_in(rate, too_much, now_ms) {
            Some(wait) => Fit::After(wait),
            None => Fit::Never,
        }
    }

    /// Milliseconds until `units` more have drained; none if nothing drains.
    fn drains_in(&self, rate: Rate, units: u64, now_ms: u64) -> Option<NonZeroU64> {
        let limit = NonZeroU64::new(rate.limit)?;
        let parts = u128::from(units)
            .saturating_mul(rate.window_ms.get().into())
            .saturating_sub(self.level.drained.into());
        let wait = u64::try_from(parts.div_ceil(limit.get().into())).unwrap_or(u64::MAX);
        let behind = self.at_ms.saturating_sub(now_ms);
        Some(NonZeroU64::new(wait.saturating_add(behind).min(LONGEST_MS)).unwrap_or(NonZeroU64::MIN))
    }

    /// Charges `cost`, whether or not it fits, and returns when. A cost of zero leaves no trace.
    /// Call [`Counter::advance`] first.
    pub fn charge(&mut self, rate: Rate, cost: u64) -> u64 {
        if cost > 0 {
            let before = self.level;
            let mut merged = None;
            while let Some(low) = self.lows.pop_if(|low| low.level >= before) {
                merged = Some(low.since_ms);
            }
            self.level.units = self.level.units.saturating_add(cost);
            // Charges of one millisecond are one charge: nothing drains between them.
            if let Some(since_ms) = merged.filter(|since_ms| *since_ms < self.at_ms) {
                self.lows.push(Low { since_ms, level: before });
            }
            self.lows.push(Low { since_ms: self.at_ms, level: self.level });
            if self.lows.len() > MOST_LOWS {
                self.merge_closest_lows(rate.window_ms);
            }
        }
        self.at_ms
    }

    /// Makes one of the two lows next to each other that differ least; of several such pairs, of the oldest.
    fn merge_closest_lows(&mut self, window_ms: NonZeroU64) {
        let gaps = self.lows.windows(2).map(|pair| match pair {
            [one, next] => next.level.without(one.level, window_ms),
            _ => Level::EMPTY,
        });
        let closest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
        if let Some((at, _)) = closest {
            let next = self.lows.remove(at.saturating_add(1));
            if let Some(low) = self.lows.get_mut(at) {
                low.level = low.level.min(next.level);
            }
        }
    }

    /// Gives back what of `amount`, charged at `place_ms`, has not drained. Call [`Counter::advance`] first.
    pub fn refund(&mut self, rate: Rate, place_ms: u64, amount: u64) {
        let Some(first) = self.lows.iter().rposition(|low| low.since_ms <= place_ms) else { return };
        let mut amount = Level { units: amount, drained: 0 };
        for low in self.lows.iter_mut().skip(first) {
            amount = amount.min(low.level);
            low.level = low.level.without(amount, rate.window_ms);
        }
        self.level = self.level.without(amount, rate.window_ms);
        if self.is_empty() {
            *self = Self { at_ms: self.at_ms, ..Self::default() };
        }
    }

    /// Milliseconds until the bucket is as it was before any use, if nobody spends; 0 if it is.
    pub fn reset_ms(&self, rate: Rate, now_ms: u64) -> u64 {
        if self.is_empty() {
            return 0;
        }
        self.drains_in(rate, self.level.units, now_ms).map_or(LONGEST_MS, NonZeroU64::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ten units a second.
    fn rate(burst: u64) -> Rate {
        Rate::new(NonZeroU64::new(1_000).unwrap(), 10, burst)
    }

    fn after(ms: u64) -> Fit {
        Fit::After(NonZeroU64::new(ms).unwrap())
    }

    #[test]
    fn a_burst_fits_at_once_and_then_the_rate() {
        let (rate, mut counter) = (rate(5), Counter::default());
        counter.advance(rate, 1_000);
        assert_eq!(counter.fit(rate, 6, 1_000), Fit::Never);
        assert_eq!(counter.fit(rate, 5, 1_000), Fit::Now);
        counter.charge(rate, 5);
        assert_eq!(counter.fit(rate, 1, 1_000), after(100));
        assert_eq!(counter.fit(rate, 3, 1_000), after(300));
        counter.advance(rate, 1_050);
        assert_eq!((counter.used(), counter.fit(rate, 1, 1_050)), (5, after(50)));
        counter.advance(rate, 1_100);
        assert_eq!((counter.used(), counter.fit(rate, 1, 1_100)), (4, Fit::Now));
        assert_eq!(counter.reset_ms(rate, 1_100), 400);
        counter.advance(rate, 1_500);
        assert_eq!(counter, Counter { at_ms: 1_500, ..Counter::default() });
    }

    #[test]
    fn where_nothing_is_refilled_nothing_is_admitted() {
        let none = Rate::new(NonZeroU64::MIN, 0, 5);
        let mut counter = Counter::default();
        assert_eq!([counter.fit(none, 1, 0), counter.fit(none, 0, 0)], [Fit::Never, Fit::Now]);
        counter.charge(none, 1);
        assert_eq!((counter.fit(none, 0, 0), counter.reset_ms(none, 0)), (Fit::Never, LONGEST_MS));
    }

    #[test]
    fn a_clock_that_steps_back_drains_nothing() {
        let (rate, mut counter) = (rate(5), Counter::default());
        counter.advance(rate, 1_000);
        counter.charge(rate, 5);
        counter.advance(rate, 400);
        assert_eq!((counter.used(), counter.fit(rate, 1, 400)), (5, after(700)));
        counter.advance(rate, 1_100);
        assert_eq!(counter.used(), 4);
    }

    #[test]
    fn a_refund_of_what_has_drained_gives_nothing() {
        let (rate, mut counter) = (rate(10), Counter::default());
        counter.advance(rate, 0);
        let first = counter.charge(rate, 10);
        counter.advance(rate, 900);
        counter.charge(rate, 5);
        counter.refund(rate, first, 10);
        assert_eq!(counter.used(), 5, "one unit of the first had not drained, the five of the second stay");
        counter.advance(rate, 2_000);
        let _ = counter.charge(rate, 5);
        counter.refund(rate, first, 10);
        assert_eq!(counter.used(), 5, "the bucket has been empty since");
    }

    #[test]
    fn a_full_bucket_gets_all_of_a_refund_back() {
        let (rate, mut counter) = (rate(100), Counter::default());
        counter.advance(rate, 0);
        counter.charge(rate, 50);
        let second = counter.charge(rate, 40);
        counter.advance(rate, 3_000);
        counter.charge(rate, 30);
        counter.refund(rate, second, 35);
        assert_eq!(counter.used(), 50 + 40 - 30 + 30 - 35);
    }

    #[test]
    fn concurrent_requests_get_all_back_in_any_order() {
        let (rate, mut counter) = (rate(100_000), Counter::default());
        let places: Vec<u64> = (0..u64::try_from(MOST_LOWS).unwrap())
            .map(|ms| {
                counter.advance(rate, ms);
                counter.charge(rate, 1_000)
            })
            .collect();
        for place in places.iter().rev() {
            counter.refund(rate, *place, 900);
        }
        assert_eq!(counter.used(), 6_400, "in 63 ms not one unit has drained");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let rate = Rate::new(NonZeroU64::MAX, u64::MAX, u64::MAX);
        let mut counter = Counter::default();
        counter.charge(rate, u64::MAX);
        counter.charge(rate, u64::MAX);
        counter.advance(rate, u64::MAX);
        assert_eq!(counter.used(), 0);
    }

    /// A bucket's level where a unit has a thousand parts.
    fn thousandths(counter: &Counter) -> u64 {
        counter.level.units * 1_000 - counter.level.drained
    }

    /// One charge: when, how much, and how much of it is given back when, if it is.
    type Spent = (u64, u64, Option<(u64, u64)>);

    /// The level after `spent`, in thousandths of a unit, had every cost been from the start what it was in the end.
    fn level_in_hindsight(spent: &[Spent], now_ms: u64) -> u64 {
        let (mut level, mut at) = (0_u64, 0);
        for (at_ms, cost, refund) in spent {
            level = level.saturating_sub((at_ms - at) * 10);
            level += (cost - refund.map_or(0, |(_, amount)| amount)) * 1_000;
            at = *at_ms;
        }
        level.saturating_sub((now_ms - at) * 10)
    }

    proptest! {
        /// The promise: in any time, what is admitted less what is given back is at most the burst and what is refilled
        /// in that time. And the level is what it would be had each cost been known from the start.
        #[test]
        fn nothing_exceeds_the_burst_and_the_rate(
            burst in 1u64..40, steps in prop::collection::vec((0u64..400, 0u64..15, 0u64..15, 0usize..6), 1..64),
        ) {
            let (rate, mut counter, mut now) = (rate(burst), Counter::default(), 0);
            let mut spent: Vec<Spent> = Vec::new();
            for (step, cost, refund, which) in steps {
                now += step;
                counter.advance(rate, now);
                match counter.fit(rate, cost, now) {
                    Fit::Now if cost > 0 => {
                        counter.charge(rate, cost);
                        spent.push((now, cost, None));
                    }
                    Fit::Never => prop_assert!(cost > burst),
                    _ => {}
                }
                let open = spent.iter_mut().filter(|(.., refund)| refund.is_none()).nth(which);
                if let Some((at_ms, cost, refunded)) = open {
                    let amount = refund.min(*cost);
                    counter.refund(rate, *at_ms, amount);
                    *refunded = Some((now, amount));
                }
                let hindsight = level_in_hindsight(&spent, now);
                // Were there more charges, forgetting lows could make it higher.
                prop_assert_eq!(thousandths(&counter), hindsight, "at {}: {:?}", now, spent);
            }
            for (first, (from, ..)) in spent.iter().enumerate() {
                let mut sum = 0;
                for (at, cost, refund) in &spent[first..] {
                    sum += cost - refund.map_or(0, |(_, amount)| amount);
                    prop_assert!(sum * 1_000 <= burst * 1_000 + (at - from) * 10, "{sum} in {from}..{at} of {spent:?}");
                }
            }
        }

        /// With more lows than are remembered, too little is given back, never too much.
        #[test]
        fn forgetting_lows_never_lowers_the_level(
            steps in prop::collection::vec((1u64..30, 1u64..50, 0u64..50, 0usize..200), 80..200),
        ) {
            let (rate, mut counter, mut now) = (rate(1_000_000), Counter::default(), 0);
            let mut spent: Vec<Spent> = Vec::new();
            for (step, cost, _, _) in &steps {
                now += step;
                counter.advance(rate, now);
                counter.charge(rate, *cost);
                spent.push((now, *cost, None));
                prop_assert!(counter.lows.len() <= MOST_LOWS);
            }
            for (step, _, refund, which) in &steps {
                now += step;
                counter.advance(rate, now);
                let which = which % spent.len();
                let (at_ms, cost, refunded) = &mut spent[which];
                if refunded.is_none() {
                    let amount = (*cost).min(*refund);
                    counter.refund(rate, *at_ms, amount);
                    *refunded = Some((now, amount));
                }
                let level = thousandths(&counter);
                prop_assert!(level >= level_in_hindsight(&spent, now));
            }
        }
    }
}
