//! A counter of any algorithm, as the local store keeps it for a window, and the steps of a reservation: reserve,
//! extend, detach, settle. The arithmetic is in the files of the algorithms.

use super::parts::ChargedParts;
use super::period::Period;
use super::{Algorithm, Fit, Window, WindowState, bucket, fixed, leases, sliding};
use crate::quantity::{Millis, Units};
use serde::{Deserialize, Serialize};

/// A window's counter, with the parameters of the window that its algorithm needs. [`Counter::at`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
            Algorithm::TokenBucket { burst } => {
                Self::Bucket(bucket::Rate::new(length, limit, burst), bucket::Counter::default())
            }
            Algorithm::Concurrency => Self::Leases(leases::shape(length), sliding::Counter::default()),
        }
    }

    /// The counter at `now`, a time since the epoch. Drops what has left the window by then.
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

    /// The state of the counter. `fit` is whether the cost fitted before it was charged.
    pub fn state(&self, fit: Fit) -> WindowState {
        WindowState { used: self.used(), reset: self.reset(), fit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;
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
        (length, segments, burst, limit, 0u8..5).prop_map(|(length, segments, burst, limit, which)| {
            let algorithm = match which {
                0 => Algorithm::SlidingWindow { segments },
                1 => Algorithm::FixedWindow,
                2 => Algorithm::CalendarMonth,
                3 => Algorithm::TokenBucket { burst },
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
