//! The sliding window: a running total and one count per segment, so that a decision costs amortised O(1) and a
//! counter O(segments), whatever the rate.
//!
//! A window of `length` consists of segments of `ceil(length / segments)`, aligned to the epoch. A unit leaves when its
//! whole segment has left: charged in segment `i`, it counts until segment `i + segments + 1` begins. Hence no trailing
//! window of `length`, wherever it begins, admits more than the limit, and a unit leaves late by at most one segment.
//! `lua/window/sliding.lua` does the same arithmetic on a Redis hash.

use super::Fit;
use super::clock::Lead;
use crate::quantity::{Millis, NonZeroMillis, Units};
use std::collections::VecDeque;
use std::num::NonZeroU32;

/// The shape of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The length of a segment.
    pub(super) segment: NonZeroMillis,
    /// The number of segments in the window. One more counts: the one that is leaving.
    pub(super) segments: u64,
    /// How often two segments have become one. Places are those of the first, short segments.
    pub(super) halvings: u8,
}

/// The most often that two segments become one. Then a window of any number of segments has one.
pub(super) const MAX_HALVINGS: u8 = 31;

impl Shape {
    /// A window of `length` in `segments`.
    pub const fn new(length: NonZeroMillis, segments: NonZeroU32) -> Self {
        let segments = segments.get() as u64;
        let segment = Millis::new(length.get().get().div_ceil(segments)).at_least_one();
        Self { segment, segments, halvings: 0 }
    }

    /// The same window in half as many segments; none if it is one.
    pub(super) fn halved(self) -> Option<Self> {
        let segment = Millis::new(self.segment.get().get().checked_mul(2)?).non_zero()?;
        let segments = self.segments.div_ceil(2);
        let can_halve = segments < self.segments && self.halvings < MAX_HALVINGS;
        can_halve.then_some(Self { segment, segments, halvings: self.halvings + 1 })
    }

    /// The segment that has the charges made at `place`.
    const fn index_of(self, place: u64) -> u64 {
        place >> self.halvings
    }

    /// The time at which segment `index` begins.
    fn begins_at(self, index: u64) -> Millis {
        self.segment.get() * index
    }

    /// How far the clock may be behind the last segment charged.
    fn slack(self) -> Millis {
        self.segment.get().min(Millis::MINUTE)
    }

    /// The time at which a unit charged in segment `index` leaves the window.
    fn leaves_at(self, index: u64) -> Millis {
        let segment = self.segment.get();
        segment * index + segment * self.segments + segment
    }
}

/// A sliding window's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// How far its time is ahead of the clock.
    pub(super) lead: Lead,
    pub(super) total: Units,
    /// Segments with charges, oldest first. A segment stays until it leaves, even if all its charges are refunded.
    pub(super) segments: VecDeque<Segment>,
}

/// The charges of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The counter's time, since the epoch unless the clock has stepped back, divided by the segment's length.
    pub index: u64,
    /// The units charged, less refunds.
    pub count: Units,
}

impl Counter {
    /// The counter at `now`. Drops segments that have left the window. If the clock has stepped back, the counter's
    /// time goes on from the beginning of the last segment charged, so that all leaves within the window and a segment.
    pub fn read(&mut self, shape: Shape, now: Millis) -> Reading<'_> {
        let time = match self.segments.back() {
            Some(last) => self.lead.time(now, shape.begins_at(last.index), shape.slack()),
            None => now,
        };
        let mut reading = Reading { counter: self, shape, now: time };
        let oldest = reading.index().saturating_sub(shape.segments);
        while let Some(first) = reading.counter.segments.front().filter(|first| first.index < oldest) {
            reading.counter.total -= first.count;
            reading.counter.segments.pop_front();
        }
        if reading.is_empty() {
            *reading.counter = Self::default();
            reading.now = now;
        }
        reading
    }

    /// Makes every two segments of `shape` one, which leaves with the later of them: never early, and late by no more
    /// than one of the new segments. Returns whether there is more than one segment to the window.
    pub(super) fn halve(&mut self, shape: &mut Shape) -> bool {
        let Some(halved) = shape.halved() else { return false };
        *shape = halved;
        let mut segments: VecDeque<Segment> = VecDeque::with_capacity(self.segments.len().div_ceil(2) + 1);
        for Segment { index, count } in self.segments.drain(..) {
            match segments.back_mut() {
                Some(last) if last.index == index / 2 => last.count += count,
                _ => segments.push_back(Segment { index: index / 2, count }),
            }
        }
        self.segments = segments;
        true
    }
}

/// A sliding window's counter at a point in time.
#[derive(Debug)]
pub struct Reading<'a> {
    counter: &'a mut Counter,
    shape: Shape,
    /// The counter's time.
    now: Millis,
}

