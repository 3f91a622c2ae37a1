//! The token bucket: `burst` units fit at once, and used units drain evenly, by the limit in each window. This is GCRA,
//! except that the counter keeps the level instead of the time at which the level reaches zero, because the level stays
//! true when the rate changes.
//!
//! Hence any time `t` admits at most `burst + limit * t / window`. All numbers are whole: a level is a number of units
//! less a number of parts of one unit, and a unit has as many parts as the window has milliseconds.
//!
//! **Refunds.** A refund must not admit more than if its units had never been charged. If the bucket has not been empty
//! since the charge, a smaller charge would have left the level lower by exactly the refund. If it has been empty, the
//! units have drained already. In general, a refund is at most the lowest level since the charge. The counter therefore
//! keeps lows: for each charge that still matters, the lowest level from then until the next. A low that is no lower
//! than a later one is redundant, so few are kept. Bursts from an empty bucket have many; beyond [`MAX_LOWS`], the two
//! closest become the lower of them, so that a refund may give back less, never more.
//!
//! `lua/window/bucket.lua` does the same arithmetic.

use super::Fit;
use super::clock::{Lead, slack};
use crate::quantity::{MAX_EXACT, Millis, NonZeroMillis, Units};
use std::cmp::Ordering;

/// The most lows that a counter keeps. Charges of one millisecond share a low.
pub const MAX_LOWS: usize = 64;

/// The longest duration that a bucket reports: the Lua twin cannot count further.
const MAX_WAIT: Millis = Millis::new(MAX_EXACT);

/// The speed at which a bucket drains, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub(super) window: NonZeroMillis,
    pub(super) limit: Units,
    pub(super) burst: Units,
}

impl Rate {
    /// `limit` units in each `window`, and `burst` at once. A bucket that never refills admits nothing.
    pub const fn new(window: NonZeroMillis, limit: Units, burst: Units) -> Self {
        Self { window, limit, burst: if limit.is_zero() { Units::ZERO } else { burst } }
    }

    /// The number of parts in a unit.
    const fn parts(self) -> u64 {
        self.window.get().get()
    }
}

/// The level of a bucket: `units` less `drained` parts of one unit, fewer than a whole unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) units: Units,
    pub(super) drained: u64,
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
    const EMPTY: Self = Self { units: Units::ZERO, drained: 0 };

    /// The level without `less`.
    fn without(self, less: Self, rate: Rate) -> Self {
        if less >= self {
            return Self::EMPTY;
        }
        let units = self.units - less.units;
        match self.drained.checked_sub(less.drained) {
            Some(drained) => Self { units, drained },
            None => {
                let borrowed = rate.parts().saturating_sub(less.drained.saturating_sub(self.drained));
                Self { units: units + Units::new(1), drained: borrowed }
            }
        }
    }
}

/// A bucket's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub(super) level: Level,
    /// The time of the level, which is the counter's and not the clock's if the clock has stepped back.
    pub(super) at: Millis,
    /// How far the counter's time is ahead of the clock.
    pub(super) lead: Lead,
    /// The lows, oldest first.
    pub(super) lows: Vec<Low>,
}

/// The lowest level from a charge until the next low begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Low {
    pub(super) since: Millis,
    pub(super) level: Level,
}

impl Counter {
    /// The counter, drained until `now`. A clock that has stepped back drains nothing, and the bucket goes on draining
    /// from there.
    pub fn read<'a>(&'a mut self, rate: &'a mut Rate, now: Millis) -> Reading<'a> {
        let mut time = now;
        if !self.level.units.is_zero() {
            time = self.lead.time(now, self.at, slack(rate.window));
            if time > self.at {
                self.level = self.drained(*rate, time - self.at);
                self.at = time;
            }
        }
        if self.level.units.is_zero() {
            *self = Self { at: now, ..Self::default() };
            time = now;
        }
        Reading { counter: self, rate, now: time }
    }

    /// The level after `elapsed`.
    fn drained(&self, rate: Rate, elapsed: Millis) -> Level {
        // 64 bits times 64 bits and 64 bits more fit 128.
        let parts = u128::from(elapsed.get()) * u128::from(rate.limit.get()) + u128::from(self.level.drained);
        let of_unit = u128::from(rate.parts());
        let units = u64::try_from(parts / of_unit).unwrap_or(u64::MAX);
        let drained = u64::try_from(parts % of_unit).unwrap_or(0);
        Level { units: self.level.units - Units::new(units), drained }
    }

