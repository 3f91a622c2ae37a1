//! What the filter counts about itself. Envoy shows it as `wasmcustom.llm_rate_limit.*`.

use crate::models::Family;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stat {
    /// Requests that were forwarded under their limits.
    Admitted,
    /// Requests that were answered 429.
    OverLimit,
    /// Requests that a limit in a dry run would have refused.
    DryRunOverLimit,
    /// Requests that were answered 401.
    UnknownIdentity,
    /// Reservations that the store did not answer in time.
    StoreErrors,
    /// Requests that were forwarded uncounted because of that (`on_error: allow`).
    StoreErrorsAllowed,
    /// Requests that were answered 503 because of that (`on_error: deny`).
    StoreErrorsDenied,
    /// Accounts that were closed.
    Settled,
    /// Settlements that were given up because too many waited.
    SettlementsDropped,
    /// Prompt tokens of the accounts that were closed.
    InputTokens,
    /// Completion tokens of the accounts that were closed.
    OutputTokens,
}

impl Stat {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Admitted,
        Self::OverLimit,
        Self::DryRunOverLimit,
        Self::UnknownIdentity,
        Self::StoreErrors,
        Self::StoreErrorsAllowed,
        Self::StoreErrorsDenied,
        Self::Settled,
        Self::SettlementsDropped,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    /// Its name in Envoy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "llm_rate_limit.admitted",
            Self::OverLimit => "llm_rate_limit.over_limit",
            Self::DryRunOverLimit => "llm_rate_limit.dry_run_over_limit",
            Self::UnknownIdentity => "llm_rate_limit.unknown_identity",
            Self::StoreErrors => "llm_rate_limit.store_errors",
            Self::StoreErrorsAllowed => "llm_rate_limit.store_errors_allowed",
            Self::StoreErrorsDenied => "llm_rate_limit.store_errors_denied",
            Self::Settled => "llm_rate_limit.settled",
            Self::SettlementsDropped => "llm_rate_limit.settlements_dropped",
            Self::InputTokens => "llm_rate_limit.input_tokens",
            Self::OutputTokens => "llm_rate_limit.output_tokens",
        }
    }
}

/// How far estimates were off, for one family of models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Tokens, prompt and completion, that were reserved for the accounts that were closed.
    pub reserved_tokens: u64,
    /// Tokens that they were charged in the end.
    pub settled_tokens: u64,
}

/// What has been counted since it was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    counts: [u64; Stat::ALL.len()],
    accuracy: BTreeMap<&'static str, Accuracy>,
}

impl Stats {
    /// Adds `n`.
    pub fn add(&mut self, stat: Stat, n: u64) {
        if let Some(count) = self.counts.get_mut(stat as usize) {
            *count = count.saturating_add(n);
        }
    }

    /// An account of a request for `model` was closed.
    pub fn settled(&mut self, model: Option<&str>, reserved_tokens: u64, settled_tokens: u64) {
        let accuracy = self.accuracy.entry(Family::of(model.unwrap_or_default()).name()).or_default();
        accuracy.reserved_tokens = accuracy.reserved_tokens.saturating_add(reserved_tokens);
        accuracy.settled_tokens = accuracy.settled_tokens.saturating_add(settled_tokens);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        for (family, more) in other.accuracy {
            let accuracy = self.accuracy.entry(family).or_default();
            accuracy.reserved_tokens = accuracy.reserved_tokens.saturating_add(more.reserved_tokens);
            accuracy.settled_tokens = accuracy.settled_tokens.saturating_add(more.settled_tokens);
        }
    }

    /// What has been counted since this was last asked, by its name in Envoy, zeros left out.
    pub fn take(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        let taken = std::mem::take(self);
        let counts = Stat::ALL.into_iter().zip(taken.counts).map(|(stat, n)| (stat.name().into(), n));
        let accuracy = taken.accuracy.into_iter().flat_map(|(family, accuracy)| {
            [
                (format!("llm_rate_limit.reserved_tokens.{family}").into(), accuracy.reserved_tokens),
                (format!("llm_rate_limit.settled_tokens.{family}").into(), accuracy.settled_tokens),
            ]
        });
        counts.chain(accuracy).filter(|(_, n)| *n > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stat_has_its_place() {
        assert!(Stat::ALL.iter().enumerate().all(|(at, stat)| *stat as usize == at));
        let mut stats = Stats::default();
        stats.add(Stat::OutputTokens, 2);
        stats.add(Stat::OutputTokens, 3);
        assert_eq!(stats.take(), [("llm_rate_limit.output_tokens".into(), 5)]);
        assert_eq!(stats.take(), []);
    }

    #[test]
    fn accuracy_is_told_by_family() {
        let mut stats = Stats::default();
        stats.settled(Some("gpt-4o-mini"), 100, 60);
        stats.settled(Some("openai/gpt-4o"), 10, 12);
        stats.settled(Some("whatever-the-client-likes"), 1, 0);
        assert_eq!(
            stats.take(),
            [
                ("llm_rate_limit.reserved_tokens.gpt-4o".into(), 110),
                ("llm_rate_limit.settled_tokens.gpt-4o".into(), 72),
                ("llm_rate_limit.reserved_tokens.other".into(), 1),
            ]
        );
    }
}
