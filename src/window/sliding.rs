//! The sliding window: a running total and one count per segment, so that a decision costs amortised O(1) and a
//! counter O(segments), whatever the rate.
//!
//! A window of `length` is cut into segments of `ceil(length / segments)`, aligned to the epoch. A unit leaves when
//! its whole segment has left: charged in segment `i`, it counts until segment `i + segments + 1` begins. Hence no
//! trailing window of `length`, wherever it begins, admits more than the limit, and a refusal is late by at most one
//! segment. `lua/` does the same arithmetic on a Redis hash.

use super::Fit;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};

/// The shape of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Length of a segment in milliseconds.
    segment_ms: NonZeroU64,
    /// Segments that make up the window; one more is live, the one that is leaving.
    segments: u64,
}

impl Shape {
    /// A window of `length_ms` cut into `segments`.
    pub const fn new(length_ms: NonZeroU64, segments: NonZeroU32) -> Self {
        let segments = segments.get() as u64;
        let segment_ms = match NonZeroU64::new(length_ms.get().div_ceil(segments)) {
            Some(segment_ms) => segment_ms,
            None => NonZeroU64::MIN,
        };
        Self { segment_ms, segments }
    }

    /// When a unit charged in segment `index` leaves, in milliseconds since the epoch.
    fn leaves_at(self, index: u64) -> u64 {
        index.saturating_add(self.segments).saturating_add(1).saturating_mul(self.segment_ms.get())
    }
}

/// A sliding window's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    total: u64,
    /// Segments charged to, oldest first. A segment whose charges were all refunded stays until it leaves.
    segments: VecDeque<Segment>,
}

/// What was charged in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Milliseconds since the epoch divided by the segment's length.
    pub index: u64,
    /// Units.
    pub count: u64,
}

impl Counter {
    /// Units in the window, as of the last [`Counter::advance`].
    pub const fn used(&self) -> u64 {
        self.total
    }

    /// Whether nothing is remembered, as of the last [`Counter::advance`].
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The segment that `now_ms` charges: never one before the last that was charged, should the clock step back.
    fn current(&self, shape: Shape, now_ms: u64) -> u64 {
        (now_ms / shape.segment_ms).max(self.segments.back().map_or(0, |last| last.index))
    }

    /// Lets go of the segments that have left the window.
    pub fn advance(&mut self, shape: Shape, now_ms: u64) {
        let oldest = self.current(shape, now_ms).saturating_sub(shape.segments);
        while let Some(first) = self.segments.front().filter(|first| first.index < oldest) {
            self.total = self.total.saturating_sub(first.count);
            self.segments.pop_front();
        }
    }

    /// Whether `cost` fits under `limit`. Call [`Counter::advance`] first.
    pub fn fit(&self, shape: Shape, limit: u64, cost: u64, now_ms: u64) -> Fit {
        if cost > limit {
            return Fit::Never;
        }
        let mut used = self.total;
        let room = limit.saturating_sub(cost);
        if used <= room {
            return Fit::Now;
        }
        for segment in &self.segments {
            used = used.saturating_sub(segment.count);
            if used <= room {
                let wait = shape.leaves_at(segment.index).saturating_sub(now_ms);
                return Fit::After(NonZeroU64::new(wait).unwrap_or(NonZeroU64::MIN));
            }
        }
        Fit::Now
    }

    /// Charges `cost`, whether or not it fits, and returns the segment it went to. A cost of zero leaves no trace.
    /// Call [`Counter::advance`] first.
    pub fn charge(&mut self, shape: Shape, cost: u64, now_ms: u64) -> u64 {
        let index = self.current(shape, now_ms);
        if cost > 0 {
            self.total = self.total.saturating_add(cost);
            match self.segments.back_mut() {
                Some(last) if last.index == index => last.count = last.count.saturating_add(cost),
                _ => self.segments.push_back(Segment { index, count: cost }),
            }
        }
        index
    }

    /// Whether the segment `index` is in the window and holds something. Call [`Counter::advance`] first.
    pub fn holds(&self, index: u64) -> bool {
        let found = self.segments.binary_search_by_key(&index, |s| s.index).ok();
        found.and_then(|at| self.segments.get(at)).is_some_and(|segment| segment.count > 0)
    }

    /// Gives `amount` back to the segment that was charged, if it is still in the window.
    /// Call [`Counter::advance`] first.
    pub fn refund(&mut self, index: u64, amount: u64) {
        if let Ok(at) = self.segments.binary_search_by_key(&index, |s| s.index)
            && let Some(segment) = self.segments.get_mut(at)
        {
            let amount = amount.min(segment.count);
            segment.count = segment.count.saturating_sub(amount);
            self.total = self.total.saturating_sub(amount);
        }
    }