    /// Merges lows until half of them are left. Returns whether there were any to merge.
    pub(super) fn halve_lows(&mut self, rate: Rate) -> bool {
        let half = self.lows.len().div_ceil(2);
        let merges = self.lows.len() > half;
        while self.lows.len() > half {
            self.merge_closest_lows(rate);
        }
        merges
    }

    /// Merges the two neighbouring lows that differ least into the lower one; of several such pairs, the oldest.
    fn merge_closest_lows(&mut self, rate: Rate) {
        let gaps = self.lows.windows(2).map(|pair| match pair {
            [one, next] => next.level.without(one.level, rate),
            _ => Level::EMPTY,
        });
        let closest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
        if let Some((at, _)) = closest {
            let next = self.lows.remove(at + 1);
            if let Some(low) = self.lows.get_mut(at) {
                low.level = low.level.min(next.level);
            }
        }
    }
}

/// A bucket's counter at a point in time.
#[derive(Debug)]
pub struct Reading<'a> {
    counter: &'a mut Counter,
    rate: &'a mut Rate,
    /// The counter's time.
    now: Millis,
}

impl Reading<'_> {
    /// Drains at `rate` from now on.
    pub const fn set_rate(&mut self, rate: Rate) {
        *self.rate = rate;
    }

    /// The units that have not drained. A part of a unit counts as a unit.
    pub const fn used(&self) -> Units {
        self.counter.level.units
    }

    /// Whether the counter equals a new one.
    pub const fn is_empty(&self) -> bool {
        self.counter.level.units.is_zero()
    }

    /// The place of a charge made now: its time.
    pub const fn place(&self) -> u64 {
        self.counter.at.get()
    }

    /// Whether `cost` fits.
    pub fn fit(&self, cost: Units) -> Fit {
        if cost > self.rate.burst {
            return Fit::Never;
        }
        // The level is less than one unit below `used`, so whole units decide.
        let excess = self.used() - (self.rate.burst - cost);
        if excess.is_zero() {
            return Fit::Now;
        }
        self.drains_in(excess).map_or(Fit::Never, Fit::After)
    }

    /// The duration until `units` more have drained; none if nothing drains.
    fn drains_in(&self, units: Units) -> Option<NonZeroMillis> {
        let limit = Some(self.rate.limit.get()).filter(|limit| *limit > 0)?;
        let parts = (u128::from(units.get()) * u128::from(self.rate.parts()))
            .saturating_sub(u128::from(self.counter.level.drained));
        let wait = u64::try_from(parts.div_ceil(limit.into())).unwrap_or(u64::MAX);
        let behind = self.counter.at - self.now;
        Some((Millis::new(wait) + behind).min(MAX_WAIT).at_least_one())
    }

    /// Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
    pub fn charge(&mut self, cost: Units) {
        if cost.is_zero() {
            return;
        }
        let Counter { level, at, lows, .. } = &mut *self.counter;
        let before = *level;
        let mut merged = None;
        while let Some(low) = lows.pop_if(|low| low.level >= before) {
            merged = Some(low.since);
        }
        level.units += cost;
        // Charges of one millisecond are one charge: nothing drains between them.
        if let Some(since) = merged.filter(|since| *since < *at) {
            lows.push(Low { since, level: before });
        }
        lows.push(Low { since: *at, level: *level });
        if lows.len() > MAX_LOWS {
            self.counter.merge_closest_lows(*self.rate);
        }
    }

    /// Gives back the part of `amount`, charged at `place`, that has not drained. A place that the counter's time has
    /// not reached is from before the bucket was empty and the clock stepped back.
    pub fn refund(&mut self, place: u64, amount: Units) {
        let (counter, rate) = (&mut *self.counter, *self.rate);
        if place > counter.at.get() {
            return;
        }
        let Some(first) = counter.lows.iter().rposition(|low| low.since.get() <= place) else { return };
        let mut amount = Level { units: amount, drained: 0 };
        for low in counter.lows.iter_mut().skip(first) {
            amount = amount.min(low.level);
            low.level = low.level.without(amount, rate);
        }
        counter.level = counter.level.without(amount, rate);
        if counter.level.units.is_zero() {
            *counter = Counter { at: counter.at, lead: counter.lead, ..Counter::default() };
        }
    }

    /// The duration until all used units have drained if nothing more is charged; zero if they have.
    pub fn reset(&self) -> Millis {
        if self.is_empty() {
            return Millis::ZERO;
        }
        self.drains_in(self.used()).map_or(MAX_WAIT, NonZeroMillis::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ten units a second.
    fn rate(burst: u64) -> Rate {
        Rate::new(NonZeroMillis::new(1_000).unwrap(), units(10), units(burst))
    }

    fn units(value: u64) -> Units {
        Units::new(value)
    }

    fn after(ms: u64) -> Fit {
        Fit::After(NonZeroMillis::new(ms).unwrap())
    }

    /// A counter and its rate.
    struct Bucket(Counter, Rate);

    impl Bucket {
        fn new(rate: Rate) -> Self {
            Self(Counter::default(), rate)
        }

        fn at(&mut self, now: u64) -> Reading<'_> {
            self.0.read(&mut self.1, Millis::new(now))
        }

        fn charge(&mut self, now: u64, cost: u64) -> u64 {
            let mut reading = self.at(now);
            reading.charge(units(cost));
            reading.place()
        }

        /// The level where a unit has a thousand parts.
        fn thousandths(&self) -> u64 {
            self.0.level.units.get() * 1_000 - self.0.level.drained
        }
    }

    #[test]
    fn a_burst_fits_at_once_and_then_the_rate() {
        let mut bucket = Bucket::new(rate(5));
        let mut reading = bucket.at(1_000);
        assert_eq!(reading.fit(units(6)), Fit::Never);
        assert_eq!(reading.fit(units(5)), Fit::Now);
        reading.charge(units(5));
        assert_eq!(reading.fit(units(1)), after(100));
        assert_eq!(reading.fit(units(3)), after(300));
        let reading = bucket.at(1_050);
        assert_eq!((reading.used(), reading.fit(units(1))), (units(5), after(50)));
        let reading = bucket.at(1_100);
        assert_eq!((reading.used(), reading.fit(units(1))), (units(4), Fit::Now));
        assert_eq!(reading.reset(), 400);
        bucket.at(1_500);
        assert_eq!(bucket.0, Counter { at: Millis::new(1_500), ..Counter::default() });
    }

    #[test]
    fn a_bucket_that_never_refills_admits_nothing() {
        let mut bucket = Bucket::new(Rate::new(NonZeroMillis::MIN, units(0), units(5)));
        let mut reading = bucket.at(0);
        assert_eq!([reading.fit(units(1)), reading.fit(units(0))], [Fit::Never, Fit::Now]);
        reading.charge(units(1));
        assert_eq!((reading.fit(units(0)), reading.reset()), (Fit::Never, MAX_WAIT));
    }

    #[test]
    fn a_clock_that_is_a_moment_behind_drains_nothing() {
        let mut bucket = Bucket::new(rate(5));
        bucket.charge(1_000, 5);
        let reading = bucket.at(990);
        assert_eq!((reading.used(), reading.fit(units(1))), (units(5), after(110)));
        assert_eq!(bucket.at(1_100).used(), 4);
    }

    #[test]
    fn a_bucket_goes_on_draining_after_a_clock_has_stepped_back() {
        let mut bucket = Bucket::new(rate(5));
        let place = bucket.charge(3_601_000, 4);
        bucket.charge(3_601_100, 2);
        let reading = bucket.at(400);
        assert_eq!((reading.used(), reading.fit(units(1))), (units(5), after(100)));
        let mut reading = bucket.at(500);
        assert_eq!(reading.used(), 4);
        reading.refund(place, units(1));
        assert_eq!((reading.used(), reading.reset()), (units(3), Millis::new(300)));
        assert_eq!(bucket.charge(800, 1), 800, "an empty bucket follows the clock again");
        bucket.at(800).refund(place, units(1));
        assert_eq!(bucket.at(800).used(), 1, "what has drained is not given back");
    }

    #[test]
    fn a_refund_of_drained_units_gives_nothing() {
        let mut bucket = Bucket::new(rate(10));
        let first = bucket.charge(0, 10);
        bucket.charge(900, 5);
        let mut reading = bucket.at(900);
        reading.refund(first, units(10));
        assert_eq!(reading.used(), 5, "one unit of the first had not drained, the five of the second stay");
        bucket.charge(2_000, 5);
        let mut reading = bucket.at(2_000);
        reading.refund(first, units(10));
        assert_eq!(reading.used(), 5, "the bucket has been empty since");
    }

    #[test]
    fn a_refund_is_whole_if_the_bucket_has_not_been_empty_since() {
        let mut bucket = Bucket::new(rate(100));
        bucket.charge(0, 50);
        let second = bucket.charge(0, 40);
        bucket.charge(3_000, 30);
        let mut reading = bucket.at(3_000);
        reading.refund(second, units(35));
        assert_eq!(reading.used(), 50 + 40 - 30 + 30 - 35);
    }

    #[test]
    fn concurrent_requests_get_whole_refunds_in_any_order() {
        let mut bucket = Bucket::new(rate(100_000));
        let lows = u64::try_from(MAX_LOWS).unwrap();
        let places: Vec<u64> = (0..lows).map(|now| bucket.charge(now, 1_000)).collect();
        let mut reading = bucket.at(lows - 1);
        for place in places.iter().rev() {
            reading.refund(*place, units(900));
        }
        assert_eq!(reading.used(), 6_400, "in 63 ms not one unit has drained");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let most = Units::new(u64::MAX);
        let mut bucket = Bucket::new(Rate::new(NonZeroMillis::new(u64::MAX).unwrap(), most, most));
        bucket.charge(0, u64::MAX);
        bucket.charge(0, u64::MAX);
        assert_eq!(bucket.at(u64::MAX).used(), 0);
    }

    /// One charge: its time, its units, and the time and units of its refund, if there is one.
    type Spent = (u64, u64, Option<(u64, u64)>);

    /// The level after `spent`, in thousandths of a unit, if every charge had been smaller by its refund.
    fn level_in_hindsight(spent: &[Spent], now: u64) -> u64 {
        let (mut level, mut before) = (0_u64, 0);
        for (at, cost, refund) in spent {
            level = level.saturating_sub((at - before) * 10);
            level += (cost - refund.map_or(0, |(_, amount)| amount)) * 1_000;
            before = *at;
        }
        level.saturating_sub((now - before) * 10)
    }

    proptest! {
        /// The promise: any time admits, less refunds, at most the burst and the refill of that time. And the level is
        /// the same as if each cost had been known from the start.
        #[test]
        fn nothing_exceeds_the_burst_and_the_rate(
            burst in 1u64..40, steps in prop::collection::vec((0u64..400, 0u64..15, 0u64..15, 0usize..6), 1..64),
        ) {
            let (mut bucket, mut now) = (Bucket::new(rate(burst)), 0);
            let mut spent: Vec<Spent> = Vec::new();
            for (step, cost, refund, which) in steps {
                now += step;
                let mut reading = bucket.at(now);
                match reading.fit(units(cost)) {
                    Fit::Now if cost > 0 => {
                        reading.charge(units(cost));
                        spent.push((now, cost, None));
                    }
                    Fit::Never => prop_assert!(cost > burst),
                    _ => {}
                }
                let open = spent.iter_mut().filter(|(.., refund)| refund.is_none()).nth(which);
                if let Some((at, cost, refunded)) = open {
                    let amount = refund.min(*cost);
                    reading.refund(*at, units(amount));
                    *refunded = Some((now, amount));
                }
                let hindsight = level_in_hindsight(&spent, now);
                // With more charges, merged lows could make the level higher.
                prop_assert_eq!(bucket.thousandths(), hindsight, "at {}: {:?}", now, spent);
            }
            for (first, (from, ..)) in spent.iter().enumerate() {
                let mut sum = 0;
                for (at, cost, refund) in &spent[first..] {
                    sum += cost - refund.map_or(0, |(_, amount)| amount);
                    prop_assert!(sum * 1_000 <= burst * 1_000 + (at - from) * 10, "{sum} in {from}..{at} of {spent:?}");
                }
            }
        }

        /// Merged lows make refunds smaller, never larger.
        #[test]
        fn merging_lows_never_lowers_the_level(
            steps in prop::collection::vec((1u64..30, 1u64..50, 0u64..50, 0usize..200), 80..200),
        ) {
            let (mut bucket, mut now) = (Bucket::new(rate(1_000_000)), 0);
            let mut spent: Vec<Spent> = Vec::new();
            for (step, cost, _, _) in &steps {
                now += step;
                bucket.charge(now, *cost);
                spent.push((now, *cost, None));
                prop_assert!(bucket.0.lows.len() <= MAX_LOWS);
            }
            for (step, _, refund, which) in &steps {
                now += step;
                let which = which % spent.len();
                let (at, cost, refunded) = &mut spent[which];
                let mut reading = bucket.at(now);
                if refunded.is_none() {
                    let amount = (*cost).min(*refund);
                    reading.refund(*at, units(amount));
                    *refunded = Some((now, amount));
                }
                prop_assert!(bucket.thousandths() >= level_in_hindsight(&spent, now));
            }
        }
    }
}
