//! The sliding window: a running total and one count per segment, so that a decision costs amortised O(1) and a
//! counter O(segments), whatever the rate.
//!
//! A window of `length` is cut into segments of `ceil(length / segments)`, aligned to the epoch. A unit leaves when
//! its whole segment has left: charged in segment `i`, it counts until segment `i + segments + 1` begins. Hence no
//! trailing window of `length`, wherever it begins, admits more than the limit, and a refusal is late by at most one
//! segment. `lua/` does the same arithmetic on a Redis hash.

use super::Fit;
use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};

/// The shape of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length of a segment in milliseconds.
    segment_ms: NonZeroU64,
    /// Segments that make up the window; one more is live, the one that is leaving.
    segments: u64,
}

impl Shape {
    /// A window of `length_ms` cut into `segments`.
    pub fn new(length_ms: NonZeroU64, segments: NonZeroU32) -> Self {
        let segments = NonZeroU64::from(segments);
        let segment_ms = NonZeroU64::new(length_ms.get().div_ceil(segments.get())).unwrap_or(NonZeroU64::MIN);
        Self { segment_ms, segments: segments.get() }
    }

    /// When a unit charged in segment `index` leaves, in milliseconds since the epoch.
    fn leaves_at(self, index: u64) -> u64 {
        index.saturating_add(self.segments).saturating_add(1).saturating_mul(self.segment_ms.get())
    }
}

/// A sliding window's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    total: u64,
    /// Segments charged to, oldest first. A segment whose charges were all refunded stays until it leaves.
    segments: VecDeque<Segment>,
}

/// What was charged in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Milliseconds since the epoch divided by the segment's length.
    pub index: u64,
    /// Units.
    pub count: u64,
}

impl Counter {
    /// A counter that holds `segments`, oldest first, as [`Counter::segments`] gave them.
    pub fn from_segments(segments: impl IntoIterator<Item = Segment>) -> Self {
        let segments: VecDeque<_> = segments.into_iter().collect();
        let total = segments.iter().fold(0, |sum: u64, s| sum.saturating_add(s.count));
        Self { total, segments }
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment> + '_ {
        self.segments.iter().copied()
    }

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