impl Reading<'_> {
    /// Units in the window.
    pub const fn used(&self) -> Units {
        self.counter.total
    }

    /// Whether the counter equals a new one.
    pub fn is_empty(&self) -> bool {
        self.counter.segments.is_empty()
    }

    /// The place of a charge made now: its segment, or the last one charged if the clock is a moment behind.
    pub fn place(&self) -> u64 {
        self.index() << self.shape.halvings
    }

    /// The segment of a charge made now.
    fn index(&self) -> u64 {
        let last = self.counter.segments.back().map_or(0, |last| last.index);
        last.max(self.now / self.shape.segment)
    }

    /// Whether `cost` fits under `limit`.
    pub fn fit(&self, limit: Units, cost: Units) -> Fit {
        if cost > limit {
            return Fit::Never;
        }
        let mut used = self.counter.total;
        let room = limit - cost;
        if used <= room {
            return Fit::Now;
        }
        // Every unit is in a segment, so the last one to leave makes room.
        for segment in &self.counter.segments {
            used -= segment.count;
            if used <= room {
                return Fit::After((self.shape.leaves_at(segment.index) - self.now).at_least_one());
            }
        }
        Fit::After(self.reset().at_least_one())
    }

    /// Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
    pub fn charge(&mut self, cost: Units) {
        if cost.is_zero() {
            return;
        }
        let index = self.index();
        self.counter.total += cost;
        match self.counter.segments.back_mut() {
            Some(last) if last.index == index => last.count += cost,
            _ => self.counter.segments.push_back(Segment { index, count: cost }),
        }
    }

    /// Units charged at `place` that are still in the window.
    pub fn count(&self, place: u64) -> Units {
        let index = self.shape.index_of(place);
        let found = self.counter.segments.binary_search_by_key(&index, |segment| segment.index).ok();
        found.and_then(|at| self.counter.segments.get(at)).map_or(Units::ZERO, |segment| segment.count)
    }

    /// Gives `amount` back to the segment `place`, if that is still in the window.
    pub fn refund(&mut self, place: u64, amount: Units) {
        let index = self.shape.index_of(place);
        if let Ok(at) = self.counter.segments.binary_search_by_key(&index, |segment| segment.index)
            && let Some(segment) = self.counter.segments.get_mut(at)
        {
            let amount = amount.min(segment.count);
            segment.count -= amount;
            self.counter.total -= amount;
        }
    }

    /// Gives back `amount` of the charges in the window, the newest segment first: what would have stayed longest.
    pub fn give_back(&mut self, mut amount: Units) {
        for segment in self.counter.segments.iter_mut().rev() {
            let part = amount.min(segment.count);
            segment.count -= part;
            self.counter.total -= part;
            amount -= part;
        }
    }

    /// The duration until the counter equals a new one if nothing more is charged.
    pub fn lasts(&self) -> Millis {
        let last = self.counter.segments.back();
        last.map_or(Millis::ZERO, |last| self.shape.leaves_at(last.index) - self.now)
    }

    /// The duration until the window is empty if nothing more is charged; zero if it is empty. The last segment charged
    /// decides, even if its charges have been refunded.
    pub fn reset(&self) -> Millis {
        if self.counter.total.is_zero() { Millis::ZERO } else { self.lasts() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: u64 = 1_000;

    fn shape(segments: u32) -> Shape {
        Shape::new(NonZeroMillis::new(LENGTH).unwrap(), NonZeroU32::new(segments).unwrap())
    }

    fn units(value: u64) -> Units {
        Units::new(value)
    }

    fn after(ms: u64) -> Fit {
        Fit::After(NonZeroMillis::new(ms).unwrap())
    }

    #[test]
    fn exactly_the_limit_fits_and_more_than_it_never_does() {
        let mut counter = Counter::default();
        let mut reading = counter.read(shape(10), Millis::ZERO);
        assert_eq!(reading.fit(units(5), units(5)), Fit::Now);
        assert_eq!(reading.fit(units(5), units(6)), Fit::Never);
        reading.charge(units(3));
        assert_eq!(reading.fit(units(5), units(2)), Fit::Now);
        assert_eq!(reading.fit(units(5), units(3)), after(1_100));
    }

    #[test]
    fn a_unit_leaves_when_its_whole_segment_has_left() {
        let (shape, mut counter) = (shape(10), Counter::default());
        counter.read(shape, Millis::new(99)).charge(units(1));
        assert_eq!(counter.read(shape, Millis::new(1_099)).used(), 1);
        let reading = counter.read(shape, Millis::new(1_100));
        assert_eq!((reading.used(), reading.is_empty()), (Units::ZERO, true));
    }

    #[test]
    fn a_clock_that_is_a_moment_behind_charges_the_last_segment() {
        let (shape, mut counter) = (shape(10), Counter::default());
        counter.read(shape, Millis::new(950)).charge(units(1));
        let mut reading = counter.read(shape, Millis::new(850));
        assert_eq!(reading.place(), 9);
        reading.charge(units(1));
        assert_eq!(counter.segments.len(), 1);
    }

    #[test]
    fn a_clock_that_steps_back_keeps_the_counts_for_a_window_and_a_segment() {
        let (shape, mut counter) = (shape(10), Counter::default());
        counter.read(shape, Millis::new(3_600_450)).charge(units(1));
        counter.read(shape, Millis::new(3_600_950)).charge(units(2));
        let reading = counter.read(shape, Millis::new(20));
        assert_eq!((reading.used(), reading.reset()), (units(3), Millis::new(1_100)));
        assert_eq!(
            [reading.fit(units(3), units(1)), reading.fit(units(3), units(2))],
            [after(600), after(1_100)]
        );
        assert_eq!(counter.read(shape, Millis::new(619)).used(), 3);
        assert_eq!(counter.read(shape, Millis::new(620)).used(), 2, "what was older leaves earlier");
        let place = counter.read(shape, Millis::new(620)).place();
        counter.read(shape, Millis::new(620)).charge(units(5));
        counter.read(shape, Millis::new(700)).refund(place, units(4));
        assert_eq!(counter.read(shape, Millis::new(1_119)).used(), 3);
        assert_eq!(counter.read(shape, Millis::new(1_120)).used(), 1);
        counter.read(shape, Millis::new(1_800)).charge(units(1));
        assert_eq!(
            counter.read(shape, Millis::new(1_800)).place(),
            18,
            "an empty counter follows the clock again"
        );
    }

    #[test]
    fn a_refund_goes_to_its_segment_and_only_while_that_is_live() {
        let (shape, mut counter) = (shape(10), Counter::default());
        let mut reading = counter.read(shape, Millis::ZERO);
        let first = reading.place();
        reading.charge(units(4));
        let mut reading = counter.read(shape, Millis::new(500));
        reading.charge(units(1));
        reading.refund(first, units(3));
        assert_eq!(reading.used(), 2);
        let mut reading = counter.read(shape, Millis::new(1_100));
        reading.refund(first, units(1));
        assert_eq!(reading.used(), 1);
    }

    proptest! {
        /// The promise: the units admitted in any trailing window never exceed the limit.
        #[test]
        fn no_trailing_window_exceeds_the_limit(
            segments in 1u32..12, limit in 1u64..20, steps in proptest::collection::vec((0u64..400, 0u64..8), 1..120),
        ) {
            let (shape, mut counter, mut now) = (shape(segments), Counter::default(), 0);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (step, cost) in steps {
                now += step;
                let mut reading = counter.read(shape, now.into());
                if reading.fit(units(limit), units(cost)) == Fit::Now {
                    reading.charge(units(cost));
                    admitted.push((now, cost));
                }
                let trailing: u64 = admitted.iter().filter(|(at, _)| at + LENGTH > now).map(|(_, cost)| cost).sum();
                prop_assert!(trailing <= limit, "{trailing} of {limit} at {now}");
            }
        }

        /// A refusal is true now, true until just before its wait is over, and over then.
        #[test]
        fn after_the_wait_it_fits_and_not_before(
            segments in 1u32..12, limit in 1u64..20, cost in 0u64..20,
            steps in proptest::collection::vec((0u64..300, 0u64..8), 1..60),
        ) {
            let (shape, mut counter, mut now) = (shape(segments), Counter::default(), Millis::ZERO);
            for (step, spent) in steps {
                now += step.into();
                counter.read(shape, now).charge(units(spent));
            }
            let (limit, cost) = (units(limit), units(cost));
            let used = counter.read(shape, now).used();
            let at = |wait: Millis| counter.clone().read(shape, now + wait).fit(limit, cost);
            match at(Millis::ZERO) {
                Fit::Now => prop_assert!(used + cost <= limit),
                Fit::Never => prop_assert!(cost > limit),
                Fit::After(wait) => {
                    prop_assert!(used + cost > limit);
                    prop_assert_ne!(at(wait.get() - Millis::new(1)), Fit::Now);
                    prop_assert_eq!(at(wait.get()), Fit::Now);
                }
            }
            prop_assert!(counter.segments.len() <= segments as usize + 1);
            let reset = counter.read(shape, now).reset();
            prop_assert_eq!(counter.read(shape, now + reset).used(), 0);
        }
    }
}
