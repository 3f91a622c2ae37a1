//! What is counted and measured until the next tick, which passes it to Envoy (docs/envoy.md#metrics).
//!
//! The effects of each event carry their own [`Stats`]. The worker merges them, and `proxy.rs` passes sums and values
//! on. [`series`](super::series) has the names.

use super::series::{Count, Distribution};
use crate::quantity::Units;
use std::collections::BTreeMap;

/// The most values of histograms that are kept until the next tick, of all histograms together: a tick comes after a
/// twentieth of a second, and each value is a call to Envoy. More are left out; sums leave out nothing.
const MAX_VALUES: usize = 1_000;

/// Counts and values since the last [`Stats::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    counts: BTreeMap<Count, Units>,
    values: Vec<(Distribution, u64)>,
}

/// What has been counted and measured, for Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What to add to counters; no zeros.
    pub counts: Vec<(Count, u64)>,
    /// The values for histograms.
    pub values: Vec<(Distribution, u64)>,
}

impl Stats {
    /// Adds `n`.
    pub fn add(&mut self, count: Count, n: u64) {
        if n > 0 {
            *self.counts.entry(count).or_default() += n.into();
        }
    }

    /// Records a value.
    pub fn record(&mut self, distribution: Distribution, value: u64) {
        if self.values.len() < MAX_VALUES {
            self.values.push((distribution, value));
        }
    }

    /// Adds all that `other` has.
    pub fn merge(&mut self, other: Self) {
        for (count, more) in other.counts {
            *self.counts.entry(count).or_default() += more;
        }
        let room = MAX_VALUES.saturating_sub(self.values.len());
        self.values.extend(other.values.into_iter().take(room));
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.values.is_empty()
    }

    /// Takes all of it.
    pub fn take(&mut self) -> Report {
        let Self { counts, values } = std::mem::take(self);
        Report { counts: counts.into_iter().map(|(count, n)| (count, n.get())).collect(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_values_are_taken_once() {
        let mut stats = Stats::default();
        stats.add(Count::StoreErrors, 2);
        stats.add(Count::StoreErrors, 3);
        stats.add(Count::Unreadable, 0);
        stats.record(Distribution::WaitMs, 7);
        stats.record(Distribution::WaitMs, 7);
        let report = stats.take();
        assert_eq!(report.counts, [(Count::StoreErrors, 5)]);
        assert_eq!(report.values, [(Distribution::WaitMs, 7); 2]);
        assert_eq!(stats.take(), Report::default());
    }

    #[test]
    fn merging_adds_everything() {
        let mut stats = Stats::default();
        assert!(stats.is_empty());
        stats.add(Count::Unreadable, 1);
        stats.record(Distribution::WaitMs, 7);
        assert!(!stats.is_empty());
        let mut merged = Stats::default();
        merged.merge(stats.clone());
        assert_eq!(merged, stats);
        merged.merge(stats);
        let report = merged.take();
        assert_eq!((report.counts, report.values.len()), (vec![(Count::Unreadable, 2)], 2));
        assert!(merged.is_empty());
    }

    #[test]
    fn values_are_bounded_and_sums_are_not() {
        let mut stats = Stats::default();
        for value in 0..10 * MAX_VALUES as u64 {
            let mut event = Stats::default();
            event.add(Count::StoreErrors, 1);
            event.record(Distribution::WaitMs, value);
            stats.merge(event);
        }
        let report = stats.take();
        assert_eq!(report.counts, [(Count::StoreErrors, 10 * MAX_VALUES as u64)]);
        assert_eq!(report.values.len(), MAX_VALUES);
    }
}
