//! Why a request was not forwarded, as data. [`crate::answer`] turns it into a response.

use crate::policy::Owner;
use crate::policy::limit::{Limit, Metric};
use crate::store::wire::WindowState;
use crate::window::Fit;
use std::sync::Arc;

/// After how many milliseconds a request is told to try again that found no free slot.
const RETRY_SLOT_MS: u64 = 1_000;

/// A limit that applies to a request, what the request asked of it, and how its counter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub limit: Arc<Limit>,
    /// Whose it is.
    pub owner: Owner,
    /// Units that the request asked for.
    pub cost: u64,
    /// The counter after the decision.
    pub state: WindowState,
}

impl LimitStatus {
    /// The most that fits at once.
    pub fn capacity(&self) -> u64 {
        self.limit.window.capacity(self.limit.amount)
    }

    /// Units that are left.
    pub fn remaining(&self) -> u64 {
        self.capacity().saturating_sub(self.state.used)
    }

    /// Milliseconds until the request fits, zero if it does now; none if it never does. When a slot is free depends on
    /// the requests that hold one, most of which end long before their leases do: it is worth trying soon.
    pub fn wait_ms(&self) -> Option<u64> {
        match self.state.fit() {
            Fit::Now => Some(0),
            Fit::After(_) if self.limit.metric == Metric::Concurrency => Some(RETRY_SLOT_MS),
            Fit::After(ms) => Some(ms.get()),
            Fit::Never => None,
        }
    }

    /// Whether less of this limit is left than of `other`, in proportion. Of two that are as far, the one that takes
    /// longer to be whole again is closer to its limit.
    fn is_closer_than(&self, other: &Self) -> bool {
        let left =
            |a: &Self, b: &Self| u128::from(a.remaining()).saturating_mul(u128::from(b.capacity().max(1)));
        let (mine, theirs) = (left(self, other), left(other, self));
        mine < theirs || (mine == theirs && self.state.reset_ms > other.state.reset_ms)
    }
}

/// The limit closest to being reached, of those that `which` picks.
pub fn closest(standings: &[LimitStatus], which: impl Fn(Metric) -> bool) -> Option<&LimitStatus> {
    standings
        .iter()
        .filter(|standing| which(standing.limit.metric))
        .reduce(|closest, next| if next.is_closer_than(closest) { next } else { closest })
}

/// Why a request was not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is over a limit.
    OverLimit(OverLimit),
    /// The configuration does not have its identity, and rejects unknown ones.
    UnknownIdentity,
    /// The store gave no answer, and the configuration denies requests then.
    NoStore,
}

/// The limit that refused, and the status of all that applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// All limits that applied.
    standings: Vec<LimitStatus>,
    /// The index of the limit that refused.
    refused_by: usize,
    /// The key's name, if it has one.
    name: Option<String>,
    /// Whether only a part of the prompt was counted.
    is_partial: bool,
}

impl OverLimit {
    /// The refusal by the limit with the longest wait, since the request fits under all limits only then. None if it
    /// fits under all of them now.
    pub fn new(standings: Vec<LimitStatus>, name: Option<String>) -> Option<Self> {
        let (refused_by, longest) = standings
            .iter()
            .map(|standing| standing.wait_ms().unwrap_or(u64::MAX))
            .enumerate()
            .reduce(|longest, next| if next.1 > longest.1 { next } else { longest })?;
        (longest > 0).then_some(Self { standings, refused_by, name, is_partial: false })
    }

    /// The same refusal of a request whose prompt was counted only in part, if `is_partial`.
    #[must_use]
    pub fn with_partial_prompt(self, is_partial: bool) -> Self {
        Self { is_partial, ..self }
    }

    /// Whether the cost under the limit that refused is only a lower bound.
    pub fn is_lower_bound(&self) -> bool {
        let of_prompt = |metric: Metric| metric.needs_tokens() && metric != Metric::OutputTokens;
        self.is_partial && self.by().is_some_and(|by| of_prompt(by.limit.metric))
    }

    /// All limits that applied.
    pub fn standings(&self) -> &[LimitStatus] {
        &self.standings
    }

    /// The limit that refused.
    pub fn by(&self) -> Option<&LimitStatus> {
        self.standings.get(self.refused_by)
    }

    /// The key's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Milliseconds until this request fits if nobody else spends; none if it never does.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.by()?.wait_ms()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::policy::limit::Enforcement;
    use crate::window::Window;
    use std::num::NonZeroU64;

    pub(crate) fn standing(metric: Metric, amount: u64, cost: u64, state: (u64, u64, i64)) -> LimitStatus {
        let window = Window::sliding(NonZeroU64::new(60_000).unwrap());
        let limit = Arc::new(Limit {
            name: metric.name().into(),
            metric,
            amount,
            window,
            manner: Enforcement::default(),
        });
        let (used, reset_ms, retry_after_ms) = state;
        LimitStatus { limit, owner: Owner::Key, cost, state: WindowState { used, reset_ms, retry_after_ms } }
    }

    #[test]
    fn the_longest_wait_refuses_and_never_is_longest() {
        let requests = standing(Metric::Requests, 5, 1, (5, 60_000, 1_500));
        let tokens = standing(Metric::InputTokens, 100, 90, (50, 60_000, 9_000));
        let never = standing(Metric::OutputTokens, 100, 101, (0, 0, -1));
        let by = |standings: Vec<LimitStatus>| {
            OverLimit::new(standings, None).map(|o| o.by().unwrap().limit.metric)
        };
        assert_eq!(by(vec![requests.clone(), tokens.clone()]), Some(Metric::InputTokens));
        assert_eq!(by(vec![tokens.clone(), requests.clone()]), Some(Metric::InputTokens));
        assert_eq!(by(vec![never, requests]), Some(Metric::OutputTokens));
        assert_eq!(by(vec![standing(Metric::Requests, 5, 1, (1, 0, 0))]), None);
        assert_eq!(OverLimit::new(vec![tokens], None).unwrap().retry_after_ms(), Some(9_000));
    }

    #[test]
    fn the_closest_limit_is_the_one_with_the_smallest_part_left() {
        let standings = [
            standing(Metric::Requests, 10, 1, (5, 1_000, 0)),
            standing(Metric::TotalTokens, 1_000_000, 1, (900_000, 1_000, 0)),
            standing(Metric::InputTokens, 0, 0, (0, 0, 0)),
        ];
        let closest = |which: fn(Metric) -> bool| closest(&standings, which).map(|s| s.limit.metric);
        assert_eq!(closest(|m| m != Metric::InputTokens), Some(Metric::TotalTokens));
        assert_eq!(closest(|_| true), Some(Metric::InputTokens), "a limit of zero is always reached");
        assert_eq!(closest(|m| m == Metric::OutputTokens), None);
    }
}
