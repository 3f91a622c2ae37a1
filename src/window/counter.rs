//! A counter of any algorithm: what stores keep for a window, and what a reservation does to it from its beginning to
//! its end. The arithmetic is in the files of the algorithms.

use super::parts::ChargedParts;
use super::period::Period;
use super::{Algorithm, Fit, Window, bucket, fixed, leases, sliding};
use serde::{Deserialize, Serialize};

/// A window's counter, with what its algorithm needs to know of the window.
///
/// Time comes in milliseconds since the epoch. Whoever asks or changes a counter calls [`Counter::advance`] first.
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
    pub fn new(window: &Window, limit: u64) -> Self {
        match window.algorithm {
            Algorithm::SlidingWindow { segments } => {
                Self::Sliding(sliding::Shape::new(window.length_ms, segments), sliding::Counter::default())
            }
            Algorithm::FixedWindow => {
                Self::Fixed(Period::Length(window.length_ms), fixed::Counter::default())
            }
            Algorithm::CalendarMonth => Self::Fixed(Period::Month, fixed::Counter::default()),
            Algorithm::TokenBucket { burst } => {
                Self::Bucket(bucket::Rate::new(window.length_ms, limit, burst), bucket::Counter::default())
            }
            Algorithm::Concurrency => {
                Self::Leases(leases::shape(window.length_ms), sliding::Counter::default())
            }
        }
    }

    /// Lets `limit` and what else of `window` may change while its counter stays be in force from now on.
    pub const fn set_limit(&mut self, window: &Window, limit: u64) {
        if let (Self::Bucket(rate, _), Algorithm::TokenBucket { burst }) = (self, window.algorithm) {
            *rate = bucket::Rate::new(window.length_ms, limit, burst);
        }
    }

    /// Lets go of what has left the window by `now_ms`.
    pub fn advance(&mut self, now_ms: u64) {
        match self {
            Self::Sliding(shape, counter) | Self::Leases(shape, counter) => counter.advance(*shape, now_ms),
            Self::Fixed(period, counter) => counter.advance(*period, now_ms),
            Self::Bucket(rate, counter) => counter.advance(*rate, now_ms),
        }
    }

    /// Whether `cost` fits under `limit`.
    pub fn fit(&self, limit: u64, cost: u64, now_ms: u64) -> Fit {
        match self {
            Self::Sliding(shape, counter) => counter.fit(*shape, limit, cost, now_ms),
            Self::Leases(shape, counter) => {
                counter.fit(*shape, limit, Algorithm::Concurrency.units(cost), now_ms)
            }
            Self::Fixed(period, counter) => counter.fit(*period, limit, cost, now_ms),
            Self::Bucket(rate, counter) => counter.fit(*rate, cost, now_ms),
        }
    }

    /// Charges `cost`, whether or not it fits, and returns what was charged where.
    pub fn reserve(&mut self, cost: u64, now_ms: u64) -> ChargedParts {
        let mut parts = ChargedParts::default();
        self.charge(&mut parts, cost, now_ms);
        parts
    }

    /// Charges what a running reservation costs by now beyond what it has charged, and renews its lease. Nothing is
    /// given back: it may need it yet. Doing so again with the same cost changes no count.
    pub fn extend(&mut self, parts: &mut ChargedParts, limit: u64, cost: u64, now_ms: u64) {
        match self {
            Self::Leases(shape, counter) if cost > 0 => {
                leases::renew(counter, *shape, limit, parts, now_ms);
            }
            _ => {
                let excess = cost.saturating_sub(parts.total());
                self.charge(parts, excess, now_ms);
            }
        }
    }

    /// Ends a reservation that charged `parts` and has cost `cost`: an excess is charged now, what was too much goes
    /// back to where it was charged, the newest first. A lease ends whatever it cost.
    pub fn settle(&mut self, parts: &ChargedParts, cost: u64, now_ms: u64) {
        let cost = match self {
            Self::Leases(..) => Algorithm::Concurrency.units_kept(cost),
            _ => cost,
        };
        let total = parts.total();
        self.charge(&mut ChargedParts::default(), cost.saturating_sub(total), now_ms);
        let mut excess = total.saturating_sub(cost);
        for part in parts.iter().rev() {
            let amount = part.amount.min(excess);
            self.refund(part.place, amount);
            excess = excess.saturating_sub(amount);
        }
    }

    fn charge(&mut self, parts: &mut ChargedParts, cost: u64, now_ms: u64) {
        if cost == 0 {
            return;
        }
        let (place, amount) = match self {
            Self::Sliding(shape, counter) => (counter.charge(*shape, cost, now_ms), cost),
            Self::Leases(shape, counter) => {
                let slots = Algorithm::Concurrency.units(cost);
                (counter.charge(*shape, slots, now_ms), slots)
            }
            Self::Fixed(_, counter) => (counter.charge(cost), cost),
            Self::Bucket(rate, counter) => (counter.charge(*rate, cost), cost),
        };
        parts.add(place, amount);
    }

    fn refund(&mut self, place: u64, amount: u64) {
        match self {
            Self::Sliding(_, counter) | Self::Leases(_, counter) => counter.refund(place, amount),
            Self::Fixed(_, counter) => counter.refund(place, amount),
            Self::Bucket(rate, counter) => counter.refund(*rate, place, amount),
        }
    }

    /// Units in the window.
    pub const fn used(&self) -> u64 {
        match self {
            Self::Sliding(_, counter) | Self::Leases(_, counter) => counter.used(),
            Self::Fixed(_, counter) => counter.used(),
            Self::Bucket(_, counter) => counter.used(),
        }
    }

    /// Whether nothing is remembered, so that a new counter would be the same.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Sliding(_, counter) | Self::Leases(_, counter) => counter.is_empty(),
            Self::Fixed(_, counter) => counter.is_empty(),
            Self::Bucket(_, counter) => counter.is_empty(),
        }
    }

    /// Milliseconds until the window is empty if nobody spends; 0 if it is.
    pub fn reset_ms(&self, now_ms: u64) -> u64 {
        match self {
            Self::Sliding(shape, counter) | Self::Leases(shape, counter) => counter.reset_ms(*shape, now_ms),
            Self::Fixed(period, counter) => counter.reset_ms(*period, now_ms),
            Self::Bucket(rate, counter) => counter.reset_ms(*rate, now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::{NonZeroU32, NonZeroU64};

    fn a_window() -> impl Strategy<Value = (Window, u64)> {
        let length = (100u64..5_000).prop_map(|ms| NonZeroU64::new(ms).unwrap());
        let segments = (1u32..12).prop_map(|segments| NonZeroU32::new(segments).unwrap());
        (length, segments, 0u64..40, 1u64..40, 0u8..5).prop_map(
            |(length_ms, segments, burst, limit, which)| {
                let algorithm = match which {
                    0 => Algorithm::SlidingWindow { segments },
                    1 => Algorithm::FixedWindow,
                    2 => Algorithm::CalendarMonth,
                    3 => Algorithm::TokenBucket { burst },
                    _ => Algorithm::Concurrency,
                };
                (Window { length_ms, algorithm }, limit)
            },
        )
    }

    proptest! {
        /// For every algorithm: refused means that it would not have fitted, and after the wait it does.
        #[test]
        fn a_refusal_is_true_until_its_wait_is_over(
            (window, limit) in a_window(), cost in 0u64..50,
            steps in prop::collection::vec((0u64..1_000, 0u64..12), 0..40),
        ) {
            let (mut counter, mut now) = (Counter::new(&window, limit), 1_700_000_000_000);
            for (step, spent) in steps {
                now += step;
                counter.advance(now);
                let _ = counter.reserve(spent, now);
            }
            let at = |ms: u64| {
                let mut later = counter.clone();
                later.advance(now + ms);
                later.fit(limit, cost, now + ms)
            };
            let units = window.algorithm.units(cost);
            match at(0) {
                Fit::Now => prop_assert!(counter.used() + units <= window.capacity(limit)),
                Fit::Never => prop_assert!(units > window.capacity(limit)),
                Fit::After(wait) => {
                    prop_assert!(counter.used() + units > window.capacity(limit));
                    prop_assert_eq!(at(wait.get()), Fit::Now);
                    prop_assert_ne!(at(wait.get() - 1), Fit::Now);
                }
            }
        }

        /// Nothing spends, so it is empty when it said it would be, and no sooner than the last unit leaves.
        #[test]
        fn a_counter_is_empty_after_its_reset(
            (window, limit) in a_window(), spent in prop::collection::vec((0u64..1_000, 0u64..12), 0..20),
        ) {
            let (mut counter, mut now) = (Counter::new(&window, limit), 1_700_000_000_000);
            for (step, spent) in spent {
                now += step;
                counter.advance(now);
                let _ = counter.reserve(spent, now);
            }
            let reset_ms = counter.reset_ms(now);
            prop_assert_eq!(reset_ms == 0, counter.used() == 0);
            if reset_ms > 0 {
                let mut before = counter.clone();
                before.advance(now + reset_ms - 1);
                prop_assert!(before.used() > 0);
            }
            counter.advance(now + reset_ms);
            prop_assert_eq!((counter.used(), counter.is_empty()), (0, true));
        }

        /// However a reservation grows while it runs, it ends with its cost charged; a lease leaves nothing.
        #[test]
        fn a_reservation_ends_with_its_cost_charged(
            (window, limit) in a_window(), reserved in 0u64..20, grown in prop::collection::vec(0u64..60, 0..20), cost in 0u64..60,
        ) {
            let now = 1_700_000_000_000;
            let mut counter = Counter::new(&window, limit);
            counter.advance(now);
            let mut parts = counter.reserve(reserved, now);
            for cost in grown {
                let most = parts.total().max(window.algorithm.units(cost));
                counter.extend(&mut parts, limit, cost, now);
                prop_assert_eq!((parts.total(), counter.used()), (most, most));
                let again = counter.clone();
                counter.extend(&mut parts, limit, cost, now);
                prop_assert_eq!(&counter, &again);
            }
            counter.settle(&parts, cost, now);
            prop_assert_eq!(counter.used(), window.algorithm.units_kept(cost));
        }

        /// A clock may step anywhere: nothing panics, and what is used never exceeds what was charged.
        #[test]
        fn any_time_is_borne(
            (window, limit) in a_window(), steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..20),
        ) {
            let mut counter = Counter::new(&window, limit);
            let mut charged: u64 = 0;
            for (now, cost, real) in steps {
                counter.advance(now);
                let _ = counter.fit(limit, cost, now);
                let parts = counter.reserve(cost, now);
                counter.settle(&parts, real, now);
                charged = charged.saturating_add(cost.max(real));
                prop_assert!(counter.used() <= charged);
                let _ = counter.reset_ms(now);
            }
        }
    }
}
