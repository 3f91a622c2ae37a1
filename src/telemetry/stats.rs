//! The filter's own counters and gauges. Envoy shows them as `wasmcustom.llm_rate_limit.*` (docs/envoy.md#metrics).
//!
//! The effects of each event carry their own [`Stats`]. The worker merges them, and `proxy.rs` passes the sums to
//! Envoy.

use crate::models::Family;
use crate::quantity::Units;
use std::borrow::Cow;
use std::collections::BTreeMap;
use strum::{EnumCount, EnumIter, IntoEnumIterator, IntoStaticStr};

/// A counter. Its name in Envoy is `llm_rate_limit.` and the variant's name in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(prefix = "llm_rate_limit.", serialize_all = "snake_case")]
#[repr(usize)]
pub enum Stat {
    /// Requests that were forwarded under their limits.
    Admitted,
    /// Requests that were answered 429.
    OverLimit,
    /// Requests that a limit in a dry run would have refused.
    DryRunOverLimit,
    /// Admitted requests after which a limit was nearly used, by its `warn_at`.
    Warned,
    /// Requests that were answered 401.
    UnknownIdentity,
    /// Requests that were refused for what they are, whatever is left of the limits: answered 400, 403, 413, 415 or
    /// 426.
    Refused,
    /// Requests that would have been, but for a dry run.
    DryRunRefused,
    /// Requests whose body nobody can read, which were charged the most that they could cost.
    Unreadable,
    /// Requests that were answered 503 because the upstream objects to requests for a stream's usage.
    StreamUsageRefused,
    /// Reservations that the store did not answer in time, or did not take.
    StoreErrors,
    /// Requests that were forwarded uncounted because of that (`on_error: allow`).
    StoreErrorsAllowed,
    /// Requests that were answered 503 because of that (`on_error: deny`).
    StoreErrorsDenied,
    /// Reservations that were settled.
    Settled,
    /// Settlements that were dropped because the queue was full.
    SettlementsDropped,
    /// Settlements that were dropped because they can never be done.
    SettlementsRefused,
    /// Prompt tokens of the reservations that were settled.
    InputTokens,
    /// Completion tokens of the reservations that were settled.
    OutputTokens,
}

impl Stat {
    /// Its name in Envoy.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A gauge of the workers of this Envoy. It changes by increments, so that the workers add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, IntoStaticStr)]
#[strum(prefix = "llm_rate_limit.", serialize_all = "snake_case")]
pub enum Gauge {
    /// Workers whose store answers.
    StoreUp,
    /// Workers whose store does not.
    WorkersWithoutStore,
}

impl Gauge {
    /// Its name in Envoy.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The accuracy of the estimates for one family of models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Tokens, prompt and completion, that the settled reservations had reserved.
    pub reserved_tokens: Units,
    /// Tokens that the settled reservations were charged in the end.
    pub settled_tokens: Units,
    /// Tokens of prompts that they had reserved: what the filter counted.
    pub estimated_input_tokens: Units,
    /// Tokens of prompts that they were charged in the end: what the upstream reported, where it did.
    pub settled_input_tokens: Units,
}

/// Counts since the last [`Stats::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    counts: [Units; Stat::COUNT],
    accuracy: BTreeMap<&'static str, Accuracy>,
}

impl Stats {
    /// Adds `n`.
    pub fn add(&mut self, stat: Stat, n: u64) {
        if let Some(count) = self.counts.get_mut(stat as usize) {
            *count += n.into();
        }
    }

    /// Counts a reservation for `model` that was settled: the tokens that were reserved and settled, of all kinds and
    /// of the prompt.
    pub fn settled(&mut self, model: Option<&str>, reserved: [u64; 2], settled: [u64; 2]) {
        let accuracy = self.accuracy.entry(Family::of(model.unwrap_or_default()).name()).or_default();
        let ([reserved, estimated_input], [settled, settled_input]) = (reserved, settled);
        accuracy.reserved_tokens += reserved.into();
        accuracy.settled_tokens += settled.into();
        accuracy.estimated_input_tokens += estimated_input.into();
        accuracy.settled_input_tokens += settled_input.into();
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (family, more) in other.accuracy {
            let accuracy = self.accuracy.entry(family).or_default();
            accuracy.reserved_tokens += more.reserved_tokens;
            accuracy.settled_tokens += more.settled_tokens;
            accuracy.estimated_input_tokens += more.estimated_input_tokens;
            accuracy.settled_input_tokens += more.settled_input_tokens;
        }
    }

