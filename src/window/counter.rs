//! A counter of any algorithm, as the local store keeps it for a window, and the steps of a reservation: reserve,
//! extend, detach, settle. The arithmetic is in the files of the algorithms.

use super::calendar::Calendar;
use super::parts::ChargedParts;
use super::period::Period;
use super::{Algorithm, Fit, Window, WindowState, bucket, fixed, leases, sliding};
use crate::quantity::{Millis, Units};

/// A window's counter, with the parameters of the window that its algorithm needs. [`Counter::at`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A sliding window.
    Sliding(sliding::Shape, sliding::Counter),
    /// Fixed windows of any period.
    Fixed(Period, fixed::Counter),
    /// A token bucket.
    Bucket(bucket::Rate, bucket::Counter),
    /// Requests in flight.
    Leases(sliding::Shape, sliding::Counter),
}

impl Counter {
    /// An empty counter of `window` under `limit`.
    pub fn new(window: &Window, limit: Units) -> Self {
        let length = window.length;
        match window.algorithm {
            Algorithm::SlidingWindow { segments } => {
                Self::Sliding(sliding::Shape::new(length, segments), sliding::Counter::default())
            }
            Algorithm::FixedWindow => Self::Fixed(Period::Length(length), fixed::Counter::default()),
            Algorithm::CalendarMonth => Self::Fixed(Period::Month, fixed::Counter::default()),
            Algorithm::CalendarWindow(Calendar { edges, .. }) => {
                Self::Fixed(Period::Calendar(edges, length), fixed::Counter::default())
            }
            Algorithm::TokenBucket { burst } => {
                Self::Bucket(bucket::Rate::new(length, limit, burst), bucket::Counter::default())
            }
            Algorithm::Concurrency => Self::Leases(leases::shape(length), sliding::Counter::default()),
        }
    }

    /// Makes the counter smaller and less exact, never so that it admits more: a sliding window gets segments twice as
    /// long, a bucket gives back less. Returns false if it is as small as it can be.
    pub fn coarsen(&mut self) -> bool {
        match self {
            Self::Sliding(shape, counter) | Self::Leases(shape, counter) => counter.halve(shape),
            Self::Fixed(..) => false,
            Self::Bucket(rate, counter) => counter.halve_lows(*rate),
        }
    }

    /// Takes the edges of the periods around now from `window`, if it has any. Call this before [`Counter::at`].
    pub const fn keep_up(&mut self, window: &Window) {
        if let (Self::Fixed(Period::Calendar(edges, _), _), Algorithm::CalendarWindow(calendar)) =
            (self, window.algorithm)
        {
            *edges = calendar.edges;
        }
    }

    /// Whether the counter equals a new one, and will if nothing more is charged.
    pub fn is_over(&mut self, now: Millis) -> bool {
        self.ahead(now).map_or_else(|| self.at(now).is_empty(), Millis::is_zero)
    }

    /// The duration from `now` until it is over; zero if it is.
    pub fn lasts(&mut self, now: Millis) -> Millis {
        if let Some(lasts) = self.ahead(now) {
            return lasts;
        }
        let at = self.at(now);
        if at.is_empty() { Millis::ZERO } else { at.lasts() }
    }

    /// The same, if the clock was set back and the edges of a calendar are those of a time to come: then nothing has
    /// ended, and the next charge brings edges by which to say when it does.
    fn ahead(&self, now: Millis) -> Option<Millis> {
        match self {
            Self::Fixed(period @ Period::Calendar(edges, _), counter) if !edges.have_begun(now) => {
                Some(counter.lasts(*period, now))
            }
            _ => None,
        }
    }

    /// The counter at `now`, a time since the epoch. Drops what has left the window by then.
    // Out of line, a reservation in four windows takes 450 instructions more: what is read is moved once more.
    #[inline]
    pub fn at(&mut self, now: Millis) -> CounterAt<'_> {
        CounterAt(match self {
            Self::Sliding(shape, counter) => Reading::Sliding(counter.read(*shape, now)),
            Self::Fixed(period, counter) => Reading::Fixed(counter.read(*period, now)),
            Self::Bucket(rate, counter) => Reading::Bucket(counter.read(rate, now)),
            Self::Leases(shape, counter) => Reading::Leases(counter.read(*shape, now)),
        })
    }
}