    /// Milliseconds until the window is empty if nobody spends; 0 if it is. The last segment charged decides, even
    /// if its charges have been refunded.
    pub fn reset_ms(&self, shape: Shape, now_ms: u64) -> u64 {
        match self.segments.back() {
            Some(last) if self.total > 0 => shape.leaves_at(last.index).saturating_sub(now_ms),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH_MS: u64 = 1_000;

    fn shape(segments: u32) -> Shape {
        Shape::new(NonZeroU64::new(LENGTH_MS).unwrap(), NonZeroU32::new(segments).unwrap())
    }

    #[test]
    fn exactly_the_limit_fits_and_more_than_it_never_does() {
        let (shape, mut counter) = (shape(10), Counter::default());
        assert_eq!(counter.fit(shape, 5, 5, 0), Fit::Now);
        assert_eq!(counter.fit(shape, 5, 6, 0), Fit::Never);
        counter.charge(shape, 3, 0);
        assert_eq!(counter.fit(shape, 5, 2, 0), Fit::Now);
        assert_eq!(counter.fit(shape, 5, 3, 0), Fit::After(NonZeroU64::new(1_100).unwrap()));
    }

    #[test]
    fn a_unit_leaves_when_its_whole_segment_has_left() {
        let (shape, mut counter) = (shape(10), Counter::default());
        counter.charge(shape, 1, 99);
        counter.advance(shape, 1_099);
        assert_eq!(counter.used(), 1);
        counter.advance(shape, 1_100);
        assert_eq!((counter.used(), counter.is_empty()), (0, true));
    }

    #[test]
    fn a_clock_that_steps_back_charges_the_last_segment() {
        let (shape, mut counter) = (shape(10), Counter::default());
        counter.charge(shape, 1, 950);
        assert_eq!(counter.charge(shape, 1, 300), 9);
        assert_eq!(counter.segments.len(), 1);
    }

    #[test]
    fn a_refund_goes_to_its_segment_and_only_while_that_is_live() {
        let (shape, mut counter) = (shape(10), Counter::default());
        let first = counter.charge(shape, 4, 0);
        counter.charge(shape, 1, 500);
        counter.refund(first, 3);
        assert_eq!(counter.used(), 2);
        counter.advance(shape, 1_100);
        counter.refund(first, 1);
        assert_eq!(counter.used(), 1);
    }

    proptest! {
        /// The promise: what is admitted in any trailing window never exceeds the limit.
        #[test]
        fn no_trailing_window_exceeds_the_limit(
            segments in 1u32..12, limit in 1u64..20, steps in proptest::collection::vec((0u64..400, 0u64..8), 1..120),
        ) {
            let (shape, mut counter, mut now) = (shape(segments), Counter::default(), 0);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (step, cost) in steps {
                now += step;
                counter.advance(shape, now);
                if counter.fit(shape, limit, cost, now) == Fit::Now {
                    counter.charge(shape, cost, now);
                    admitted.push((now, cost));
                }
                let trailing: u64 = admitted.iter().filter(|(at, _)| at + LENGTH_MS > now).map(|(_, cost)| cost).sum();
                prop_assert!(trailing <= limit, "{trailing} of {limit} at {now}");
            }
        }

        /// A refusal is true now, true until just before `retry_after`, and over then.
        #[test]
        fn after_retry_after_it_fits_and_not_before(
            segments in 1u32..12, limit in 1u64..20, cost in 0u64..20, steps in proptest::collection::vec((0u64..300, 0u64..8), 1..60),
        ) {
            let (shape, mut counter, mut now) = (shape(segments), Counter::default(), 0);
            for (step, spent) in steps {
                now += step;
                counter.advance(shape, now);
                counter.charge(shape, spent, now);
            }
            let at = |ms: u64| {
                let mut later = counter.clone();
                later.advance(shape, now + ms);
                later.fit(shape, limit, cost, now + ms)
            };
            match at(0) {
                Fit::Now => prop_assert!(counter.used() + cost <= limit),
                Fit::Never => prop_assert!(cost > limit),
                Fit::After(wait) => {
                    prop_assert!(counter.used() + cost > limit);
                    prop_assert_ne!(at(wait.get() - 1), Fit::Now);
                    prop_assert_eq!(at(wait.get()), Fit::Now);
                }
            }
            prop_assert!(counter.segments.len() <= segments as usize + 1);
            let reset = counter.reset_ms(shape, now);
            counter.advance(shape, now + reset);
            prop_assert_eq!(counter.used(), 0);
        }
    }
}