    /// Whether every count is zero.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.is_zero()) && self.accuracy.is_empty()
    }

    /// Takes the counts, each with its name in Envoy; zeros are left out.
    pub fn take(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        let taken = std::mem::take(self);
        let counts = Stat::iter().zip(taken.counts).map(|(stat, count)| (stat.name().into(), count));
        let accuracy = taken.accuracy.into_iter().flat_map(|(family, accuracy)| {
            [
                ("reserved_tokens", accuracy.reserved_tokens),
                ("settled_tokens", accuracy.settled_tokens),
                ("estimated_input_tokens", accuracy.estimated_input_tokens),
                ("settled_input_tokens", accuracy.settled_input_tokens),
            ]
            .map(|(name, tokens)| (format!("llm_rate_limit.{name}.{family}").into(), tokens))
        });
        let named = counts.chain(accuracy).filter(|(_, count)| !count.is_zero());
        named.map(|(name, count)| (name, count.get())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stat_has_its_place_and_its_name() {
        assert!(Stat::iter().enumerate().all(|(at, stat)| stat as usize == at));
        let names: Vec<_> = Stat::iter().map(Stat::name).collect();
        assert_eq!(
            names,
            [
                "llm_rate_limit.admitted",
                "llm_rate_limit.over_limit",
                "llm_rate_limit.dry_run_over_limit",
                "llm_rate_limit.warned",
                "llm_rate_limit.unknown_identity",
                "llm_rate_limit.refused",
                "llm_rate_limit.dry_run_refused",
                "llm_rate_limit.unreadable",
                "llm_rate_limit.stream_usage_refused",
                "llm_rate_limit.store_errors",
                "llm_rate_limit.store_errors_allowed",
                "llm_rate_limit.store_errors_denied",
                "llm_rate_limit.settled",
                "llm_rate_limit.settlements_dropped",
                "llm_rate_limit.settlements_refused",
                "llm_rate_limit.input_tokens",
                "llm_rate_limit.output_tokens",
            ]
        );
    }

    #[test]
    fn every_gauge_has_its_name() {
        let names: Vec<_> = Gauge::iter().map(Gauge::name).collect();
        assert_eq!(names, ["llm_rate_limit.store_up", "llm_rate_limit.workers_without_store"]);
    }

    #[test]
    fn counts_are_taken_once() {
        let mut stats = Stats::default();
        stats.add(Stat::OutputTokens, 2);
        stats.add(Stat::OutputTokens, 3);
        assert_eq!(stats.take(), [("llm_rate_limit.output_tokens".into(), 5)]);
        assert_eq!(stats.take(), []);
    }

    #[test]
    fn accuracy_is_reported_by_family() {
        let mut stats = Stats::default();
        stats.settled(Some("gpt-4o-mini"), [100, 50], [60, 48]);
        stats.settled(Some("openai/gpt-4o"), [10, 0], [12, 1]);
        stats.settled(Some("whatever-the-client-likes"), [1, 0], [0, 0]);
        assert_eq!(
            stats.take(),
            [
                ("llm_rate_limit.reserved_tokens.gpt-4o".into(), 110),
                ("llm_rate_limit.settled_tokens.gpt-4o".into(), 72),
                ("llm_rate_limit.estimated_input_tokens.gpt-4o".into(), 50),
                ("llm_rate_limit.settled_input_tokens.gpt-4o".into(), 49),
                ("llm_rate_limit.reserved_tokens.other".into(), 1),
            ]
        );
    }

    #[test]
    fn merging_adds_every_count() {
        let mut stats = Stats::default();
        assert!(stats.is_empty());
        stats.add(Stat::Admitted, 1);
        stats.settled(Some("o1"), [5, 3], [4, 0]);
        assert!(!stats.is_empty());

        let mut merged = Stats::default();
        merged.merge(stats.clone());
        assert_eq!(merged, stats);
        merged.merge(stats);
        assert_eq!(
            merged.take(),
            [
                ("llm_rate_limit.admitted".into(), 2),
                ("llm_rate_limit.reserved_tokens.o1".into(), 10),
                ("llm_rate_limit.settled_tokens.o1".into(), 8),
                ("llm_rate_limit.estimated_input_tokens.o1".into(), 6),
            ]
        );
        assert!(merged.is_empty());
    }
}