/// A counter at a point in time.
#[derive(Debug)]
pub struct CounterAt<'a>(Reading<'a>);

#[derive(Debug)]
enum Reading<'a> {
    Sliding(sliding::Reading<'a>),
    Fixed(fixed::Reading<'a>),
    Bucket(bucket::Reading<'a>),
    Leases(sliding::Reading<'a>),
}

impl CounterAt<'_> {
    /// Puts `limit` into force from now on, and the parameters of `window` that can change while its counter stays.
    pub const fn set_limit(&mut self, window: &Window, limit: Units) {
        if let (Reading::Bucket(bucket), Algorithm::TokenBucket { burst }) = (&mut self.0, window.algorithm) {
            bucket.set_rate(bucket::Rate::new(window.length, limit, burst));
        }
    }

    /// Whether `cost` fits under `limit`.
    pub fn fit(&self, limit: Units, cost: Units) -> Fit {
        match &self.0 {
            Reading::Sliding(window) => window.fit(limit, cost),
            Reading::Fixed(window) => window.fit(limit, cost),
            Reading::Bucket(bucket) => bucket.fit(cost),
            Reading::Leases(leases) => leases.fit(limit, Algorithm::Concurrency.units(cost)),
        }
    }

    /// Charges `cost`, whether or not it fits, and returns the parts charged.
    pub fn reserve(&mut self, cost: Units) -> ChargedParts {
        let mut parts = ChargedParts::default();
        self.charge(&mut parts, cost);
        parts
    }

    /// Charges the part of `cost`, the cost so far of a running request, that exceeds `parts`, and renews its lease.
    /// Refunds nothing, because the request may still need it. A second call with the same cost changes no count.
    pub fn extend(&mut self, parts: &mut ChargedParts, limit: Units, cost: Units) {
        match &mut self.0 {
            Reading::Leases(leases) if !cost.is_zero() => leases::renew(leases, limit, parts),
            _ => {
                let excess = cost - parts.total();
                self.charge(parts, excess);
            }
        }
    }

    /// Keeps the charges of a request that is over and whose cost is still to come, with the part of `cost` that
    /// exceeds them. A lease ends.
    pub fn detach(&mut self, parts: &mut ChargedParts, cost: Units) {
        if let Reading::Leases(_) = self.0 {
            self.settle(parts, Units::ZERO);
            *parts = ChargedParts::default();
        } else {
            let excess = cost - parts.total();
            self.charge(parts, excess);
        }
    }

    /// Ends a reservation that charged `parts` and has cost `cost`: charges an excess now, or refunds a surplus to the
    /// places of its charges, the newest first. A lease ends, whatever the cost.
    pub fn settle(&mut self, parts: &ChargedParts, cost: Units) {
        let cost = match self.0 {
            Reading::Leases(_) => Algorithm::Concurrency.units_kept(cost),
            _ => cost,
        };
        let total = parts.total();
        self.charge(&mut ChargedParts::default(), cost - total);
        let mut excess = total - cost;
        for part in parts.iter().rev() {
            let amount = part.amount.min(excess);
            self.refund(part.place, amount);
            excess -= amount;
        }
    }

    fn charge(&mut self, parts: &mut ChargedParts, cost: Units) {
        if cost.is_zero() {
            return;
        }
        let cost = match self.0 {
            Reading::Leases(_) => Algorithm::Concurrency.units(cost),
            _ => cost,
        };
        match &mut self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => {
                parts.add(window.place(), cost);
                window.charge(cost);
            }
            Reading::Fixed(window) => {
                parts.add(window.place(), cost);
                window.charge(cost);
            }
            Reading::Bucket(bucket) => {
                parts.add(bucket.place(), cost);
                bucket.charge(cost);
            }
        }
    }

    fn refund(&mut self, place: u64, amount: Units) {
        match &mut self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => window.refund(place, amount),
            Reading::Fixed(window) => window.refund(place, amount),
            Reading::Bucket(bucket) => bucket.refund(place, amount),
        }
    }

    /// Gives back `units` that no reservation does, the newest first.
    pub fn give_back(&mut self, units: Units) {
        match &mut self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => window.give_back(units),
            Reading::Fixed(window) => window.refund(window.place(), units),
            Reading::Bucket(bucket) => bucket.refund(bucket.place(), units),
        }
    }

    /// Units in the window.
    pub const fn used(&self) -> Units {
        match &self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => window.used(),
            Reading::Fixed(window) => window.used(),
            Reading::Bucket(bucket) => bucket.used(),
        }
    }

    /// Whether the counter equals a new one.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => window.is_empty(),
            Reading::Fixed(window) => window.is_empty(),
            Reading::Bucket(bucket) => bucket.is_empty(),
        }
    }

    /// The duration until the window is empty if nothing more is charged; zero if it is empty.
    pub fn reset(&self) -> Millis {
        match &self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => window.reset(),
            Reading::Fixed(window) => window.reset(),
            Reading::Bucket(bucket) => bucket.reset(),
        }
    }

    /// The duration until the counter equals a new one if nothing more is charged. That of a sliding window whose
    /// charges have all been refunded still has one.
    pub fn lasts(&self) -> Millis {
        match &self.0 {
            Reading::Sliding(window) | Reading::Leases(window) => window.lasts(),
            Reading::Fixed(window) => window.reset(),
            Reading::Bucket(bucket) => bucket.reset(),
        }
    }

    /// The state of the counter. `fit` is whether the cost fitted before it was charged.
    pub fn state(&self, fit: Fit) -> WindowState {
        WindowState { used: self.used(), reset: self.reset(), fit, granted: Units::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;
    use crate::window::tests::uneven;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const NOW: Millis = Millis::new(1_700_000_000_000);

    fn units() -> impl Strategy<Value = Units> {
        (0u64..60).prop_map(Units::new)
    }

    fn a_window() -> impl Strategy<Value = (Window, Units)> {
        let length = (100u64..5_000).prop_map(|ms| NonZeroMillis::new(ms).unwrap());
        let segments = (1u32..12).prop_map(|segments| NonZeroU32::new(segments).unwrap());
        let (burst, limit) = ((0u64..40).prop_map(Units::new), (1u64..40).prop_map(Units::new));
        (length, segments, burst, limit, 0u8..6).prop_map(|(length, segments, burst, limit, which)| {
            let algorithm = match which {
                0 => Algorithm::SlidingWindow { segments },
                1 => Algorithm::FixedWindow,
                2 => Algorithm::CalendarMonth,
                3 => Algorithm::TokenBucket { burst },
                4 => return (uneven(length, NOW - length.get() / 2), limit),
                _ => Algorithm::Concurrency,
            };
            (Window { length, algorithm }, limit)
        })
    }

    /// A counter after `steps`, each a pause and the units charged after it, and the time at the end.
    fn charged(window: &Window, limit: Units, steps: Vec<(u64, u64)>) -> (Counter, Millis) {
        let (mut counter, mut now) = (Counter::new(window, limit), NOW);
        for (step, spent) in steps {
            now += step.into();
            let _ = counter.at(now).reserve(spent.into());
        }
        (counter, now)
    }

    /// By how much the clock steps back before a request: mostly by nothing.
    fn a_step_back() -> impl Strategy<Value = u64> {
        prop_oneof![8 => Just(0), 1 => 1u64..40, 1 => 1u64..6_000, 1 => Just(3_600_000)]
    }

    proptest! {
        /// For every algorithm: a refused cost would not have fitted, and it fits after its wait, not before.
        #[test]
        fn a_refusal_is_true_until_its_wait_is_over(
            (window, limit) in a_window(), cost in units(),
            steps in prop::collection::vec((0u64..1_000, 0u64..12), 0..40),
        ) {
            let (mut counter, now) = charged(&window, limit, steps);
            let used = counter.at(now).used();
            let at = |wait: Millis| counter.clone().at(now + wait).fit(limit, cost);
            let units = window.algorithm.units(cost);
            match at(Millis::ZERO) {
                Fit::Now => prop_assert!(used + units <= window.capacity(limit)),
                Fit::Never => prop_assert!(units > window.capacity(limit)),
                Fit::After(wait) => {
                    prop_assert!(used + units > window.capacity(limit));
                    prop_assert_eq!(at(wait.get()), Fit::Now);
                    prop_assert_ne!(at(wait.get() - Millis::new(1)), Fit::Now);
                }
            }
        }

        /// If nothing more is charged, the counter is empty at its reset, and not a millisecond earlier.
        #[test]
        fn a_counter_is_empty_after_its_reset(
            (window, limit) in a_window(), spent in prop::collection::vec((0u64..1_000, 0u64..12), 0..20),
        ) {
            let (mut counter, now) = charged(&window, limit, spent);
            let (used, reset) = (counter.at(now).used(), counter.at(now).reset());
            prop_assert_eq!(reset.is_zero(), used.is_zero());
            if !reset.is_zero() {
                prop_assert!(counter.clone().at(now + reset - Millis::new(1)).used() > Units::ZERO);
            }
            let empty = counter.at(now + reset);
            prop_assert_eq!((empty.used(), empty.is_empty()), (Units::ZERO, true));
        }

        /// However a reservation grows while it runs, in the end its cost is charged, and no lease remains.
        #[test]
        fn a_reservation_ends_with_its_cost_charged(
            (window, limit) in a_window(), reserved in 0u64..20, grown in prop::collection::vec(units(), 0..20),
            cost in units(),
        ) {
            let mut counter = Counter::new(&window, limit);
            let mut parts = counter.at(NOW).reserve(reserved.into());
            for cost in grown {
                let most = parts.total().max(window.algorithm.units(cost));
                counter.at(NOW).extend(&mut parts, limit, cost);
                prop_assert_eq!((parts.total(), counter.at(NOW).used()), (most, most));
                let again = counter.clone();
                counter.at(NOW).extend(&mut parts, limit, cost);
                prop_assert_eq!(&counter, &again);
            }
            let mut now = counter.at(NOW);
            now.settle(&parts, cost);
            prop_assert_eq!(now.used(), window.algorithm.units_kept(cost));
        }

        /// A request that is over keeps its charges until its cost comes, but no lease.
        #[test]
        fn a_detached_reservation_keeps_its_charges_and_no_lease(
            (window, limit) in a_window(), reserved in 0u64..20, so_far in units(), cost in units(),
        ) {
            let mut counter = Counter::new(&window, limit);
            let mut parts = counter.at(NOW).reserve(reserved.into());
            let kept = window.algorithm.units_kept(so_far.max(reserved.into()));
            for _ in 0..2 {
                counter.at(NOW).detach(&mut parts, so_far);
                prop_assert_eq!((parts.total(), counter.at(NOW).used()), (kept, kept));
            }
            counter.at(NOW).settle(&parts, cost);
            prop_assert_eq!(counter.at(NOW).used(), window.algorithm.units_kept(cost));
        }

        /// The promise, while the clock steps back now and then by any amount: in real time, no trailing window admits
        /// more than the limit, no bucket more than its burst and its rate, and no two ends of periods, by the clock
        /// of then, have more than the limit between them. A refusal waits a window, a segment and the slack at most,
        /// and a settlement gives back to where its charge is.
        #[test]
        fn a_clock_that_steps_back_admits_no_more_and_delays_by_a_window(
            (window, limit) in a_window(),
            steps in prop::collection::vec((0u64..900, 0u64..8, 0u64..6, 0usize..4, a_step_back()), 1..80),
        ) {
            let mut counter = Counter::new(&window, limit);
            let (mut real, mut clock, mut ends) = (0, NOW.get() * 2, 0);
            // The real time of each admitted charge, the ends of periods before it, its parts, and what it has kept.
            let mut admitted: Vec<(u64, u64, Option<ChargedParts>, Units)> = Vec::new();
            let period = match window.algorithm {
                Algorithm::FixedWindow => Period::Length(window.length),
                Algorithm::CalendarWindow(calendar) => Period::Calendar(calendar.edges, window.length),
                _ => Period::Month,
            };
            let length = window.length.get().get();
            for (passed, cost, less, which, back) in steps {
                let before = period.index(clock.into());
                (real, clock) = (real + passed, clock + passed);
                ends += match period {
                    // Their numbers are times, and a step passes ten at most.
                    Period::Calendar(..) => {
                        let next = |at: &u64| Some(period.ends_at(*at).get());
                        let begins = std::iter::successors(Some(before), next).skip(1);
                        begins.take_while(|begin| *begin <= clock).count() as u64
                    }
                    _ => period.index(clock.into()) - before,
                };
                clock -= back;
                let mut at = counter.at(clock.into());
                // A bucket's refunds are in parts of units; it has a law of its own for them. After a window, a place
                // may come again by a clock that was set back.
                let refunds = matches!(window.algorithm, Algorithm::SlidingWindow { .. } | Algorithm::Concurrency);
                if refunds
                    && let Some((at_first, _, parts, kept)) = admitted.iter_mut().rev().nth(which)
                    && real - *at_first < length
                    && let Some(parts) = parts.take()
                {
                    let cost = *kept - less.into();
                    let used = at.used();
                    at.settle(&parts, cost);
                    *kept -= used - at.used();
                }
                let cost = Units::new(cost);
                match at.fit(limit, cost) {
                    Fit::Now => {
                        let parts = at.reserve(cost);
                        admitted.push((real, ends, Some(parts), window.algorithm.units(cost)));
                    }
                    Fit::After(wait) => {
                        let wait = wait.get();
                        let most = match window.algorithm {
                            Algorithm::SlidingWindow { segments } => {
                                let segment = length.div_ceil(segments.get().into());
                                segment * (u64::from(segments.get()) + 2)
                            }
                            Algorithm::Concurrency => length.div_ceil(60) * 62,
                            Algorithm::FixedWindow => length + length / 60,
                            Algorithm::CalendarWindow(_) => length * 11 / 10 + 1 + length / 60,
                            Algorithm::CalendarMonth => 31 * Millis::DAY.get() + 60_000,
                            Algorithm::TokenBucket { .. } => at.reset().get(),
                        };
                        prop_assert!(wait.get() <= most, "{wait:?} of {most} for {window:?}");
                        prop_assert_eq!(counter.clone().at(Millis::new(clock) + wait).fit(limit, cost), Fit::Now);
                    }
                    Fit::Never => prop_assert!(window.algorithm.units(cost) > window.capacity(limit)),
                }
                for (first, (from, ends, ..)) in admitted.iter().enumerate() {
                    let mut sum = 0;
                    for (at, ended, _, kept) in &admitted[first..] {
                        sum += kept.get();
                        let elapsed = at - from;
                        let most = match window.algorithm {
                            Algorithm::TokenBucket { burst } => {
                                burst.get() + (limit.get() * elapsed).div_ceil(length)
                            }
                            Algorithm::FixedWindow
                            | Algorithm::CalendarMonth
                            | Algorithm::CalendarWindow(_) => limit.get() * (ended - ends + 1),
                            _ if elapsed < length => limit.get(),
                            _ => continue,
                        };
                        prop_assert!(sum <= most, "{sum} of {most} in {from}..{at}: {admitted:?}");
                    }
                }
            }
        }

        /// A clock may step anywhere: nothing panics, and what is used never exceeds what was charged.
        #[test]
        fn any_time_is_accepted(
            (window, limit) in a_window(),
            steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..20),
        ) {
            let mut counter = Counter::new(&window, limit);
            let mut charged = Units::ZERO;
            for (now, cost, real) in steps {
                let (cost, real) = (Units::new(cost), Units::new(real));
                let mut now = counter.at(now.into());
                let _ = now.fit(limit, cost);
                let parts = now.reserve(cost);
                now.settle(&parts, real);
                charged += cost.max(real);
                prop_assert!(now.used() <= charged);
                let _ = now.reset();
            }
        }
    }
}
